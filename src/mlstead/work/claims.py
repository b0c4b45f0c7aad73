"""What runs ask of a machine, added up: whether a service can start beside the one it replaces."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlstead.engines.base import Facts

_LITTLE = 1e-9  # thirds of a core add up to a little more than one


@dataclass(frozen=True, slots=True)
class Claim:
    """What all workers of one run ask for together: cores, bytes, GPUs of some kinds."""

    cpu: float
    memory: int
    gpu: int = 0
    kinds: tuple[str, ...] = ()

    def __str__(self) -> str:
        gpu = f", gpu {self.gpu}" if self.gpu else ""
        return f"cpu {self.cpu:g}, memory {self.memory >> 20} MiB{gpu}"


def claim_of(spec: Mapping[str, Any]) -> Claim:
    """Read the claim of a job or service from its record."""
    needs, count = spec["resources"], (spec.get("workers") or {}).get("count", 1)
    gpu = needs["gpu"] if isinstance(needs["gpu"], Mapping) else {"count": needs["gpu"], "kind": ()}
    kinds = tuple(gpu["kind"])
    return Claim(needs["cpu"] * count, needs["memory"] * count, gpu["count"] * count, kinds)


def fits(facts: Facts, claims: Sequence[Claim]) -> bool:
    """Say whether a machine can hold all of these at one time."""
    if sum(claim.cpu for claim in claims) > facts.cpu + _LITTLE:
        return False
    if sum(claim.memory for claim in claims) > facts.memory:
        return False
    return all(_enough_gpus(facts, claim, claims) for claim in claims if claim.gpu)


def _enough_gpus(facts: Facts, claim: Claim, claims: Sequence[Claim]) -> bool:
    """Count the GPUs one claim may have against all that may be given to others of them."""
    mine = _of_kind(facts, claim)
    asked = sum(other.gpu for other in claims if _of_kind(facts, other) & mine)
    return len(mine) >= max(asked, claim.gpu)


def _of_kind(facts: Facts, claim: Claim) -> set[int]:
    kinds = [kind.lower() for kind in claim.kinds]
    return {
        number
        for number, gpu in enumerate(facts.gpus)
        if not kinds or any(kind in gpu.lower() for kind in kinds)
    }
