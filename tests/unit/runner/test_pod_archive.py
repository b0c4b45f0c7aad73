"""What is sent into pods runs on Python 3.9 and needs nothing but its standard library."""

from __future__ import annotations

import ast
import io
import sys
import zipfile

import pytest
from tests.unit.runner.conftest import Program

from mlstead.runner import bundle

FILES = {
    name: text
    for archive in [zipfile.ZipFile(io.BytesIO(bundle.archive()))]
    for name in archive.namelist()
    if (text := archive.read(name)) is not None and name.endswith(".py")
}
LATER = {  # names of the standard library that Python 3.9 does not have
    "datetime": {"UTC"}, "enum": {"StrEnum", "verify"}, "itertools": {"pairwise", "batched"},
    "typing": {"Self", "TypeAlias", "ParamSpec", "assert_never", "override", "Never"},
    "contextlib": {"chdir", "aclosing"}, "types": {"NoneType", "UnionType", "EllipsisType"},
    "asyncio": {"TaskGroup", "timeout", "Runner"}, "inspect": {"get_annotations"},
    "hashlib": {"file_digest"}, "tomllib": {"loads"}, "bisect": set(),
}  # fmt: skip


def test_the_same_mlstead_gives_the_same_archive() -> None:
    assert bundle.archive() == bundle.archive()
    assert {"__main__.py", "mlstead/__init__.py", "mlstead/runner/pod.py"} <= set(FILES)
    assert len(bundle.archive()) < 500_000  # a ConfigMap takes a million bytes


@pytest.mark.parametrize("name", FILES)
def test_it_is_written_in_the_language_of_python_3_9(name: str) -> None:
    tree = ast.parse(FILES[name], name, feature_version=(3, 9))
    futures = {it.name for node in tree.body if isinstance(node, ast.ImportFrom)
               and node.module == "__future__" for it in node.names}  # fmt: skip
    for node in ast.walk(tree):
        assert not isinstance(node, ast.Match | ast.TryStar), f"{name}:{node.lineno}"
        if isinstance(node, ast.AnnAssign | ast.arg | ast.FunctionDef):
            unions = [it for it in ast.walk(node) if isinstance(it, ast.BinOp)
                      and isinstance(it.op, ast.BitOr)]  # fmt: skip
            assert "annotations" in futures or not unions, f"{name}:{node.lineno}"


@pytest.mark.parametrize("name", FILES)
def test_it_uses_nothing_that_came_after_python_3_9(name: str) -> None:
    used = []
    for node in ast.walk(ast.parse(FILES[name])):
        if isinstance(node, ast.ImportFrom) and node.module in LATER:
            used += [f"{node.module}.{it.name}" for it in node.names
                     if it.name in LATER[node.module]]  # fmt: skip
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = node.value.id
            used += [f"{module}.{node.attr}"] if node.attr in LATER.get(module, ()) else []
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            names = {it.arg for it in node.keywords}
            used += ["zip(strict)"] if node.func.id == "zip" and "strict" in names else []
            slots = node.func.id == "dataclass" and names & {"slots", "kw_only"}
            used += ["dataclass(slots)"] if slots else []
    assert used == []


def test_the_pod_s_first_process_imports_the_standard_library_only(program: Program) -> None:
    with zipfile.ZipFile(io.BytesIO(bundle.archive())) as archive:
        names = [it for it in archive.namelist() if it.startswith("mlstead/runner/pod")]
    modules = [it.removesuffix(".py").replace("/", ".") for it in names]
    allowed = sorted({*sys.stdlib_module_names, "__main__", "mlstead"})
    text = f"""
import importlib, io, sys, zipfile
zipfile.ZipFile(io.BytesIO({bundle.archive()!r})).extractall("there")
before = set(sys.modules)
sys.path[:] = ["there", *(it for it in sys.path if "site-packages" not in it)]
for name in {modules!r}:
    module = importlib.import_module(name)
    assert "there/mlstead" in module.__file__, module.__file__
found = {{it.partition(".")[0] for it in set(sys.modules) - before}}
assert found <= set({allowed!r}), sorted(found - set({allowed!r}))
assert "mlstead.runner.pod" in sys.modules
"""
    done = program(text, path="")
    assert done.returncode == 0, done.stderr
