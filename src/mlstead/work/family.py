"""A pipeline's children by step and place, over all the times it was taken up again."""

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from mlstead.records.base import AddEvents, Change, Event, Run, SetRun, State, from_json, to_json
from mlstead.work.steps import TAKEN_UP, current, generation, outdated, place, step_name


class Family:
    """Holds what counts of each step; a step that must be looked at again seems not there yet.

    When a pipeline is taken up again, what succeeded stays and the rest of the step is made anew,
    each instance at its place. Steps of ``finally`` run again as soon as anything else has.
    """

    def __init__(self, pipeline: Run, children: Iterable[Run], last: Collection[str]) -> None:
        self._pipeline = pipeline
        self._last = last
        self._by_step: dict[str, list[Run]] = {}
        self._states: dict[str, list[State]] = {}
        self._places: dict[str, int] = {}
        self._outdated: dict[str, Run] = {}
        fresh: set[str] = set()  # the steps that were looked at this time
        ran = False
        for child in {child.key: child for child in children}.values():  # a later one replaces
            if outdated(pipeline, child):
                self._outdated[child.key] = child
                continue
            self.put(child)
            if current(pipeline, child):
                fresh.add(step_name(child))
            ran = ran or (step_name(child) not in last and _ran(pipeline, child))
        self._again = {step_name(child) for child in self._outdated.values()} - fresh
        if ran:
            self._drop_last()

    @property
    def by_step(self) -> Mapping[str, Sequence[Run]]:
        """The children that count, by step and in their order."""
        return self._by_step

    def states(self) -> Mapping[str, Sequence[State]]:
        """Give the states of each step's instances; nothing of a step to be looked at."""
        if not self._again:
            return self._states
        return {name: states for name, states in self._states.items() if name not in self._again}

    def __iter__(self) -> Iterator[Run]:
        """Go over all children that count."""
        for runs in self._by_step.values():
            yield from runs

    def get(self, key: str) -> Run | None:
        """Give the child at a place, such as ``train[3]``; None if there is none."""
        at = self._places.get(key)
        return None if at is None else self._by_step[key.split("[")[0]][at]

    def put(self, child: Run) -> None:
        """Take in a new child, or what became of a known one."""
        name = step_name(child)
        runs = self._by_step.setdefault(name, [])
        states = self._states.setdefault(name, [])
        at = self._places.get(child.key)
        if at is None:
            runs.append(child)
            states.append(child.state)
            self._places[child.key] = len(runs) - 1
            if len(runs) > 1 and place(runs[-2]) > place(child):
                self._sort(name)
            return
        runs[at] = child
        states[at] = child.state

    def merge(self, name: str, rows: Sequence[Run]) -> list[Run]:
        """Give those rows of a step that must be recorded: not what succeeded before.

        A sweep that ended badly is taken up again itself, with all its trials.
        """
        self._again.discard(name)
        fresh = []
        for row in rows:
            known = self.get(row.key)
            if known is not None and _same_item(known, row):
                continue
            old = self._outdated.get(row.key)
            fresh.append(row if old is None else _reopened(self._pipeline, old, row))
        if name not in self._last and any(_ran(self._pipeline, row) for row in fresh):
            self._drop_last()
        return fresh

    def reopens(self, row: Run) -> bool:
        """Say whether a row of ``merge`` is in the records already."""
        old = self._outdated.get(row.key)
        return old is not None and old.id == row.id

    def drop(self, name: str) -> None:
        """Forget what a step did before its pipeline was taken up again: it is looked at anew."""
        runs = self._by_step.pop(name, [])
        self._states.pop(name, None)
        for run in runs:
            del self._places[run.key]
        for run in runs:
            if current(self._pipeline, run):
                self.put(run)
        if name not in self._by_step:
            self._again.discard(name)

    def _drop_last(self) -> None:
        """Let ``finally`` run once more, after what runs now."""
        for name in self._last:
            self.drop(name)

    def _sort(self, name: str) -> None:
        runs = sorted(self._by_step[name], key=place)
        self._by_step[name] = runs
        self._states[name] = [run.state for run in runs]
        self._places.update((run.key, at) for at, run in enumerate(runs))


def taken_up(row: Run, now: float) -> list[Change]:
    """List the changes that open a run of ``merge`` again that is in the records already."""
    fields = {"state": row.state, "extra": row.extra, "ended": None, "stop": False}
    return [
        SetRun(row.id, {**fields, "detail": "", "reason": ""}, unless_final=False),
        AddEvents((Event(row.id, "resumed", now, generation(row)),)),
    ]


def _ran(pipeline: Run, child: Run) -> bool:
    """Say whether a child is work of this time and not only a note that a step did not run."""
    return current(pipeline, child) and bool(child.extra.get("pin"))


def _same_item(known: Run, row: Run) -> bool:
    return bool(_plain(known.extra.get("item")) == _plain(row.extra.get("item")))


def _reopened(pipeline: Run, old: Run, row: Run) -> Run:
    """Go on with a sweep that asks for the same as before; else make a new run."""
    if row.kind != "sweep" or not old.extra.get("pin") or _asked(old) != _asked(row):
        return row
    extra = {**old.extra, "generation": generation(old) + 1, TAKEN_UP: generation(pipeline)}
    return dataclasses.replace(
        old, state=row.state, extra=extra, ended=None, stop=False, detail="", reason=""
    )


def _asked(run: Run) -> Any:
    """Give what a sweep's trials depend on."""
    return _plain([run.spec, run.params, run.extra["pin"]["data"], run.extra.get("item")])


def _plain(value: object) -> Any:
    """Give a value as the records give it back, so that new and old can be compared."""
    return from_json(to_json({"": value}))
