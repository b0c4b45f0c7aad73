"""What expressions stand for, and that no value leaves its place in a command."""

import shutil
import subprocess
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlstead.errors import SpecError
from mlstead.spec.expressions import (
    as_text,
    command_problems,
    expand,
    expand_command,
    expand_text,
    quote,
    references,
    syntax_problems,
)
from mlstead.spec.work import Data, Job, Output, Pick, When

SCOPE: dict[str, Any] = {
    "params": {"lr": 0.1, "n": 3, "text": "it's", "none": None, "on": True, "list": (1, "a")},
    "item": {"x": 5, "0": "zero"},
    "steps": {"train-a": {"outputs": {"model": "m@1"}, "values": {"best": 0.5}}},
    "trial": {"number": 7},
    "run": {"id": "r-1", "name": "r", "project": "p"},
}
SH = shutil.which("sh")
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
quiet = settings(deadline=None, database=None, max_examples=150)


def run_sh(*command: str) -> bytes:
    found = subprocess.run(
        command, executable=SH, capture_output=True, timeout=60, check=False,
        stdin=subprocess.DEVNULL, env={"PATH": "/none"},
    )  # fmt: skip
    return found.stdout + found.stderr


# ---- what an expression stands for


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${{ params.lr }}", 0.1),
        ("${{params.n}}", 3),
        ("  ${{ params.on }} ", True),
        ("${{ params.none }}", None),
        ("${{ params.list }}", (1, "a")),
        ("${{ item }}", SCOPE["item"]),
        ("${{ item.x }}", 5),
        ("${{ item.0 }}", "zero"),
        ("${{ steps.train-a.outputs.model }}", "m@1"),
        ("${{ steps.train-a.values.best }}", 0.5),
        ("${{ trial.number }}", 7),
        ("${{ run.id }}", "r-1"),
        ("a ${{ params.lr }} b", "a 0.1 b"),
        ("${{ params.n }}${{ params.on }}${{ params.none }}", "3true"),
        ("${{ params.list }}!", '[1, "a"]!'),
        ("$${{ params.n }}", "${{ params.n }}"),
        ("$$${{ params.n }}", "$${{ params.n }}"),
        ("$${{ ${{ params.n }} }}", "${{ 3 }}"),
        ("$ {{ params.n }}", "$ {{ params.n }}"),
        ("plain", "plain"),
        (5, 5),
    ],
)
def test_an_expression_alone_keeps_its_type_and_within_a_text_becomes_text(
    text: Any, value: Any
) -> None:
    found = expand(text, SCOPE)
    assert found == value
    assert type(found) is type(value)


def test_lists_and_maps_are_expanded_all_the_way_down() -> None:
    value = {"a": ["${{ params.n }}", {"b": "x${{ params.n }}"}], "${{ params.n }}": 1}
    assert expand(value, SCOPE) == {"a": (3, {"b": "x3"}), "${{ params.n }}": 1}


def test_models_stay_models_and_their_text_fields_stay_texts() -> None:
    data = Data(version="d@${{ params.n }}", step="", output="${{ params.n }}")
    assert expand(data, SCOPE) == Data(version="d@3", output="3")
    picked = Data(step="a", pick=Pick(by="${{ run.id }}"))
    assert expand(picked, SCOPE).pick == Pick(by="r-1")
    assert expand(When(value="${{ params.n }}", gt=2), SCOPE).value == 3
    outputs = {"m": Output(name="m-${{ trial.number }}")}
    assert expand(outputs, SCOPE)["m"].name == "m-7"


def test_what_a_value_brings_in_is_never_expanded_again() -> None:
    scope = {"params": {"a": "${{ params.b }}", "b": "secret"}}
    assert expand("${{ params.a }}", scope) == "${{ params.b }}"
    assert expand("x ${{ params.a }}", scope) == "x ${{ params.b }}"
    assert expand_command("x ${{ params.a }}", scope)[2] == "x '${{ params.b }}'"
    assert expand_command(["${{ params.a }}"], scope) == ("${{ params.b }}",)


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("params.lrr", "did you mean lr?"),
        ("steps.train-b.values.best", "did you mean train-a?"),
        ("item.z", "known: 0, x"),
    ],
)
def test_a_path_to_nothing_is_an_error(path: str, hint: str) -> None:
    with pytest.raises(SpecError) as caught:
        expand(f"${{{{ {path} }}}}", SCOPE)
    assert str(caught.value).startswith(f"{path}: there is no ")
    assert caught.value.hint == hint


