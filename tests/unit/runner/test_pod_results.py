"""What a program must leave is looked for, and of ranks what each must is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlstead.runner import pod_results
from mlstead.runner.pod_results import arrange, problem


def task(**fields: Any) -> dict[str, Any]:
    return {"outputs": [], "ranks": [], "values": [], **fields}


def test_what_is_declared_must_be_there(tmp_path: Path) -> None:
    wanted = task(outputs=["model"], ranks=["log"])
    assert problem(wanted, tmp_path, 0).startswith("output 'model' is missing: nothing at")
    (tmp_path / "model").symlink_to("nowhere")  # where it leads is judged when it is kept
    assert problem(wanted, tmp_path, 0) == "output 'log' is missing of rank 0"
    assert problem(wanted, tmp_path, 3) == "output 'log' is missing of rank 3"
    (tmp_path / "log").mkdir()
    assert problem(wanted, tmp_path, 0) == problem(wanted, tmp_path, 3) == ""


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "value a, b is missing: there is no $MLSTEAD_OUTPUTS/values.json"),
        ("{}", "value 'a' is missing in"),
        ('{"a": 1}', "value 'b' is missing in"),
        ('{"a": null, "b": []}', ""),
        ("[]", "values.json must hold an object, not list"),
        ("", "values.json is not JSON: "),
        ("[" * 100_000, "values.json has 100000 bytes, at most 32768"),
        ("[" * 30_000, "values.json is not JSON: "),
        ("\udcff", "values.json is not JSON: "),
    ],
)
def test_values_must_be_there(tmp_path: Path, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / "values.json").write_bytes(content.encode(errors="surrogateescape"))
    found = problem(task(values=["a", "b"]), tmp_path, 0)
    assert found.startswith(said)
    assert bool(found) is bool(said)
    assert "\n" not in found
    assert problem(task(values=["a", "b"]), tmp_path, 1) == ""


def test_values_that_nobody_asked_for_must_be_json_too(tmp_path: Path) -> None:
    assert problem(task(), tmp_path, 0) == ""
    (tmp_path / "values.json").mkdir()
    assert problem(task(), tmp_path, 0) == "values.json is not a file"


def files(folder: Path) -> dict[str, str]:
    return {str(it.relative_to(folder)): it.read_text() for it in folder.rglob("*") if it.is_file()}


def left(folder: Path) -> None:
    (folder / "own" / "deep").mkdir(parents=True)
    (folder / "own" / "deep" / "a").write_text("own")
    (folder / "log").write_text("log")
    (folder / "shard").mkdir()
    (folder / "shard" / "part").write_text("part")
    (folder / "values.json").write_text(json.dumps({}))


def test_the_first_rank_keeps_everything_and_the_others_what_all_must_leave(
    tmp_path: Path,
) -> None:
    for rank in (0, 3):
        left(tmp_path / str(rank))
        (tmp_path / str(rank) / "link").symlink_to(tmp_path)
        arrange(["log", "shard"], tmp_path / str(rank), rank)
    assert files(tmp_path / "3") == {"log/3": "log", "shard/3/part": "part"}
    assert files(tmp_path / "0") == {
        "own/deep/a": "own", "log/0": "log", "shard/0/part": "part", "values.json": "{}",
    }  # fmt: skip
    assert (tmp_path / "0" / "link").is_symlink()
    assert not (tmp_path / "3" / "link").is_symlink()


def test_a_folder_that_became_a_link_is_left_alone(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    left(theirs)
    before = files(theirs)
    (tmp_path / "outputs").symlink_to(theirs)
    (tmp_path / "outputs.1").mkdir()
    (tmp_path / "outputs.1" / "x").symlink_to(theirs)
    arrange(["log"], tmp_path / "outputs", 0)
    arrange(["log"], tmp_path / "outputs.1", 1)
    arrange(["log"], tmp_path / "none", 2)
    assert files(theirs) == before
    assert list((tmp_path / "outputs.1").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "text", "peak", "killed"),
    [
        ("memory.events", "low 0\noom 1\noom_kill 1\noom_group_kill 0\n", None, True),
        ("memory.events", "oom 1\noom_kill 0\n", None, False),
        ("memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n", None, True),
        ("memory.peak", "1048576\n", 1048576, False),
        ("memory/memory.max_usage_in_bytes", "7\n", 7, False),
        ("memory.peak", "max\n", None, False),
    ],
)
def test_the_kernel_is_asked_what_memory_was_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str,
    peak: int | None, killed: bool,
) -> None:  # fmt: skip
    monkeypatch.setattr(pod_results, "_GROUPS", tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
    assert pod_results.peak_memory() == peak
    assert pod_results.ran_out_of_memory() is killed
