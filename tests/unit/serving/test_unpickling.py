"""A model folder is data: nothing in it is ever unpickled or run."""

import ast
import pickle
from pathlib import Path
from typing import Any

import pytest

import mlstead.serving
from mlstead.errors import UserError

SOURCES = sorted(Path(mlstead.serving.__path__[0]).rglob("*.py"))


class Payload:
    """Touches a file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.canary,))


def test_the_payload_is_real(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Payload(tmp_path / "canary")))
    assert (tmp_path / "canary").exists()


@pytest.mark.parametrize("runtime", ["", "onnx", "python"])
@pytest.mark.parametrize("name", ["model.pkl", "model.joblib", "model.onnx", "mlstead-model.json"])
def test_a_malicious_pickle_is_refused_in_one_line_and_never_run(
    serve: Any, folders: Any, tmp_path: Path, name: str, runtime: str
) -> None:
    canary = tmp_path / "canary"
    folder = folders.new()
    if name != "mlstead-model.json" and runtime:
        (folder / "mlstead-model.json").write_text(f'{{"runtime": "{runtime}", "file": "{name}"}}')
    (folder / name).write_bytes(pickle.dumps(Payload(canary)))
    with pytest.raises(UserError) as refused:
        serve({"v1": folder})
    assert "\n" not in str(refused.value)
    assert not canary.exists()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_the_server_names_no_library_that_unpickles(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name for alias in node.names} | {getattr(node, "module", "") or ""}
            roots = {name.split(".")[0] for name in names}
            assert not roots & {"pickle", "joblib", "cloudpickle", "dill", "shelve", "marshal"}
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) != ("np", "load")
