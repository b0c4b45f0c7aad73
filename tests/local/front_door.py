"""The command line as a person uses it: a process, its output, its exit code."""

import contextlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlstead.cli.main import main


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Door:
    """One home folder and the verbs on it."""

    home: Path
    env: dict[str, str]

    def __call__(self, *args: object) -> Result:
        """Run a verb in this process: the same code without a second of imports."""
        out, err = io.BytesIO(), io.BytesIO()
        with (
            contextlib.redirect_stdout(io.TextIOWrapper(out, "utf-8", write_through=True)),
            contextlib.redirect_stderr(io.TextIOWrapper(err, "utf-8", write_through=True)),
        ):
            code = main([str(arg) for arg in args])
            sys.stdout.flush()
            sys.stderr.flush()
            return Result(code, _text(out), _text(err))

    def process(self, *args: object, cwd: Path | None = None, stdin: str = "") -> Result:
        """Run a verb as a process of its own."""
        done = subprocess.run(
            [sys.executable, "-m", "mlstead", *map(str, args)],
            capture_output=True,
            text=True,
            input=stdin,
            cwd=cwd,
            env=self.env,
            timeout=240,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def good(self, *args: object) -> Result:
        result = self(*args)
        assert result.code == 0, f"{args}: {result.code}\n{result.out}\n{result.err}"
        return result

    def start(self, *args: object, cwd: Path | None = None) -> "subprocess.Popen[bytes]":
        """Start a verb and leave it running, in a session of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "mlstead", *map(str, args)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            cwd=cwd,
            env=self.env,
            start_new_session=True,
        )

    def show(self, run: str) -> Any:
        return self.good("show", run, "--json").json["details"]

    def state(self, run: str) -> str:
        return str(self.show(run)["run"]["state"])

    def until(self, run: str, *states: str, seconds: float = 60) -> Any:
        """Wait until a run is in one of these states; give its details."""
        details: Any = None

        def there() -> bool:
            nonlocal details
            details = self.show(run)
            return details["run"]["state"] in states

        wait(there, seconds, lambda: f"{run}: {details and details['run']}")
        return details


def _text(stream: io.BytesIO) -> str:
    return stream.getvalue().decode("utf-8", "replace")


def wait(
    condition: Callable[[], bool],
    seconds: float = 30,
    what: Callable[[], str] = lambda: "it did not happen",
) -> None:
    """Wait for a condition; fail with words when it does not come true in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what()
        time.sleep(0.05)


def work(folder: Path, text: str, name: str = "work.yaml", **files: str) -> Path:
    """Write a work file, and files beside it (``train_py`` becomes ``train.py``)."""
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        stem, _, suffix = file.rpartition("_")
        (folder / f"{stem}.{suffix}").write_text(content)
    path = folder / name
    path.write_text(text)
    return path


def environment(home: Path) -> dict[str, str]:
    """Give the environment of a person with this home and nothing of ours set."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLSTEAD", "MLFLOW"))}
    return {**kept, "MLSTEAD_HOME": str(home), "MLSTEAD_WARM": "off"}
