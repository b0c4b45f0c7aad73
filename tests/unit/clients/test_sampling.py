"""Points of a sweep: lists, grids and chance; Optuna's samplers rebuilt from records."""

import json
import math
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlstead.clients.sampling import Asked, Outcome, Study, Trial, open_study
from mlstead.errors import ConflictError, UserError

SPACE: dict[str, Any] = {
    "lr": {"float": [1e-5, 1e-1], "log": True},
    "n": {"int": [1, 9]},
    "layers": {"int": [2, 256], "log": True},
    "drop": {"float": [0, 0.5], "step": 0.1},
    "opt": {"choice": ["adam", {"name": "sgd", "m": [0.9]}, None, 1, True, 1.0]},
    "x": {"float": [-3, 3]},
}
NUMERIC = {name: SPACE[name] for name in ("lr", "n", "x")}


def loss(params: Any) -> float:
    lr, x, n = params.get("lr", 1), params.get("x", 0), params["n"]
    return float((x - 1) ** 2 + abs(math.log10(lr) + 3) + 0.01 * n)


class Sweep:
    """A driver in small: ``parallel`` trials run at once, the oldest ends first."""

    def __init__(self, search: dict[str, Any], parallel: int = 1) -> None:
        self.search, self.parallel = search, parallel
        self.study: Study = open_study(search, "min")
        self.trials: dict[int, Trial] = {}

    def restart(self) -> None:
        """Make the study again from what the records would hold."""
        self.study = open_study(self.search, "min")
        for number in sorted(self.trials):
            self.study.add(self.trials[number])

    def run(self, until: int) -> None:
        while len(self.trials) < until:
            running = [number for number, t in self.trials.items() if t.state == "running"]
            if len(running) >= self.parallel:
                self._end(min(running))
                continue
            number = len(self.trials)
            asked = self.study.ask(number)
            kept = json.loads(json.dumps([asked.params, asked.distributions, asked.attrs]))
            self.trials[number] = Trial(number, kept[0], "running", None, kept[1], kept[2])

    def _end(self, number: int) -> None:
        old = self.trials[number]
        state: Outcome = "failed" if number % 7 == 3 else "succeeded"
        value = math.nan if number % 11 == 5 else loss(old.params)
        new = Trial(number, old.params, state, value, old.distributions, old.attrs)
        self.trials[number] = new
        self.study.add(new)

    def points(self) -> list[Any]:
        return [dict(self.trials[number].params) for number in sorted(self.trials)]


@pytest.mark.parametrize("parallel", [1, 3])
@pytest.mark.parametrize(
    ("method", "space", "trials"),
    [
        ("random", SPACE, 30),
        ("tpe", SPACE, 32),
        ("cmaes", NUMERIC, 32),
        ("cmaes", SPACE, 32),
        ("grid", {"n": SPACE["n"], "opt": SPACE["opt"]}, 30),
    ],
)
def test_a_resumed_sweep_goes_on_as_the_uninterrupted_one(
    method: str, space: dict[str, Any], trials: int, parallel: int
) -> None:
    search = {"method": method, "seed": 7, "space": space}
    whole = Sweep(search, parallel)
    whole.run(trials)
    broken = Sweep(search, parallel)
    for stop in (1, 5, 14, 15, 23, trials):
        broken.run(stop)
        broken.restart()
    assert broken.points() == whole.points()


def test_a_shuffled_space_gives_the_same_points() -> None:
    for method in ("random", "tpe"):
        search = {"method": method, "seed": 1, "space": SPACE}
        other = {**search, "space": dict(reversed(SPACE.items()))}
        one, two = Sweep(search), Sweep(other)
        one.run(14)
        two.run(14)
        assert one.points() == two.points()


@pytest.mark.parametrize("method", ["tpe", "cmaes"])
def test_a_sampler_that_learns_beats_chance(method: str) -> None:
    def best(method: str) -> float:
        sweep = Sweep({"method": method, "seed": 3, "space": NUMERIC})
        sweep.run(60)
        return min(loss(point) for point in sweep.points())

    assert best(method) < best("random")


def test_seeds_and_numbers_make_points_different() -> None:
    def point(seed: int, number: int) -> str:
        study = open_study({"method": "random", "seed": seed, "space": SPACE})
        return json.dumps(study.ask(number).params)

    assert len({point(seed, number) for seed in range(5) for number in range(5)}) == 25


def test_tpe_spreads_trials_that_run_at_once() -> None:
    sweep = Sweep({"method": "tpe", "seed": 0, "space": {"x": SPACE["x"]}}, parallel=1)
    sweep.study = open_study(sweep.search, "min")
    for number in range(12):
        asked = sweep.study.ask(number)
        sweep.study.add(Trial(number, asked.params, "succeeded", asked.params["x"] ** 2))
    running = [sweep.study.ask(number).params["x"] for number in range(12, 18)]
    assert len(set(running)) == 6


@given(number=st.integers(0, 10**6), method=st.sampled_from(["random", "tpe"]))
@settings(max_examples=40, deadline=None)
def test_every_point_lies_in_the_space_and_is_json(number: int, method: str) -> None:
    search = {"method": method, "seed": number, "space": SPACE}
    params = open_study(search).ask(number % 3).params
    assert json.loads(json.dumps(params)) == params
    assert 1e-5 <= params["lr"] <= 1e-1
    assert type(params["n"]) is int
    assert 1 <= params["n"] <= 9
    assert type(params["layers"]) is int
    assert 2 <= params["layers"] <= 256
    assert params["drop"] in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
    assert params["opt"] in SPACE["opt"]["choice"]


