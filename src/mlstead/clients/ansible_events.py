"""What a run of Ansible tells, in our words: tasks, failures with their last lines, no secrets."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

MOST: Final = 20  # lines of a failed task's output that are kept
LOST: Final = ("Failed to connect to the host via", "Data could not be sent to remote host")
"""So begins what Ansible says of a host that went away while a task copied files to it."""


@dataclass(frozen=True, slots=True)
class Event:
    """What happened: a task began (``host`` empty), or ended on one machine.

    Attributes:
        state: began, ok, changed, skipped, failed or unreachable.
        detail: the last lines of what a failed task wrote.
    """

    state: str
    task: str
    host: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a role ended: the failures, and how many tasks changed something, by machine."""

    failures: tuple[Event, ...]
    changed: Mapping[str, int]
    cancelled: bool = False


class Listener:
    """Turns ansible-runner's events into ours."""

    def __init__(self, told: Callable[[Event], None]) -> None:
        self._told = told
        self._failures: list[Event] = []
        self._changed: dict[str, int] = {}
        self._other: list[str] = []

    def handle(self, event: dict[str, Any]) -> bool:
        """Take one event; False: ansible-runner need not keep it."""
        kind, data = event.get("event", ""), event.get("event_data", {})
        task = str(data.get("task", ""))
        if kind == "playbook_on_task_start":
            self._told(Event("began", task))
        elif kind in (
            "runner_on_ok",
            "runner_on_failed",
            "runner_on_unreachable",
            "runner_on_skipped",
        ):
            self._ended(kind.removeprefix("runner_on_"), task, data)
        elif event.get("stdout", "").strip():
            self._other.append(event["stdout"])
        return False

    def _ended(self, state: str, task: str, data: dict[str, Any]) -> None:
        result, host = data.get("res") or {}, str(data.get("host", ""))
        if state == "failed" and data.get("ignore_errors"):
            state = "ok"
        if state == "failed" and str(result.get("msg", "")).startswith(LOST):
            state = "unreachable"
        if state == "ok" and result.get("changed"):
            state = "changed"
            self._changed[host] = self._changed.get(host, 0) + 1
        detail = _detail(result) if state in ("failed", "unreachable") else ""
        event = Event(state, task, host, detail)
        if detail or state in ("failed", "unreachable"):
            self._failures.append(event)
        self._told(event)

    def outcome(self, status: str, code: int) -> Outcome:
        """Say how it ended; a run that failed without a failed task says what Ansible wrote."""
        failures = tuple(self._failures)
        if status == "canceled":
            return Outcome(failures, dict(self._changed), cancelled=True)
        if (code or status != "successful") and not failures:
            words = [line for text in self._other for line in text.splitlines()]
            failures = (Event("failed", "Ansible", "", "\n".join(words[-MOST:]) or status),)
        return Outcome(failures, dict(self._changed))


def _detail(result: Mapping[str, Any]) -> str:
    """Give the last lines that say why a task failed; nothing of a task with secrets."""
    if "censored" in result:
        return "(hidden: this task handles secrets)"
    names = ("stdout", "stderr", "module_stderr", "msg", "reason")
    parts = [str(result.get(name) or "") for name in names]
    for item in result.get("results") or ():
        if isinstance(item, Mapping) and item.get("failed") and "censored" not in item:
            parts.append(str(item.get("msg", "")))
    lines = [line for part in parts for line in part.splitlines() if line.strip()]
    return "\n".join(lines[-MOST:])
