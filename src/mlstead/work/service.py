"""Drives a change of a service: starts a new generation, waits for it, retires the old one.

A service is a named thing of a project; a run of kind ``service`` changes it and ends when the new
generation answers. Its server is the engine's task of that run's id, restarted when it crashes.
Changes of one name come one after the other. Generations share one port (SO_REUSEPORT), so the
address stays and no request is lost; where a machine is too small for two, the old one goes first.
"""

import contextlib
import json
import math
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlstead.engines.base import (
    Environment,
    Phase,
    Resources,
    Retry,
    Secret,
    Status,
    Submission,
    Task,
)
from mlstead.errors import NotFoundError, PlatformError, UnavailableError
from mlstead.records.base import (
    AddEvents,
    AddLinks,
    AddRun,
    Change,
    Event,
    Lease,
    Link,
    Run,
    SetRun,
    State,
)
from mlstead.runner import bundle
from mlstead.spec.record import from_record
from mlstead.spec.work import ServiceBody
from mlstead.work import generations, server_log
from mlstead.work.base import Backends, child_id
from mlstead.work.ending import ending
from mlstead.work.generations import folder_of
from mlstead.work.later import Later, told
from mlstead.work.room import Room, room_for
from mlstead.work.server_config import Parts, server_config
from mlstead.work.service_models import refuse_unsupported, resolve_versions

KEPT = 3
MAX_TRIES = 3
RESTARTS = 1_000_000
PRIORITY = 1_000
"""Above all jobs: a service that waits for a place gets the next one."""
TURN_SECONDS = 30.0


