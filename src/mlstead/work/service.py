"""Drives a change of a service: starts a new generation, waits for it, retires the old one.

A service is a named thing of a project; a run of kind ``service`` changes it and ends when the new
generation answers. Its server is the engine's task of that run's id, restarted when it crashes.
Generations share one port (SO_REUSEPORT), so the address stays and no request is lost.
"""

import contextlib
import dataclasses
import json
import socket
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlstead.engines.base import Resources, Retry, Secret, Submission, Task
from mlstead.errors import NotFoundError, PlatformError, UserError
from mlstead.records.base import (
    AddEvents,
    AddLinks,
    Change,
    Event,
    Lease,
    Link,
    Query,
    Run,
    SetRun,
    State,
    Version,
)
from mlstead.spec.expressions import as_text, expand
from mlstead.spec.record import from_record
from mlstead.spec.work import Data, ServiceBody
from mlstead.work.base import Backends
from mlstead.work.ending import ending

KEPT = 3
MAX_TRIES = 3
RESTARTS = 1_000_000


def folder_of(backends: Backends, run: Run) -> Path:
    """Give the folder of one generation: its configuration, and the mark that it is ready."""
    return backends.home / "services" / run.project / run.id


def current(backends: Backends, project: str, name: str) -> Run | None:
    """Give the run whose generation serves now; None if nothing does."""
    for run in backends.store.runs(
        Query(project=project, kind="service", name=name, parent="*", limit=1000)
    ):
        if run.extra.get("serving"):
            return run
    return None


def serving(backends: Backends, project: str = "") -> list[Run]:
    """List the runs whose generation serves now, by name."""
    runs = backends.store.runs(Query(project=project, kind="service", parent="*", limit=10_000))
    return sorted((run for run in runs if run.extra.get("serving")), key=lambda run: run.name)


def retire(backends: Backends, run: Run) -> None:
    """End a generation; twice changes nothing."""
    with contextlib.suppress(NotFoundError):
        backends.engine.cancel(run.id)
    extra = {**run.extra, "serving": False}
    backends.store.commit([SetRun(run.id, {"extra": extra}, unless_final=False)])


def refuse_unsupported(spec: ServiceBody) -> None:
    """Refuse the fields the local engine cannot honour yet, by name."""
    if spec.replicas.max > 1:
        raise UserError("replicas: more than one is not supported by engine local yet")
    if spec.rollout is not None:
        raise UserError("rollout: not supported by engine local yet")
    models = [spec.model, *(version.model for version in spec.versions.values())]
    if any(isinstance(model, Data) and (model.path or model.url) for model in models):
        raise UserError("model: path and url are not supported by engine local yet")
    if spec.native:
        raise UserError("native: not supported by engine local yet")


def named(spec: ServiceBody, scope: Mapping[str, Any]) -> dict[str, Any]:
    """Insert values into the names of a service's models: ``{"v3": {"version": "net@3"}}``."""
    wanted = {name: version.model for name, version in spec.versions.items()}
    if spec.model:
        wanted[""] = spec.model
    texts = {
        name: model if isinstance(model, str) else model.version for name, model in wanted.items()
    }
    return {name: {"version": as_text(expand(text, scope))} for name, text in texts.items()}


def resolve_versions(
    backends: Backends, project: str, spec: ServiceBody, given: Mapping[str, Any]
) -> dict[str, Any]:
    """Say which model bytes each version means: ``{"v3": {digest, ref, number, runtime}}``.

    ``given`` holds what a pipeline resolved already, by version name ("" for ``model:``).
    """
    wanted: dict[str, Any] = {
        name: (version.model, version.runtime or spec.runtime)
        for name, version in spec.versions.items()
    }
    if spec.model:
        wanted[""] = (spec.model, spec.runtime)
    if not wanted:
        raise UserError("service: names no model", hint="add `model: NAME@VERSION`")
    versions: dict[str, Any] = {}
    for name, (model, runtime) in wanted.items():
        found = _find(backends, project, model, given.get(name))
        number = found["number"]
        versions[name or f"v{number}"] = {**found, "runtime": runtime}
    return versions