@pytest.mark.parametrize(
    "text",
    [
        "${{ params.n + 1 }}",
        "${{ params }}",
        "${{ params.a.b }}",
        "${{ }}",
        "${{ run.secret }}",
        "${{ steps.a }}",
        "${{ steps.a.logs.x }}",
        "${{ env.HOME }}",
        "${{ params['a'] }}",
        "${{ params.n",
        "${{ params.__class__.x }}",
    ],
)
def test_only_paths_are_expressions(text: str) -> None:
    assert len(list(syntax_problems(text))) == 1
    with pytest.raises(SpecError):
        expand(text, SCOPE)
    with pytest.raises(SpecError):
        expand_command("x " + text, SCOPE)


def test_references_are_all_paths_in_a_value() -> None:
    job = Job(
        name="j",
        command="x ${{ params.a }} $${{ params.no }}",
        env={"A": "${{ run.id }}"},
        params={"a": {"b": ["${{ steps.s.values.v }}"]}},
        data={"d": Data(version="${{ item.v }}")},
    )
    assert references(job) == {"params.a", "run.id", "steps.s.values.v", "item.v"}
    assert references(["${{ item }}", 3, None]) == {"item"}
    assert references("$${{ item }}") == frozenset()


def test_texts_of_values_are_those_of_json() -> None:
    given = [True, 1, 0.1, 1e-9, None, "a", [1, None], {"a": "é"}]
    assert [as_text(value) for value in given] == [
        "true", "1", "0.1", "1e-09", "", "a", "[1, null]", '{"a": "é"}',
    ]  # fmt: skip
    assert expand_text("${{ params.n }}", SCOPE) == "3"


# ---- commands


def test_a_list_is_run_without_a_shell_and_without_quotes() -> None:
    command = ["run", "${{ params.n }}", "--x=${{ params.text }}", "$${{ a }}"]
    assert expand_command(command, SCOPE) == ("run", "3", "--x=it's", "${{ a }}")


def test_a_text_is_run_by_sh_with_quoted_values() -> None:
    found = expand_command("run --lr ${{ params.lr }} --x=${{ params.text }}", SCOPE)
    assert found == ("sh", "-ec", "run --lr '0.1' --x='it'\"'\"'s'")


def test_a_nul_character_cannot_reach_a_program() -> None:
    for command in ("x ${{ params.a }}", ["x", "${{ params.a }}"]):
        with pytest.raises(SpecError, match="NUL"):
            expand_command(command, {"params": {"a": "a\0b"}})


@pytest.mark.parametrize(
    "value",
    [
        "it's", '"', "; echo gone", "a\nb", "\n", "$(echo x)", "`echo x`", "$HOME", "\\", "*",
        "", " ", "-n", "~", "a=b", "2", "if", "#", "é\U0001f600", "'\"'\"'", "!!", "&& false",
    ],
)  # fmt: skip
def test_a_value_arrives_as_one_word_as_it_is(value: str) -> None:
    template = "printf '%s\\0' ${{ params.v }} --x=${{ params.v }} $EMPTY${{ params.v }}end"
    command = expand_command(template, {"params": {"v": value}})
    assert run_sh(*command).decode() == f"{value}\0--x={value}\0{value}end\0"


def test_a_value_is_never_read_as_a_redirection_an_assignment_or_a_word_of_the_shell() -> None:
    assert run_sh(*expand_command("echo ${{ params.n }}>&2", SCOPE)) == b"3\n"
    scope = {"params": {"v": "PATH=/tmp", "w": "if"}}
    assert b"hi" not in run_sh(*expand_command("${{ params.v }} echo hi", scope))
    assert b"if: not found" in run_sh(*expand_command("${{ params.w }}", scope))


@quiet
@given(st.lists(texts, min_size=1, max_size=8))
def test_any_texts_arrive_intact(values: list[str]) -> None:
    names = [f"p{i}" for i in range(len(values))]
    template = "printf '%s\\0' " + " ".join(f"${{{{ params.{name} }}}}" for name in names)
    command = expand_command(template, {"params": dict(zip(names, values, strict=True))})
    assert run_sh(*command).decode() == "".join(f"{value}\0" for value in values)


