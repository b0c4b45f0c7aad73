"""The place a bench works in: a home of mlstead's own, work files, and nothing left running."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks._measure import Command, measure

TRUE = {"mlstead": 1, "kind": "job", "name": "empty", "command": ["true"]}
SLIM = {"cpu": 0.5, "memory": "64Mi"}


@dataclass(frozen=True, slots=True)
class Place:
    """A folder for one bench.

    Attributes:
        root: where everything lies; removed at the end.
        repeats: how often each command is timed.
    """

    root: Path
    repeats: int

    @property
    def env(self) -> dict[str, str]:
        """What points mlstead at this place."""
        runtime = self.root / "run"
        runtime.mkdir(mode=0o700, exist_ok=True)
        return {
            "MLSTEAD_HOME": str(self.root / "home"),
            "XDG_RUNTIME_DIR": str(runtime),
            "MLSTEAD_WARM": "off",
        }

    def folder(self, name: str) -> Path:
        """Make an empty folder."""
        made = self.root / name
        made.mkdir(parents=True, exist_ok=True)
        return made

    def work_file(self, name: str, content: Mapping[str, object]) -> Path:
        """Write a work file into a folder of its own; JSON is YAML, too."""
        file = self.folder(name) / "work.yaml"
        file.write_text(json.dumps(content, indent=1))
        return file

    def mlstead(self, *words: str, cwd: Path | None = None) -> Command:
        """Give a command line of ours, as the console script starts it."""
        program = Path(sys.executable).with_name("mlstead")
        return Command([str(program), *words], cwd or self.root, self.env)

    def warm(self, *words: str, cwd: Path | None = None) -> Command:
        """Give the same as a call that is not the first one: the warm process is there."""
        cold = self.mlstead(*words, cwd=cwd)
        env = {name: value for name, value in self.env.items() if name != "MLSTEAD_WARM"}

        def there() -> bool:
            return any(not path.suffix for path in (self.root / "run").glob("mlstead-warm-*"))

        def before() -> None:
            if not there():
                measure(Command([cold.argv[0], "ps"], self.root, env))
            deadline = time.monotonic() + 30
            while not there():
                if time.monotonic() > deadline:
                    raise SystemExit("no warm process came")
                time.sleep(0.05)

        return Command(cold.argv, cold.cwd, env, before)


@contextlib.contextmanager
def place(repeats: int) -> Iterator[Place]:
    """Make a place, and end what still works in it afterwards."""
    root = Path(tempfile.mkdtemp(prefix="mlb-"))
    try:
        yield Place(root, repeats)
    finally:
        _end_all(str(root))
        shutil.rmtree(root, ignore_errors=True)


def _end_all(root: str) -> None:
    """End the keeper and whatever else was started for this place."""
    deadline = time.monotonic() + 10
    while (left := _working_under(root)) and time.monotonic() < deadline:
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=1)


def _working_under(root: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            told = [*process.cmdline(), *process.environ().values()]
            if any(root in word for word in told) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found
