"""What every engine does, and the data that goes in and comes out.

A Task is described in full before anything is sent: ``prepare`` makes the native request from it
(pure, printable), ``submit`` sends it (idempotent), ``events`` tells what happened since a cursor.
Retry is on the Task and done by the engine, so nothing depends on who submitted it staying alive.
"""

import abc
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal


class Phase(StrEnum):
    """How far a task is."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"

    @property
    def final(self) -> bool:
        """True when nothing will change any more."""
        return self in _FINAL


_FINAL = frozenset({Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED, Phase.LOST})


class Reason(StrEnum):
    """Why a task waits or ended badly; a closed list."""

    ERROR = "error"
    OOM = "oom"
    TIMEOUT = "timeout"
    EVICTED = "evicted"
    PREEMPTED = "preempted"
    IMAGE = "image"
    VOLUME = "volume"
    UNSCHEDULABLE = "unschedulable"
    QUOTA = "quota"
    ADMISSION = "admission"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Code:
    """A code snapshot: the bare git store that holds it and the hash of its tree."""

    store: str
    tree: str


@dataclass(frozen=True, slots=True)
class Environment:
    """A Python environment built once per key, under a lock, before the program starts.

    Attributes:
        key: hash over lock text, interpreter version, platform and setup command.
        requirements: the text of a fully pinned requirements file; "" for none.
        version: Python version wanted ("3.11"); "" for the one mlstead runs on.
        setup: a shell command run once in the new environment; "" for none.
        hashes: True when every requirement carries a hash, which is then enforced.
    """

    key: str
    requirements: str = ""
    version: str = ""
    setup: str = ""
    hashes: bool = False


@dataclass(frozen=True, slots=True)
class Input:
    """A tree or file that the program reads at ``$MLSTEAD_INPUTS/<name>``."""

    name: str
    location: str
    mode: Literal["copy", "link", "mount"] = "link"


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret by name: where its value goes, never the value."""

    name: str
    env: str = ""
    file: str = ""


@dataclass(frozen=True, slots=True)
class Resources:
    """What one worker needs: cores, bytes, GPUs (count and acceptable kinds)."""

    cpu: float = 1.0
    memory: int = 2 << 30
    gpu: int = 0
    gpu_kinds: tuple[str, ...] = ()
    shm: int = 0
    disk: int = 0


@dataclass(frozen=True, slots=True)
class Workers:
    """A group that starts together and ends together; resources are per worker."""

    count: int = 1
    processes: int = 1
    framework: Literal["torch", "tensorflow", "ray", "none"] = "none"
    launcher: Literal["mlstead", "own"] = "mlstead"


@dataclass(frozen=True, slots=True)
class Retry:
    """How often an engine tries again, and for which reasons; ``backoff`` in seconds."""

    max: int = 0
    reasons: tuple[Reason, ...] = (Reason.ERROR, Reason.OOM, Reason.LOST)
    backoff: float = 0.0


@dataclass(frozen=True, slots=True)
class Task:
    """The smallest piece of work an engine runs.

    Attributes:
        id: unique, ``[a-z0-9-]``, at most 52 characters; the same id is the same task for ever.
        command: the argument vector; a shell command is ``("sh", "-ec", text)``.
        env: environment variables of the work file and of the platform, values plain.
        working_dir: a folder inside the code.
        outputs: names that must exist under ``$MLSTEAD_OUTPUTS`` after exit 0.
        values: output names that must be keys of ``$MLSTEAD_OUTPUTS/values.json`` after exit 0.
        ranks: output names that every rank writes, kept as ``<name>/<rank>``.
        timeout: seconds one attempt may run; None for no limit.
        max_queue_time: seconds it may wait for its first start; None for no limit.
        grace: seconds between the polite and the hard end.
        patient: True to wait for a host that is large enough where there is none now.
        priority: larger goes first.
        interactive: True for what people should see in listings; False for our own helpers.
    """

    id: str
    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    code: Code | None = None
    working_dir: str = ""
    environment: Environment | None = None
    image: str = ""
    inputs: tuple[Input, ...] = ()
    mounts: Mapping[str, str] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    ranks: tuple[str, ...] = ()
    secrets: tuple[Secret, ...] = ()
    resources: Resources = Resources()
    workers: Workers = Workers()
    retry: Retry = Retry()
    timeout: float | None = None
    max_queue_time: float | None = None
    grace: float = 10.0
    patient: bool = False
    priority: int = 0
    queue: str = ""
    ports: Mapping[str, int] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    native: Mapping[str, Any] = field(default_factory=dict)
    interactive: bool = True


