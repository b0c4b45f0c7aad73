"""What comes before the program: code, inputs, environment; each step can be stopped."""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from mlstead.engines.local import checkout, environment
from mlstead.engines.local.ground import Ground
from mlstead.engines.local.supervise import Program, Supervisor


class StepFailedError(Exception):
    """Something before the program itself failed."""

    def __init__(self, detail: str, reason: str = "error", code: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.reason = reason
        self.code = code


class StoppedError(Exception):
    """Somebody asked for the end before the program started."""


class Steps:
    """Prepares one attempt by supervised processes, whose output goes into the task's log."""

    def __init__(
        self, ground: Ground, supervisor: Supervisor, asked: Callable[[], float | None],
        env: dict[str, str],
    ) -> None:  # fmt: skip
        self._ground = ground
        self._supervisor = supervisor
        self._asked = asked
        self._env = env

    def fill_work(self) -> None:
        """Copy the code into the work folder."""
        ground, code = self._ground, self._ground.request["code"]
        if code is None:
            return
        run = self._runner("code")
        if not checkout.cached(ground.home, code["tree"]).is_dir():
            with self._lock(ground.home.trees / f"{code['tree']}.lock"):
                if not checkout.cached(ground.home, code["tree"]).is_dir():
                    checkout.take_out(ground.home, code, ground.request["git"], run)
        checkout.copy(ground.home, code["tree"], ground.work, run)

    def bring_inputs(self) -> None:
        """Put every input at its name."""
        ground = self._ground
        if ground.request["inputs"]:
            ground.inputs.mkdir(exist_ok=True)
        for wanted in ground.request["inputs"]:
            source, target = Path(wanted["location"]), ground.inputs / wanted["name"]
            if not source.exists():
                detail = f"input {wanted['name']!r}: there is no {source}"
                raise StepFailedError(detail, "volume")
            if wanted["mode"] == "link":
                target.symlink_to(source)
                continue
            copy = ["cp", "-rL", "--reflink=auto", "--no-preserve=mode", str(source), str(target)]
            self._runner(f"input {wanted['name']!r}")(copy, {}, ground.work)

    def make_environment(self) -> str:
        """Build the environment unless it is there; gives the program's PATH."""
        ground, wanted = self._ground, self._ground.request["environment"]
        path = self._env["PATH"]
        if wanted is None:
            return path
        home, key = ground.home, wanted["key"]
        if not environment.is_ready(home, key):
            with self._lock(home.environments / f"{key}.lock"):
                if not environment.is_ready(home, key):
                    run = self._runner("environment")
                    environment.build(home, ground.request, self._env, ground.work, run)
        return f"{environment.folder(home, key) / 'bin'}:{path}"

    def _runner(self, what: str) -> checkout.Run:
        def run(command: list[str], env: dict[str, str], folder: Path) -> None:
            program = Program(command, self._env | env, folder, self._ground.log())
            end = self._supervisor.run([program], self._ground.request["grace"])
            if end.cause == "cancel":
                raise StoppedError
            if not end.good:
                words = " ".join(command[:3])
                reason = "oom" if end.cause == "oom" else "error"
                detail = f"{what}: `{words}` failed: {end.detail or end.cause}; see the log"
                raise StepFailedError(detail, reason, end.code)

        return run

    @contextlib.contextmanager
    def _lock(self, path: Path) -> Iterator[None]:
        """Wait for another attempt that makes the same thing, unless the task is to stop."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while True:
                if self._asked() is not None:
                    raise StoppedError
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                time.sleep(0.05)
            yield
        finally:
            os.close(descriptor)