class Driver:
    """Drives one change of a service until the new generation answers, or cannot."""

    due = math.inf

    def __init__(self, backends: Backends, run: Run, lease: Lease) -> None:
        self._backends = backends
        self.run = run
        self.lease = lease
        spec = from_record(run.spec)
        assert isinstance(spec, ServiceBody)
        self._spec = spec
        self._name = generations.name_of(run)
        self._later = Later()

    def touched(self, child: Run) -> None:
        """A service has no children."""

    def sent(self) -> Sequence[Run]:
        """Give nothing: a service sends no jobs."""
        return ()

    def advance(self) -> None:
        """Start the generation, or look whether it is ready."""
        if self.run.state is State.PENDING and self.run.parent:
            return  # its pipeline has not started it yet
        self._later.begin()
        if self._later.holds(self._name) and not self.run.stop:
            return
        try:
            if self.run.stop:
                self._fail(State.CANCELLED, "stopped")
            elif self.run.state is State.RUNNING:
                self._look()
            else:
                self._begin()
        except UnavailableError as error:
            self._later.put(self._name, error.delay)
            self._say(f"waits: {told(error)}")
        except PlatformError as error:
            self._fail(State.FAILED, told(error))

    # ---- the start

    def _begin(self) -> None:
        """Start as soon as no other change of this service is before this one."""
        if not self._has_turn():
            return
        store, name = self._backends.store, f"service:{self.run.project}/{self._name}"
        turn = store.claim(name, self.run.id, TURN_SECONDS)
        if turn is None:
            return
        try:
            if self._has_turn():  # as nobody else can begin now, so it stays
                self._start()
        finally:
            store.release(turn)

    def _has_turn(self) -> bool:
        for other in generations.changes(self._backends, self.run.project, self._name):
            ahead = other.state is State.RUNNING or _order(other) < _order(self.run)
            if other.id != self.run.id and ahead:
                self._say(f"waits for {other.id}, which changes {self._name} now")
                return False
        return True

    def _start(self) -> None:
        backends = self._backends
        refuse_unsupported(backends, self._spec)
        old = generations.current(backends, self.run.project, self._name)
        parts = self._parts(old)
        folder = folder_of(backends, self.run)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (folder / "ready.json").unlink(missing_ok=True)
        config = server_config(backends, self.run, self._spec, parts)
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        submission = backends.engine.prepare(self._task(folder), backends.facts)
        links = tuple(
            Link(self.run.id, "input", name, "model", version["digest"], version["ref"])
            for name, version in parts.versions.items()
            if name not in parts.kept
        )
        fields = {
            "state": State.RUNNING,
            "started": backends.clock(),
            "name": self._name,
            "detail": "",
            "request": submission.request,
            "extra": {
                **self.run.extra,
                "resolved": dict(parts.versions),
                "traffic": dict(parts.traffic),
                "port": parts.port,
                "old": old.id if old else "",
            },
        }
        changes: list[Change] = [SetRun(self.run.id, fields), AddLinks(links)]
        backends.store.commit(changes, lease=self.lease)
        self.run = backends.store.run(self.run.id)
        self._send()

    def _parts(self, old: Run | None) -> Parts:
        """Decide what the new generation is made of."""
        extra = self.run.extra
        if "resolved" in extra:  # the generation before, once more
            resolved, traffic = extra["resolved"], extra["traffic"]
            return Parts(resolved, traffic, extra["port"], frozenset(resolved) - set(traffic))
        given = extra.get("versions", {})
        found = resolve_versions(self._backends, self.run.project, self._spec, given)
        made_with = {
            "code": extra.get("pin", {}).get("tree", ""),
            "params": dict(self._spec.params),
            "environment": _environment(self.run),
        }
        versions = {name: {**version, **made_with} for name, version in found.items()}
        kept = _kept(old, versions, _environment(self.run))
        traffic = dict(self._spec.traffic) or {max(versions, key=_by_number(versions)): 100}
        port = self._spec.port or (int(old.extra["port"]) if old else 0) or _free_port()
        return Parts({**kept, **versions}, traffic, port, frozenset(kept))

    def _send(self) -> None:
        secrets = {}
        for wanted in self._spec.secrets.values():
            name = wanted if isinstance(wanted, str) else wanted.name
            secrets[name] = self._backends.secrets.get(name)
        submission = Submission(self.run.id, self.run.engine, self.run.request)
        self._backends.engine.submit([submission], secrets)

    def _task(self, folder: Path) -> Task:
        needs = self._spec.resources
        pin = self.run.extra.get("pin", {})
        secrets = tuple(
            Secret(value, env=key)
            if isinstance(value, str)
            else Secret(value.name, env=key, file=value.file)
            for key, value in self._spec.secrets.items()
        )
        gpus = needs.gpu if isinstance(needs.gpu, int) else needs.gpu.count
        kinds = () if isinstance(needs.gpu, int) else tuple(needs.gpu.kind)
        environment = pin.get("environment")
        # where it was submitted from: mlstead is there, and so are the packages of the caller
        caller = str(self.run.extra.get("caller", {}).get("interpreter") or sys.executable)
        python, env = caller, dict(self._spec.env)
        if environment:  # mlstead is not installed there: its server is put on the path
            bundled = str(bundle.ensure(self._backends.home, server=True))
            python = "python"
            env["PYTHONPATH"] = ":".join(filter(None, [bundled, env.get("PYTHONPATH", "")]))
        return Task(
            id=self.run.id,
            command=(python, "-m", "mlstead.serving", str(folder / "config.json")),
            env=env,
            environment=Environment(**environment) if environment else None,
            secrets=secrets,
            resources=Resources(needs.cpu, needs.memory, gpus, kinds),
            retry=Retry(RESTARTS, backoff=1.0),
            grace=20.0,
            priority=PRIORITY,
            patient=bool(pin.get("patient")),
            labels={"project": self.run.project, "service": self._name},
        )

    # ---- the wait

    def _look(self) -> None:
        backends = self._backends
        ready = folder_of(backends, self.run) / "ready.json"
        try:
            status = backends.engine.status(self.run.id)
        except NotFoundError:
            self._send()  # recorded, but a crash kept it from the engine
            return
        if status.phase.final or status.attempt > MAX_TRIES:
            self._fail(State.FAILED, f"never became ready: {self._cause(status)}")
        elif status.phase is Phase.QUEUED and not ready.exists():
            self._wait_for_room()
        elif ready.exists():
            self._take_over(json.loads(ready.read_text(encoding="utf-8")))
        elif not self.run.extra.get("handed"):
            self._say("")

    def _cause(self, status: Status) -> str:
        cause = server_log.cause(self._backends, self.run, ended=status.phase.final)
        return cause or status.detail or "its server ended"

    def _wait_for_room(self) -> None:
        """Say what the generation waits for, and let the old one go first where both do not fit."""
        backends = self._backends
        olds = self._olds()
        if self.run.extra.get("handed"):
            for old in olds:
                generations.retire(backends, old)
            return
        room, words = room_for(backends, self.run, olds)
        if room is not Room.OLD_MUST_GO:
            self._say(words)
            return
        now = backends.clock()
        handed = {"from": olds[0].id, "at": now}
        fields = {"extra": {**self.run.extra, "handed": handed}, "detail": words}
        event = Event(self.run.id, "took-place", now, 0, {"detail": words})
        changes: list[Change] = [SetRun(self.run.id, fields), AddEvents((event,))]
        backends.store.commit(changes, lease=self.lease)
        self.run = backends.store.run(self.run.id)
        for old in olds:
            generations.retire(backends, old)

    def _olds(self) -> list[Run]:
        """List the generations of this name that serve, without this one; one at most."""
        known = generations.serving(self._backends, self.run.project)
        return [run for run in known if run.name == self._name and run.id != self.run.id]

    def _take_over(self, answer: Mapping[str, Any]) -> None:
        """Make this the generation that serves; after a crash everything here is done again."""
        backends, extra = self._backends, self.run.extra
        olds = self._olds()
        loaded = {
            name: version
            for name, version in extra["resolved"].items()
            if name in answer["versions"]  # one kept from before may have failed to load
        }
        extra = {**extra, "serving": True, "url": answer["url"], "resolved": loaded}
        changes: list[Change] = [SetRun(self.run.id, {"extra": extra})]
        for old in olds:
            over = {"extra": {**old.extra, "serving": False}}
            changes.append(SetRun(old.id, over, unless_final=False))
        backends.store.commit(changes, lease=self.lease)
        for old_id in {self.run.extra.get("old", ""), *(old.id for old in olds)} - {""}:
            with contextlib.suppress(NotFoundError):
                backends.engine.cancel(old_id)
        now, handed, traffic = backends.clock(), extra.get("handed"), extra["traffic"]
        detail = ""
        if handed:
            gap = max(0.0, now - handed["at"])
            detail = f"{gap:.1f} s without answers: {self.run.detail}"
        fields = {
            "values": {"url": answer["url"], "version": max(traffic, key=traffic.__getitem__)},
            "detail": detail,
        }
        backends.store.commit(ending(self.run, State.SUCCEEDED, now, fields), lease=self.lease)
        self.run = backends.store.run(self.run.id)
        if self.run.stop:  # asked for in the moment of its end
            generations.retire(backends, self.run)

    # ---- the end

    def _fail(self, state: State, why: str) -> None:
        """Give up this change; the generation before goes on serving, or is started again."""
        backends, extra = self._backends, {**self.run.extra, "serving": False}
        with contextlib.suppress(NotFoundError):
            backends.engine.cancel(self.run.id)
        changes: list[Change] = []
        back = self._way_back()
        if back is not None:
            why += f"; {self._name} goes back to what served before ({back.id})"
            event = Event(back.id, str(back.state), back.created)
            changes = [AddRun(back), AddEvents((event,))]
        fields = {"detail": why, "extra": extra}
        changes = [*ending(self.run, state, backends.clock(), fields), *changes]
        backends.store.commit(changes, lease=self.lease)
        self.run = backends.store.run(self.run.id)

    def _way_back(self) -> Run | None:
        """Make the run that starts the old generation again, if it ended to make room."""
        handed = self.run.extra.get("handed")
        if not handed:
            return None
        store = self._backends.store
        if any(event.name == generations.STOPPED for event in store.events(self.run.id)):
            return None  # nothing of that name is to run any more
        old = store.run(handed["from"])
        names = ("pin", "resolved", "traffic", "port", "caller", "packages")
        kept = {key: old.extra[key] for key in names if key in old.extra}
        return Run(
            id=child_id(self.run.id, "back"),
            project=old.project,
            kind=old.kind,
            name=old.name,
            engine=old.engine,
            state=State.QUEUED,
            spec=old.spec,
            params=old.params,
            labels=old.labels,
            created=self._backends.clock(),
            code=old.code,
            environment=old.environment,
            extra={**kept, "back": True},
        )

    def _say(self, detail: str) -> None:
        """Keep in the records what the change waits for; nothing is written twice."""
        if detail != self.run.detail:
            self._backends.store.commit([SetRun(self.run.id, {"detail": detail})], lease=self.lease)
            self.run = self._backends.store.run(self.run.id)


def _order(run: Run) -> tuple[bool, int]:
    """Order changes of one name: the way back first, else as they were asked for."""
    return (not run.extra.get("back"), run.number)


def _by_number(versions: Mapping[str, Any]) -> Any:
    return lambda name: versions[name]["number"]


def _kept(old: Run | None, versions: Mapping[str, Any], environment: str) -> dict[str, Any]:
    """Keep the newest versions of the generation before loaded, so that going back is quick.

    Each keeps the code and params it was made with. One process has one environment, so versions
    of another environment are not kept.
    """
    if old is None:
        return {}
    made_with = {
        "code": old.extra.get("pin", {}).get("tree", ""),
        "params": dict(old.spec.get("params") or {}),
        "environment": _environment(old),
    }
    before = {
        name: {**made_with, **version}
        for name, version in old.extra["resolved"].items()
        if name not in versions
    }
    same = [name for name in before if before[name]["environment"] == environment]
    newest = sorted(same, key=_by_number(before), reverse=True)[: KEPT - 1]
    return {name: before[name] for name in newest}


def _environment(run: Run) -> str:
    """Give the key of the Python environment a generation runs in, "" for mlstead's own."""
    return str((run.extra.get("pin", {}).get("environment") or {}).get("key", ""))


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
