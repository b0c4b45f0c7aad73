"""Runs small programs the way an engine would: own process, nothing but the standard library."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import mlstead

SOURCE = str(Path(mlstead.__file__).parent.parent)
Program = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Run a text as a program, with what a run sets; ``path`` is its PYTHONPATH."""

    def run(text: str, path: str = SOURCE, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-S", "-W", "error", "-c", text],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": path, **env},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run
