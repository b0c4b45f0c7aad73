"""What a service is refused for before anything starts."""

import ast
import sys
from pathlib import Path
from typing import Any

import pytest

import mlstead.serving
from mlstead.errors import UserError
from mlstead.spec.work import Service
from mlstead.work.service_models import SERVER_NEEDS, refuse_environment

LOADED_BY_UVICORN = {"httptools", "uvloop"}
FULL = "\n".join(f"{name}==1" for name in SERVER_NEEDS)


def environment(requirements: str, version: str = "") -> dict[str, Any]:
    return {"key": "k", "requirements": requirements, "version": version}


def test_the_packages_a_server_needs_are_those_it_imports() -> None:
    found: set[str] = set()
    for path in Path(mlstead.serving.__path__[0]).rglob("*.py"):
        if path.name == "onnx.py":
            continue  # asked for only where it is named
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [it.name for it in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            found.update(name.partition(".")[0].replace("_", "-") for name in names)
    outside = found - set(sys.stdlib_module_names) - {"mlstead", "-frozen-importlib"}
    assert outside | LOADED_BY_UVICORN == set(SERVER_NEEDS)


@pytest.mark.parametrize(
    ("requirements", "version", "word"),
    [
        (FULL.replace("orjson==1\n", ""), "", "needs: orjson"),
        (FULL, "3.9", "3.11 or newer"),
    ],
)
def test_an_environment_the_server_cannot_run_in_is_refused(
    requirements: str, version: str, word: str
) -> None:
    with pytest.raises(UserError, match=word):
        refuse_environment(Service(name="a", model="m@1"), environment(requirements, version))


def test_onnx_is_wanted_where_it_is_named() -> None:
    with pytest.raises(UserError, match="needs: onnxruntime"):
        refuse_environment(Service(name="a", model="m@1", runtime="onnx"), environment(FULL))


@pytest.mark.parametrize(
    "requirements",
    [
        FULL,
        FULL.upper().replace("-", "_"),
        "mlstead==0.1.0",
        FULL.replace("==1", "==1 \\\n    --hash=sha256:0"),
    ],
)
def test_an_environment_with_what_the_server_needs_is_taken(requirements: str) -> None:
    refuse_environment(Service(name="a", model="m@1"), environment(requirements, "3.12"))
    refuse_environment(Service(name="a", model="m@1"), None)
