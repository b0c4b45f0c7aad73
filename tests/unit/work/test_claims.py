"""Claims add up as the machine counts them: cores, bytes, GPUs of a kind."""

from typing import Any

import pytest

from mlstead.engines.base import Facts
from mlstead.work.claims import Claim, claim_of, fits

GIB = 1 << 30
MACHINE = Facts(cpu=4, memory=8 * GIB, gpus=("NVIDIA A100", "NVIDIA T4"))


@pytest.mark.parametrize(
    ("claims", "fit"),
    [
        ([Claim(2, GIB), Claim(2, GIB)], True),
        ([Claim(0.1, GIB)] * 8, True),
        ([Claim(2, GIB), Claim(2.1, GIB)], False),
        ([Claim(0, 5 * GIB), Claim(0, 4 * GIB)], False),
        ([Claim(0, 0, 1, ("a100",)), Claim(0, 0, 1, ("t4",))], True),
        ([Claim(0, 0, 1, ("a100",)), Claim(0, 0, 1, ("a100",))], False),
        ([Claim(0, 0, 1), Claim(0, 0, 1)], True),
        ([Claim(0, 0, 1), Claim(0, 0, 2)], False),
        ([Claim(0, 0, 1, ("h100",))], False),
    ],
)
def test_claims_fit_where_the_machine_can_hold_all_at_one_time(
    claims: list[Claim], fit: bool
) -> None:
    assert fits(MACHINE, claims) is fit


def test_a_claim_is_of_all_workers_and_says_itself() -> None:
    gpu: Any = {"count": 1, "kind": ["a100"]}
    needs = {"cpu": 0.5, "memory": GIB, "gpu": gpu}
    claim = claim_of({"resources": needs, "workers": {"count": 2}})
    assert claim == Claim(1.0, 2 * GIB, 2, ("a100",))
    assert str(claim) == "cpu 1, memory 2048 MiB, gpu 2"
    assert claim_of({"resources": {**needs, "gpu": 0}}) == Claim(0.5, GIB)
