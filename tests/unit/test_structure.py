"""The rules on sizes, names and first lines of files, as tests; each names all that break it."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src" / "mlstead"


def _python_files(*folders: Path) -> list[Path]:
    """Find our own files; environments and caches inside a folder are not ours."""
    return sorted(
        path
        for folder in folders
        for path in folder.rglob("*.py")
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


SOURCES = _python_files(SRC)
TESTS = _python_files(ROOT / "tests")
OTHERS = _python_files(ROOT / "benchmarks", ROOT / "examples", ROOT / "scripts")
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES + TESTS + OTHERS}
LINES = {path: path.read_text(encoding="utf-8").splitlines() for path in TREES}
VAGUE = {
    "common", "core", "handler", "handlers", "helper", "helpers", "manager", "managers", "misc",
    "stuff", "tools", "util", "utils",
}  # fmt: skip
LAZY_TABLE = {"__getattr__", "__dir__"}
# Beside imports an __init__ may name the part it is, and hold the function that makes it.
ASSIGNED_IN_INIT = {"__all__", "PART"}
MAKES_THE_PART = {"create"}


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_first_line_says_what_the_file_owns() -> None:
    silent = []
    for path, lines in LINES.items():
        first = (lines[1:] if lines and lines[0].startswith("#!") else lines)[:1]
        if not first or not first[0].startswith('"""') or len(first[0].strip('" ')) <= 10:
            silent.append(_name(path))
    assert not silent, "start with a docstring that says what this file owns"


def test_no_name_is_vague() -> None:
    vague = [
        _name(path)
        for path in TREES
        if {part.removesuffix(".py").strip("_") for part in path.relative_to(ROOT).parts} & VAGUE
    ]
    assert not vague, "a name says what the thing is for"


def test_no_source_file_is_over_500_lines_and_no_test_file_over_800() -> None:
    limits = {path: 800 if path in set(TESTS) else 500 for path in TREES}
    long = [_name(path) for path, limit in limits.items() if len(LINES[path]) > limit]
    assert not long


def test_half_of_the_source_files_have_at_most_120_lines() -> None:
    assert statistics.median(len(LINES[path]) for path in SOURCES) <= 120


def test_no_function_is_over_50_lines() -> None:
    long = [
        f"{_name(path)}:{node.lineno} {node.name}, {length} lines"
        for path, tree in TREES.items()
        for node, length in _functions(tree)
        if length > 50
    ]
    assert not long


def _functions(tree: ast.Module) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node, (node.end_lineno or node.lineno) - node.lineno + 1


def test_source_lies_at_most_three_folders_deep() -> None:
    deep = [_name(path) for path in SOURCES if len(path.relative_to(SRC).parts) > 4]
    assert not deep


def test_an_init_only_re_exports() -> None:
    strange = [
        f"{_name(path)}:{node.lineno}"
        for path in SOURCES
        if path.name == "__init__.py"
        for node in TREES[path].body[1:]
        if not (_re_exports(node) or (path.parent == SRC and _is_lazy_table(node)))
    ]
    assert not strange, "an __init__ holds imports, __all__ and PART"


def _re_exports(node: ast.stmt) -> bool:
    if isinstance(node, ast.Import | ast.ImportFrom) or _for_type_checkers(node):
        return True
    if isinstance(node, ast.FunctionDef):
        return node.name in MAKES_THE_PART
    return bool(_assigned(node)) and _assigned(node) <= ASSIGNED_IN_INIT


def _is_lazy_table(node: ast.stmt) -> bool:
    """Tell whether a statement belongs to the PEP 562 table of ``mlstead/__init__``."""
    if isinstance(node, ast.FunctionDef):
        return node.name in LAZY_TABLE
    return bool(_assigned(node))


def _for_type_checkers(node: ast.stmt) -> bool:
    if not isinstance(node, ast.If) or not isinstance(node.test, ast.Name):
        return False
    return node.test.id == "TYPE_CHECKING"


def _assigned(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.Assign):
        return {target.id for target in node.targets if isinstance(target, ast.Name)}
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return {node.target.id}
    return set()
