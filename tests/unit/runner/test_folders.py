"""Folders and parameters of a program, inside a run and by hand."""

from pathlib import Path

import pytest

from mlstead.errors import UserError
from mlstead.runner import folders


def test_inside_a_run_names_are_found_where_the_run_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "params.json").write_text('{"lr": 0.1, "names": ["a"]}')
    monkeypatch.setenv("MLSTEAD_PARAMS", str(tmp_path / "params.json"))
    for name in ("inputs", "outputs", "checkpoints"):
        monkeypatch.setenv(f"MLSTEAD_{name.upper()}", str(tmp_path / name))
    assert folders.params() == {"lr": 0.1, "names": ["a"]}
    assert folders.inputs("fashion") == tmp_path / "inputs" / "fashion"
    assert folders.outputs("model") == tmp_path / "outputs" / "model"
    assert folders.outputs("model").is_dir()
    assert folders.outputs() == tmp_path / "outputs"
    assert folders.checkpoints() == tmp_path / "checkpoints"
    assert folders.checkpoints().is_dir()


def test_by_hand_they_are_folders_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PARAMS", "INPUTS", "OUTPUTS", "CHECKPOINTS"):
        monkeypatch.delenv(f"MLSTEAD_{name}", raising=False)
    monkeypatch.chdir(tmp_path)
    assert folders.params() == {}
    assert folders.inputs("a") == Path("inputs/a")
    folders.outputs("model")
    assert (tmp_path / "outputs" / "model").is_dir()


@pytest.mark.parametrize("name", ["../x", "/etc", "a/../../b", "a\0b"])
def test_a_name_that_climbs_out_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="not a name inside"):
        folders.inputs(name)
    with pytest.raises(UserError, match="not a name inside"):
        folders.outputs(name)


@pytest.mark.parametrize("text", [None, "{", "[1]", "\x00"])
def test_broken_parameters_are_an_error_of_one_line(
    text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "params.json"
    if text is not None:
        path.write_text(text)
    monkeypatch.setenv("MLSTEAD_PARAMS", str(path))
    with pytest.raises(UserError) as caught:
        folders.params()
    assert "\n" not in str(caught.value)
