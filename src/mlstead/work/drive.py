"""The loop that moves open runs on: copy events, decide, do, send messages, wait.

The loop keeps no truth. Each run it drives is held by a lease; a driver that was killed loses it
after a few seconds, and the next one reads everything again from the records and goes on.
"""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from mlstead import discover, work
from mlstead.engines.base import TaskEvent
from mlstead.errors import (
    ConflictError,
    NotFoundError,
    PlatformError,
    UnavailableError,
    UserError,
)
from mlstead.records.base import Lease, Query, Run, State
from mlstead.work import job, outbox, sync, unreleased
from mlstead.work.base import Backends
from mlstead.work.caller import as_submitted
from mlstead.work.ending import ending
from mlstead.work.later import told

LEASE_SECONDS = 6.0
RENEW_SECONDS = 2.0
LOOK_SECONDS = 0.1
SHIP_SECONDS = 1.0
AGAIN_SECONDS = 5.0
RESEND_SECONDS = 5.0
PATIENCE_SECONDS = 60.0  # that somebody who waits for one run is kept waiting by trouble
MANY = 100_000


class Driver(Protocol):
    """Drives one run that is more than a job."""

    run: Run
    lease: Lease

    @property
    def due(self) -> float:
        """When ``advance`` is wanted though nothing has happened, by the monotonic clock."""

    def touched(self, child: Run) -> None:
        """Take in what has become of a child."""

    def advance(self) -> None:
        """Do all that can be done now; doing it again changes nothing."""

    def sent(self) -> Sequence[Run]:
        """Give jobs that were recorded and sent since the last call; none is fine, too."""


DRIVEN = frozenset({"pipeline", "sweep", "service"})


def _driver(backends: Backends, run: Run, lease: Lease) -> Driver:
    """Make the driver of a run's kind; its module is loaded when the first such run comes."""
    own = as_submitted(backends, run)
    made: Driver = discover.part(work, run.kind).Driver(own, run, lease)
    return made


def holder() -> str:
    """Name this process among all that may hold a lease."""
    return f"{socket.gethostname()}:{os.getpid()}:{time.monotonic_ns()}"


def _time(run: Run) -> int:
    """Say how often a run has been taken up again, from 1."""
    return int(run.extra.get("generation", 1))