@quiet
@given(texts)
def test_a_quoted_text_is_one_word(text: str) -> None:
    assert run_sh("sh", "-c", f"printf %s {quote(text)}").decode() == text


@pytest.mark.parametrize(
    ("command", "reasons"),
    [
        ("a ${{ params.n }}", []),
        ("a --x=${{ params.n }}; b ${{ params.n }}", []),
        ("a '${{ params.n }}'", ["inside single quotes"]),
        ('a "x ${{ params.n }}"', ["inside double quotes"]),
        ("a 'x' ${{ params.n }} 'y'", []),
        ('a "it\'s" ${{ params.n }}', []),
        ("a 'say \"' ${{ params.n }}", []),
        ("a it\\'s ${{ params.n }}", []),
        ("a `b ${{ params.n }}`", ["inside backquotes"]),
        ("a \\${{ params.n }}", ["after a backslash"]),
        ("a \\\\${{ params.n }}", []),
        ("a $(b ${{ params.n }})", []),
        ('a "$(b ${{ params.n }})"', ["inside double quotes"]),
        ('a "$(b "c")" ${{ params.n }}', []),
        ('a "$(b "${{ params.n }}")"', ["inside double quotes"]),
        ("a ${B:-${{ params.n }}}", ["inside ${ }"]),
        ("a $((1 + ${{ params.n }}))", ["inside $(( ))"]),
        ("a $((1 << 2)) ${{ params.n }}\nb ${{ params.n }}", []),
        ("# it's ${{ params.n }}\na ${{ params.n }}", ["inside a comment"]),
        ("a b#c ${{ params.n }}", []),
        ("a $(b)#'\n ${{ params.n }} '", ["inside single quotes"]),
        ("cat <<E\n${{ params.n }}\nE\na ${{ params.n }}", ["inside a here-document"]),
        ("cat <<-'E' <<F\n\tE\n${{ params.n }}\nF\n", ["inside a here-document"]),
        ("cat <<E; a ${{ params.n }}\nx\nE", []),
        ("cat <<${{ params.n }}\n", ["inside a here-document"]),
        ("a <<< ${{ params.n }}", []),
        ("a $'b' ${{ params.n }}", ["after $'…', which shells read in different ways"]),
        ("a '$${{' ${{ params.n }}", []),
        (
            "$(case a in a) b ${{ params.n }};; esac)",
            ["after case inside $( ), which cannot be followed safely"],
        ),
    ],
)
def test_an_expression_stands_only_where_a_quoted_value_is_safe(
    command: str, reasons: list[str]
) -> None:
    found = [problem.message.split(" stands ")[1] for problem in command_problems(command)]
    assert found == reasons
    if reasons:
        with pytest.raises(SpecError, match="stands"):
            expand_command(command, SCOPE)


ATTACK = "echo $((6*7))out"
VALUE = "x'\nA\n'\";A;\"`A`$(A)\nE\nA\n}))'A\n\"\nA\n".replace("A", ATTACK)
PIECES = [
    "'", '"', "`", "\\", "$(", ")", "(", "#", "\n", " ", " ", "a", "<<E", "<<-'E'", "E\n",
    "\nE\n", "${A:-", "}", "$((", "))", ";", "$", "$'", "case a in a) ", ";; esac", "{ ",
    "; }", "echo ", "|", "&&", "<<<", "=", "'a b'", '"a"', '"$(', ')"', "`:`", "$(:)",
    "# it's\n", ": ", "<<E\nx\nE\n", '"${A:-', '}"', "$((1+2))", "(:)\n", "it\\'s", "x=",
]  # fmt: skip


@settings(quiet, max_examples=400)
@given(st.lists(st.sampled_from(PIECES), max_size=6), st.lists(st.sampled_from(PIECES), max_size=4))
def test_where_an_expression_is_allowed_no_value_can_run(
    before: list[str], after: list[str]
) -> None:
    command = "".join(before) + "${{ params.v }}" + "".join(after)
    if command.count("$${{") or list(command_problems(command)):
        return
    output = run_sh(*expand_command(command, {"params": {"v": VALUE}}))
    assert b"42out" not in output
