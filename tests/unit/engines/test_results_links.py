"""Outputs of ranks are joined without ever following a link a program made."""

from pathlib import Path

from mlstead.engines.local.results import join_ranks


def test_a_rank_that_linked_its_outputs_elsewhere_moves_nothing(tmp_path: Path) -> None:
    attempt, theirs = tmp_path / "1", tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "mine").write_text("not yours")
    (attempt / "outputs").mkdir(parents=True)
    (attempt / "outputs" / "mine").write_text("rank 0")
    (attempt / "outputs.1").symlink_to(theirs)
    join_ranks(attempt, ["mine"], 2)
    assert (theirs / "mine").read_text() == "not yours"
    assert (attempt / "outputs" / "mine" / "0").read_text() == "rank 0"


def test_a_kept_folder_that_is_a_link_is_left_alone(tmp_path: Path) -> None:
    attempt, theirs = tmp_path / "1", tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "mine").write_text("not yours")
    attempt.mkdir()
    (attempt / "outputs").symlink_to(theirs)
    join_ranks(attempt, ["mine"], 1)
    assert [path.name for path in theirs.iterdir()] == ["mine"]
