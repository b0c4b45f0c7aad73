"""A truthful engine that runs nothing: for tests of what uses an engine.

It understands ``true``, ``false``, ``echo WORDS``, ``exit N``, ``sleep SECONDS`` and shell commands
made of those; anything else ends as a command that is not found. Time passes in ``sleep`` only by
the clock it is given.
"""

import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from mlstead.engines.base import (
    Engine,
    Facts,
    Phase,
    Place,
    Reason,
    Status,
    Submission,
    Task,
    TaskEvent,
)
from mlstead.errors import ConflictError, NotFoundError, UserError

_HOST = "memory"


@dataclass(slots=True)
class _Held:
    """One task and what became of it."""

    submission: Submission
    status: Status
    until: float = 0.0
    code: int = 0
    output: list[bytes] = field(default_factory=list)


class MemoryEngine(Engine):
    """Ends tasks at once, or after their ``sleep``; several objects of one home share the tasks."""

    name = "memory"
    _homes: dict[Path, "_State"] = {}  # noqa: RUF012  what stands for a disk here

    def __init__(self, home: Path, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._state = self._homes.setdefault(home, _State())

    def facts(self) -> Facts:
        """Say what there seems to be."""
        return Facts(cpu=1e6, memory=1 << 50, details={"interpreter": "none"})

    def prepare(self, task: Task, facts: Facts) -> Submission:
        """Make the request; pure."""
        if not task.command:
            raise UserError("command: it is empty")
        if task.native:
            raise UserError("native: not supported by engine memory yet")
        request = json.loads(json.dumps(asdict(task), default=dict))
        return Submission(task.id, self.name, request)

    def submit(
        self, submissions: Sequence[Submission], secrets: Mapping[str, str] | None = None
    ) -> None:
        """Take the requests."""
        with self._state.lock:
            for submission in submissions:
                self._take(submission, secrets or {})

    def _take(self, submission: Submission, secrets: Mapping[str, str]) -> None:
        held = self._state.tasks.get(submission.task_id)
        if held is not None:
            if held.submission != submission:
                raise ConflictError(f"task {submission.task_id} exists with another request")
            return
        for secret in submission.request["secrets"]:
            if secret["name"] not in secrets:
                raise UserError(f"secrets: no value for {secret['name']!r}")
        now = self._clock()
        limit = submission.request["resources"]["memory"]
        held = _Held(submission, Status(Phase.QUEUED, memory_limit=limit, submitted=now))
        self._state.tasks[submission.task_id] = held
        self._note(held)
        self._begin(held)
        self._advance(held)

    def _begin(self, held: _Held) -> None:
        now = self._clock()
        for phase in (Phase.STARTING, Phase.RUNNING):
            started = now if phase is Phase.RUNNING else None
            held.status = replace(held.status, phase=phase, started=started, hosts=(_HOST,))
            self._note(held)
        if held.status.attempt > 1:
            held.output.append(f"--- attempt {held.status.attempt} ---\n".encode())
        held.code, seconds, output = _pretend(held.submission.request["command"])
        held.output.append(output)
        held.until = now + seconds

    def _advance(self, held: _Held) -> None:
        """Let a task end whose time has come."""
        while held.status.phase is Phase.RUNNING:
            limit = held.submission.request["timeout"]
            length = held.until - (held.status.started or 0.0)
            timed_out = limit is not None and length > limit
            due = (held.status.started or 0.0) + limit if timed_out else held.until
            if self._clock() < due:
                return
            if timed_out:
                self._finish(held, Phase.FAILED, Reason.TIMEOUT, None)
            elif held.code:
                self._finish(held, Phase.FAILED, Reason.ERROR, held.code)
            else:
                self._check_outputs(held)

    def _check_outputs(self, held: _Held) -> None:
        request = held.submission.request
        missing = [*request["outputs"], *request["ranks"], *request["values"]]
        if missing:
            held.status = replace(held.status, detail=f"output {missing[0]!r} is missing")
            self._finish(held, Phase.FAILED, Reason.ERROR, 0)
        else:
            self._finish(held, Phase.SUCCEEDED, None, 0)

    def _finish(self, held: _Held, phase: Phase, reason: Reason | None, code: int | None) -> None:
        retry = held.submission.request["retry"]
        attempt = held.status.attempt
        again = reason in retry["reasons"] and attempt <= retry["max"]
        now = self._clock()
        held.status = replace(held.status, phase=phase, reason=reason, exit_code=code, ended=now)
        self._note(held, retried=again)
        if again:
            held.status = Status(
                Phase.QUEUED, attempt=attempt + 1, submitted=held.status.submitted,
                memory_limit=held.status.memory_limit,
            )  # fmt: skip
            self._note(held)
            self._begin(held)

    def _note(self, held: _Held, retried: bool = False) -> None:
        events, status = self._state.events, held.status
        events.append(
            TaskEvent(
                held.submission.task_id, status.attempt, status.phase, self._clock(), status,
                str(len(events) + 1), retried,
            )
        )  # fmt: skip

    def events(self, after: str = "") -> Iterator[TaskEvent]:
        """Give the events after a cursor."""
        with self._state.lock:
            for held in self._state.tasks.values():
                self._advance(held)
            first = int(after) if after.isdigit() else 0
            new = self._state.events[first:]
        yield from new

    def wait(self, after: str, timeout: float) -> None:
        """Return when there are events, or after ``timeout`` seconds."""
        end = time.monotonic() + timeout
        while not any(True for _ in self.events(after)) and time.monotonic() < end:
            time.sleep(0.005)

    def status(self, task_id: str) -> Status:
        """Say how far the task is."""
        with self._state.lock:
            held = self._find(task_id)
            self._advance(held)
            return held.status

    def logs(
        self, task_id: str, *, rank: int | None = None, offset: int = 0, follow: bool = False
    ) -> Iterator[bytes]:
        """Give what the task would have printed."""
        self._find(task_id)
        return self._read(task_id, offset, follow)

    def _read(self, task_id: str, offset: int, follow: bool) -> Iterator[bytes]:
        while follow and not self.status(task_id).phase.final:
            time.sleep(0.005)
        yield b"".join(self._find(task_id).output)[offset:]

    def metrics(
        self, task_id: str, attempt: int, rank: int, offset: int, limit: int = 8 << 20
    ) -> bytes:
        """Give nothing: no program runs."""
        self._find(task_id)
        return b""

    def outputs(self, task_id: str) -> str:
        """Give an empty folder."""
        self._find(task_id)
        folder = self._state.folder()
        return str(folder)

    def cancel(self, task_id: str, grace: float | None = None) -> None:
        """End the task now."""
        if not self.status(task_id).phase.final:
            with self._state.lock:
                self._finish(self._find(task_id), Phase.CANCELLED, None, None)

    def signal_stop(self, task_id: str) -> None:
        """Let a sleep end by itself."""
        with self._state.lock:
            self._find(task_id).until = 0.0

    def forget(self, task_id: str) -> None:
        """Drop a task that has ended."""
        if task_id not in self._state.tasks:
            return
        if not self.status(task_id).phase.final:
            raise ConflictError(f"task {task_id} has not ended", hint="stop it first")
        with self._state.lock:
            self._state.tasks.pop(task_id, None)

    def _find(self, task_id: str) -> _Held:
        try:
            return self._state.tasks[task_id]
        except KeyError:
            raise NotFoundError(f"no task {task_id}") from None


class _State:
    """What one home holds."""

    def __init__(self) -> None:
        self.tasks: dict[str, _Held] = {}
        self.events: list[TaskEvent] = []
        self.lock = threading.RLock()
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def folder(self) -> Path:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        return Path(self._folder.name)


def _pretend(command: Sequence[str]) -> tuple[int, float, bytes]:
    """Give the exit code, the seconds it takes and the output of a command."""
    if list(command[:2]) == ["sh", "-ec"]:
        return _pretend_script(command[2])
    words = list(command[1:])
    match command[0]:
        case "true":
            return (0, 0.0, b"")
        case "false":
            return (1, 0.0, b"")
        case "echo":
            return (0, 0.0, " ".join(words).encode() + b"\n")
        case "exit":
            return (int(words[0]), 0.0, b"")
        case "sleep":
            return (0, float(words[0]), b"")
    return (127, 0.0, f"command not found: {command[0]}\n".encode())


def _pretend_script(script: str) -> tuple[int, float, bytes]:
    output, total = b"", 0.0
    for line in script.replace("\n", ";").split(";"):
        if line.strip():
            code, seconds, printed = _pretend(line.split())
            output, total = output + printed, total + seconds
            if code or line.split()[0] == "exit":
                return (code, total, output)
    return (0, total, output)


def create(place: Place) -> MemoryEngine:
    """Make an engine; all of one home in this process see the same tasks."""
    return MemoryEngine(place.home)


PART = create