class _Heart:
    """Renews leases in a thread of its own: to keep a large output takes longer than a lease."""

    def __init__(self, backends: Backends, holder: str) -> None:
        self._backends = backends
        self._holder = holder
        self._held: dict[str, Lease] = {}
        self._lost: list[str] = []
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def hold(self, lease: Lease) -> None:
        """Renew a lease from now on."""
        with self._lock:
            self._held[lease.run_id] = lease
        if self._thread is None:
            self._thread = threading.Thread(target=self._beat, daemon=True)
            self._thread.start()

    def let_go(self, run_id: str) -> None:
        """Renew a lease no more."""
        with self._lock:
            self._held.pop(run_id, None)

    def lost(self) -> list[str]:
        """Name the runs whose lease somebody else has taken since the last call."""
        if not self._lost:
            return []
        with self._lock:
            lost, self._lost = self._lost, []
        return lost

    def stop(self) -> None:
        """Renew nothing any more."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _beat(self) -> None:
        while not self._over.wait(RENEW_SECONDS):
            with self._lock:
                # under the lock: one that was just let go must not be taken again
                for run_id, held in list(self._held.items()):
                    with contextlib.suppress(PlatformError):
                        lease = self._backends.store.claim(run_id, self._holder, LEASE_SECONDS)
                        if lease is None or lease.fence != held.fence:
                            del self._held[run_id]
                            self._lost.append(run_id)


class Loop:
    """Drives all open runs, or only one and its children, as long as it is turned."""

    def __init__(self, backends: Backends, *, only: str = "") -> None:
        """Begin; with ``only`` trouble that may pass is told to the caller, else tried again."""
        self._backends = backends
        self._only = only
        self._holder = holder()
        self._drivers: dict[str, Driver] = {}
        self._leases: dict[str, Lease] = {}
        self._follower = sync.Follower(backends, self._drivers)
        self._heart = _Heart(backends, self._holder)
        self._shipped = self._looked = self._resent = time.monotonic()
        self._troubled: float | None = None
        self._running: set[str] = set()
        self._later: dict[str, float] = {}
        self._pool = ThreadPoolExecutor(max_workers=1)  # messages must not hold the loop up
        self._sending: Future[int] | None = None
        if not only:
            unreleased.release_noted(backends)
        self._look()

    @property
    def busy(self) -> bool:
        """True while there is a run to drive."""
        return bool(self._drivers) or bool(self._leases)

    def turn(self, timeout: float) -> None:
        """Wait for news, at most ``timeout`` seconds, and do all they call for."""
        news = self._news(min(timeout, LOOK_SECONDS))
        ended, own = self._sort(news.events)
        self._take_in(ended, own, news.ended)
        now = time.monotonic()
        for run_id in self._heart.lost():
            self._drivers.pop(run_id, None)
            self._leases.pop(run_id, None)
        if now - self._shipped > SHIP_SECONDS:
            self._shipped = now
            self._ship()
        if now - self._resent > RESEND_SECONDS and not self._only:
            self._resent = now
            with contextlib.suppress(UnavailableError):
                job.resend(self._backends, sync.unsent(self._backends))
        if now - self._looked >= LOOK_SECONDS:
            self._looked = now
            self._look()
            if self._sending is None or self._sending.done():
                self._sending = self._pool.submit(outbox.send_due, self._backends)

    def _news(self, timeout: float) -> sync.News:
        """Wait for news; none while what tells of them is away, such as a cluster or its store.

        Raises:
            UnavailableError: it was away for long, and somebody waits for a run.
        """
        try:
            news = self._follower.news(timeout)
        except UnavailableError:
            now = time.monotonic()
            self._troubled = self._troubled or now
            patient = self._backends.remote and now - self._troubled < PATIENCE_SECONDS
            if self._only and not patient:
                raise
            time.sleep(max(timeout, LOOK_SECONDS))
            return sync.News((), {})
        self._troubled = None
        return news

    def close(self) -> None:
        """Give all leases back."""
        self._heart.stop()
        for lease in list(self._leases.values()):
            self._backends.store.release(lease)
        self._leases.clear()
        self._drivers.clear()
        self._pool.shutdown(wait=True)

    def _sort(self, news: Sequence[TaskEvent]) -> tuple[dict[str, None], dict[str, None]]:
        """Name the tasks that have ended, and the runs we drive whose own task has news."""
        ended: dict[str, None] = {}
        own: dict[str, None] = {}
        for event in news:
            if event.phase.final:
                ended[event.task_id] = None
                self._running.discard(event.task_id)
            else:
                self._running.add(event.task_id)
            if event.task_id in self._drivers:
                own[event.task_id] = None
        return ended, own

    def _take_in(self, ended: Iterable[str], own: Iterable[str], known: Mapping[str, Run]) -> None:
        advancing = dict.fromkeys(own)
        for run_id in ended:
            try:
                run = known.get(run_id) or self._backends.store.run(run_id)
            except NotFoundError:
                continue  # a task of our own
            parent = self._drivers.get(run.parent)
            if parent is None:
                continue
            if run.state is State.FINISHING:
                self._advance_job(run, parent.lease)
                run = self._backends.store.run(run.id)
            parent.touched(run)
            advancing[run.parent] = None
        for run_id in advancing:
            self._advance(run_id)

    def _advance(self, run_id: str) -> None:
        driver = self._drivers.get(run_id)
        if driver is None:
            return
        try:
            driver.advance()
        except ConflictError:
            # the lease is lost, or somebody else ended a run: read everything again
            self._drop(run_id)
            return
        except UnavailableError:
            if self._only:
                raise
            self._drop(run_id)
            self._later[run_id] = time.monotonic() + AGAIN_SECONDS
            return
        except UserError as error:
            self._give_up(driver.run, driver.lease, error)
            return
        self._follower.expect(driver.sent())
        if not driver.run.state.final:
            return
        self._drop(run_id)
        parent = self._drivers.get(driver.run.parent)
        if parent is not None:
            parent.touched(driver.run)
            self._advance(driver.run.parent)

    def _give_up(self, run: Run, lease: Lease, error: UserError) -> None:
        """End a run that can never go on, so that it does not keep the driver from the others."""
        changes = ending(run, State.FAILED, self._backends.clock(), {"detail": told(error)})
        with contextlib.suppress(ConflictError):
            self._backends.store.commit(changes, lease=lease)
        self._drop(run.id)
        parent = self._drivers.get(run.parent)
        if parent is not None:
            parent.touched(self._backends.store.run(run.id))
            self._advance(run.parent)

    def _drop(self, run_id: str) -> None:
        self._drivers.pop(run_id, None)
        lease = self._leases.pop(run_id, None)
        self._heart.let_go(run_id)
        if lease is not None:
            self._backends.store.release(lease)

    def _look(self) -> None:
        """Find runs that need a driver, and requests to stop."""
        found = self._backends.store.runs(Query(parent="*", driven=True, limit=MANY))
        for run in sorted(found, key=lambda run: run.number):
            if self._only and not self._ours(run):
                continue
            if run.kind == "job":
                self._look_at_job(run)
            elif run.kind in DRIVEN:
                self._look_at(run)

    def _ours(self, run: Run) -> bool:
        return (
            self._only in (run.id, run.parent)
            or run.id in self._drivers
            or run.parent in self._drivers
        )

    def _look_at_job(self, run: Run) -> None:
        parent = self._drivers.get(run.parent)
        if run.parent and run.state is State.PENDING and not run.stop:
            return  # its parent starts it
        if self._later.get(run.id, 0.0) > time.monotonic():
            return
        if run.state is not State.FINISHING and job.waits_for_tracking(run) and not run.stop:
            return
        if run.parent:
            if parent is None:
                return
            self._advance_job(run, parent.lease)
            parent.touched(self._backends.store.run(run.id))
            self._advance(run.parent)
            return
        lease = self._claim(run)
        if lease is not None:
            self._advance_job(run, lease)
            self._drop(run.id)

    def _advance_job(self, run: Run, lease: Lease) -> None:
        try:
            job.advance(self._backends, run, lease)
        except ConflictError:
            return  # somebody else was quicker
        except UserError as error:
            self._give_up(run, lease, error)
        except UnavailableError:
            if self._only:
                raise
            self._later[run.id] = time.monotonic() + AGAIN_SECONDS  # such as a full disk

    def _look_at(self, run: Run) -> None:
        driver = self._drivers.get(run.id)
        if driver is not None and _time(run) != _time(driver.run):
            self._drop(run.id)  # taken up again: its driver knows the children as they were before
            driver = None
        if driver is not None:
            if (run.stop and not driver.run.stop) or run.state is not driver.run.state:
                driver.run = run
            if run.kind == "service" or run.stop or run.extra != driver.run.extra:
                driver.run = run
                self._advance(run.id)
            elif driver.due <= time.monotonic():
                self._advance(run.id)
            return
        if run.parent and run.state is State.PENDING:
            return
        lease = self._claim(run)
        if lease is None:
            return
        run = self._backends.store.run(run.id)  # somebody may have ended it until now
        if run.state.final:
            self._drop(run.id)
            return
        try:
            self._drivers[run.id] = _driver(self._backends, run, lease)
        except UserError as error:
            self._give_up(run, lease, error)
            return
        self._advance(run.id)

    def _claim(self, run: Run) -> Lease | None:
        if self._later.get(run.id, 0.0) > time.monotonic():
            return None
        lease = self._backends.store.claim(run.id, self._holder, LEASE_SECONDS)
        if lease is not None:
            self._leases[run.id] = lease
            self._heart.hold(lease)
        return lease

    def _ship(self) -> None:
        """Copy the metrics of what runs now, so that people can watch."""
        for run_id in list(self._running):
            try:
                run = self._backends.store.run(run_id)
                sync.ship_attempt(self._backends, run, max(1, run.attempt))
            except (NotFoundError, UnavailableError):
                self._running.discard(run_id)
