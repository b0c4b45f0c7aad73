"""Who may start now: first by priority, then by order of submission, never more than there is."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from mlstead.engines.local.capacity import Capacity
from mlstead.engines.local.gpu import Gpu, of_kind

_LITTLE = 1e-9  # thirds of a core add up to a little more than one


class Claim(NamedTuple):
    """What a task needs for all its workers."""

    cpu: float
    memory: int
    gpu: int
    kinds: tuple[str, ...]

    @property
    def nothing(self) -> bool:
        """True for what may always start."""
        return self.cpu <= 0 and self.memory <= 0 and self.gpu <= 0


class Place(NamedTuple):
    """One waiting task; sorts by who goes first."""

    order: tuple[int, int]
    task_id: str
    claim: Claim


class Choice(NamedTuple):
    """A task that may start, and its GPUs."""

    task_id: str
    gpus: tuple[Gpu, ...]


def claim_of(request: dict[str, Any]) -> Claim:
    """Add up what all workers of a task need."""
    resources, workers = request["resources"], request["workers"]["count"]
    return Claim(
        resources["cpu"] * workers,
        resources["memory"] * workers,
        resources["gpu"] * workers,
        tuple(resources["gpu_kinds"]),
    )


def fits(claim: Claim, capacity: Capacity) -> bool:
    """Say whether the claim could be met if nothing else ran."""
    gpus = sum(1 for gpu in capacity.gpus if of_kind(gpu, claim.kinds))
    return (
        claim.cpu <= capacity.cpu + _LITTLE
        and claim.memory <= capacity.memory
        and claim.gpu <= gpus
    )


def choose(
    waiting: Sequence[Place], capacity: Capacity, held: Iterable[Claim], busy: set[int]
) -> list[Choice]:
    """Choose who starts now.

    One that must wait keeps what it needs away from those behind it, so that nobody waits for
    ever; those behind it may use what it does not need. One that the whole machine is too small
    for keeps nothing.

    Args:
        waiting: in order.
        capacity: of the machine.
        held: claims of what runs.
        busy: numbers of the GPUs that are taken.
    """
    cpu, memory = capacity.cpu + _LITTLE, capacity.memory
    for claim in held:
        cpu -= claim.cpu
        memory -= claim.memory
    gpus = [gpu for gpu in capacity.gpus if gpu.number not in busy]
    chosen = []
    for place in waiting:
        claim = place.claim
        if not fits(claim, capacity):
            continue
        mine = [gpu for gpu in gpus if of_kind(gpu, claim.kinds)][: claim.gpu]
        enough = (claim.cpu <= 0 or claim.cpu <= cpu) and (
            claim.memory <= 0 or claim.memory <= memory
        )
        if enough and len(mine) == claim.gpu:
            chosen.append(Choice(place.task_id, tuple(mine)))
        cpu -= claim.cpu
        memory -= claim.memory
        gpus = [gpu for gpu in gpus if gpu not in mine]
        if cpu <= _LITTLE and memory <= 0:
            break
    return chosen
