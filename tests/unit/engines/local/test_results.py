"""What must be there after exit 0, and how the outputs of ranks are joined."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlstead.engines.local.results import join_ranks, missing_ranks, problem


def ask(folder: Path, text: str | bytes | None = None, **names: list[str]) -> str:
    if text is not None:
        data = text if isinstance(text, bytes) else text.encode()
        (folder / "values.json").write_bytes(data)
    return problem({"outputs": [], "values": []} | names, folder)


def test_all_there_is_no_problem(tmp_path: Path) -> None:
    (tmp_path / "model").touch()
    assert ask(tmp_path, '{"lr": NaN}', outputs=["model"], values=["lr"]) == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "there is no"),
        ("", "not JSON"),
        ("[]", "object, not list"),
        ("{}", "'lr' is missing"),
        (b"\xff\xfe{", "not JSON"),
        ("[" * 30000, "not JSON"),
        ('{"a": "%s"}' % ("x" * 40000), "at most 32768"),
    ],
)
def test_bad_values_are_named(tmp_path: Path, text: str | bytes | None, words: str) -> None:
    said = ask(tmp_path, text, values=["lr"])
    assert words in said and "\n" not in said


def test_values_nobody_declared_must_be_good_as_well(tmp_path: Path) -> None:
    assert "object" in ask(tmp_path, "3")


def test_values_that_are_a_folder_are_a_problem(tmp_path: Path) -> None:
    (tmp_path / "values.json").mkdir()
    assert "not a file" in ask(tmp_path)


def test_the_first_missing_output_is_named(tmp_path: Path) -> None:
    assert "'model'" in ask(tmp_path, outputs=["model"])


def test_outputs_of_all_ranks_stand_side_by_side(tmp_path: Path) -> None:
    for rank, name in enumerate(("outputs", "outputs.1", "outputs.2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "each").write_text(str(rank))
        (tmp_path / name / "own").write_text(str(rank))
    assert missing_ranks(tmp_path, ["each"], 3) == ""
    join_ranks(tmp_path, ["each"], 3)
    assert [(tmp_path / "outputs/each" / rank).read_text() for rank in "012"] == ["0", "1", "2"]
    assert (tmp_path / "outputs/own").read_text() == "0"
    assert not (tmp_path / "outputs.1").exists()


def test_a_rank_that_wrote_nothing_is_named(tmp_path: Path) -> None:
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "each").touch()
    assert "of rank 1" in missing_ranks(tmp_path, ["each"], 2)
