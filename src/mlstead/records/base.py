"""What happened, as frozen data, and what every record store does with it.

All writes of one decision go in one ``commit``: a list of changes in one transaction. A driver
passes its lease, and a stale lease is refused, so two drivers never both write.
"""

import abc
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, cast


class State(StrEnum):
    """How far a run is; a run is any submission: job, trial, step, sweep, pipeline, service."""

    PENDING = "pending"  # recorded, waits for its driver
    QUEUED = "queued"  # sent to the engine
    STARTING = "starting"
    RUNNING = "running"
    FINISHING = "finishing"  # the program is done, its outputs are being kept
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"
    SKIPPED = "skipped"  # a step whose condition did not hold
    BLOCKED = "blocked"  # a step whose need failed

    @property
    def final(self) -> bool:
        """True when nothing will change any more."""
        return self in FINAL


FINAL = frozenset(
    {
        State.SUCCEEDED,
        State.FAILED,
        State.CANCELLED,
        State.LOST,
        State.SKIPPED,
        State.BLOCKED,
    }
)


@dataclass(frozen=True, slots=True)
class Run:
    """One submission, written before anything is sent.

    Attributes:
        id: unique; also the task's id on the engine.
        number: the order of creation, given by the store.
        parent: the run that made this one (a sweep for its trials, a pipeline for its steps).
        key: the place under the parent: a step's name, ``train[0]``, a trial's number.
        spec: the work as JSON data; request: the engine's native request.
        stop: True once somebody asked for the end.
        cached: the run whose outputs stand for this one's, or "".
        code: hash of the code tree; environment: key of the Python environment.
        extra: what the kind's driver must remember (a trial's distributions, a service's URL).
        mlflow: id of the run's copy in MLflow, or "".
        token: an idempotency key; the same token is the same run for ever.
    """

    id: str
    project: str
    kind: str
    name: str
    engine: str = ""
    state: State = State.PENDING
    number: int = 0
    parent: str = ""
    key: str = ""
    spec: Mapping[str, Any] = field(default_factory=dict)
    request: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    status: Mapping[str, Any] = field(default_factory=dict)
    created: float = 0.0
    started: float | None = None
    ended: float | None = None
    reason: str = ""
    detail: str = ""
    attempt: int = 0
    stop: bool = False
    cached: str = ""
    code: str = ""
    environment: str = ""
    mlflow: str = ""
    token: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a run; (run, attempt, name) is unique, a repeat is dropped."""

    run_id: str
    name: str
    time: float
    attempt: int = 0
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Point:
    """One value of one metric; ``number`` is the order of arrival, given by the store."""

    run_id: str
    key: str
    value: float
    step: int
    time: float
    rank: int = 0
    attempt: int = 1
    number: int = 0


@dataclass(frozen=True, slots=True)
class Version:
    """A numbered version of data or a model; numbers start at 1 and never move.

    ``digest`` is the manifest's, ``run_id``/``output`` say which run made it.
    """

    project: str
    kind: Literal["data", "model"]
    name: str
    number: int
    digest: str
    size: int = 0
    files: int = 0
    run_id: str = ""
    output: str = ""
    created: float = 0.0
    source: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Link:
    """What a run read or wrote: ``slot`` is the name in its spec, ``ref`` ``name@3`` or a path."""

    run_id: str
    direction: Literal["input", "output"]
    slot: str
    kind: str
    digest: str
    ref: str = ""
    partial: bool = False


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to drive one run until ``expires`` (database time); ``fence`` only grows."""

    run_id: str
    holder: str
    fence: int
    expires: float


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """The run whose outputs answer for a cache key."""

    key: str
    run_id: str
    created: float


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to be sent; ``id`` is unique, so it is queued once. No secret value in it."""

    id: str
    run_id: str
    to: str
    text: str
    created: float
    tries: int = 0
    next_try: float = 0.0
    state: Literal["waiting", "sent", "failed"] = "waiting"
    error: str = ""


_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"


def new_id(name: str) -> str:
    """Make the id of a new top-level run: its name and eight random characters."""
    return f"{name}-{''.join(secrets.choice(_ALPHABET) for _ in range(8))}"


def is_driven(run: Run) -> bool:
    """Say whether a run has work for a driver now; see ``Query``."""
    if run.kind == "site":
        return False  # done by the process that was called for it
    if run.state.final or run.kind != "job":
        return not run.state.final
    if run.state is State.PENDING:
        return not run.parent or run.stop
    # one that starts with a request is the engine's; without, its copy in MLflow is opened first
    return run.state is State.FINISHING or (run.state is State.STARTING and not run.request)


def to_json(value: Mapping[str, Any]) -> str:
    """Write a mapping as the JSON text that every store keeps (NaN allowed, ASCII only)."""
    return _ENCODER.encode(value) if value else "{}"


def from_json(text: str) -> dict[str, Any]:
    """Read what ``to_json`` wrote."""
    return cast("dict[str, Any]", json.loads(text)) if text != "{}" else {}


def _plain(value: object) -> object:
    """Say how a frozen map or set is written in JSON."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Set):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} cannot be kept in the records")


