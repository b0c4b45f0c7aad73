"""The changes that end a run: its state, the event, and the messages it promised."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from mlstead.records.base import AddEvents, Change, Event, Outgoing, PutOutgoing, Run, SetRun, State

_WHEN = {State.SUCCEEDED: "succeeded", State.CANCELLED: "cancelled"}


def ending(
    run: Run, state: State, now: float, fields: Mapping[str, Any] | None = None
) -> list[Change]:
    """List what one commit must hold so that a run ends as ``state``."""
    fields = {"state": state, "ended": now, **(fields or {})}
    changes: list[Change] = [SetRun(run.id, fields)]
    detail = str(fields.get("detail", run.detail))
    data = {"detail": detail} if detail else {}
    changes.append(AddEvents((Event(run.id, f"run-{state}", now, 0, data),)))
    changes += messages(run, _WHEN.get(state, "failed"), now, detail)
    return changes


def as_ended(run: Run, now: Run, state: State) -> Run:
    """Give a run as its driver has ended it; ``now`` is what the records say since.

    It may have been taken up again already. That is for a new driver: this one knows the children
    as they were before.
    """
    return now if now.state.final else dataclasses.replace(run, state=state)


def messages(run: Run, when: str, now: float, detail: str = "") -> list[Change]:
    """List the messages a run sends at a moment of its life; only top-level runs send any."""
    if run.parent:
        return []
    text = f"{run.kind} {run.name} ({run.id}) {when}" + (f": {detail}" if detail else "")
    return [
        PutOutgoing(Outgoing(f"{run.id}:{when}:{number}", run.id, rule["to"], text, now))
        for number, rule in enumerate(run.spec.get("notify") or ())
        if when in rule["when"]
    ]