def test_chance_is_even_and_log_is_log() -> None:
    study = open_study({"method": "random", "seed": 0, "space": SPACE})
    drawn = [study.ask(number).params for number in range(3000)]
    low = sum(params["lr"] < 1e-3 for params in drawn) / 3000
    assert 0.45 < low < 0.55
    for value in (0.0, 0.5):
        assert 0.13 < sum(params["drop"] == value for params in drawn) / 3000 < 0.21
    for value in (1, 9):
        assert 0.08 < sum(params["n"] == value for params in drawn) / 3000 < 0.15
    assert 0.45 < sum(params["layers"] < 20 for params in drawn) / 3000 < 0.55


def test_a_grid_holds_every_combination_once() -> None:
    space = {
        "b": {"choice": ["x", "y"]},
        "a": {"int": [1, 7], "step": 3},
        "c": {"float": [0, 0.25], "step": 0.1},
    }
    study = open_study({"method": "grid", "space": space})
    points = [study.ask(number).params for number in range(study.size or 0)]
    assert study.size == 3 * 2 * 3
    assert points[:4] == [
        {"a": 1, "b": "x", "c": 0.0},
        {"a": 1, "b": "x", "c": 0.1},
        {"a": 1, "b": "x", "c": 0.2},
        {"a": 1, "b": "y", "c": 0.0},
    ]
    assert len({json.dumps(point) for point in points}) == 18
    with pytest.raises(UserError, match="only 18 points"):
        study.ask(18)


def test_a_list_of_points_is_taken_as_it_is() -> None:
    study = open_study({"points": [{"lr": 0.1}, {"lr": 0.2, "more": [1]}], "method": "tpe"})
    assert [study.ask(0).params, study.ask(1).params] == [{"lr": 0.1}, {"lr": 0.2, "more": [1]}]
    assert study.size == 2
    with pytest.raises(UserError):
        study.ask(2)


@pytest.mark.parametrize(
    ("search", "words"),
    [
        ({}, "space is empty"),
        ({"space": {"a": {}}}, "space.a: give exactly one"),
        ({"space": {"a": {"int": [1, 2], "choice": [1]}}}, "space.a: give exactly one"),
        ({"space": {"a": {"choice": []}}}, "needs values"),
        ({"space": {"a": {"choice": [1], "log": True}}}, "takes no log"),
        ({"space": {"a": {"float": [2, 1]}}}, "2 is above 1"),
        ({"space": {"a": {"float": [0, 1], "log": True}}}, "log needs bounds above 0"),
        ({"space": {"a": {"float": [1, 2], "log": True, "step": 0.1}}}, "exclude each other"),
        ({"space": {"a": {"float": [1, 2], "step": 0}}}, "step must be above 0"),
        ({"space": {"a": {"float": [1, math.inf]}}}, "finite"),
        ({"space": {"a": {"int": [1, 2.5]}}}, "whole"),
        ({"space": {"a": {"float": [0, 1]}}, "method": "grid"}, "a grid cannot count"),
        ({"space": {"a": {"float": [0, 1]}}, "method": "cmaes"}, "two or more"),
        ({"space": {"a": {"float": [0, 1]}}, "method": "magic"}, "no 'magic'"),
    ],
)
def test_a_wrong_search_is_refused_by_name(search: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        open_study(search)


def test_spec_models_unset_fields_are_no_words() -> None:
    axis = {"float": None, "int": [1, 3], "choice": None, "log": False, "step": None}
    study = open_study({"method": "grid", "seed": 0, "space": {"n": axis}, "points": []})
    assert study.size == 3


def test_bounds_that_no_step_reaches_and_single_values_are_fine() -> None:
    space = {
        "a": {"float": [0, 0.25], "step": 0.1},
        "b": {"int": [1, 6], "step": 2},
        "c": {"float": [2, 2]},
    }
    for method in ("random", "tpe", "cmaes"):
        sweep = Sweep({"method": method, "space": space})
        sweep.study = open_study(sweep.search)
        drawn = [sweep.study.ask(number).params for number in range(20)]
        assert {point["a"] for point in drawn} <= {0.0, 0.1, 0.2}
        assert {point["b"] for point in drawn} <= {1, 3, 5}
        assert {point["c"] for point in drawn} == {2.0}


def test_a_trial_is_not_taken_in_twice() -> None:
    study = open_study({"method": "tpe", "space": SPACE})
    asked = study.ask(0)
    study.add(Trial(0, asked.params, "succeeded", 1.0))
    with pytest.raises(ConflictError):
        study.add(Trial(0, asked.params, "succeeded", 1.0))
    with pytest.raises(ConflictError):
        study.ask(0)


def test_trials_of_another_space_and_numbers_that_never_came_do_no_harm() -> None:
    study = open_study({"method": "tpe", "space": NUMERIC})
    study.add(Trial(0, {"other": 1}, "succeeded", 1.0))
    study.add(Trial(1, {"lr": 7.0, "n": 1, "x": 0}, "succeeded", 1.0))
    study.add(Trial(4, {"lr": 0.01, "n": 1, "x": 0.5}, "succeeded", math.inf))
    for number in range(5, 20):
        asked: Asked = study.ask(number)
        study.add(Trial(number, asked.params, "succeeded", loss(asked.params)))
    assert set(study.ask(20).params) == set(NUMERIC)


def test_grid_and_chance_do_without_optuna() -> None:
    code = (
        "import sys; from mlstead.clients.sampling import open_study\n"
        "for method in ('grid', 'random'):\n"
        "    open_study({'method': method, 'space': {'n': {'int': [1, 3]}}}).ask(0)\n"
        "print([name for name in sys.modules if name in ('optuna', 'numpy', 'pydantic')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