_ENCODER = json.JSONEncoder(default=_plain, check_circular=False)


# ---- changes: what one commit is made of ---------------------------------------------------


@dataclass(frozen=True, slots=True)
class AddRun:
    """Write a new run. ConflictError if the id, or its non-empty token, exists."""

    run: Run


@dataclass(frozen=True, slots=True)
class SetRun:
    """Set fields of a run by name (all but ``id``, ``number`` and ``token``).

    A mapping is replaced as a whole. ``unless_final`` True means: do nothing if the run has
    ended already. NotFoundError if there is no such run.
    """

    run_id: str
    fields: Mapping[str, Any]
    unless_final: bool = True


@dataclass(frozen=True, slots=True)
class AddEvents:
    """Write events; those that are there already are dropped. NotFoundError without the run."""

    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class AddPoints:
    """Write metric points; numbers are given in order, without gaps seen by a reader.

    NaN and infinities are kept. NotFoundError without the run.
    """

    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class SetCursor:
    """Move a named cursor from ``was`` ("" = not there yet) to ``value``; else ConflictError."""

    name: str
    was: str
    value: str


@dataclass(frozen=True, slots=True)
class AddVersion:
    """Write a version, with its aliases, whose number must be the next one; else ConflictError."""

    version: Version


@dataclass(frozen=True, slots=True)
class SetAlias:
    """Let an alias point at a version (number 0 removes it).

    NotFoundError without the version; UserError for an alias that reads as a number.
    """

    project: str
    kind: Literal["data", "model"]
    name: str
    alias: str
    number: int


@dataclass(frozen=True, slots=True)
class DropVersion:
    """Forget a version row and its aliases; its number is never used again."""

    project: str
    kind: Literal["data", "model"]
    name: str
    number: int


@dataclass(frozen=True, slots=True)
class AddLinks:
    """Write inputs and outputs of runs; the same (run, direction, slot) is replaced."""

    links: tuple[Link, ...]


@dataclass(frozen=True, slots=True)
class AddCache:
    """Write a cache entry; the first writer stays, unless written before ``stale_before``.

    ``stale_before`` (seconds since 1970) is for an entry past its time, or whose outputs are gone.
    """

    entry: CacheEntry
    stale_before: float = 0.0


@dataclass(frozen=True, slots=True)
class PutOutgoing:
    """Write or update a message by its id.

    One that was sent or failed stays so, and tries never go down: queueing twice sends once.
    """

    message: Outgoing


Change = (
    AddRun
    | SetRun
    | AddEvents
    | AddPoints
    | SetCursor
    | AddVersion
    | SetAlias
    | DropVersion
    | AddLinks
    | AddCache
    | PutOutgoing
)


@dataclass(frozen=True, slots=True)
class Query:
    """Which runs to list, newest first; empty fields do not filter.

    ``parent`` None means top-level runs only, "*" all, else children of that run (by number,
    oldest first). ``before`` and ``after`` bound the number, for paging; ``limit`` 0 is no limit.
    ``driven`` means open runs that have work for a driver now: all kinds but sites and jobs, and
    jobs that wait for their start or for their outputs to be kept. A child that is pending is
    started by its parent, of which there may be thousands: it counts only when somebody asked for
    its end.
    """

    project: str = ""
    kind: str = ""
    name: str = ""
    parent: str | None = None
    states: tuple[State, ...] = ()
    open: bool = False
    driven: bool = False
    code: str = ""
    before: int = 0
    after: int = 0
    limit: int = 50


