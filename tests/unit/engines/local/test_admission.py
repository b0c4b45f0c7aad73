"""Who may start, decided without a machine."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlstead.engines.local.admission import Claim, Place, choose, claim_of, fits
from mlstead.engines.local.capacity import Capacity
from mlstead.engines.local.gpu import Gpu

GPUS = (Gpu(0, "NVIDIA H200", "a", 0), Gpu(1, "NVIDIA L4", "b", 0), Gpu(2, "NVIDIA H200", "c", 0))
MACHINE = Capacity(4.0, 1000, GPUS)


def place(name: str, cpu: float, memory: int = 0, gpu: int = 0, *kinds: str) -> Place:
    return Place((0, int(name)), name, Claim(cpu, memory, gpu, kinds))


def chosen(
    *waiting: Place, held: tuple[Claim, ...] = (), busy: set[int] | None = None
) -> list[str]:
    return [choice.task_id for choice in choose(waiting, MACHINE, held, busy or set())]


def test_all_that_fits_starts() -> None:
    assert chosen(place("1", 1), place("2", 3), place("3", 1)) == ["1", "2"]


def test_thirds_of_a_core_add_up_to_a_core() -> None:
    third = 4 / 3
    assert chosen(place("1", third), place("2", third), place("3", third)) == ["1", "2", "3"]


def test_one_that_waits_is_not_overtaken_by_what_would_delay_it() -> None:
    held = (Claim(2, 0, 0, ()),)
    assert chosen(place("1", 4), place("2", 1), held=held) == []


def test_one_that_waits_for_a_gpu_lets_others_use_the_rest() -> None:
    waiting = place("1", 1, 0, 1), place("2", 3), place("3", 1)
    assert chosen(*waiting, busy={0, 1, 2}) == ["2"]


def test_one_that_the_whole_machine_is_too_small_for_holds_nobody_up() -> None:
    assert chosen(place("1", 5), place("2", 1, 0, 4), place("3", 4)) == ["3"]


def test_what_asks_for_nothing_always_starts() -> None:
    full = (Claim(4, 1000, 0, ()),)
    assert chosen(place("1", 0), held=full) == ["1"]


def test_gpus_are_given_by_kind_and_once() -> None:
    waiting = (
        place("1", 0, 0, 1, "h200"),
        place("2", 0, 0, 1, "H200"),
        place("3", 0, 0, 1, "H200"),
    )
    choices = choose(waiting, MACHINE, (), set())
    assert [[gpu.number for gpu in choice.gpus] for choice in choices] == [[0], [2]]


def test_all_gpus_of_a_task_or_none() -> None:
    assert chosen(place("1", 0, 0, 3), busy={1}) == []


def test_a_claim_is_that_of_all_workers() -> None:
    request = {
        "resources": {"cpu": 1.5, "memory": 100, "gpu": 1, "gpu_kinds": ["L4"]},
        "workers": {"count": 3},
    }
    assert claim_of(request) == Claim(4.5, 300, 3, ("L4",))


def test_what_can_never_fit_is_told() -> None:
    assert fits(Claim(4, 1000, 2, ("H200",)), MACHINE)
    assert not fits(Claim(4, 1000, 3, ("H200",)), MACHINE)
    assert not fits(Claim(4, 1001, 0, ()), MACHINE)


claims = st.tuples(st.floats(0, 5), st.integers(0, 1200), st.integers(0, 3))


@given(st.lists(claims, max_size=12))
def test_no_choice_is_ever_more_than_there_is(asked: list[tuple[float, int, int]]) -> None:
    waiting = [Place((0, n), str(n), Claim(*claim, ())) for n, claim in enumerate(asked)]
    choices = choose(waiting, MACHINE, (), set())
    started = [waiting[int(choice.task_id)].claim for choice in choices]
    assert sum(claim.cpu for claim in started) <= MACHINE.cpu + 1e-6
    assert sum(claim.memory for claim in started) <= MACHINE.memory
    given_out = [gpu for choice in choices for gpu in choice.gpus]
    assert len(given_out) == len(set(given_out)) == sum(claim.gpu for claim in started)
