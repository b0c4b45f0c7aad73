"""What is refused after a file was read is told with its place in the file, too."""

from pathlib import Path

import pytest

from mlstead.errors import NotFoundError, UserError
from mlstead.spec.load import load
from mlstead.spec.loaded import Loaded
from mlstead.spec.located import located
from mlstead.spec.work import Job

JOB = (
    "mlstead: 1\nkind: job\nname: a\ncommand: ls\n"
    "resources: {cpu: 1, memory: 64Mi}\nsecrets: {A: one, B: two}\n"
    "python:\n  lock: r.txt\n"
)
SWEEP = (
    "mlstead: 1\nkind: sweep\nname: a\nsearch: {method: grid, space: {a: {choice: [1]}}}\n"
    "trial:\n  params: {a: 1}\n  command: ls\n  image: x\nprune: median\n"
    "metric: {name: m, goal: min}\n"
)
PIPELINE = (
    "mlstead: 1\nkind: pipeline\nname: a\ndefaults: {resources: {gpu: 1}}\n"
    "steps:\n  one: {command: ls}\n"
    "  two:\n    kind: sweep\n    trial: {params: {a: 1}, command: ls, image: x}\n"
    "    search: {method: grid, space: {a: {choice: [1]}}}\n"
    "finally:\n  last: {command: ls, priority: soon}\n"
)


@pytest.mark.parametrize(
    ("text", "message", "at"),
    [
        (JOB, "resources: memory 64 MiB asked for, this machine has less", "5:29"),
        (JOB, "resources: shm 64 MiB asked for", "5:12"),
        (JOB, "secrets: no secret 'two'", "6:22"),
        (JOB, "secrets: something", "6:10"),
        (JOB, "python: cannot read r.txt: No such file", "8:3"),
        (JOB, "code: no folder x", "1:1"),
        (SWEEP, "image: not supported", "8:10"),
        (SWEEP, "prune: not supported", "9:8"),
        (PIPELINE, "steps.one.resources: gpu 1 asked for", "4:29"),
        (PIPELINE, "steps.two.image: not supported", "9:49"),
        (PIPELINE, "steps.last.priority: no 'soon'", "12:33"),
        (PIPELINE, "steps.last: no 'soon'", "12:33"),
    ],
)
def test_an_error_about_a_field_has_its_place(
    tmp_path: Path, text: str, message: str, at: str
) -> None:
    file = tmp_path / "work.yaml"
    file.write_text(text)
    with pytest.raises(NotFoundError) as caught, located(load(file)):
        raise NotFoundError(message, hint="a hint")
    assert str(caught.value) == f"{file}:{at}: {message}"
    assert caught.value.hint == "a hint"


@pytest.mark.parametrize(
    "message", ["no run x", "x/y: the link points outside", "other: is no field"]
)
def test_an_error_about_no_field_stays_as_it_is(tmp_path: Path, message: str) -> None:
    file = tmp_path / "work.yaml"
    file.write_text(JOB)
    with pytest.raises(UserError) as caught, located(load(file)):
        raise UserError(message)
    assert str(caught.value) == message


def test_a_work_made_in_python_has_no_places(tmp_path: Path) -> None:
    job = Job(name="a", command="ls")
    with pytest.raises(UserError, match=r"^image: no$"), located(Loaded(job, tmp_path, "")):
        raise UserError("image: no")