def check_models(
    backends: Backends, project: str, spec: ServiceBody, made: Collection[str]
) -> None:
    """Refuse a service whose model is named already, is not there, and will not be ``made``."""
    for model in (spec.model, *(version.model for version in spec.versions.values())):
        text = model if isinstance(model, str) else model.version
        if text and "${{" not in text and text.partition("@")[0] not in made:
            _find(backends, project, model, None)


def _find(
    backends: Backends, project: str, model: Any, given: Mapping[str, Any] | None
) -> dict[str, Any]:
    if given and "digest" in given:
        known = backends.store.versions(project, "model", digest=given["digest"])
        name, _, number = given["ref"].partition("@")
        at = int(number) if number else (known[-1].number if known else 1)
        return {"digest": given["digest"], "ref": given["ref"], "number": at, "name": name}
    text = given["version"] if given else (model if isinstance(model, str) else model.version)
    name, _, at_text = text.partition("@")
    version: Version = backends.store.version(project, "model", name, at_text)
    ref = f"{name}@{version.number}"
    return {"digest": version.digest, "ref": ref, "number": version.number, "name": name}


class Driver:
    """Drives one change of a service until the new generation answers, or cannot."""

    def __init__(self, backends: Backends, run: Run, lease: Lease) -> None:
        self._backends = backends
        self.run = run
        self.lease = lease
        spec = from_record(run.spec)
        assert isinstance(spec, ServiceBody)
        self._spec = spec
        self._name = getattr(spec, "name", "") or run.name

    def touched(self, child: Run) -> None:
        """A service has no children."""

    def sent(self) -> Sequence[Run]:
        """Give nothing: a service sends no jobs."""
        return ()

    def advance(self) -> None:
        """Start the generation, or look whether it is ready."""
        if self.run.state is State.PENDING and self.run.parent:
            return  # its pipeline has not started it yet
        try:
            if self.run.stop:
                self._fail(State.CANCELLED, "stopped")
            elif self.run.state is State.RUNNING:
                self._look()
            else:
                self._begin()
        except PlatformError as error:
            self._fail(State.FAILED, str(error))

    def _begin(self) -> None:
        backends = self._backends
        refuse_unsupported(self._spec)
        old = current(backends, self.run.project, self._name)
        given = self.run.extra.get("versions", {})
        versions = resolve_versions(backends, self.run.project, self._spec, given)
        traffic = dict(self._spec.traffic) or {max(versions, key=_by_number(versions)): 100}
        kept = _kept(old, versions)
        port = self._spec.port or (int(old.extra["port"]) if old else 0) or _free_port()
        config = self._config({**kept, **versions}, traffic, port)
        folder = folder_of(backends, self.run)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (folder / "ready.json").unlink(missing_ok=True)
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        submission = backends.engine.prepare(self._task(folder), backends.facts)
        links = tuple(
            Link(self.run.id, "input", name, "model", version["digest"], version["ref"])
            for name, version in versions.items()
        )
        fields = {
            "state": State.RUNNING,
            "started": backends.clock(),
            "name": self._name,
            "request": submission.request,
            "extra": {
                **self.run.extra,
                "resolved": {**kept, **versions},
                "traffic": traffic,
                "port": port,
                "old": old.id if old else "",
            },
        }
        changes: list[Change] = [SetRun(self.run.id, fields), AddLinks(links)]
        backends.store.commit(changes, lease=self.lease)
        self.run = backends.store.run(self.run.id)
        self._send()

    def _send(self) -> None:
        secrets = {}
        for wanted in self._spec.secrets.values():
            name = wanted if isinstance(wanted, str) else wanted.name
            secrets[name] = self._backends.secrets.get(name)
        submission = Submission(self.run.id, self.run.engine, self.run.request)
        self._backends.engine.submit([submission], secrets)

    def _config(
        self, versions: Mapping[str, Any], traffic: Mapping[str, int], port: int
    ) -> dict[str, Any]:
        pin = self.run.extra.get("pin", {})
        code = ""
        if pin.get("tree"):
            target = folder_of(self._backends, self.run) / "code"
            if not target.exists():
                self._backends.code.checkout(pin["tree"], target)
            code = str(target)
        return {
            "name": self._name,
            "host": "127.0.0.1",
            "port": port,
            "ready_file": str(folder_of(self._backends, self.run) / "ready.json"),
            "versions": {
                name: {
                    "path": str(self._backends.artifacts.materialize(version["digest"])),
                    "runtime": version["runtime"],
                    "number": version["number"],
                }
                for name, version in versions.items()
            },
            "traffic": dict(traffic),
            "code": code,
            "params": dict(self._spec.params),
        }

    def _task(self, folder: Path) -> Task:
        needs = self._spec.resources
        secrets = tuple(
            Secret(value, env=key)
            if isinstance(value, str)
            else Secret(value.name, env=key, file=value.file)
            for key, value in self._spec.secrets.items()
        )
        gpus = needs.gpu if isinstance(needs.gpu, int) else needs.gpu.count
        return Task(
            id=self.run.id,
            command=(sys.executable, "-m", "mlstead.serving", str(folder / "config.json")),
            env=dict(self._spec.env),
            secrets=secrets,
            resources=Resources(needs.cpu, needs.memory, gpus),
            retry=Retry(RESTARTS, backoff=1.0),
            grace=20.0,
            patient=bool(self.run.extra.get("pin", {}).get("patient")),
            labels={"project": self.run.project, "service": self._name},
        )

    def _look(self) -> None:
        backends = self._backends
        ready = folder_of(backends, self.run) / "ready.json"
        try:
            status = backends.engine.status(self.run.id)
        except NotFoundError:
            self._send()  # recorded, but a crash kept it from the engine
            return
        if status.phase.final or status.attempt > MAX_TRIES:
            backends.engine.cancel(self.run.id)
            why = _last_line(backends, self.run.id) or status.detail or "its server ended"
            self._fail(State.FAILED, f"never became ready: {why}")
            return
        if not ready.exists():
            return
        answer = json.loads(ready.read_text(encoding="utf-8"))
        old = self.run.extra.get("old", "")
        extra = {**self.run.extra, "serving": True, "url": answer["url"]}
        traffic = self.run.extra["traffic"]
        values = {"url": answer["url"], "version": max(traffic, key=lambda name: traffic[name])}
        changes = ending(
            self.run, State.SUCCEEDED, backends.clock(), {"extra": extra, "values": values}
        )
        backends.store.commit(changes, lease=self.lease)
        if old:
            retire(backends, backends.store.run(old))
        self.run = backends.store.run(self.run.id)

    def _fail(self, state: State, why: str) -> None:
        """Give up this change; the generation before goes on serving."""
        with contextlib.suppress(NotFoundError):
            self._backends.engine.cancel(self.run.id)
        changes = ending(self.run, state, self._backends.clock(), {"detail": why})
        self._backends.store.commit(changes, lease=self.lease)
        self.run = self._backends.store.run(self.run.id)


