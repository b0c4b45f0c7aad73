"""The first process of a task's pod: prepares, runs, watches, keeps, and tells how it ended.

It is started by the Python of whatever image the task has, from one zip file, so it uses the
standard library of Python 3.9 only. Its exit code tells Kubernetes whether to try again; what
really happened stands in the pod's termination message and, for good, beside the task's objects.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from mlstead.runner import pod_program, pod_results
from mlstead.runner.pod_ground import PATIENCE, RUN, Ground, PrepareError
from mlstead.runner.pod_program import Ending, Group, Program
from mlstead.runner.pod_ship import Shipper, Stream, echo, pack
from mlstead.runner.pod_transfer import Transfer, TransferError

AGAIN, FINAL = 90, 91  # exit codes: may be tried again, must not
MESSAGE = Path("/dev/termination-log")
_LAST_WORDS = 15.0  # seconds for what must be sent while the pod is being ended
_LONGEST = 4000  # bytes: Kubernetes cuts a termination message off after 4096
_CUT = 1500  # characters of a detail


class Pod:
    """One attempt of one worker, from its first moment to its last."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._grace: float | None = None
        self._started: float | None = None
        self._began = 0.0
        uploads = ground.uploads
        self._transfer = Transfer(uploads["post"], uploads["authority"])
        self._shipper = Shipper(self._transfer, uploads["stop"], self._ask_program)

    def live(self) -> int:
        """Do everything; give the exit code."""
        ground = self._ground
        try:
            ending, problem = self._run()
            end = self._verdict(ending, problem)
        except PrepareError as error:
            end = _end("failed", error.reason, error.detail)
        end["outputs"] = {}
        try:
            self._keep(end)
        except (TransferError, OSError) as error:
            if end["phase"] == "succeeded":
                end |= _end("failed", "volume", f"what it left cannot be kept: {error}")
        end |= {"attempt": ground.attempt, "worker": ground.worker, "started": self._started}
        end["peak"] = pod_results.peak_memory()
        end["time"] = time.time()
        if self._started is not None:  # by the clock that nobody sets
            end["time"] = self._started + (time.monotonic() - self._began)
        self._tell(end)
        if end["phase"] == "succeeded":
            return 0
        # who ended a pod that nobody cancelled took it away: to another attempt it was lost
        reason = "lost" if end["phase"] == "cancelled" else end["reason"]
        return AGAIN if reason in ground.task["retry"] else FINAL

    def _run(self) -> tuple[Ending, str]:
        ground, task = self._ground, self._ground.task
        self._look_for_cancel()
        ground.fill(self._transfer)
        ground.meet()
        programs = [
            Program(
                task["command"], ground.environment(place), ground.work / task["working_dir"],
                ground.log(place.rank), place.rank,
            )
            for place in ground.places
        ]  # fmt: skip
        for place in ground.places:
            prefix = f"{ground.prefix}{place.rank}/"
            self._shipper.streams += [
                Stream(ground.log(place.rank), f"log/{prefix}", echo),
                Stream(ground.metrics(place.rank), f"metrics/{prefix}", None),
            ]
        self._shipper.checkpoints = (RUN / "checkpoints", f"checkpoints/{ground.worker}.tar")
        self._shipper.start()
        ending = Group(self._asked).run(programs, task["grace"], task["timeout"], self._mark)
        problem = ""
        if ending.good:
            problems = (
                pod_results.problem(task, ground.outputs(place.rank), place.rank)
                for place in ground.places
            )
            problem = next((it for it in problems if it), "")
        return ending, problem

    def _mark(self) -> None:
        self._started = time.time()
        self._began = time.monotonic()

    def _asked(self) -> float | None:
        """Give the grace in seconds once this pod is to end, else None."""
        if not pod_program.TERM:
            return None
        if self._grace is None:
            self._grace = self._asked_grace()
        return self._grace

    def _asked_grace(self) -> float:
        """Give the grace that whoever cancels the task wants, else the task's own."""
        found = io.BytesIO()
        try:
            if self._transfer.fetch(self._ground.uploads["cancel"], found, 2.0):
                return float(json.loads(found.getvalue())["grace"])
        except (TransferError, OSError, ValueError, KeyError):
            pass
        return float(self._ground.task["grace"])

    def _look_for_cancel(self) -> None:
        """See whether the signal to end came before we could hear it.

        Linux drops signals to the first process of a container that does not listen yet. What
        says that a task is cancelled is written before its pods are told.
        """
        try:
            if self._transfer.fetch(self._ground.uploads["cancel"], io.BytesIO(), 2.0):
                pod_program.TERM.append(time.monotonic())
        except (TransferError, OSError):
            pass

    def _ask_program(self) -> None:
        (RUN / "stop").touch()

    def _verdict(self, ending: Ending, problem: str) -> dict[str, Any]:
        more = {"code": ending.code, "signal": ending.signal, "rank": ending.rank}
        killed = ending.signal == signal.SIGKILL or ending.code == 128 + signal.SIGKILL
        if ending.good:
            phase = "failed" if problem else "succeeded"
            return _end(phase, "error" if problem else None, problem) | more
        if ending.cause == "cancel":
            return _end("cancelled", None, ending.detail) | more
        if ending.cause == "timeout":
            return _end("failed", "timeout", ending.detail) | more
        if killed and pod_results.ran_out_of_memory():
            return _end("failed", "oom", "out of memory") | more
        return _end("failed", "error", ending.detail) | more

    def _keep(self, end: dict[str, Any]) -> None:
        """Send all that the program left."""
        ground = self._ground
        patience = _LAST_WORDS if pod_program.TERM else PATIENCE
        self._shipper.finish(patience)
        if end["phase"] != "succeeded":
            self._shipper.save(patience, last=True)
        for place in ground.places:
            folder = ground.outputs(place.rank)
            pod_results.arrange(ground.task["ranks"], folder, place.rank)
            if not folder.is_symlink() and folder.is_dir() and any(folder.iterdir()):
                aside = RUN / "outputs.tar"
                with aside.open("w+b") as file:
                    pack(folder, file)
                    key = f"outputs/{ground.prefix}{place.rank}.tar"
                    self._transfer.send(key, file, patience)
                    end["outputs"][str(place.rank)] = file.tell()
                aside.unlink()
            elif folder.is_symlink():
                end |= _end("failed", "error", "the program put a link in place of its outputs")

    def _tell(self, end: dict[str, Any]) -> None:
        """Write down how it ended: for Kubernetes, and beside the objects of the task."""
        text = told(end)
        try:
            MESSAGE.write_text(text, encoding="utf-8")
        except OSError:
            traceback.print_exc()
        key = f"end/{self._ground.prefix}{self._ground.worker}.json"
        try:
            self._transfer.send_bytes(key, text.encode(), _LAST_WORDS)
        except TransferError:
            traceback.print_exc()


def told(end: dict[str, Any]) -> str:
    """Write down an end, its detail cut so that Kubernetes cuts nothing."""
    detail = end["detail"][:_CUT]
    while True:
        text = json.dumps({**end, "detail": detail})
        if len(text) <= _LONGEST or not detail:
            return text
        detail = detail[: len(detail) * 3 // 4]


def _end(phase: str, reason: str | None, detail: str) -> dict[str, Any]:
    return {
        "phase": phase, "reason": reason, "detail": detail,
        "code": None, "signal": None, "rank": None,
    }  # fmt: skip


def main() -> int:
    """Be the pod."""
    signal.pthread_sigmask(signal.SIG_BLOCK, pod_program.SIGNALS)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    os.umask(0o022)
    return Pod(Ground()).live()


if __name__ == "__main__":
    sys.exit(main())
