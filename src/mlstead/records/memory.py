"""Records in memory: for tests and for looking at a plan; gone with the process."""

import difflib
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any, Literal

from mlstead.errors import ConflictError, NotFoundError, UserError
from mlstead.records.base import (
    FINAL,
    AddCache,
    AddEvents,
    AddLinks,
    AddPoints,
    AddRun,
    AddVersion,
    CacheEntry,
    Change,
    DropVersion,
    Event,
    Lease,
    Link,
    Outgoing,
    Point,
    PutOutgoing,
    Query,
    Run,
    SetAlias,
    SetCursor,
    SetRun,
    State,
    Store,
    Version,
    from_json,
    is_driven,
    to_json,
)

_SETTABLE = {it.name for it in fields(Run)} - {"id", "number", "token"}
_URL = "memory:"

Name = tuple[str, str, str]  # project, kind, name


def create(url: str) -> Store:
    """Make an empty store; the URL is ``memory:``."""
    if url != _URL:
        raise UserError(f"records: {url!r} is not {_URL!r}")
    return MemoryStore()


PART = create


def _plain(value: Any) -> Any:
    """Give a mapping as JSON gives it back, so that this store and the others agree."""
    return from_json(to_json(value)) if isinstance(value, Mapping) else value


@dataclass(slots=True)
class _Tables:
    runs: dict[str, Run] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    events: dict[tuple[str, int, str], Event] = field(default_factory=dict)
    points: dict[int, Point] = field(default_factory=dict)
    cursors: dict[str, str] = field(default_factory=dict)
    versions: dict[tuple[Name, int], Version] = field(default_factory=dict)
    last: dict[Name, int] = field(default_factory=dict)
    aliases: dict[tuple[Name, str], int] = field(default_factory=dict)
    links: dict[tuple[str, str, str], Link] = field(default_factory=dict)
    cache: dict[str, CacheEntry] = field(default_factory=dict)
    outgoing: dict[str, Outgoing] = field(default_factory=dict)
    leases: dict[str, tuple[Lease, float]] = field(default_factory=dict)  # and when taken


