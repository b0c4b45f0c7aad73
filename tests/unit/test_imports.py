"""What loading mlstead costs: nothing heavy at start-up, a runner of the standard library alone."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from mlstead import cli, discover

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src"
RUNNER = sorted((SRC / "mlstead" / "runner").rglob("*.py"))
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mlstead"]
TELL = "import json, sys; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
HELP = """
import atexit, json, os, sys
from mlstead.cli.main import main
def tell():
    sys.stdout = sys.stderr
    print("\\nLOADED " + json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
atexit.register(tell)
sys.argv = ["mlstead", "--help"]
sys.exit(main())
"""


def _python(*args: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(SRC)}
    return subprocess.run(
        [sys.executable, *args], capture_output=True, text=True, env=env, timeout=60, check=False
    )


def test_importing_mlstead_loads_no_heavy_library() -> None:
    done = _python("-c", "import mlstead;" + TELL)
    assert done.returncode == 0, done.stderr
    loaded = set(json.loads(done.stdout))
    assert not loaded & {*SETTINGS["heavy"], *SETTINGS["heavy_for_help"], "typer", "rich"}


def test_help_loads_no_heavy_library() -> None:
    done = _python("-c", HELP)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout
    loaded = set(json.loads(done.stderr.split("LOADED ")[-1]))
    assert not loaded & {*SETTINGS["heavy"], *SETTINGS["heavy_for_help"]}


def test_every_verb_stands_in_the_help_table() -> None:
    verbs = importlib.import_module("mlstead.cli._verbs").VERBS
    assert sorted(verbs) == [name for name in discover.names(cli) if name != "main"]


def test_a_line_of_the_help_table_is_one_short_sentence() -> None:
    table = importlib.import_module("mlstead.cli._verbs")
    assert set(table.HIDDEN) <= set(table.VERBS)
    strange = [text for text in table.VERBS.values() if len(text) > 80 or text[-1] != "."]
    assert not strange


def test_every_package_of_the_optional_parts_is_told_to_be_heavy() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = {
        re.split(r"[\[<>=!~ ]", requirement)[0].replace("-", "_")
        for extra, requirements in project["optional-dependencies"].items()
        if extra != "all"
        for requirement in requirements
        if not requirement.startswith("mlstead[")
    }
    assert named <= set(SETTINGS["heavy"])


@pytest.mark.parametrize("path", RUNNER, ids=lambda path: str(path.relative_to(SRC)))
def test_the_runner_loads_without_site_packages(path: Path) -> None:
    module = ".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__")
    if path.name == "__main__.py":
        module = f"{module.removesuffix('.__main__')}, {module.split('.')[0]}"
    done = _python(
        "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(SRC)!r}); import {module}"
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", RUNNER, ids=lambda path: str(path.relative_to(SRC)))
def test_the_runner_is_written_in_python_3_9(path: Path) -> None:
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))
