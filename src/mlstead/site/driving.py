"""Applies a site: one at a time, recorded as a run, going on where an earlier one stopped."""

import fcntl
import getpass
import json
import os
import shlex
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from mlstead.clients.secrets import Masker
from mlstead.errors import ConflictError, PlatformError, UnavailableError, UserError
from mlstead.plan import CLUSTER, Facts, Port, Step
from mlstead.records.base import AddEvents, AddRun, Query, Run, SetRun, State, Store, new_id
from mlstead.records.base import Event as Happened
from mlstead.site import cluster
from mlstead.site.access import local_actions
from mlstead.site.applying import Doing, Event, resolved, run_steps
from mlstead.site.existing import is_existing
from mlstead.site.facts import Gathered, target
from mlstead.site.planning import first_steps, plan_site, ports
from mlstead.site.preflight import Finding, preflight
from mlstead.site.session import Session

LOCK: Final = "/run/lock/mlstead-site"
Told = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Planned:
    """What an apply would do, and what is in its way.

    Attributes:
        steps: in their order; none: all is as described.
        findings: of the preflight; problems: machines that do not answer, and why.
        ports: what listens where once it is done.
    """

    steps: tuple[Step, ...]
    findings: tuple[Finding, ...]
    problems: Mapping[str, PlatformError]
    ports: Sequence[Port]
    facts: Facts

    @property
    def stop(self) -> PlatformError | None:
        """What keeps it from being carried out: every machine and why; None if nothing does."""
        problems = list(self.problems.values())
        stops = [finding for finding in self.findings if finding.stops]
        told = [(str(it), it.hint) for it in problems]
        told += [(f"{it.target}: {it.message}", it.hint) for it in stops]
        if not told:
            return None
        later = problems and all(isinstance(it, UnavailableError) for it in problems) and not stops
        kind = UnavailableError if later else UserError
        if len({hint for _, hint in told}) == 1:
            return kind("\n".join(text for text, _ in told), hint=told[0][1])
        return kind("\n".join(f"{text} ({hint})" if hint else text for text, hint in told))


def plan(session: Session, gathered: Gathered | None = None) -> Planned:
    """Look at all machines and say what an apply would do; nothing is changed."""
    found = gathered or session.look()
    facts = found.facts
    away = CLUSTER in found.problems  # of an existing cluster all steps come from what it answers
    return Planned(
        () if away else tuple(plan_site(session.site, facts)),
        tuple(preflight(session.site, facts, found.skew)),
        found.problems,
        ports(session.site),
        facts,
    )


def apply(session: Session, store: Store, project: str, told: Told) -> Run | None:
    """Make the site as it is described; give the record, None if there was nothing to do.

    Raises:
        ConflictError: another apply of this site is under way.
        PlatformError: a machine does not answer, is not fit, or a step failed; what was done
            stays, and the next apply goes on from there.
    """
    with alone(session):
        close_open(session, store)
        planned = plan(session)
        refuse(planned)
        session.settle()
        if not planned.steps:
            return None
        for step in planned.steps:  # a wrong passphrase is told before anything is done
            resolved(step.arguments, session.secrets.value)
        with holding(session), recorded(session, store, project, planned.steps, told) as doing:
            _do(session, doing.doing, planned)
            if session.site.machines:
                cluster.wait_for_nodes(doing.doing.way)
            _see_done(session)
    return store.run(doing.run.id)


def _do(session: Session, doing: Doing, planned: Planned) -> None:
    """Do a plan; machines without Python get it first, and are looked at before the rest."""
    first = first_steps(planned.steps, planned.facts)
    if first:
        run_steps(doing, first)
        planned = plan(session)
        refuse(planned)
    run_steps(doing, planned.steps)


def refuse(planned: Planned) -> None:
    """Raise what keeps a plan from being carried out.

    Raises:
        UnavailableError: machines do not answer.
        UserError: something must be put right first.
    """
    if (stop := planned.stop) is not None:
        raise stop


@dataclass(frozen=True, slots=True)
class Recorded:
    """A change of a site under way, and its record."""

    run: Run
    doing: Doing


@contextmanager
def recorded(
    session: Session,
    store: Store,
    project: str,
    steps: Sequence[Step],
    told: Told,
    *,
    keep_data: bool = False,
) -> Iterator[Recorded]:
    """Record a change of the site before it begins, and how it ended; it is done inside."""
    run = _record(session, store, project, steps)
    log = _Log(session, store, run, told)
    doing = Doing(
        site=session.site,
        ssh=session.ssh,
        bundle=_bundle_folder(session),
        secret=session.secrets.value,
        told=log.take,
        cancelled=log.stopped,
        local=local_actions(session.site, session.ssh),
        keep_data=keep_data,
        reach=session.reach,
    )
    try:
        yield Recorded(run, doing)
    except PlatformError as error:
        log.end(State.CANCELLED if log.stopped() else State.FAILED, str(error))
        raise
    except BaseException:
        log.end(State.CANCELLED, "stopped before it was done")
        raise
    log.end(State.SUCCEEDED, "")


