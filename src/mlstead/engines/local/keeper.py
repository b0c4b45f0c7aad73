"""The one process per home that starts attempts; what it knows it can read again from disk."""

import bisect
import contextlib
import gc
import heapq
import os
import selectors
import shutil
import signal
import time
import traceback
from pathlib import Path
from typing import Any

from mlstead.engines.local import (
    admission,
    attempt,
    capacity,
    checkout,
    disk,
    launch,
    leftovers,
    memory_limit,
    process_tree,
    shim,
    supervise,
)
from mlstead.engines.local.admission import Place
from mlstead.engines.local.disk import Home
from mlstead.engines.local.door import Door
from mlstead.engines.local.entry import Entry, past_events
from mlstead.engines.local.ledger import Ledger

_IDLE = 30.0  # seconds without work or visitors before it goes
_AGAIN = 1.0  # seconds between two tries of what an outside state prevents
_MEASURE = 5.0  # seconds between two looks at a machine that is too small for a task
_KEPT_ATTEMPTS = 20
_LOG_SIZE = 1 << 20
_STOPPED = "stopped on request"


class Keeper:
    """Admits, starts and follows attempts."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.capacity = capacity.measure()
        disk.write_over(home.capacity, disk.dump(self.capacity))
        self.groups = memory_limit.find_base(home.home)
        self._selector = selectors.DefaultSelector()
        self._door = Door(home, self._selector, self._obey)
        self._ledger = Ledger(home, self._door.ring)
        self._entries: dict[str, Entry] = {}
        self._waiting: list[Place] = []
        self._shims: dict[int, str] = {}
        self._foreign: set[int] = set()
        self._timers: list[tuple[float, str, str]] = []
        self._stopped = False
        self._quiet_since = time.monotonic()
        self._catch_signals()
        self._door.open()

    # ---- the loop

    def run(self) -> None:
        """Serve until there is nothing to do for a while."""
        while not self._stopped:
            for key, _ in self._selector.select(self._pause()):
                key.data()
            self._ring()
            self._admit()
            if not self._ledger.flush():
                self._later(_AGAIN, "flush")
            if self._is_idle() and self._leave():
                break
        self._door.close()
        if not self._entries:
            memory_limit.remove_base(self.groups)

    def _pause(self) -> float:
        until = self._timers[0][0] if self._timers else time.monotonic() + _IDLE
        return max(0.0, min(until - time.monotonic(), _IDLE))

    def _is_idle(self) -> bool:
        if self._entries or self._door.visited or self._ledger.busy:
            self._quiet_since = time.monotonic()
        return time.monotonic() - self._quiet_since >= _IDLE

    def _leave(self) -> bool:
        """Go, unless something came while the door was being shut."""
        self._door.close()
        if not any(self.home.active.iterdir()):
            return True
        self._quiet_since = time.monotonic()
        self._door.open()
        self.rebuild()
        return False

    def _catch_signals(self) -> None:
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        # a supervisor that was just forked is not to be ended by a look
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE, supervise.LOOK):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        self._selector.register(reader, selectors.EVENT_READ, lambda: self._reap(reader))

    # ---- what comes in

    def _obey(self, line: str) -> None:
        verb, _, rest = line.partition(" ")
        if verb == "shutdown":
            self._stopped = True
        elif verb in ("submit", "cancel", "running", "ended"):
            # the message only says that there is something to see
            task_id = rest.split(" ")[0]
            entry = self._entries.get(task_id)
            if entry is not None:
                self._look(entry)
            elif verb in ("submit", "cancel") and not self._ledger.finishes(task_id):
                self._add(task_id)

    def _reap(self, reader: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(reader, 4096)
        with contextlib.suppress(ChildProcessError):
            while (pid := os.waitpid(-1, os.WNOHANG)[0]) != 0:
                entry = self._entries.get(self._shims.pop(pid, ""))
                if entry is not None and entry.pid == pid:
                    entry.pid = 0
                    self._gone(entry)

    def _ring(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            _, what, task_id = heapq.heappop(self._timers)
            entry = self._entries.get(task_id)
            if what == "foreign":
                self._foreign.clear()
            elif what == "measure":
                self._measure()
            elif entry is not None and what == "look":
                self._look(entry)
            elif entry is not None and what == "gone":
                self._gone(entry)
            elif entry is not None and what == "retry" and entry.state == "resting":
                self._enqueue(entry)
            elif entry is not None and what == "queue" and entry.waits_for_first_start:
                self._end(entry, "failed", "unschedulable", _waited(entry))

    def _later(self, seconds: float, what: str, task_id: str = "") -> None:
        heapq.heappush(self._timers, (time.monotonic() + seconds, what, task_id))

    # ---- tasks

    def rebuild(self) -> None:
        """Read again what is under way, and tell the events that a crash kept from the journal."""
        markers = []
        for path in self.home.active.iterdir():
            if path.name not in self._entries:
                with contextlib.suppress(OSError, ValueError):
                    markers.append(disk.read_marker(path))
        if not markers:
            return
        written = self._ledger.written_since(min(marker.journal for marker in markers))
        for marker in sorted(markers, key=lambda marker: marker.sequence):
            self._add(marker.task_id, written.get(marker.task_id, set()))

    def _add(self, task_id: str, written: set[tuple[int, str]] | None = None) -> None:
        try:
            marker = disk.read_marker(self.home.active / task_id)
            entry = Entry.load(self.home.task(task_id), marker.sequence)
        except (OSError, ValueError, KeyError) as error:
            # a marker without a task: the submission broke off and will be repeated
            if not isinstance(error, FileNotFoundError):
                traceback.print_exception(error)
            return
        numbers = attempt.numbers(entry.task)
        if written is None and numbers:
            # submitted again while it ended: what was told before may stand anywhere
            written = self._ledger.written_since((0, 0)).get(task_id)
        entry.written |= written or set()
        self._entries[task_id] = entry
        for event in past_events(entry):
            self._ledger.tell(entry, event)
        entry.attempt = (numbers or [1])[-1]
        folder = entry.folder
        if not (folder / "end.json").exists() and disk.is_locked(folder / "alive"):
            self._adopt(entry)
        else:
            self._gone(entry)

    def _adopt(self, entry: Entry) -> None:
        """Go on with an attempt that an earlier keeper started."""
        entry.state = "active"
        started = attempt.Progress(entry.folder).started
        if started is None:
            self._later(0.05, "look", entry.task.name)
            return
        entry.gpus = tuple(started["gpus"])
        entry.pid = started["pid"]
        try:
            entry.handle = os.pidfd_open(entry.pid)
        except OSError:
            self._later(_AGAIN, "look", entry.task.name)
            return
        # closed by then if the end was told before
        self._selector.register(entry.handle, selectors.EVENT_READ, lambda: self._left(entry))

    def _left(self, entry: Entry) -> None:
        self._forget_handle(entry)
        if entry.state == "active":
            self._gone(entry)

    def _look(self, entry: Entry) -> None:
        """See what changed with a task that is known."""
        asked = (entry.task / "cancel").exists()
        if entry.state != "active":
            if asked:
                self._end(entry, "cancelled", None, _STOPPED)
            return
        if (entry.folder / "end.json").exists():
            self._ended(entry)
            return
        if attempt.Progress(entry.folder).running is not None:
            self._ledger.tell(entry, entry.running_event())
        if asked and entry.pid:
            process_tree.send([entry.pid], supervise.LOOK)
        if entry.handle is None and entry.pid not in self._shims:
            alive = disk.is_locked(entry.folder / "alive")
            self._adopt(entry) if alive else self._gone(entry)

    def _gone(self, entry: Entry) -> None:
        """Go on with an attempt that has no supervisor, or has it no longer."""
        if (entry.folder / "end.json").exists():
            self._ended(entry)
        elif attempt.Progress(entry.folder).started is not None:
            self._lost(entry)
        elif entry.state == "active":
            # it could not even begin, for lack of space perhaps
            self._rest(entry, _AGAIN)
        else:
            self._enqueue(entry)

    def _rest(self, entry: Entry, seconds: float) -> None:
        entry.state, entry.gpus, entry.pid = "resting", (), 0
        self._later(seconds, "retry", entry.task.name)

    def _lost(self, entry: Entry) -> None:
        """Write the end of an attempt whose supervisor is gone, once nothing of it runs."""
        leftovers.kill(entry, self.groups, self._shims)
        if self._write_end(entry, leftovers.end(entry), "gone"):
            leftovers.remove(entry)
            self._ended(entry)

    def _end(self, entry: Entry, phase: str, reason: str | None, detail: str) -> None:
        """End a task that waits."""
        end = attempt.ending(phase, reason, detail, time.time())
        if self._write_end(entry, end, "queue" if reason else "look"):
            self._ended(entry)

    def _write_end(self, entry: Entry, end: dict[str, Any], again: str) -> bool:
        """Write an end; when the disk is full, False, and what led here is done again later."""
        try:
            entry.folder.mkdir(exist_ok=True)
            disk.Reserved(entry.folder / "end.json").write(disk.dump(end))
        except OSError as error:
            traceback.print_exception(error)
            self._later(_AGAIN, again, entry.task.name)
            return False
        return True

    def _ended(self, entry: Entry) -> None:
        self._unqueue(entry)
        self._forget_handle(entry)
        entry.gpus, entry.pid = (), 0
        for event in past_events(entry, entry.attempt):
            self._ledger.tell(entry, event)
        end = disk.read_json(entry.folder / "end.json")
        if end is None or not end["retried"]:
            entry.state = "ended"
            del self._entries[entry.task.name]
            self._ledger.finish(entry)
            return
        entry.attempt += 1
        entry.state = "resting"
        self._ledger.tell(entry, entry.queued_event(end["time"]))
        backoff = entry.request["retry"]["backoff"]
        if (entry.task / "cancel").exists():
            self._end(entry, "cancelled", None, _STOPPED)
        elif backoff > 0:
            self._rest(entry, backoff)
        else:
            self._enqueue(entry)

    def _forget_handle(self, entry: Entry) -> None:
        if entry.handle is not None:
            self._selector.unregister(entry.handle)
            os.close(entry.handle)
            entry.handle = None

    # ---- admission

    def _enqueue(self, entry: Entry) -> None:
        entry.state = "queued"
        entry.gpus, entry.pid = (), 0
        event = entry.queued_event()
        if not admission.fits(entry.place.claim, self.capacity):
            event["status"]["detail"] = f"waits for a larger machine: {_needs(entry)}"
            self._measure_later()
        self._ledger.tell(entry, event)
        if (entry.task / "cancel").exists():
            self._end(entry, "cancelled", None, _STOPPED)
            return
        bisect.insort(self._waiting, entry.place)
        longest = entry.request["max_queue_time"]
        if longest is not None and entry.waits_for_first_start:
            waited = max(0.0, time.time() - attempt.submitted(entry.task))
            self._later(max(0.0, longest - waited), "queue", entry.task.name)

    def _unqueue(self, entry: Entry) -> None:
        index = bisect.bisect_left(self._waiting, entry.place)
        if index < len(self._waiting) and self._waiting[index].task_id == entry.task.name:
            del self._waiting[index]

    def _measure(self) -> None:
        """Look at the machine again while one waits that it is too small for."""
        self.capacity = capacity.measure()
        disk.write_over(self.home.capacity, disk.dump(self.capacity))
        if not all(admission.fits(place.claim, self.capacity) for place in self._waiting):
            self._measure_later()

    def _measure_later(self) -> None:
        if not any(what == "measure" for _, what, _ in self._timers):
            self._later(_MEASURE, "measure")

    def _admit(self) -> None:
        if not self._waiting:
            return
        active = [entry for entry in self._entries.values() if entry.state == "active"]
        busy = {number for entry in active for number in entry.gpus} | self._foreign
        held = [entry.place.claim for entry in active]
        ready = []
        for choice in admission.choose(self._waiting, self.capacity, held, busy):
            locks = launch.lock_gpus(choice.gpus)
            if not isinstance(locks, list):
                self._foreign.add(locks.number)
                self._later(_AGAIN, "foreign")
                continue
            entry = self._entries[choice.task_id]
            self._unqueue(entry)
            entry.state = "active"
            entry.gpus = tuple(gpu.number for gpu in choice.gpus)
            self._ledger.tell(entry, entry.starting_event(time.time()))
            ready.append((entry, locks))
        # who waits for an end hears of it before the next one starts, which takes longer
        self._ledger.flush()
        for entry, locks in ready:
            self._start(entry, locks)

    def _start(self, entry: Entry, locks: list[int]) -> None:
        try:
            entry.pid = launch.fork(self.home, entry, locks, self.groups)
        except OSError as error:
            traceback.print_exception(error)
            self._rest(entry, _AGAIN)
        else:
            self._shims[entry.pid] = entry.task.name
        finally:
            launch.close(locks)
        if entry.attempt > _KEPT_ATTEMPTS:
            # a service may have been started many times
            for number in attempt.numbers(entry.task)[:-_KEPT_ATTEMPTS]:
                shutil.rmtree(entry.task / str(number), ignore_errors=True)


def _waited(entry: Entry) -> str:
    return f"waited longer than {entry.request['max_queue_time']:g} s for {_needs(entry)}"


def _needs(entry: Entry) -> str:
    claim = entry.place.claim
    return f"cpu {claim.cpu:g}, memory {claim.memory >> 20} MiB, gpu {claim.gpu}"


def main(folder: str) -> None:
    """Become the keeper of a home; the first process ends as soon as there is one."""
    home = Home(Path(folder))
    reader, writer = os.pipe()
    if os.fork() != 0:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    os.close(reader)
    lock = disk.try_lock(home.lock)
    if lock is None:
        return
    os.ftruncate(lock, 0)
    os.write(lock, f"{os.getpid()}\n".encode())
    shim.become_subreaper()
    shim.forbid_core_dumps()
    if home.log.stat().st_size > _LOG_SIZE:
        os.truncate(home.log, 0)
    keeper = Keeper(home)
    keeper.rebuild()
    os.write(writer, b".")
    os.close(writer)
    gc.collect()
    gc.freeze()
    keeper.run()
    os.close(lock)
    checkout.drop_old(home)
