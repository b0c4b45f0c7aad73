"""Small builders that the engine suites share: make a task, run it, wait for what it does."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from mlstead.engines.base import Engine, Phase, Resources, Status, Task, TaskEvent

DEADLINE = 60.0
"""Seconds that a test waits; an engine that is slow by nature may have more."""
LOOK = 0.005
"""Seconds between two looks."""
SMALL = Resources(cpu=0.1, memory=64 << 20)
"""What a test's task claims, so that several run at once on any machine."""


def task(task_id: str, *command: str, **fields: Any) -> Task:
    """Describe a task; a single text with spaces is a shell command."""
    fields.setdefault("resources", SMALL)
    words = ("sh", "-ec", command[0]) if len(command) == 1 and " " in command[0] else command
    return Task(task_id, words, **fields)


def submit(engine: Engine, *tasks: Task, secrets: Mapping[str, str] | None = None) -> None:
    """Prepare and submit tasks together."""
    facts = engine.facts()
    engine.submit([engine.prepare(one, facts) for one in tasks], secrets)


def wait_final(engine: Engine, task_id: str, seconds: float | None = None) -> Status:
    """Wait until a task ends."""
    wait_until(lambda: engine.status(task_id).phase.final, f"{task_id} to end", seconds)
    return engine.status(task_id)


def wait_phase(engine: Engine, task_id: str, phase: Phase) -> None:
    """Wait until a task is in a phase."""
    wait_until(lambda: engine.status(task_id).phase is phase, f"{task_id} to be {phase}")


def wait_until(condition: Callable[[], object], what: str, seconds: float | None = None) -> None:
    """Wait until something holds; fails after the deadline."""
    seconds = DEADLINE if seconds is None else seconds
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(LOOK)


def run(engine: Engine, one: Task, secrets: Mapping[str, str] | None = None) -> Status:
    """Run a task to its end."""
    submit(engine, one, secrets=secrets)
    return wait_final(engine, one.id)


def output(engine: Engine, task_id: str, **options: Any) -> str:
    """Give the log of a task as text."""
    return b"".join(engine.logs(task_id, **options)).decode(errors="replace")


def events_of(engine: Engine, task_id: str) -> list[TaskEvent]:
    """Give the events of one task that has ended, once they are all told."""

    def all_told() -> bool:
        return any(
            event.task_id == task_id and event.phase.final and not event.retried
            for event in engine.events()
        )

    wait_until(all_told, f"the last event of {task_id}")
    return [event for event in engine.events() if event.task_id == task_id]