def _see_done(session: Session) -> None:
    """Look again and plan again: what is left was not done.

    Raises:
        PlatformError: a machine does not answer any more, or steps are left.
    """
    planned = plan(session)
    for problem in planned.problems.values():
        raise problem
    if planned.steps:
        left = "; ".join(f"{it.key}: {', '.join(it.reasons)}" for it in planned.steps[:5])
        raise UserError(f"done, but not as described: {left}", hint="mlstead site plan says more")


def _bundle_folder(session: Session) -> str:
    bundle = session.bundle()
    return bundle.folder if bundle else ""


def _record(session: Session, store: Store, project: str, steps: Sequence[Step]) -> Run:
    site = session.site
    request = {
        "steps": [
            {"step": it.key, "title": it.title, "tasks": it.tasks, "reasons": it.reasons}
            for it in steps
        ]
    }
    run_id = new_id(site.name)
    run = Run(
        id=run_id,
        project=project,
        kind="site",
        name=site.name,
        engine="kubectl" if is_existing(site) else "ssh",
        state=State.RUNNING,
        spec=json.loads(site.model_dump_json()),
        request=request,
        started=time.time(),
        extra={"process": os.getpid(), "log": str(_log_path(session, run_id))},
    )
    store.commit([AddRun(run)])
    return run


def _log_path(session: Session, run_id: str) -> Path:
    return session.folder / "logs" / run_id


def close_open(session: Session, store: Store) -> None:
    """Write down that applies ended whose process is gone; only called while we are alone."""
    for run in store.runs(Query(kind="site", name=session.site.name, open=True, limit=0)):
        detail = "the process that did it ended"
        store.commit(
            [SetRun(run.id, {"state": State.LOST, "detail": detail, "ended": time.time()})]
        )


class _Log:
    """Writes what happens into the run's log and records, secrets masked."""

    def __init__(self, session: Session, store: Store, run: Run, told: Told) -> None:
        self._session, self._store, self._run, self._told = session, store, run, told
        self._asked = 0.0
        self._stop = False
        path = _log_path(session, run.id)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = path.open("a", encoding="utf-8", buffering=1)

    def take(self, event: Event) -> None:
        """Write one event and pass it on."""
        masked = Event(**{**asdict(event), "detail": self._masked(event.detail)})
        where = ",".join(masked.targets)
        stamp = time.strftime("%H:%M:%S")
        self._file.write(f"{stamp} {masked.component} {where}: {masked.title}: {masked.state}\n")
        for line in masked.detail.splitlines():
            self._file.write(f"         {line}\n")
        if masked.kind == "step":
            data = {"component": masked.component, "targets": masked.targets}
            name = f"{masked.state} {masked.component} {where}"
            self._store.commit([AddEvents((Happened(self._run.id, name, time.time(), data=data),))])
        self._told(masked)

    def stopped(self) -> bool:
        """Say whether somebody asked for the end; asked of the records once a second."""
        if not self._stop and time.monotonic() - self._asked > 1:
            self._asked = time.monotonic()
            self._stop = self._store.run(self._run.id).stop
        return self._stop

    def end(self, state: State, detail: str) -> None:
        """Write how it ended."""
        text = self._masked(detail)
        self._file.write(f"{time.strftime('%H:%M:%S')} {state}: {text or 'all is as described'}\n")
        self._file.close()
        fields = {"state": state, "detail": text, "ended": time.time()}
        self._store.commit([SetRun(self._run.id, fields)])

    def _masked(self, text: str) -> str:
        masker = Masker(sorted(self._session.secrets.given))
        return (masker.feed(text.encode()) + masker.finish()).decode("utf-8", "replace")


@contextmanager
def alone(session: Session) -> Iterator[None]:
    """Hold the site on this machine; the kernel lets go when this process ends, however it does.

    Raises:
        ConflictError: another process holds it.
    """
    with (session.folder / "lock").open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise _busy(session, lock.read().strip()) from error
        lock.truncate(0)
        lock.write(_holder())
        lock.flush()
        yield


@contextmanager
def holding(session: Session) -> Iterator[None]:
    """Hold the site for everybody, by a lock on its control plane that ends with this process.

    An existing cluster has no place for such a lock: only this machine is kept from a second one.

    Raises:
        ConflictError: somebody else holds it.
    """
    if is_existing(session.site):
        yield
        return
    head = session.site.with_role("control-plane")[0]
    script = (
        f"exec 9>>{LOCK}; flock -n 9 || {{ cat {LOCK}.who 2>/dev/null; exit 75; }}; "
        f"printf '%s\\n' {shlex.quote(_holder())} > {LOCK}.who; echo held; exec cat"
    )
    with session.ssh.hold(target(session.site, head), script) as held:
        answer = held.confirmed()
        if answer.code == 75:
            raise _busy(session, answer.out.decode("utf-8", "replace").strip())
        if answer.out.strip() != b"held":
            raise UnavailableError(f"{head}: the site could not be locked: {answer.err.strip()}")
        yield


def _holder() -> str:
    return f"{getpass.getuser()}@{socket.gethostname()}, process {os.getpid()}"


def _busy(session: Session, who: str) -> ConflictError:
    by = f" by {who}" if who else ""
    hint = "wait for its end: mlstead ps; mlstead logs -f"
    return ConflictError(f"site {session.site.name} is being changed{by}", hint=hint)