def _by_number(versions: Mapping[str, Any]) -> Any:
    return lambda name: versions[name]["number"]


def _kept(old: Run | None, versions: Mapping[str, Any]) -> dict[str, Any]:
    """Keep the newest versions of the generation before loaded, so that going back is quick."""
    if old is None:
        return {}
    before = {
        name: version for name, version in old.extra["resolved"].items() if name not in versions
    }
    newest = sorted(before, key=_by_number(before), reverse=True)[: KEPT - 1]
    return {name: before[name] for name in newest}


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _last_line(backends: Backends, run_id: str) -> str:
    tail = b"".join(backends.engine.logs(run_id))[-2000:]
    lines = [line for line in tail.decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1] if lines else ""


def stop(backends: Backends, project: str, name: str) -> Run:
    """Take a service away.

    Raises:
        NotFoundError: nothing of that name serves.
    """
    run = current(backends, project, name)
    if run is None:
        known = ", ".join(run.name for run in serving(backends, project))
        raise NotFoundError(f"no service {name} runs", hint=f"running: {known or 'none'}")
    retire(backends, run)
    event = Event(run.id, "service-stopped", backends.clock())
    backends.store.commit([AddEvents((event,))])
    return dataclasses.replace(run, extra={**run.extra, "serving": False})
