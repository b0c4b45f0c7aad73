"""Asks Optuna's samplers for the next point of a sweep; the records are its only storage."""

import logging
import math
import warnings
from collections.abc import Mapping
from typing import Any, Literal

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)
from optuna.samplers import BaseSampler, CmaEsSampler, TPESampler
from optuna.trial import TrialState

from mlstead.clients.sampling import Asked, Axis, Trial, same, seed_of
from mlstead.errors import ConflictError, UserError

logging.getLogger("optuna").setLevel(logging.ERROR)


class Study:
    """A study in memory. ``size`` is None: there is always a next point."""

    def __init__(
        self,
        axes: tuple[Axis, ...],
        method: Literal["tpe", "cmaes"],
        seed: int,
        goal: Literal["min", "max"],
    ) -> None:
        """Make an empty study; UserError when the method cannot search the space."""
        numeric = [axis for axis in axes if axis.kind != "choice" and axis.low < axis.high]
        if method == "cmaes" and len(numeric) < 2:
            raise UserError(
                "search.method: cmaes needs two or more float or int parameters", hint="use tpe"
            )
        self.size: int | None = None
        self._axes = {axis.name: axis for axis in axes}
        self._space = {axis.name: _distribution(axis) for axis in axes}
        self._texts = {name: distribution_to_json(kind) for name, kind in self._space.items()}
        self._method = method
        self._seed = seed
        self._study = optuna.create_study(direction="minimize" if goal == "min" else "maximize")
        self._running: set[int] = set()
        self._next = 0

    def ask(self, number: int) -> Asked:
        """Give the point of trial ``number``; it is running until ``add`` says otherwise.

        Raises:
            ConflictError: the trial was asked or added before.
        """
        self._fill(number)
        # A sampler of its own for each trial: its chance depends on nothing that came before.
        self._study.sampler = _sampler(self._method, seed_of(self._seed, number), self._space)
        asked = self._study.ask(self._space)
        self._next += 1
        self._running.add(number)
        attrs = self._study.get_trials(deepcopy=False)[number].system_attrs
        params = {name: self._outside(name, value) for name, value in asked.params.items()}
        return Asked(params, dict(self._texts), dict(attrs))

    def add(self, trial: Trial) -> None:
        """Take in a trial of the records, in order of numbers, or the end of one that runs.

        A trial that was drawn from another space is counted, but nothing is learnt from it.

        Raises:
            ConflictError: the trial came to an end before.
        """
        value = trial.value if trial.value is not None and math.isfinite(trial.value) else None
        good = trial.state == "succeeded" and value is not None
        if trial.number in self._running:
            if trial.state != "running":
                state = TrialState.COMPLETE if good else TrialState.FAIL
                self._study.tell(trial.number, value if good else None, state=state)
                self._running.discard(trial.number)
            return
        self._fill(trial.number)
        state = TrialState.RUNNING if trial.state == "running" else TrialState.FAIL
        known = self._inside(trial)
        self._study.add_trial(
            optuna.trial.create_trial(
                state=TrialState.COMPLETE if good and known else state,
                value=value if good and known else None,
                params=known,
                distributions={name: self._space[name] for name in known},
                system_attrs=dict(trial.attrs) if known else {},
            )
        )
        self._next += 1
        if trial.state == "running":
            self._running.add(trial.number)

    def _fill(self, number: int) -> None:
        """Let Optuna's numbers be ours: a number that never came is a trial that failed."""
        if number < self._next:
            raise ConflictError(f"trial {number} is in the study already")
        while self._next < number:
            self._study.add_trial(optuna.trial.create_trial(state=TrialState.FAIL))
            self._next += 1

    def _outside(self, name: str, value: Any) -> Any:
        axis = self._axes[name]
        if _by_place(axis):
            return axis.at(int(value))
        return int(value) if axis.kind == "int" else float(value)

    def _inside(self, trial: Trial) -> dict[str, Any]:
        """Give the params as Optuna knows them, or nothing if they are of another space."""
        if trial.distributions and dict(trial.distributions) != self._texts:
            return {}
        known = {}
        for name, axis in self._axes.items():
            if name not in trial.params:
                return {}
            value = trial.params[name]
            if _by_place(axis):
                places = (at for at in range(axis.size or 0) if same(axis.at(at), value))
                value = next(places, None)
            elif not axis.low <= value <= axis.high:
                value = None
            if value is None:
                return {}
            known[name] = value
        return known


def _by_place(axis: Axis) -> bool:
    """Tell whether Optuna sees places instead of values.

    A choice may be any JSON, Optuna's only scalars. Steps of a float gather the dust of binary
    fractions, and a study made again from clean values would not go on exactly as the first.
    """
    return axis.kind == "choice" or (axis.kind == "float" and axis.step > 0)


def _distribution(axis: Axis) -> BaseDistribution:
    if axis.kind == "choice":
        return CategoricalDistribution(tuple(range(len(axis.choices))))
    if _by_place(axis):
        return IntDistribution(0, (axis.size or 1) - 1)
    if axis.kind == "int":
        # Optuna wants a last step that ends on the upper bound.
        high = axis.high if axis.log else axis.at((axis.size or 1) - 1)
        return IntDistribution(int(axis.low), int(high), log=axis.log, step=int(axis.step))
    return FloatDistribution(axis.low, axis.high, log=axis.log)


def _sampler(method: str, seed: int, space: Mapping[str, BaseDistribution]) -> BaseSampler:
    with warnings.catch_warnings():
        # Options that are Optuna 5's own defaults are called experimental by Optuna 4.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if method == "tpe":
            tpe = _Tpe(seed=seed, multivariate=True, constant_liar=True)
            tpe.space = {name: kind for name, kind in space.items() if not kind.single()}
            return tpe
        return CmaEsSampler(seed=seed, warn_independent_sampling=False)


class _Tpe(TPESampler):  # type: ignore[misc]
    """TPE over a space that is known: finding it out from the trials doubles the cost at 2,000."""

    space: Mapping[str, BaseDistribution]

    def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, BaseDistribution]:
        return dict(self.space)
