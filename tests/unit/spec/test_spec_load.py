"""What load and parse accept, refuse and fill in."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mlstead.errors import NotFoundError, SpecError
from mlstead.spec.load import load, parse
from mlstead.spec.work import (
    Code,
    Gpu,
    Job,
    JobStep,
    Notebook,
    Pipeline,
    Retries,
    Service,
    Space,
    Sweep,
    SweepStep,
)

JOB = "mlstead: 1\nkind: job\nname: j\ncommand: run\n"
PIPELINE = "mlstead: 1\nkind: pipeline\nname: p\n"


def job(more: str = "", **options: Any) -> Job:
    work = parse(JOB + more, **options)
    assert isinstance(work, Job)
    return work


def pipeline(more: str) -> Pipeline:
    work = parse(PIPELINE + more)
    assert isinstance(work, Pipeline)
    return work


def job_step(work: Pipeline, name: str) -> JobStep:
    step = work.steps[name]
    assert isinstance(step, JobStep)
    return step


def refusal(text: str, **options: Any) -> str:
    with pytest.raises(SpecError) as caught:
        parse(text, origin="f", **options)
    return str(caught.value)


# ---- a file and its folder


def test_load_gives_the_work_its_folder_and_its_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.yaml").write_text(JOB)
    monkeypatch.chdir(tmp_path)
    loaded = load(Path("a.yaml"))
    assert loaded.work == job()
    assert loaded.folder == tmp_path.resolve()
    assert loaded.source == JOB


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such file"):
        load(tmp_path / "gone.yaml")


def test_a_folder_is_not_a_work_file(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="directory"):
        load(tmp_path)


def test_bytes_that_are_not_utf8_are_told_with_their_place(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"mlstead: 1\nname: \xe9\n")
    with pytest.raises(SpecError, match=r"a\.yaml:2:7: not UTF-8"):
        load(path)


def test_utf16_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(JOB, encoding="utf-16")
    with pytest.raises(SpecError, match="not UTF-8"):
        load(path)


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(JOB, encoding="utf-8-sig")
    assert load(path).work == job()


def test_ten_megabytes_are_refused_before_they_are_parsed(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(JOB.encode() + b"# x\n" * (10 << 18))
    with pytest.raises(SpecError, match="larger than 1 MiB"):
        load(path)
    assert "larger than 1 MiB" in refusal("x" * ((1 << 20) + 1))


# ---- YAML


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"), ("on", "on"), ("No", "No"), ("true", True), ("False", False),
        ("~", None), ("", None), ("null", None), ("'null'", "null"),
        ("12", 12), ("+12", 12), ("-3", -3), ("0o17", 15), ("0x1F", 31), ("010", 10),
        ("1_000", "1_000"), ("1:30", "1:30"), ("0b1", "0b1"), ("2001-01-01", "2001-01-01"),
        ("1.5", 1.5), (".5", 0.5), ("1.", 1.0), ("1e3", 1000.0), ("-1E-3", -0.001),
        ("1.2.3", "1.2.3"), ("e3", "e3"), ("-x", "-x"), (".", "."), ("'12'", "12"),
        ('"\\u00e9"', "é"), ("[1, [a]]", (1, ("a",))), ("{a: {b: 1}}", {"a": {"b": 1}}),
    ],
)  # fmt: skip
def test_scalars_are_those_of_the_core_schema(text: str, value: object) -> None:
    found = job(f"params:\n  x: {text}\n").params["x"]
    assert found == value
    assert type(found) is type(value) or isinstance(value, dict)


@pytest.mark.parametrize("text", [".nan", ".inf", "-.INF", "1e999"])
def test_a_number_that_json_cannot_hold_is_refused(text: str) -> None:
    assert "f:5:13: params.x:" in refusal(f"{JOB}params: {{x: {text}}}\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2", "f:2:1: duplicate key a; first in line 1"),
        ("a: 1\n'a': 2", "f:2:1: duplicate key a; first in line 1"),
        ("a: {b: 1, c: 2, b: 3}", "f:1:17: duplicate key b; first in line 1"),
        ("a: &a {x: 1}\nb:\n  <<: *a", "f:3:3: merge keys are not used"),
        ("a: !!str 1", "f:1:4: tag tag:yaml.org,2002:str: tags are not used"),
        ("a: !!python/object/apply:os.system [x]", "tags are not used"),
        ("!x a: 1", "f:1:1: tag !x: tags are not used"),
        ("a: 1\n---\nb: 1", "f:2:1: a second document"),
        ("", "f: empty"),
        ("# only a comment", "f: empty"),
        ("a: &a [*a]", "alias *a repeats what it stands in"),
        ("a: *a", "alias *a has no anchor"),
        ("? [a]\n: 1", "a key must be a text"),
        ("a: {{ params.lr }}", "expressions are written ${{ … }} and quoted"),
        ("a: [${{ item }}]", 'f:1:5: an expression inside { } or [ ] must be quoted; quote it: "'),
        ("a: [1", "f:2:1: not YAML: did not find expected ',' or ']'"),
        ("a:\n\t- 1", "indent with spaces, not tabs"),
        ('a: "\\0"', "f:1:4: a NUL character is not allowed"),
        ("a: \x01", "f:1:4: not YAML: control characters are not allowed"),
        ("a: \u2028x", "f:1:4: U+2028 is a line break in older YAML"),
        ("a: \ud800", "a lone surrogate is no text"),
        ("a: " + "9" * 5000, "f:1:4: a number of this length cannot be read"),
        ("a: " + "[" * 60 + "]" * 60, "nested deeper than 50 levels"),
        ("[" * 100_000, "nested deeper than 50 levels"),
        ("a: &a [1]\nb: [" + "*a, " * 101 + "]", "more than 100 aliases"),
        ("[1]", "a work file is a map of fields"),
        ("just text", "a work file is a map of fields"),
    ],
)
def test_what_is_not_plain_yaml_is_refused(text: str, message: str) -> None:
    assert message in refusal(text)


def test_a_yaml_bomb_within_the_number_of_aliases_is_refused() -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 11)]
    assert "parts, counting what aliases repeat" in refusal("\n".join(rows))


def test_aliases_cannot_nest_deeper_than_the_limit() -> None:
    rows = ["a0: &a0 " + "[" * 20 + "]" * 20]
    rows += [f"a{i}: &a{i} " + "[" * 20 + f"*a{i - 1}" + "]" * 20 for i in range(1, 4)]
    assert "nested deeper than 50 levels" in refusal("\n".join(rows))


def test_aliases_repeat_values() -> None:
    work = job("params: {a: &x [1, 2], b: *x}\n")
    assert work.params["b"] == (1, 2)


def test_at_most_twenty_problems_are_listed() -> None:
    rows = refusal(JOB + "".join(f"f{i}: 1\n" for i in range(30))).split("\n")
    assert len(rows) == 21
    assert rows[0].startswith("f:5:1: f0: unknown field")
    assert rows[-1] == "… and 10 more"


def test_an_error_never_carries_control_characters_of_the_file() -> None:
    text = refusal(JOB + '"\\e[31m": 1\n')
    assert "\x1b" not in text
    assert "\\x1b[31m: unknown field" in text


# ---- the header


def test_the_version_must_be_given_and_known() -> None:
    assert "mlstead: is required" in refusal("kind: job\nname: j\ncommand: x\n")
    assert "version 2 is not known" in refusal(JOB.replace("mlstead: 1", "mlstead: 2"))
    assert "found true; write mlstead: 1" in refusal(JOB.replace("mlstead: 1", "mlstead: true"))


def test_a_site_file_is_told_where_it_belongs() -> None:
    assert "mlstead site" in refusal("mlstead: 1\nkind: site\nname: lab\n")


# ---- short forms


def test_data_has_a_short_form() -> None:
    work = job("data: {x: name@3, y: {path: here}}\n")
    assert (work.data["x"].version, work.data["x"].mode) == ("name@3", "link")
    assert work.data["y"].path == "here"


def test_code_has_short_forms() -> None:
    assert job().code == Code(path=".")
    assert job("code: src\n").code == Code(path="src")
    assert job("code: null\n").code is None
    assert job("code: {path: a, include: [.env]}\n").code == Code(path="a", include=(".env",))


def test_durations_and_sizes_are_held_in_seconds_and_bytes() -> None:
    work = job("timeout: 1.5h\ngrace: 2m\nresources: {memory: 1.5Gi, disk: 2G}\n")
    assert (work.timeout, work.grace) == (5400.0, 120.0)
    assert (work.resources.memory, work.resources.disk) == (3 << 29, 2_000_000_000)


def test_gpu_is_a_number_or_a_map() -> None:
    assert job("resources: {gpu: 2}\n").resources.gpu == 2
    found = job("resources: {gpu: {kind: [a]}}\n").resources.gpu
    assert found == Gpu(count=1, kind=("a",))


def test_fields_that_are_python_words_are_written_plainly() -> None:
    assert job("retries: {max: 1, for: [oom]}\n").retries.for_ == ("oom",)
    assert "retries.for_: unknown field" in refusal(JOB + "retries: {for_: [oom]}\n")


def test_whole_numbers_will_do_for_numbers_and_nothing_else_is_converted() -> None:
    work = job("resources: {cpu: 2}\n")
    assert (work.resources.cpu, type(work.resources.cpu)) == (2.0, float)
    assert "seed: must be a whole number" in refusal(JOB + "seed: '7'\n")
    assert "seed: must be a whole number" in refusal(JOB + "seed: true\n")
    assert "seed: must be a whole number" in refusal(JOB + "seed: 1.0\n")
    assert "description: must be a text" in refusal(JOB + "description: 3\n")


def test_a_spec_cannot_be_changed() -> None:
    work = job("params: {a: {b: [1]}}\n")
    with pytest.raises(ValidationError):
        setattr(work, "name", "other")  # noqa: B010
    with pytest.raises(TypeError, match="cannot be changed"):
        work.params["a"]["b"] = 2
    with pytest.raises(TypeError, match="cannot be changed"):
        work.params.update(a=1)  # type: ignore[attr-defined]
    assert hash(work) == hash(job("params: {a: {b: [1]}}\n"))


def test_python_makes_the_same_objects_as_a_file() -> None:
    made = Job(
        name="j",
        command="run",
        retries=Retries(max=1, for_=("oom",)),
        params={"a": [1, 2]},
        code=Code(path="src"),
    )
    assert made == job("retries: {max: 1, for: [oom]}\nparams: {a: [1, 2]}\ncode: src\n")
    assert Space(float_=(0.0, 1.0)).float_ == (0.0, 1.0)


# ---- parameters given beside the file


PARAMS = "params: {lr: 0.1, n: 3, text: a, flag: false, list: [1], none: null}\n"


def test_a_parameter_keeps_the_type_it_has_in_the_file() -> None:
    given = ["lr=1", "n=4", "text=5", "flag=true", "list=[2, b]", "none=0.5"]
    params = job(PARAMS, overrides=given).params
    assert params == {
        "lr": 1.0, "n": 4, "text": "5", "flag": True, "list": (2, "b"), "none": 0.5,
    }  # fmt: skip
    assert isinstance(params["lr"], float)


def test_parameters_may_be_given_as_a_map() -> None:
    assert job(PARAMS, overrides={"n": "7"}).params["n"] == 7


def test_what_is_given_is_data_and_never_an_expression() -> None:
    work = job(PARAMS, overrides=["text=${{ run.id }} a=b\n'"])
    assert work.params["text"] == "$${{ run.id }} a=b\n'"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("lrr=1", "-p lrr=1: there is no param lrr; did you mean lr?"),
        ("n=many", "-p n=many: must be a number, as in the file, where it is 3"),
        ("flag=yes", "-p flag=yes: must be true or false"),
        ("n", "-p n: must be name=value"),
        ("list=[1", "-p list=[1:2:1: not YAML"),
        ("list=!!x [1]", "tags are not used"),
    ],
)
def test_a_parameter_that_does_not_fit_is_refused(given: str, message: str) -> None:
    assert message in refusal(JOB + PARAMS, overrides=[given])


def test_all_wrong_parameters_are_told_at_once() -> None:
    assert len(refusal(JOB + PARAMS, overrides=["a=1", "b=2"]).split("\n")) == 2


SWEEP = """mlstead: 1
kind: sweep
name: s
trial: {command: run, params: {lr: 0.1, n: 3}}
params: {k: 1}
search: {method: random, space: {lr: {float: [0, 1]}}}
trials: 2
"""


def test_parameters_of_a_sweep_reach_its_trial() -> None:
    work = parse(SWEEP, overrides=["n=5", "k=2"])
    assert isinstance(work, Sweep)
    assert (work.trial.params["n"], work.params["k"]) == (5, 2)
    assert "lr is chosen by the search" in refusal(SWEEP, overrides=["lr=0.5"])


# ---- pipelines


def test_defaults_merge_maps_by_key_and_replace_lists() -> None:
    work = pipeline(
        "defaults: {env: {A: '1', B: '2'}, resources: {cpu: 3, memory: 1Gi}, code: null,"
        " notify: [{to: a}], timeout: 1h}\n"
        "steps:\n"
        "  a: {command: x, env: {B: '3', C: '4'}, resources: {cpu: 1}, notify: [{to: b}]}\n"
        "  b: {command: x, timeout: null, code: .}\n"
    )
    a, b = job_step(work, "a"), job_step(work, "b")
    assert a.env == {"A": "1", "B": "3", "C": "4"}
    assert (a.resources.cpu, a.resources.memory) == (1.0, 1 << 30)
    assert [message.to for message in a.notify] == ["b"]
    assert (a.timeout, a.code) == (3600.0, None)
    assert (b.timeout, b.code) == (None, Code(path="."))


def test_defaults_reach_the_trial_of_a_sweep_and_only_fields_a_service_has() -> None:
    work = pipeline(
        "defaults: {env: {A: '1'}, timeout: 1h}\n"
        "steps:\n"
        "  s: {kind: sweep, trial: {command: x, params: {a: 1}}, search: {points: [{a: 2}]}}\n"
        "  v: {kind: service, model: m@1}\n"
    )
    sweep, service = work.steps["s"], work.steps["v"]
    assert isinstance(sweep, SweepStep)
    assert (sweep.trial.timeout, sweep.trial.env) == (3600.0, {"A": "1"})
    assert not isinstance(service, JobStep | SweepStep)
    assert service.env == {"A": "1"}


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_step_uses_another_file_and_goes_over_it(tmp_path: Path) -> None:
    write(
        tmp_path,
        "jobs/train.yaml",
        JOB + "params: {a: 1, b: 2}\npython: {lock: uv.lock}\ntimeout: 1h\n"
        "data: {x: {path: ../raw}, y: d@1}\n",
    )
    path = write(
        tmp_path,
        "p.yaml",
        PIPELINE + "defaults: {timeout: 9s, queue: q}\n"
        "steps: {t: {use: jobs/train.yaml, params: {b: 3}}}\n",
    )
    loaded = load(path).work
    assert isinstance(loaded, Pipeline)
    step = job_step(loaded, "t")
    assert (step.command, step.params) == ("run", {"a": 1, "b": 3})
    assert (step.timeout, step.queue, step.use) == (3600.0, "q", "jobs/train.yaml")
    assert step.code == Code(path="jobs")
    assert step.python is not None
    assert step.python.lock == "jobs/uv.lock"
    assert (step.data["x"].path, step.data["y"].version) == ("raw", "d@1")


def test_a_used_file_beside_the_pipeline_keeps_its_paths(tmp_path: Path) -> None:
    write(tmp_path, "t.yaml", JOB + "code: src\n")
    path = write(tmp_path, "p.yaml", PIPELINE + "steps: {t: {use: t.yaml}}\n")
    work = load(path).work
    assert isinstance(work, Pipeline)
    assert job_step(work, "t").code == Code(path="src")


def test_a_used_sweep_and_service_keep_their_kind(tmp_path: Path) -> None:
    write(tmp_path, "d/s.yaml", SWEEP)
    write(tmp_path, "v.yaml", "mlstead: 1\nkind: service\nname: v\nmodel: m@1\n")
    steps = "steps: {s: {use: d/s.yaml, parallel: 2}, v: {use: v.yaml}}\n"
    work = load(write(tmp_path, "p.yaml", PIPELINE + steps)).work
    assert isinstance(work, Pipeline)
    sweep, service = work.steps["s"], work.steps["v"]
    assert isinstance(sweep, SweepStep)
    assert (sweep.parallel, sweep.trial.code) == (2, Code(path="d"))
    assert (service.kind, getattr(service, "name", "")) == ("service", "v")


def test_an_error_in_a_used_file_names_that_file(tmp_path: Path) -> None:
    write(tmp_path, "t.yaml", JOB + "timeout: 3\n")
    path = write(tmp_path, "p.yaml", PIPELINE + "steps: {t: {use: t.yaml}}\n")
    with pytest.raises(SpecError, match=r"t\.yaml:5:10: steps\.t\.timeout: must be a number with"):
        load(path)


def test_a_pipeline_cannot_use_itself_or_another_kind(tmp_path: Path) -> None:
    path = write(tmp_path, "p.yaml", PIPELINE + "steps: {t: {use: p.yaml}}\n")
    with pytest.raises(SpecError, match=r"steps\.t\.use: p\.yaml is of kind pipeline"):
        load(path)
    write(tmp_path, "t.yaml", JOB)
    path = write(tmp_path, "q.yaml", PIPELINE + "steps: {t: {use: t.yaml, kind: sweep}}\n")
    with pytest.raises(SpecError, match=r"steps\.t\.kind: is sweep, but t\.yaml is of kind job"):
        load(path)


def test_a_text_without_a_folder_cannot_use_files() -> None:
    assert "steps.t.use: needs a file" in refusal(PIPELINE + "steps: {t: {use: t.yaml}}\n")


def test_a_thousand_steps_and_ten_thousand_items_are_accepted() -> None:
    steps = "".join(
        f"  s{i}: {{command: x, needs: [s{i - 1}]}}\n" if i else "  s0: {command: x}\n"
        for i in range(1000)
    )
    assert len(pipeline("steps:\n" + steps).steps) == 1000
    items = ", ".join(str(i) for i in range(10_000))
    work = pipeline(f"steps: {{a: {{command: [x, '${{{{ item }}}}'], foreach: [{items}]}}}}\n")
    foreach = work.steps["a"].foreach
    assert foreach is not None
    assert len(foreach) == 10_000


def test_more_than_that_is_refused_clearly() -> None:
    steps = "".join(f"  s{i}: {{command: x}}\n" for i in range(1001))
    assert "1,001 steps; at most 1,000" in refusal(PIPELINE + "steps:\n" + steps)
    items = ", ".join(str(i) for i in range(10_001))
    text = f"steps: {{a: {{command: x, foreach: [{items}]}}}}\n"
    assert "10,001 items; at most 10,000" in refusal(PIPELINE + text)


# ---- the rest of the kinds


def test_a_service_and_a_notebook_load() -> None:
    service = parse("mlstead: 1\nkind: service\nname: v\nmodel: m@1\n")
    assert isinstance(service, Service)
    assert service.replicas.max == 1
    notebook = parse("mlstead: 1\nkind: notebook\nname: n\nidle: 1h\n")
    assert isinstance(notebook, Notebook)
    assert notebook.idle == 3600.0


def test_loading_a_file_needs_none_of_the_heavy_libraries() -> None:
    code = (
        "import sys, mlstead.spec.load as l; l.parse(sys.argv[1]);"
        "print(*sorted({'ruamel', 'sqlalchemy', 'numpy', 'jsonschema', 'rich'} & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, JOB], capture_output=True, text=True, check=True,
        env=dict(os.environ), timeout=60,
    )  # fmt: skip
    assert found.stdout == "\n"
