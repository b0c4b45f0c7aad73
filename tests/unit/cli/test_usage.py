"""What people type wrongly is told in one line, with what they may have meant."""

import pytest

from mlstead.cli.main import main


def refused(capsys: pytest.CaptureFixture[str], words: str) -> tuple[str, str]:
    """Give the error and the hint, after making sure that there is no more than these."""
    assert main(words.split()) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    error, hint = printed.err.splitlines()
    assert error.startswith("error: ")
    assert hint.startswith("hint: ")
    return error.removeprefix("error: "), hint.removeprefix("hint: ")


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("describe", "show"), ("status", "ps"), ("list", "ps"), ("cancel", "stop"),
        ("delete", "stop"), ("kill", "stop"), ("submit", "run"), ("apply", "run"),
        ("cancle", "stop"), ("shwo", "show"), ("contexts", "context"),
    ],
)  # fmt: skip
def test_a_verb_of_another_tool_leads_to_ours(
    capsys: pytest.CaptureFixture[str], word: str, meant: str
) -> None:
    assert refused(capsys, word) == (
        f"no verb {word!r}",
        f"did you mean {meant}? mlstead --help lists verbs",
    )


@pytest.mark.parametrize(
    ("words", "error", "hint"),
    [
        ("zzzz", "no verb 'zzzz'", "mlstead --help lists verbs"),
        ("driv", "no verb 'driv'", "mlstead --help lists verbs"),
        ("data lst", "data: no verb 'lst'", "list? mlstead data --help lists verbs"),
        ("model rm m@1", "model: no verb 'rm'", "remove? mlstead model --help lists verbs"),
        ("context switch", "context: no verb 'switch'", "use? mlstead context --help lists verbs"),
        ("show", "show: RUN is missing", "mlstead show RUN; mlstead show --help"),
        ("get", "get: RUN is missing", "mlstead get RUN [OUTPUT] [TO]; mlstead get --help"),
        ("stop --wait", "stop: RUN is missing", "mlstead stop RUN; mlstead stop --help"),
        ("show a b", "show: got unexpected extra argument(s) (b)", "mlstead show --help"),
        ("run --detatch f", "run: no option --detatch", "--detach? mlstead run --help"),
        ("ps -o json", "ps: no option -o", "--json? mlstead ps --help"),
        ("run --to=3", "run: no option --to", "mlstead run --help"),
        ("--vers", "no option --vers", "--version? mlstead --help"),
        ("plan -p", "plan: option '-p' requires an argument", "mlstead plan --help"),
    ],
)
def test_each_mistake_is_one_line_and_one_hint(
    capsys: pytest.CaptureFixture[str], words: str, error: str, hint: str
) -> None:
    before = "did you mean " if "?" in hint else ""
    assert refused(capsys, words) == (error, before + hint)


def test_a_bad_value_names_its_option(capsys: pytest.CaptureFixture[str]) -> None:
    error, hint = refused(capsys, "ps -n many")
    assert error.startswith("ps: invalid value for '-n' / '--limit': ")
    assert hint == "mlstead ps --help"


@pytest.mark.parametrize("word", ["--version", "-V"])
def test_the_version_is_told(capsys: pytest.CaptureFixture[str], word: str) -> None:
    assert main([word]) == 0
    assert capsys.readouterr().out.startswith("mlstead 0.")


@pytest.mark.parametrize("words", ["", "data", "context"])
def test_a_group_alone_prints_its_help(capsys: pytest.CaptureFixture[str], words: str) -> None:
    assert main(words.split()) == 2
    printed = capsys.readouterr()
    assert "Usage" in printed.out
    assert printed.err == ""
