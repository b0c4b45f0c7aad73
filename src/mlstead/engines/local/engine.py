"""The local engine as its callers see it: writes requests, reads what became of them."""

import contextlib
import errno
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlstead.engines.base import (
    Engine,
    Facts,
    Phase,
    Reason,
    Status,
    Submission,
    Task,
    TaskEvent,
)
from mlstead.engines.local import (
    attempt,
    disk,
    filesystem,
    journal,
    log_stream,
    machine,
    ports,
    prepare,
    results,
    wire,
)
from mlstead.engines.local.connections import Connections
from mlstead.engines.local.disk import Home, Marker
from mlstead.engines.local.tail import Tail
from mlstead.errors import ConflictError, NotFoundError, UnavailableError, UserError
from mlstead.runner import bundle


class LocalEngine(Engine):
    """Runs tasks as processes of this machine; all engines of one home see the same tasks."""

    name = prepare.NAME

    def __init__(self, home: Path) -> None:
        if sys.platform != "linux":
            raise UserError("engine local: it needs Linux", hint="use --on CONTEXT, or WSL")
        self._home = Home(home.expanduser().absolute())
        self._keeper = Connections(self._home)
        self._ready = False
        self._tail = Tail(self._home.journal)

    def facts(self) -> Facts:
        """Say what this machine has for tasks."""
        return machine.facts(self._home, os.environ)

    def prepare(self, task: Task, facts: Facts) -> Submission:
        """Make the request; pure."""
        return prepare.prepare(task, facts)

    def submit(
        self, submissions: Sequence[Submission], secrets: Mapping[str, str] | None = None
    ) -> None:
        """Write the requests down and wake the keeper."""
        if not submissions:
            return
        with _explained(self._home):
            self._make_ready()
            first = disk.take_numbers(self._home.sequence, len(submissions))
            begin = journal.tail(self._home.journal)
            new = [
                submission.task_id
                for index, submission in enumerate(submissions)
                if self._write(submission, secrets or {}, first + index, begin)
            ]
            if new:
                self._keeper.tell(*(f"submit {task_id}" for task_id in new))

    def _write(
        self, submission: Submission, secrets: Mapping[str, str], sequence: int,
        begin: tuple[int, int],
    ) -> bool:  # fmt: skip
        task_id, request = submission.task_id, submission.request
        task = self._home.task(task_id)
        wanted = {
            "task_id": task_id, "engine": submission.engine, "request": dict(request),
        }  # fmt: skip
        data = disk.dump(wanted)
        private = self._private(request, secrets)
        if not _made(task):
            if self._is_other(task, data):
                raise ConflictError(
                    f"task {task_id} exists with another request",
                    hint="give the run another name",
                )
            there = (task / "task.json").exists()
            if there and _phase_is_final(attempt.status(task, dict(request))):
                return False
        if private:
            disk.write_over(task / "private.json", disk.dump(private))
        if not disk.write_new(task / "task.json", data) and self._is_other(task, data):
            raise ConflictError(f"task {task_id} exists with another request")
        disk.write_marker(self._home.active, Marker(task_id, sequence, begin))
        return True

    def _is_other(self, task: Path, data: bytes) -> bool:
        try:
            return (task / "task.json").read_bytes() != data
        except FileNotFoundError:
            return False

    def _private(
        self, request: Mapping[str, Any], secrets: Mapping[str, str]
    ) -> dict[str, dict[str, str]]:
        names = [secret["name"] for secret in request["secrets"]]
        missing = [name for name in names if name not in secrets]
        if missing:
            raise UserError(
                f"secrets: no value for {missing[0]!r}", hint=f"mlstead secret set {missing[0]}"
            )
        building = request["environment"] is not None
        if not (names or building or request["private"]):
            return {}
        env = machine.private_values(request["private"], os.environ, building)
        if not names and not env:
            return {}
        return {"secrets": {name: secrets[name] for name in names}, "env": env}

    def events(self, after: str = "") -> Iterator[TaskEvent]:
        """Give the events after a cursor, oldest first."""
        begin = after
        while news := self._tail.read(after):
            for event, after in news:
                yield TaskEvent(
                    event["task"], event["attempt"], Phase(event["phase"]), event["time"],
                    _status(event["status"]), after, event["retried"],
                )  # fmt: skip
        if after == begin:
            # perhaps because there is no keeper to tell anything
            with contextlib.suppress(OSError):
                if not disk.is_locked(self._home.lock) and any(self._home.active.iterdir()):
                    self._keeper.wake()

    def wait(self, after: str, timeout: float) -> None:
        """Return when there is something after the cursor, or after ``timeout`` seconds."""
        end = time.monotonic() + timeout
        while not self._tail.holds(after) and (left := end - time.monotonic()) > 0:
            with _explained(self._home):
                self._make_ready()
                connection = self._keeper.take()
            self._keeper.listen(connection, 0.0 if self._tail.holds(after) else left)

    def status(self, task_id: str) -> Status:
        """Say how far a task is, from its files alone."""
        task, request = self._find(task_id)
        return _status(attempt.status(task, request))

    def logs(
        self, task_id: str, *, rank: int | None = None, offset: int = 0, follow: bool = False
    ) -> Iterator[bytes]:
        """Give the output of all attempts in order."""
        task, request = self._find(task_id)
        source = log_stream.Source(
            task, lambda: _phase_is_final(attempt.status(task, request)), time.sleep
        )
        return log_stream.read(source, rank, offset, follow)

    def metrics(
        self, task_id: str, attempt: int, rank: int, offset: int, limit: int = 8 << 20
    ) -> bytes:
        """Give metric lines from a byte offset on; the last one may be cut."""
        path = f"{self._folder(task_id)}/{int(attempt)}/metrics-{int(rank)}.jsonl"
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return b""
        with os.fdopen(descriptor, "rb") as file:
            file.seek(offset)
            return file.read(limit)

    def outputs(self, task_id: str) -> str:
        """Give the outputs folder of the last attempt."""
        task = self._folder(task_id)
        number = (attempt.numbers(task) or [1])[-1]
        return str(results.rank_folder(task / str(number), 0))

    def release(self, task_id: str) -> None:
        """Remove the outputs of every attempt; a link in their place is only unlinked."""
        task = self._folder(task_id)
        for number in attempt.numbers(task):
            for folder in (task / str(number)).glob("outputs*"):
                if folder.is_symlink():
                    folder.unlink(missing_ok=True)
                else:
                    shutil.rmtree(folder, ignore_errors=True)

    def checkpoints(self, task_id: str) -> str:
        """Give the folder whose content all attempts share."""
        return str(self._find(task_id)[0] / "checkpoints")

    def cancel(self, task_id: str, grace: float | None = None) -> None:
        """Stop a task and all it started; a shorter grace later makes it quicker."""
        task, request = self._find(task_id)
        if _phase_is_final(attempt.status(task, request)):
            return
        with _explained(self._home):
            self._make_ready()
            seconds = request["grace"] if grace is None else grace
            disk.write_over(task / "cancel", disk.dump({"grace": max(0.0, seconds)}))
            (task / "stop").touch()
            self._keeper.tell(f"cancel {task_id}")

    def signal_stop(self, task_id: str) -> None:
        """Ask the program to end by itself."""
        task = self._folder(task_id)
        with _explained(self._home):
            (task / "stop").touch()

    def forget(self, task_id: str) -> None:
        """Remove what is kept of a task that has ended."""
        if not prepare.is_id(task_id):
            return
        task = self._home.task(task_id)
        submission = disk.read_json(task / "task.json")
        if submission is None:
            return
        if not _phase_is_final(attempt.status(task, submission["request"])):
            raise ConflictError(f"task {task_id} has not ended", hint="stop it first")
        if (self._home.active / task_id).is_symlink():
            self._keeper.wake()
            self._until(lambda: not (self._home.active / task_id).is_symlink(), 10.0)
        shutil.rmtree(task, ignore_errors=True)

    def ensure(self) -> None:
        """See to it that a keeper runs."""
        with _explained(self._home):
            self._make_ready()
            self._keeper.wake()

    def shutdown(self, cancel: bool = True) -> None:
        """End the keeper, and by default all tasks with it; for tests and for removal."""
        if not self._home.root.exists():
            return
        if cancel:
            for marker in list(self._home.active.iterdir()):
                with contextlib.suppress(NotFoundError):
                    self.cancel(marker.name, 0.0)
            self._until(lambda: not any(self._home.active.iterdir()), 30.0)
        self.close()
        if wire.tell(self._home, "shutdown"):
            self._until(lambda: not disk.is_locked(self._home.lock), 10.0)

    def close(self) -> None:
        """Close the connections this object holds; it can be used again."""
        self._keeper.close()
        self._tail.close()

    def _until(self, condition: Any, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise UnavailableError(f"the keeper of {self._home.root} does not answer")
            time.sleep(0.005)

    def _folder(self, task_id: str) -> Path:
        """Give the folder of a task that was submitted, without reading what was asked."""
        task = self._home.task(task_id)
        if not prepare.is_id(task_id) or not os.path.exists(f"{task}/task.json"):  # noqa: PTH110
            raise NotFoundError(f"no task {task_id}")
        return task

    def _find(self, task_id: str) -> tuple[Path, dict[str, Any]]:
        task = self._home.task(task_id)
        submission = disk.read_json(task / "task.json") if prepare.is_id(task_id) else None
        if submission is None:
            raise NotFoundError(f"no task {task_id}")
        return task, submission["request"]

    def _make_ready(self) -> None:
        if self._ready and os.path.isdir(self._home.active):  # noqa: PTH112 asked for often
            return
        filesystem.refuse_network(self._home.home)
        self._home.create()
        ports.user_folder()
        target = bundle.ensure(self._home.home)
        if not self._home.runner.is_symlink() or self._home.runner.readlink() != target:
            aside = self._home.root / f".runner.{os.getpid()}"
            aside.unlink(missing_ok=True)
            aside.symlink_to(target)
            aside.replace(self._home.runner)
        self._ready = True


def _made(folder: Path) -> bool:
    """Make a folder, and those above it; False when it was there."""
    try:
        folder.mkdir()
    except FileNotFoundError:
        folder.parent.mkdir(parents=True, exist_ok=True)
        return _made(folder)
    except FileExistsError:
        return False
    return True


def _phase_is_final(status: Mapping[str, Any]) -> bool:
    return Phase(status["phase"]).final


def _status(fields: Mapping[str, Any]) -> Status:
    reason = fields.get("reason")
    typed = {
        "phase": Phase(fields["phase"]),
        "reason": Reason(reason) if reason else None,
        "hosts": tuple(fields.get("hosts", ())),
    }
    return Status(**{**fields, **typed})


@contextlib.contextmanager
def _explained(home: Home) -> Iterator[None]:
    """Say in one line why the home cannot be used."""
    try:
        yield
    except TimeoutError as error:
        raise UnavailableError(str(error)) from error
    except PermissionError as error:
        raise _unusable(home, error, "set MLSTEAD_HOME to a folder you may write to") from error
    except OSError as error:
        hints = {
            errno.ENOSPC: "free some space, or set MLSTEAD_HOME to another disk",
            errno.EDQUOT: "free some space, or set MLSTEAD_HOME to another disk",
            errno.EROFS: "set MLSTEAD_HOME to a folder you may write to",
        }
        hint = hints.get(error.errno or 0, "set MLSTEAD_HOME to another folder")
        raise _unusable(home, error, hint) from error


def _unusable(home: Home, error: OSError, hint: str) -> UserError:
    where = error.filename or home.root
    return UserError(f"cannot write to {where}: {error.strerror or error}", hint=hint)
