"""Runs: submit, follow, list, show, logs, stop, get, resume."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlstead import discover, spec
from mlstead import work as work_parts
from mlstead.errors import (
    ConflictError,
    NotFoundError,
    PlatformError,
    UnavailableError,
    UserError,
)
from mlstead.platform import driver
from mlstead.platform import logs as written
from mlstead.platform.context import Context
from mlstead.records.base import (
    AddEvents,
    Event,
    Link,
    Point,
    Query,
    Run,
    SetRun,
    State,
)
from mlstead.spec.loaded import Loaded
from mlstead.work import generations, sync
from mlstead.work.base import Backends

if TYPE_CHECKING:  # listing runs must not load the models
    from mlstead.spec.work import Work

POLL_SECONDS = 0.1


@dataclasses.dataclass(frozen=True, slots=True)
class Details:
    """All that is known of one run, for ``show``."""

    run: Run
    events: tuple[Event, ...]
    children: tuple[Run, ...]
    links: tuple[Link, ...]
    metrics: Mapping[str, Point]
    counts: Mapping[State, int]


class Runs:
    """The runs of one project in one context."""

    def __init__(self, backends: Backends, context: Context, project: str) -> None:
        self._backends = backends
        self._context = context
        self._project = project
        self.stale = ""
        """Why what was read last may be old: the engine did not answer."""

    def plan(self, work: Work | Loaded, folder: Path | None = None) -> Run:
        """Say what ``submit`` would record and send, and stop there."""
        spec, place = _parts(work, folder)
        drafted: Run = _sender().draft(self._backends, spec, place, self._project)
        return drafted

    def submit(
        self,
        work: Work | Loaded,
        folder: Path | None = None,
        *,
        token: str = "",
        attended: bool = False,
        wait: bool = False,
    ) -> Run:
        """Record a run and send it; give it back at once.

        ``token`` is an idempotency key: submitting again with the same one gives the same run.
        With ``wait`` what no machine is large enough for waits until one is.
        ``attended`` says that the caller will ``follow`` it, so that a job needs no driver.

        Raises:
            UserError: something the work names is missing, or the engine cannot do it.
        """
        if token:
            known = self._backends.store.by_token(token)
            if known is not None:
                self._resend()
                return known
        spec, place = _parts(work, folder)
        run = _sender().draft(self._backends, spec, place, self._project, wait=wait)
        run = dataclasses.replace(run, token=token)
        try:
            _sender().record(self._backends, run)
        except ConflictError:
            known = self._backends.store.by_token(token) if token else None
            if known is None:
                raise
            return known
        try:
            self._sent(run, attended)
        except BaseException:  # such as a signal: it was recorded, so somebody must go on with it
            with suppress(PlatformError):
                driver.ensure(self._backends, self._context)
            raise
        return self._backends.store.run(run.id)

    def _sent(self, run: Run, attended: bool) -> None:
        _sender().send(self._backends, run)
        # somebody waits for its messages, also when the process that follows it is killed
        told = bool(run.spec.get("notify"))
        if not attended or told or run.kind != "job" or run.state is State.PENDING:
            driver.ensure(self._backends, self._context)
            driver.ensure_tracking(self._backends, self._context)

    def follow(
        self,
        run_id: str,
        *,
        write: Callable[[bytes], None] | None = None,
        changed: Callable[[Run], None] | None = None,
    ) -> Run:
        """Wait for the end of a run, helping it along; give it as it ended.

        ``write`` gets the output of a job as it comes, ``changed`` the run whenever it was
        looked at. When this process dies the run goes on without it.
        """
        run = self._backends.store.run(run_id)
        if run.kind != "job":
            return self._watch(run, changed)
        reader, failed = None, deque[OSError]()
        if write is not None:
            reader = threading.Thread(target=self._copy, args=(run_id, write, failed), daemon=True)
            reader.start()
        loop = discover.part(work_parts, "drive").Loop(self._backends, only=run_id)
        try:
            while not (run := self._backends.store.run(run_id)).state.final:
                _check(failed)
                if changed is not None:
                    changed(run)
                loop.turn(POLL_SECONDS)
        except BaseException:
            with suppress(PlatformError):  # what went wrong first is told
                loop.close()
                self.leave(run_id)
            raise
        loop.close()
        if reader is not None:
            reader.join()
        _check(failed)
        if changed is not None:
            changed(run)
        driver.ensure_tracking(self._backends, self._context)
        if run.spec.get("notify"):
            driver.ensure(self._backends, self._context)  # the first one may have left meanwhile
        return run

    def leave(self, run_id: str) -> None:
        """Hand a run over to the background driver."""
        if not self._backends.store.run(run_id).state.final:
            driver.ensure(self._backends, self._context)

    def _watch(self, run: Run, changed: Callable[[Run], None] | None) -> Run:
        looked = time.monotonic()
        while not run.state.final:
            if changed is not None:
                changed(run)
            time.sleep(POLL_SECONDS / 2)
            if time.monotonic() - looked > 2.0:
                looked = time.monotonic()
                driver.ensure(self._backends, self._context)  # in case it was killed
            run = self._backends.store.run(run.id)
        if changed is not None:
            changed(run)
        return run

    def _copy(self, run_id: str, write: Callable[[bytes], None], failed: deque[OSError]) -> None:
        for chunk in self.logs(run_id, follow=True):
            try:
                write(chunk)
            except OSError as error:
                failed.append(error)
                return

    def list(
        self,
        *,
        all_projects: bool = False,
        everything: bool = False,
        limit: int = 50,
        open_only: bool = False,
        parent: str | None = None,
    ) -> Sequence[Run]:
        """List the newest runs, and what serves, however old and whatever made it.

        Children are listed only with ``everything`` or of one ``parent``.
        """
        self._look()
        if parent:
            parent = self.find(parent).id
        query = Query(
            project="" if all_projects else self._project,
            parent=parent or ("*" if everything else None),
            open=open_only,
            limit=limit,
        )
        runs = self._backends.store.runs(query)
        if parent:
            return runs
        known = {run.id for run in runs}
        serving = generations.serving(self._backends, query.project)
        runs += [run for run in serving if run.id not in known]
        return sorted(runs, key=lambda run: run.number, reverse=True)

    def children(self, run_id: str) -> Sequence[Run]:
        """List a run's children as the records know them now, oldest first."""
        return self._backends.store.runs(Query(parent=run_id, limit=0))

    def counts(self, runs: Sequence[Run]) -> Mapping[str, Mapping[State, int]]:
        """Count the children of runs by state."""
        parents = [run.id for run in runs if run.kind in ("sweep", "pipeline")]
        return self._backends.store.counts(parents) if parents else {}

    def sync(self) -> None:
        """Copy what the engine knows to the records, and start a driver if a run lacks one."""
        sync.sync(self._backends)
        self._resend()
        if self._backends.store.runs(Query(parent="*", driven=True, limit=1)):
            driver.ensure(self._backends, self._context)

    def _look(self) -> None:
        """Sync for somebody who only reads: what the records know is still true."""
        self.stale = ""
        try:
            self.sync()
        except UnavailableError as error:
            if not self._backends.remote:
                raise
            self.stale = str(error)

    def _resend(self) -> None:
        """Send what a process recorded that was killed before it could send it."""
        unsent = sync.unsent(self._backends)
        for run in unsent:
            with suppress(UserError):  # what the engine refuses has ended with that
                discover.part(work_parts, "job").resend(self._backends, [run])

    def find(self, text: str) -> Run:
        """Find a run by id, the beginning of one, or as the newest of a name."""
        return self._backends.store.find(text, self._project)

    def show(self, text: str) -> Details:
        """Gather all that is known of a run."""
        self._look()
        run = self.find(text)
        if not self.stale:
            run = self._with_reason(run)
        try:
            sync.ship_attempt(self._backends, run, max(1, run.attempt))
        except NotFoundError:
            pass
        except UnavailableError as error:
            self.stale = str(error)
        store = self._backends.store
        return Details(
            run=run,
            events=tuple(store.events(run.id)),
            children=tuple(store.runs(Query(parent=run.id, limit=0))),
            links=tuple(store.links([run.id])),
            metrics=store.latest([run.id]).get(run.id, {}),
            counts=store.counts([run.id]).get(run.id, {}),
        )

    def _with_reason(self, run: Run) -> Run:
        """Add why a job waits, which the engine knows now and tells as no event."""
        if run.kind != "job" or run.state not in (State.QUEUED, State.STARTING) or run.detail:
            return run
        try:
            status = self._backends.engine.status(run.id)
        except PlatformError:  # what the records know is still true
            return run
        return dataclasses.replace(run, detail=status.detail, reason=str(status.reason or ""))

    def logs(self, text: str, *, rank: int | None = None, follow: bool = False) -> Iterator[bytes]:
        """Give a run's output, secrets masked; of a sweep or pipeline, its children's in order."""
        run = self._run_or_task(text)
        if run is None:
            engine = self._backends.helper or self._backends.engine
            yield from engine.logs(text, rank=rank, follow=follow)
            return
        yield from written.of_run(self._backends, run, rank=rank, follow=follow)

    def _run_or_task(self, text: str) -> Run | None:
        if text.startswith("service/"):
            return self._service(text.removeprefix("service/"))
        try:
            run = self.find(text)
        except NotFoundError as error:
            with suppress(NotFoundError):
                engine = self._backends.helper or self._backends.engine
                engine.status(text)  # a driver's log can be read as well
                return None
            raise NotFoundError(str(error), hint=error.hint or "mlstead ps lists runs") from error
        by_name = run.kind == "service" and text == run.name
        return self._service(run.name) if by_name else run

    def _service(self, name: str) -> Run:
        """Find the generation of a service that serves, or else the last one there was."""
        run = generations.newest(self._backends, self._project, name)
        if run is None:
            raise NotFoundError(f"no service {name}", hint="mlstead ps lists what serves")
        return run

    def stop(self, text: str) -> Run:
        """Ask for the end of a run and of all it started; twice changes nothing."""
        if text.startswith("service/"):
            return self._stop_service(self._project, text.removeprefix("service/"))
        self.sync()
        run = self.find(text)
        by_name = run.kind == "service" and text == run.name
        if generations.serves(run) or (by_name and self._is_up(run)):
            return self._stop_service(run.project, run.name)
        if run.state.final:
            return run
        event = Event(run.id, "stop-asked", self._backends.clock())
        self._backends.store.commit([SetRun(run.id, {"stop": True}), AddEvents((event,))])
        if run.kind == "job" and run.request:
            try:
                self._backends.engine.cancel(run.id)
            except NotFoundError:  # killed before it was sent: sent now, it is cancelled at once
                discover.part(work_parts, "job").resend(self._backends, [run])
                with suppress(NotFoundError):
                    self._backends.engine.cancel(run.id)
        else:
            driver.ensure(self._backends, self._context)
        return self._backends.store.run(run.id)

    def _is_up(self, run: Run) -> bool:
        """Say whether a service serves though its newest change may have failed."""
        return generations.current(self._backends, run.project, run.name) is not None

    def _stop_service(self, project: str, name: str) -> Run:
        run = generations.stop(self._backends, project, name)
        if not run.state.final:
            driver.ensure(self._backends, self._context)
        return run

    def resume(self, text: str, *, trials: int = 0) -> Run:
        """Take a sweep or pipeline up again where it ended; ``trials`` more for a sweep.

        Raises:
            UserError: it or its parent has not ended, or it is of a kind that cannot go on.
        """
        run = self.find(text)
        if run.kind not in ("sweep", "pipeline"):
            raise UserError(f"{run.id}: a {run.kind} cannot be resumed", hint="run it again")
        if not run.state.final:
            raise UserError(f"{run.id} has not ended: it is {run.state}")
        if run.parent and not self._backends.store.run(run.parent).state.final:
            raise UserError(
                f"{run.id} is a step of {run.parent}, which has not ended",
                hint=f"mlstead run --resume {run.parent}, once it has ended",
            )
        extra = {
            **run.extra,
            "generation": int(run.extra.get("generation", 1)) + 1,
            "more": int(run.extra.get("more", 0)) + trials,
            "resumed": self._backends.clock(),
        }
        fields = {"state": State.QUEUED, "ended": None, "stop": False, "extra": extra, "detail": ""}
        now = self._backends.clock()
        event = Event(run.id, "resumed", now, extra["generation"])
        self._backends.store.commit(
            [SetRun(run.id, fields, unless_final=False), AddEvents((event,))]
        )
        driver.ensure(self._backends, self._context)
        return self._backends.store.run(run.id)

    def outputs(self, text: str) -> Sequence[Link]:
        """List what a run left; of a pipeline what its steps left, as ``step/output``."""
        run = self.find(text)
        runs = [run]
        if run.kind == "pipeline":
            runs = [child for child in self.children(run.id) if child.state is State.SUCCEEDED]
        keys = {one.id: f"{one.key}/" if one is not run else "" for one in runs}
        links = self._backends.store.links(list(keys)) if keys else []
        return [
            dataclasses.replace(link, slot=keys[link.run_id] + link.slot)
            for link in links
            if link.direction == "output"
        ]

    def get(self, text: str, slot: str, target: Path) -> Sequence[Path]:
        """Copy a run's outputs into a folder, one entry per output; one only if ``slot`` is given.

        Raises:
            NotFoundError: the run left no such output.
        """
        links = self.outputs(text)
        chosen = [
            link for link in links if slot in ("", link.slot) or link.slot.startswith(f"{slot}/")
        ]
        if not chosen:
            have = ", ".join(link.slot for link in links) or "none"
            raise NotFoundError(f"{text} left no output {slot!r}".strip(), hint=f"it has: {have}")
        places = []
        for link in chosen:
            place = target / link.slot
            self._backends.artifacts.checkout(link.digest, place)
            places.append(place)
        return places


def _check(failed: Sequence[OSError]) -> None:
    """Raise what kept the output from being written; nobody reads it any more."""
    for error in failed:
        raise error


def _parts(work: Work | Loaded, folder: Path | None) -> tuple[Work, Path]:
    """Give the spec and the folder its paths start from; a spec made in Python is checked here."""
    if isinstance(work, Loaded):
        return work.work, folder or work.folder
    discover.part(spec, "check").verify(work)
    return work, folder or Path.cwd()


def _sender() -> Any:
    """Give the module that drafts and sends runs; it loads every model of the work file."""
    return discover.part(work_parts, "submit")