@dataclass(frozen=True, slots=True)
class Submission:
    """The native request, made before anything happens and shown by ``plan``; plain JSON data."""

    task_id: str
    engine: str
    request: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Facts:
    """What an engine has to give; read-only.

    Attributes:
        cpu: cores; memory: bytes; gpus: kind of each GPU.
        details: anything else worth recording (interpreter, platform, versions).
    """

    cpu: float
    memory: int
    gpus: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Status:
    """What an engine knows of one task.

    Times are seconds since the epoch, memory is bytes. ``detail`` is one line for people.
    ``image`` is the container image that runs, by digest where that is known.
    """

    phase: Phase
    reason: Reason | None = None
    exit_code: int | None = None
    signal: int | None = None
    attempt: int = 1
    peak_memory: int | None = None
    memory_limit: int | None = None
    hosts: tuple[str, ...] = ()
    rank: int | None = None
    submitted: float | None = None
    started: float | None = None
    ended: float | None = None
    detail: str = ""
    image: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """Something that work needs, and whether it is there.

    ``state`` is ``ok``, ``missing`` (work will fail) or ``limited`` (some of it will be refused).
    """

    name: str
    state: Literal["ok", "missing", "limited"]
    detail: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """One change of one attempt of a task; (task, attempt, phase) never repeats with other content.

    ``cursor`` is the place just after this event: give it to ``events`` to go on from there.
    """

    task_id: str
    attempt: int
    phase: Phase
    time: float
    status: Status
    cursor: str
    retried: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where an engine works, by what a context says; an engine takes what it needs of it.

    Attributes:
        home: the state of mlstead; name: the context's.
        options: what only this kind of engine knows, by name.
        artifacts: where artifacts are kept (``s3://bucket/prefix``); "" for the home folder.
        endpoint: the S3 server that has them; "" for the environment's.
    """

    home: Path
    name: str = "local"
    options: Mapping[str, str] = field(default_factory=dict)
    artifacts: str = ""
    endpoint: str = ""


class Engine(abc.ABC):
    """Runs tasks; knows nothing of sweeps, pipelines or records."""

    name: str

    @abc.abstractmethod
    def facts(self) -> Facts:
        """Say what there is; reads only."""

    def check(self) -> Iterator[Check]:
        """Look whether what tasks need is there; reads, and leaves nothing behind."""
        facts = self.facts()
        gpus = f", {len(facts.gpus)} GPUs" if facts.gpus else ""
        yield Check("engine", "ok", f"cpu {facts.cpu:g}, memory {facts.memory >> 20} MiB{gpus}")

    @abc.abstractmethod
    def prepare(self, task: Task, facts: Facts) -> Submission:
        """Make the native request; pure, touches nothing.

        Raises:
            UserError: the engine cannot do what the task asks, by the name of the field.
        """

    @abc.abstractmethod
    def submit(
        self, submissions: Sequence[Submission], secrets: Mapping[str, str] | None = None
    ) -> None:
        """Send the requests; sending one twice changes nothing.

        ``secrets`` holds the values for the names the submissions mention; they are kept where
        only the task can read them and dropped when it ends.

        Raises:
            ConflictError: a task of that id exists with another request.
        """

    @abc.abstractmethod
    def events(self, after: str = "") -> Iterator[TaskEvent]:
        """Give what happened since a cursor ("" = the beginning), oldest first, then end."""

    @abc.abstractmethod
    def wait(self, after: str, timeout: float) -> None:
        """Return as soon as there may be events after the cursor, or after ``timeout`` seconds."""

    @abc.abstractmethod
    def status(self, task_id: str) -> Status:
        """Say how far the task is; NotFoundError if there is none."""

    @abc.abstractmethod
    def logs(
        self, task_id: str, *, rank: int | None = None, offset: int = 0, follow: bool = False
    ) -> Iterator[bytes]:
        """Give the output, all attempts in order; with ``follow`` until the task ends.

        Of several ranks, whole lines, each with ``[rank N] `` before it, unless one is chosen.
        """

    @abc.abstractmethod
    def metrics(
        self, task_id: str, attempt: int, rank: int, offset: int, limit: int = 8 << 20
    ) -> bytes:
        """Give up to ``limit`` bytes of metric lines (JSON, one a line) from a byte offset on.

        b"" if there are none (yet); the last line may be cut.
        """

    @abc.abstractmethod
    def outputs(self, task_id: str) -> str:
        """Give the folder that holds what the last attempt wrote under ``$MLSTEAD_OUTPUTS``."""

    def leaves_nothing(self, task_id: str) -> bool:
        """Say whether a task that has ended left no output; False where that is not known."""
        folder = self.outputs(task_id)
        if os.path.islink(folder):  # noqa: PTH114 asked for every run
            return False  # never followed; its end says so
        try:
            with os.scandir(folder) as entries:
                return next(entries, None) is None
        except OSError:
            return True

    def release(self, task_id: str) -> None:  # noqa: B027 an engine may keep nothing
        """Drop what a task that has ended wrote, once it is kept elsewhere; its logs stay."""

    @abc.abstractmethod
    def cancel(self, task_id: str, grace: float | None = None) -> None:
        """Stop the task and all it started; stopping it twice changes nothing."""

    @abc.abstractmethod
    def signal_stop(self, task_id: str) -> None:
        """Ask the program to end by itself: ``mlstead.should_stop()`` becomes true."""

    @abc.abstractmethod
    def forget(self, task_id: str) -> None:
        """Remove everything kept of a task that has ended; twice changes nothing."""

    def close(self) -> None:  # noqa: B027 most engines hold nothing
        """Let go of connections; the engine opens them again when it is used again."""