class MemoryStore(Store):
    """Keeps the records in dictionaries; see ``Store``.

    ``clock`` stands for the database's clock.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._tables = _Tables()
        self._undo: list[Callable[[], object]] = []
        self._writers: dict[type, Callable[[Any], None]] = {
            AddRun: self._add_run,
            SetRun: self._set_run,
            AddEvents: self._add_events,
            AddPoints: self._add_points,
            SetCursor: self._set_cursor,
            AddVersion: self._add_version,
            SetAlias: self._set_alias,
            DropVersion: self._drop_version,
            AddLinks: self._add_links,
            AddCache: self._add_cache,
            PutOutgoing: self._put_outgoing,
        }

    # ---- writing ---------------------------------------------------------------------------

    def commit(self, changes: Sequence[Change], *, lease: Lease | None = None) -> None:
        with self._lock:
            self._undo.clear()
            try:
                if lease:
                    self._check_fence(lease)
                for change in changes:
                    self._writers[type(change)](change)
            except BaseException:
                for step in reversed(self._undo):
                    step()
                raise

    def _put(self, table: dict[Any, Any], key: Any, value: Any) -> None:
        """Write one entry so that it can be undone."""
        if key in table:
            self._undo.append(partial(table.__setitem__, key, table[key]))
        else:
            self._undo.append(partial(table.pop, key))
        table[key] = value

    def _drop(self, table: dict[Any, Any], key: Any) -> None:
        self._undo.append(partial(table.__setitem__, key, table.pop(key)))

    def _check_fence(self, lease: Lease) -> None:
        now, _ = self._tables.leases.get(lease.run_id, (None, 0.0))
        if now is None or (now.holder, now.fence) != (lease.holder, lease.fence):
            raise ConflictError(
                f"run {lease.run_id}: another process drives it now",
                hint="nothing was written; this driver must end",
            )

    def _need_run(self, run_id: str) -> Run:
        run = self._tables.runs.get(run_id)
        if run is None:
            raise NotFoundError(f"no run {run_id!r}", hint="mlstead ps lists runs")
        return run

    def _add_run(self, change: AddRun) -> None:
        run = change.run
        if run.id in self._tables.runs:
            raise ConflictError(f"run {run.id} exists already", hint="choose another id")
        if run.token and run.token in self._tables.tokens:
            raise ConflictError(f"run {run.id}: its token belongs to another run")
        values = {it.name: _plain(getattr(run, it.name)) for it in fields(Run)}
        values |= {"number": len(self._tables.runs) + 1, "created": run.created or self._clock()}
        self._put(self._tables.runs, run.id, Run(**values))
        if run.token:
            self._put(self._tables.tokens, run.token, run.id)

    def _set_run(self, change: SetRun) -> None:
        refused = set(change.fields) - _SETTABLE
        if refused:
            raise ValueError(f"not to be set on a run: {', '.join(sorted(refused))}")
        run = self._need_run(change.run_id)
        if change.unless_final and run.state.final:
            return
        values = {name: _plain(value) for name, value in change.fields.items()}
        if "state" in values:
            values["state"] = State(values["state"])
        self._put(self._tables.runs, run.id, replace(run, **values))

    def _add_events(self, change: AddEvents) -> None:
        for it in change.events:
            self._need_run(it.run_id)
            key = (it.run_id, it.attempt, it.name)
            if key not in self._tables.events:
                self._put(self._tables.events, key, replace(it, data=_plain(it.data)))

    def _add_points(self, change: AddPoints) -> None:
        for it in change.points:
            self._need_run(it.run_id)
            number = len(self._tables.points) + 1
            value = float(it.value)
            self._put(self._tables.points, number, replace(it, number=number, value=value))

    def _set_cursor(self, change: SetCursor) -> None:
        if self._tables.cursors.get(change.name, "") != change.was:
            raise ConflictError(f"cursor {change.name} was moved by another process")
        self._put(self._tables.cursors, change.name, change.value)

    def _add_version(self, change: AddVersion) -> None:
        it = change.version
        name = (it.project, it.kind, it.name)
        last = self._tables.last.get(name, 0)
        if it.number != last + 1:
            raise ConflictError(
                f"{it.kind} {it.name}@{it.number}: the next number is {last + 1}",
                hint="somebody else added a version meanwhile; try again",
            )
        self._put(self._tables.last, name, it.number)
        kept = replace(it, aliases=(), meta=_plain(it.meta), created=it.created or self._clock())
        self._put(self._tables.versions, (name, it.number), kept)
        for alias in it.aliases:
            self._set_alias(SetAlias(it.project, it.kind, it.name, alias, it.number))

    def _set_alias(self, change: SetAlias) -> None:
        name = (change.project, change.kind, change.name)
        if not change.number:
            if (name, change.alias) in self._tables.aliases:
                self._drop(self._tables.aliases, (name, change.alias))
            return
        if not change.alias or change.alias.isdigit():
            raise UserError(f"{change.name}: an alias needs a letter, not {change.alias!r}")
        if (name, change.number) not in self._tables.versions:
            raise NotFoundError(f"no {change.kind} {change.name}@{change.number}")
        self._put(self._tables.aliases, (name, change.alias), change.number)

    def _drop_version(self, change: DropVersion) -> None:
        name = (change.project, change.kind, change.name)
        if (name, change.number) not in self._tables.versions:
            raise NotFoundError(f"no {change.kind} {change.name}@{change.number}")
        self._drop(self._tables.versions, (name, change.number))
        for key, number in list(self._tables.aliases.items()):
            if key[0] == name and number == change.number:
                self._drop(self._tables.aliases, key)

    def _add_links(self, change: AddLinks) -> None:
        for it in change.links:
            self._need_run(it.run_id)
            self._put(self._tables.links, (it.run_id, it.direction, it.slot), it)

    def _add_cache(self, change: AddCache) -> None:
        entry = change.entry
        known = self._tables.cache.get(entry.key)
        if known is None or known.created < change.stale_before:
            created = entry.created or self._clock()
            self._put(self._tables.cache, entry.key, replace(entry, created=created))

    def _put_outgoing(self, change: PutOutgoing) -> None:
        it = change.message
        known = self._tables.outgoing.get(it.id)
        if known is None:
            created = it.created or self._clock()
            self._put(self._tables.outgoing, it.id, replace(it, created=created))
        elif known.state == "waiting" and it.tries >= known.tries:
            now = replace(
                known, tries=it.tries, next_try=it.next_try, state=it.state, error=it.error
            )
            self._put(self._tables.outgoing, it.id, now)

    def claim(self, run_id: str, holder: str, seconds: float) -> Lease | None:
        if not holder:
            raise ValueError("a lease needs a holder")
        with self._lock:
            now = self._clock()
            known, taken = self._tables.leases.get(run_id, (Lease(run_id, "", 0, 0.0), 0.0))
            good = bool(known.holder) and taken <= now < known.expires
            if good and known.holder != holder:
                return None
            lease = Lease(run_id, holder, known.fence + (not good), now + seconds)
            self._tables.leases[run_id] = (lease, now)
            return lease

    def release(self, lease: Lease) -> None:
        with self._lock:
            known, _ = self._tables.leases.get(lease.run_id, (None, 0.0))
            if known and (known.holder, known.fence) == (lease.holder, lease.fence):
                self._tables.leases[lease.run_id] = (replace(known, holder="", expires=0.0), 0.0)

    # ---- reading ---------------------------------------------------------------------------

    def run(self, run_id: str) -> Run:
        with self._lock:
            return self._need_run(run_id)

    def find(self, text: str, project: str = "") -> Run:
        with self._lock:
            if text in self._tables.runs:
                return self._tables.runs[text]
            known = [it for it in self._tables.runs.values() if project in ("", it.project)]
        named = [it for it in known if it.name == text]
        if named:
            return max(named, key=lambda it: (not it.parent, it.number))
        fits = sorted(it.id for it in known if text and it.id.startswith(text))
        if not fits:
            names = {part for it in known for part in (it.id, it.name)}
            near = difflib.get_close_matches(text, sorted(names), n=3)
            hint = "did you mean " + ", ".join(near) + "?" if near else "mlstead ps lists runs"
            raise NotFoundError(f"no run {text!r}", hint=hint)
        if len(fits) > 1:
            shown = ", ".join(fits[:5]) + (" …" if len(fits) > 5 else "")
            raise ConflictError(
                f"several runs begin with {text!r}: {shown}", hint="write more of it"
            )
        return self.run(fits[0])

    def by_token(self, token: str) -> Run | None:
        with self._lock:
            return self._tables.runs[self._tables.tokens[token]] if self._has(token) else None

    def _has(self, token: str) -> bool:
        return bool(token) and token in self._tables.tokens

    def runs(self, query: Query) -> list[Run]:
        with self._lock:
            known = list(self._tables.runs.values())
        found = [it for it in known if _fits(it, query)]
        if query.parent in (None, "", "*"):
            found.reverse()
        return found[: query.limit] if query.limit else found

    def counts(self, parents: Sequence[str]) -> Mapping[str, Mapping[State, int]]:
        found: dict[str, dict[State, int]] = {parent: {} for parent in parents}
        with self._lock:
            for it in self._tables.runs.values():
                if it.parent in found:
                    states = found[it.parent]
                    states[it.state] = states.get(it.state, 0) + 1
        return found

    def events(self, run_id: str) -> list[Event]:
        with self._lock:
            known = [it for it in self._tables.events.values() if it.run_id == run_id]
        return sorted(known, key=lambda it: it.time)

    def points(
        self, run_id: str = "", *, key: str = "", after: int = 0, limit: int = 10_000
    ) -> list[Point]:
        with self._lock:
            known = [it for it in self._tables.points.values() if it.number > after]
        return [it for it in known if run_id in ("", it.run_id) and key in ("", it.key)][:limit]

    def latest(self, run_ids: Sequence[str]) -> Mapping[str, Mapping[str, Point]]:
        found: dict[str, dict[str, Point]] = {run_id: {} for run_id in run_ids}
        with self._lock:
            known = [it for it in self._tables.points.values() if it.run_id in found]
        for it in known:
            other = found[it.run_id].get(it.key)
            if other is None or (it.step, -it.rank) >= (other.step, -other.rank):
                found[it.run_id][it.key] = it
        return found

    def best(self, run_id: str, key: str, goal: Literal["min", "max"]) -> Point | None:
        sign = {"min": 1, "max": -1}[goal]
        with self._lock:
            known = [it for it in self._tables.points.values() if it.run_id == run_id]
        fits = (it for it in known if it.key == key and math.isfinite(it.value))
        return min(fits, key=lambda it: (sign * it.value, it.number), default=None)

    def cursor(self, name: str) -> str:
        with self._lock:
            return self._tables.cursors.get(name, "")

    def cursors(self, prefix: str) -> Mapping[str, str]:
        with self._lock:
            found = sorted(self._tables.cursors.items())
        return {name: value for name, value in found if name.startswith(prefix)}

    def versions(
        self, project: str, kind: str = "", name: str = "", digest: str = ""
    ) -> list[Version]:
        wanted = {"project": project, "kind": kind, "name": name, "digest": digest}
        with self._lock:
            known = [
                replace(it, aliases=self._aliases_of(*key))
                for key, it in sorted(self._tables.versions.items())
            ]
        return [
            it for it in known if all(want in ("", getattr(it, of)) for of, want in wanted.items())
        ]

    def _aliases_of(self, name: Name, number: int) -> tuple[str, ...]:
        known = self._tables.aliases.items()
        return tuple(sorted(key[1] for key, at in known if key[0] == name and at == number))

    def version(self, project: str, kind: str, name: str, at: str = "") -> Version:
        known = self.versions(project, kind, name) if name else []
        fits = [it for it in known if not at or at == str(it.number) or at in it.aliases]
        if fits:
            return fits[-1]
        if not known:
            raise NotFoundError(f"no {kind} {name!r} in project {project}")
        names = [str(it.number) for it in known] + [one for it in known for one in it.aliases]
        raise NotFoundError(f"no {kind} {name}@{at}", hint=f"known: {', '.join(names)}")

    def next_number(self, project: str, kind: str, name: str) -> int:
        with self._lock:
            return self._tables.last.get((project, kind, name), 0) + 1

    def links(self, run_ids: Sequence[str] = (), *, digest: str = "") -> list[Link]:
        if not run_ids and not digest:
            return []
        with self._lock:
            known = [it for _, it in sorted(self._tables.links.items())]
        return [
            it
            for it in known
            if (not run_ids or it.run_id in run_ids) and digest in ("", it.digest)
        ]

    def cache(self, key: str) -> CacheEntry | None:
        with self._lock:
            return self._tables.cache.get(key)

    def outgoing(self, due: float) -> list[Outgoing]:
        with self._lock:
            known = list(self._tables.outgoing.values())
        fits = [it for it in known if it.state == "waiting" and it.next_try <= due]
        return sorted(fits, key=lambda it: (it.created, it.id))

    def digests(self) -> Iterator[str]:
        with self._lock:
            found = {it.digest for it in self._tables.versions.values()}
            found |= {it.digest for it in self._tables.links.values()}
        return iter(sorted(found - {""}))

    def close(self) -> None:
        """Keep everything: this store has no connections."""


def _fits(run: Run, query: Query) -> bool:
    wanted = ((query.project, run.project), (query.kind, run.kind), (query.name, run.name))
    return (
        all(want in ("", has) for want, has in (*wanted, (query.code, run.code)))
        and (query.parent == "*" or (query.parent or "") == run.parent)
        and (not query.states or run.state in query.states)
        and not ((query.open or query.driven) and run.state in FINAL)
        and not (query.driven and not is_driven(run))
        and not (query.before and run.number >= query.before)
        and run.number > query.after
    )