class Store(abc.ABC):
    """Keeps runs and what belongs to them.

    Mappings come back as JSON gives them: tuples as lists, keys as text. A time of 0.0 in what is
    written (``created``) is filled in by the store.

    Safe for use by several processes and threads at once. UnavailableError when the database
    does not answer, is full or read-only.
    """

    @abc.abstractmethod
    def commit(self, changes: Sequence[Change], *, lease: Lease | None = None) -> None:
        """Make all changes or none.

        Raises:
            ConflictError: an id, a cursor, a version number or the lease's fence is stale.
        """

    @abc.abstractmethod
    def run(self, run_id: str) -> Run:
        """Read a run; NotFoundError if there is none."""

    @abc.abstractmethod
    def find(self, text: str, project: str = "") -> Run:
        """Read a run by its id, as the newest of that name, or by a unique beginning of its id.

        A name means a top-level run before a child.

        Raises:
            NotFoundError: none fits; the hint names near ones.
            ConflictError: several ids begin so.
        """

    @abc.abstractmethod
    def by_token(self, token: str) -> Run | None:
        """Read the run of an idempotency key."""

    @abc.abstractmethod
    def runs(self, query: Query) -> list[Run]:
        """List runs."""

    @abc.abstractmethod
    def counts(self, parents: Sequence[str]) -> Mapping[str, Mapping[State, int]]:
        """Count the children of each run by state."""

    @abc.abstractmethod
    def events(self, run_id: str) -> list[Event]:
        """List a run's events, oldest first (by time, then arrival)."""

    @abc.abstractmethod
    def points(
        self, run_id: str = "", *, key: str = "", after: int = 0, limit: int = 10_000
    ) -> list[Point]:
        """List metric points by number, of one run or of all."""

    @abc.abstractmethod
    def latest(self, run_ids: Sequence[str]) -> Mapping[str, Mapping[str, Point]]:
        """Give the newest point (highest step, then lowest rank, then last come) per metric."""

    @abc.abstractmethod
    def best(self, run_id: str, key: str, goal: Literal["min", "max"]) -> Point | None:
        """Give the best finite point of a metric of one run; the first of equals."""

    @abc.abstractmethod
    def cursor(self, name: str) -> str:
        """Read a cursor; "" if it is not there."""

    @abc.abstractmethod
    def cursors(self, prefix: str) -> Mapping[str, str]:
        """Read all cursors whose name begins so."""

    @abc.abstractmethod
    def versions(
        self, project: str, kind: str = "", name: str = "", digest: str = ""
    ) -> list[Version]:
        """List versions by name and number, with their aliases."""

    @abc.abstractmethod
    def version(self, project: str, kind: str, name: str, at: str = "") -> Version:
        """Read one version by number or alias, or the newest; NotFoundError if there is none."""

    @abc.abstractmethod
    def next_number(self, project: str, kind: str, name: str) -> int:
        """Give the number that the next version must have; dropped numbers never return."""

    @abc.abstractmethod
    def links(self, run_ids: Sequence[str] = (), *, digest: str = "") -> list[Link]:
        """List what runs read and wrote, by run, by digest, or both; nothing asked, none given."""

    @abc.abstractmethod
    def cache(self, key: str) -> CacheEntry | None:
        """Read the cache entry of a key."""

    @abc.abstractmethod
    def outgoing(self, due: float) -> list[Outgoing]:
        """List waiting messages whose next try is not after ``due``."""

    @abc.abstractmethod
    def claim(self, run_id: str, holder: str, seconds: float) -> Lease | None:
        """Take or renew the lease of a run by database time; None while another holds it.

        A renewal in time keeps the fence. The name need not be a run's: "gc" is a lease too.
        """

    @abc.abstractmethod
    def release(self, lease: Lease) -> None:
        """Give a lease back; a stale one is left alone."""

    @abc.abstractmethod
    def digests(self) -> Iterator[str]:
        """Give every artifact digest that a version or a link refers to."""

    @abc.abstractmethod
    def close(self) -> None:
        """Let go of connections; a later call opens new ones."""
