"""Runs one attempt: prepares it, starts its programs, judges how they ended."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlstead.engines.local import disk, memory_limit, ports, program_env, results, worker_env
from mlstead.engines.local.attempt import CANCELLED, FAILED, SUCCEEDED, ending
from mlstead.engines.local.ground import Grant, Ground, temporary_folder
from mlstead.engines.local.steps import StepFailedError, Steps, StoppedError
from mlstead.engines.local.supervise import Ending, Program, Supervisor


class AttemptRun:
    """One try of one task.

    Args:
        ground: where it works.
        grant: what the keeper gave it.
        asked: gives the grace in seconds once the task is to stop, else None.
        running: called with the time when its programs have started.
    """

    def __init__(
        self, ground: Ground, grant: Grant, asked: Callable[[], float | None],
        running: Callable[[float], None],
    ) -> None:  # fmt: skip
        self.ground = ground
        self.started: float | None = None
        self.began = 0.0
        self._grant = grant
        self._asked = asked
        self._running = running
        self._locks: list[int] = []
        self._temporary: Path | None = None
        self._guard: memory_limit.Guard | None = None

    def run(self) -> dict[str, Any]:
        """Do everything and give what ``end.json`` is to hold."""
        ground, request = self.ground, self.ground.request
        guard = self._guard = memory_limit.make_guard(
            self._grant.groups, ground.name, request["workers"]["count"],
            request["resources"]["memory"],
        )  # fmt: skip
        supervisor = Supervisor(self._asked, guard)
        try:
            programs = self._prepare(supervisor)
            last = supervisor.run(programs, request["grace"], request["timeout"], self._mark)
            return self._judge(last, guard.peak())
        except StepFailedError as error:
            return ending(FAILED, error.reason, error.detail, None) | {"code": error.code}
        except StoppedError:
            return ending(CANCELLED, None, "stopped on request", None)

    def _prepare(self, supervisor: Supervisor) -> list[Program]:
        ground, request = self.ground, self.ground.request
        for folder in (ground.work, ground.task / "checkpoints"):
            folder.mkdir(exist_ok=True)
        self._temporary = temporary_folder(ground.folder)
        self._temporary.mkdir(mode=0o700, exist_ok=True)
        private = disk.read_json(ground.task / "private.json") or {"secrets": {}, "env": {}}
        env = program_env.common(ground) | {"TMPDIR": str(self._temporary)}
        steps = Steps(ground, supervisor, self._asked, env | private["env"])
        steps.fill_work()
        steps.bring_inputs()
        env["PATH"] = steps.make_environment()
        env |= {name: private["env"][name] for name in request["private"] if name in private["env"]}
        env |= program_env.secrets(request, private["secrets"], ground.secrets)
        self._check_ports()
        cwd = ground.work / request["working_dir"]
        if not cwd.is_dir():
            raise StepFailedError(f"working_dir: there is no folder {request['working_dir']!r}")
        return self._programs(env, cwd)

    def _check_ports(self) -> None:
        for name, port in self.ground.request["ports"].items():
            if not ports.is_free(port):
                raise StepFailedError(f"ports.{name}: {port} is in use on this machine")

    def _programs(self, env: dict[str, str], cwd: Path) -> list[Program]:
        ground, request = self.ground, self.ground.request
        needed = worker_env.ports_needed(request["workers"])
        numbers: list[int] = []
        if needed:
            numbers, self._locks = ports.reserve(needed)
        programs = []
        for place in ground.places:
            results.rank_folder(ground.folder, place.rank).mkdir(exist_ok=True)
            own = program_env.of_place(ground, place, numbers)
            own |= program_env.gpus(request, self._grant.gpus, place.worker)
            rank = place.rank if len(ground.places) > 1 else None
            log = ground.log(place.rank)
            programs.append(Program(request["command"], env | own, cwd, log, rank, place.worker))
        return programs

    def _mark(self) -> None:
        self.started = time.time()
        self.began = time.monotonic()
        self._running(self.started)

    def _judge(self, last: Ending, peak: int | None) -> dict[str, Any]:
        folder, request = self.ground.folder, self.ground.request
        ranks = len(self.ground.places)
        problem = results.missing_ranks(folder, request["ranks"], ranks) if last.good else ""
        results.join_ranks(folder, request["ranks"], ranks)
        if last.good:
            problem = problem or results.problem(request, folder / "outputs")
        phase, reason, detail = self._verdict(last, problem, peak)
        return ending(phase, reason, detail, None) | {
            "code": last.code, "signal": last.signal, "rank": last.rank, "peak": peak,
        }  # fmt: skip

    def _verdict(self, last: Ending, problem: str, peak: int | None) -> tuple[str, str | None, str]:
        if last.good:
            return (FAILED, "error", problem) if problem else (SUCCEEDED, None, "")
        if last.cause == "cancel":
            return (CANCELLED, None, last.detail)
        if last.cause == "timeout":
            return (FAILED, "timeout", last.detail)
        if last.cause == "oom":
            limit = self.ground.request["resources"]["memory"]
            held = f"it held {_mebibytes(peak)}, " if peak else ""
            return (FAILED, "oom", f"out of memory: {held}the limit is {_mebibytes(limit)}")
        return (FAILED, "error", last.detail)

    def clean_up(self, end: dict[str, Any]) -> None:
        """Drop what nobody needs after the end: copies of the code, temporary files, secrets."""
        ground = self.ground
        if self._guard is not None:
            self._guard.close()
        shutil.rmtree(ground.secrets, ignore_errors=True)
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
        if ground.request["code"] and (end["phase"] == SUCCEEDED or end["retried"]):
            shutil.rmtree(ground.work, ignore_errors=True)
        if any(wanted["mode"] == "copy" for wanted in ground.request["inputs"]):
            shutil.rmtree(ground.inputs, ignore_errors=True)


def _mebibytes(size: int) -> str:
    return f"{size / (1 << 20):.0f} MiB"
