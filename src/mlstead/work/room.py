"""Decides how a new generation of a service finds its place on a machine."""

from collections.abc import Sequence
from enum import Enum, auto

from mlstead.records.base import Query, Run, State
from mlstead.work import generations
from mlstead.work.base import Backends
from mlstead.work.claims import claim_of, fits


class Room(Enum):
    """How a generation that is not started yet can start."""

    SOON = auto()  # there is room for it
    OLD_MUST_GO = auto()  # there is, once the old generation has ended, and never before
    WAIT = auto()  # something else must end


def room_for(backends: Backends, run: Run, olds: Sequence[Run]) -> tuple[Room, str]:
    """Say how a generation gets its place, and in words what it waits for.

    The old one is asked to go only where the two can never run side by side beside the other
    services, and only when the new one can then start at once: what is gone without need, or long
    before, serves nobody.
    """
    need, facts = claim_of(run.spec), backends.facts
    gone = {old.id for old in olds} | {run.id}
    services = [claim_of(it.spec) for it in generations.serving(backends) if it.id not in gone]
    running = Query(kind="job", parent="*", states=(State.STARTING, State.RUNNING), limit=0)
    jobs = [claim_of(it.spec) for it in backends.store.runs(running)]
    old = [claim_of(it.spec) for it in olds]
    if fits(facts, [need, *services, *jobs, *old]):
        return Room.SOON, ""
    waits = f"waits for {need}, which other work holds"
    apart = bool(old) and not fits(facts, [need, *services, *old])
    if not apart or not fits(facts, [need, *services]):
        return Room.WAIT, waits
    why = f"it and the new one do not fit on this machine ({need})"
    if fits(facts, [need, *services, *jobs]):
        return Room.OLD_MUST_GO, f"{olds[0].id} was ended first, for {why}"
    return Room.WAIT, f"{waits}; then {olds[0].id} is ended first, for {why}"
