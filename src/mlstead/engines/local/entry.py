"""One task as the keeper holds it in memory, and the events that its files tell of."""

from pathlib import Path
from typing import Any

from mlstead.engines.local import admission, attempt, disk
from mlstead.engines.local.admission import Place


class Entry:
    """A task that has not ended: queued, active (it has a supervisor) or resting before a retry."""

    __slots__ = (
        "attempt", "gpus", "handle", "pid", "place", "request", "state", "task", "written",
    )  # fmt: skip

    def __init__(self, task: Path, request: dict[str, Any], place: Place) -> None:
        self.task = task
        self.request = request
        self.place = place
        self.attempt = 1
        self.state = "queued"
        self.pid = 0
        self.handle: int | None = None
        self.gpus: tuple[int, ...] = ()
        self.written: set[tuple[int, str]] = set()

    @classmethod
    def load(cls, task: Path, sequence: int) -> "Entry":
        """Read a task from its folder.

        Raises:
            FileNotFoundError: there is no such task.
        """
        submission = disk.read_json(task / "task.json")
        if submission is None:
            raise FileNotFoundError(task)
        request = submission["request"]
        order = (-request["priority"], sequence)
        return cls(task, request, Place(order, task.name, admission.claim_of(request)))

    @property
    def folder(self) -> Path:
        """The folder of the present attempt."""
        return self.task / str(self.attempt)

    @property
    def waits_for_first_start(self) -> bool:
        """True until the first attempt starts."""
        return self.state == "queued" and self.attempt == 1

    def queued_event(self, time: float | None = None) -> dict[str, Any]:
        """Describe the waiting of the present attempt."""
        status = attempt.queued(self.task, self.request, self.attempt)
        return self._event(self.attempt, time or status["submitted"], status)

    def starting_event(self, time: float, number: int | None = None) -> dict[str, Any]:
        """Describe the start of an attempt, before its program runs."""
        number = number or self.attempt
        status = attempt.under_way(self.task, self.request, number)
        return self._event(number, time, status | {"phase": "starting", "started": None})

    def running_event(self, number: int | None = None) -> dict[str, Any]:
        """Describe that the program of an attempt runs."""
        number = number or self.attempt
        status = attempt.under_way(self.task, self.request, number)
        return self._event(number, status["started"], status)

    def end_event(self, number: int, end: dict[str, Any]) -> dict[str, Any]:
        """Describe how an attempt ended."""
        status = attempt.ended(self.task, self.request, number, end)
        return self._event(number, end["time"], status, end["retried"])

    def _event(
        self, number: int, time: float, status: dict[str, Any], retried: bool = False
    ) -> dict[str, Any]:
        return {
            "task": self.task.name, "attempt": number, "phase": status["phase"], "time": time,
            "retried": retried, "status": status,
        }  # fmt: skip


def past_events(entry: Entry, only: int | None = None) -> list[dict[str, Any]]:
    """Give the events that the files of the attempts tell of, in order."""
    events = []
    time: float | None = None
    for number in [only] if only else attempt.numbers(entry.task):
        folder = entry.task / str(number)
        status = attempt.queued(entry.task, entry.request, number)
        if only is None:
            events.append(entry._event(number, time or status["submitted"], status))
        progress = attempt.Progress(folder)
        if progress.started is not None:
            events.append(entry.starting_event(progress.started["time"], number))
        if progress.running is not None:
            events.append(entry.running_event(number))
        end = disk.read_json(folder / "end.json")
        if end is not None:
            time = end["time"]
            events.append(entry.end_event(number, end))
    return events
