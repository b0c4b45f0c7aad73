"""Drives a sweep: asks for points, sends trials, reads their figures, until enough have ended."""

import csv
import dataclasses
import json
import math
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from mlstead.clients import sampling
from mlstead.errors import PlatformError, UnavailableError
from mlstead.records.base import (
    AddEvents,
    AddLinks,
    AddRun,
    Change,
    Event,
    Lease,
    Link,
    Query,
    Run,
    SetRun,
    State,
)
from mlstead.spec.expressions import expand
from mlstead.spec.record import dump, from_record
from mlstead.spec.work import SweepBody
from mlstead.work import job
from mlstead.work.base import Backends, child_id
from mlstead.work.ending import as_ended, ending
from mlstead.work.later import Later
from mlstead.work.later import told as told_error
from mlstead.work.pins import key_of_environment
from mlstead.work.steps import generation, outdated
from mlstead.work.task import resolve

ALL = 1_000_000
_DRAW = "draw"


class Driver:
    """Drives one sweep as long as it holds its lease; all it knows can be read again."""

    def __init__(self, backends: Backends, run: Run, lease: Lease) -> None:
        self._backends = backends
        self.run = run
        self.lease = lease
        spec = from_record(run.spec)
        assert isinstance(spec, SweepBody)
        self._spec = spec
        self._body = dump(spec.trial)
        self._trials: dict[int, Run] = {}
        self._active: dict[int, Run] = {}
        self._counts: Counter[State] = Counter()
        self._told: set[int] = set()
        self._study: Any = None
        self._cancelled: set[str] = set()
        self._sent: list[Run] = []
        self._later = Later()
        self._asked: dict[int, Any] = {}
        self._top = -1
        self._free = 0
        for child in backends.store.runs(Query(parent=run.id, limit=ALL)):
            self._top = max(self._top, int(child.key))
            if not outdated(run, child):
                self._know(child)
        # they may have ended while nobody drove
        self._unseen = [trial for trial in self._trials.values() if trial.state is State.SUCCEEDED]
        queued = [trial for trial in self._trials.values() if trial.state is State.QUEUED]
        for trial in job.resend(backends, queued):
            self._know(trial)

    @property
    def wanted(self) -> int:
        """How many trials shall end well: what was asked, or the number of points."""
        extra = int(self.run.extra.get("more", 0))
        if self._spec.search.points:
            return len(self._spec.search.points)
        if self._spec.search.method == "grid":
            size = int(self._sampler().size or 0)
            return min(size, (self._spec.trials or size) + extra)
        return (self._spec.trials or 0) + extra

    @property
    def _fixed(self) -> bool:
        """True when each point is tried once, whether it fails or not."""
        return bool(self._spec.search.points) or self._spec.search.method == "grid"

    def touched(self, child: Run) -> None:
        """Take in what has become of a trial."""
        if child.state is State.SUCCEEDED and "value" not in child.extra["trial"]:
            child = self._score(child)
        if child.state.final:
            self._tell(child)
        self._know(child)

    def advance(self) -> None:
        """Start what may start now; end the sweep when enough has ended."""
        if self.run.state is not State.RUNNING:
            self._set({"state": State.RUNNING, "started": self.run.started or self._now()})
        unseen, self._unseen = self._unseen, []
        for child in unseen if self._spec.metric else ():
            self.touched(child)
        self._later.begin()
        while not (stopping := self.run.stop or self._hopeless()):
            if self._later.holds(_DRAW):
                break
            # one that cannot even start has ended already, and no event will tell of it
            if not self._more(self._spec.parallel - len(self._active), len(self._active)):
                break
        active = list(self._active.values())
        if stopping:
            self._cancel(active)
        if not active and (stopping or not self._later.holds(_DRAW)):
            self._end()

    @property
    def due(self) -> float:
        """When ``advance`` is wanted though nothing has happened, by the monotonic clock."""
        return self._later.due

    def sent(self) -> Sequence[Run]:
        """Give the trials that were sent since the last call."""
        sent, self._sent = self._sent, []
        return sent

    def _know(self, trial: Run) -> None:
        """Remember how a trial is now."""
        number = int(trial.key)
        was = self._trials.get(number)
        if was is not None:
            self._counts[was.state] -= 1
        self._counts[trial.state] += 1
        self._trials[number] = trial
        self._active.pop(number, None)
        if not trial.state.final:
            self._active[number] = trial

    def _now(self) -> float:
        return self._backends.clock()

    def _set(self, fields: Mapping[str, Any]) -> None:
        changes: list[Change] = [SetRun(self.run.id, fields)]
        self._backends.store.commit(changes, lease=self.lease)
        self.run = self._backends.store.run(self.run.id)

    def _count(self, *states: State) -> int:
        return sum(self._counts[state] for state in states)

    def _hopeless(self) -> bool:
        """Say whether so many trials have failed that more are not worth it."""
        if self._fixed and self._spec.max_failed is None:
            return False
        limit = self._spec.max_failed
        if limit is None:
            limit = max(3, self.wanted // 10)
        return self._count(State.FAILED, State.LOST) > limit

    def _more(self, room: int, active: int) -> bool:
        """Draw and send up to ``room`` more trials; False when there are none to draw."""
        if self._fixed:
            missing = self.wanted - len(self._trials)
        else:
            missing = self.wanted - self._count(State.SUCCEEDED) - active
        fresh = []
        for _ in range(min(room, missing)):
            trial = self._draw(self._next())
            if trial is None:
                break
            self._know(trial)
            self._top = max(self._top, int(trial.key))
            fresh.append(trial)
        if not fresh:
            return False
        if self.run.detail:
            self._set({"detail": ""})
        now = self._now()
        changes: list[Change] = []
        for trial in fresh:
            changes += [AddRun(trial), AddEvents((Event(trial.id, str(trial.state), now),))]
            changes += job.input_links(trial)
        self._backends.store.commit(changes, lease=self.lease)
        sent = [trial for trial in fresh if trial.state is State.QUEUED]
        for trial in job.send(self._backends, sent):
            self._know(trial)
        self._sent += sent
        return True

    def _next(self) -> int:
        """Give the next trial's number; of fixed points, the first that has no trial."""
        if not self._fixed:
            return self._top + 1
        while self._free in self._trials:
            self._free += 1
        return self._free

    def _draw(self, number: int) -> Run | None:
        """Make a trial; None if it must be tried again later."""
        points = self._spec.search.points
        told: dict[str, Any] = {"number": number}
        if points:
            chosen = dict(points[number])
        else:
            asked = self._asked.get(number) or self._sampler().ask(number)
            self._asked = {number: asked}
            chosen = dict(asked.params)
            told |= {"distributions": asked.distributions, "attrs": asked.attrs, "chosen": chosen}
        pin = self.run.extra["pin"]
        scope = {
            **self.run.extra.get("scope", {}),
            "trial": {"number": number},
            "run": {"id": self.run.id, "name": self.run.name, "project": self.run.project},
        }
        row: dict[str, Any] = {
            "id": child_id(self.run.id, str(number), generation(self.run)),
            "project": self.run.project,
            "kind": "job",
            "name": self.run.name,
            "engine": self.run.engine,
            "parent": self.run.id,
            "key": str(number),
            "params": {**self.run.params, **chosen},
            "extra": {"pin": pin, "trial": told},
            "created": self._now(),
            "code": pin["tree"],
            "environment": key_of_environment(pin),
            "state": State.STARTING,
            "spec": self._body,
        }
        try:
            fixed = expand(dict(self._spec.trial.params), scope)
            row["params"] = {**self.run.params, **fixed, **chosen}
            row["spec"] = resolve(self._spec.trial, scope, row["params"], self._body)
            trial = Run(**row)
            return trial if job.waits_for_tracking(trial) else job.prepared(self._backends, trial)
        except UnavailableError as error:
            self._later.put(_DRAW, error.delay)
            self._set({"detail": f"trial {number} waits: {told_error(error)}"})
            return None
        except PlatformError as error:
            row |= {"state": State.FAILED, "detail": told_error(error), "ended": self._now()}
            return Run(**row)

    def _sampler(self) -> Any:
        """Give the study, rebuilt from the records the first time it is needed."""
        if self._study is None:
            goal = self._spec.metric.goal if self._spec.metric else "min"
            self._study = sampling.open_study(dump(self._spec)["search"], goal)
            for _, trial in sorted(self._trials.items()):
                self._tell(trial)
        return self._study

    def _tell(self, trial: Run) -> None:
        """Let the study know of a trial; one that was asked for already only of its end."""
        told = trial.extra["trial"]
        number = int(told["number"])
        if self._study is None or "distributions" not in told or number in self._told:
            return
        if trial.state.final:
            self._told.add(number)
        good = trial.state is State.SUCCEEDED
        state: Literal["succeeded", "failed", "running"] = (
            "succeeded" if good else "failed" if trial.state.final else "running"
        )
        self._study.add(
            sampling.Trial(
                number=number,
                params=told["chosen"],
                state=state,
                value=told.get("value"),
                distributions=told["distributions"],
                attrs=told["attrs"],
            )
        )

    def _score(self, trial: Run) -> Run:
        """Write a trial's figure down; a trial without one, or with NaN, is failed."""
        metric = self._spec.metric
        if metric is None:
            return trial
        told = dict(trial.extra["trial"])
        if metric.take == "best":
            point = self._backends.store.best(trial.id, metric.name, metric.goal)
        else:
            point = self._backends.store.latest([trial.id]).get(trial.id, {}).get(metric.name)
        fields: dict[str, Any] = {}
        if point is None or not math.isfinite(point.value):
            told["value"] = None
            what = "was not logged" if point is None else f"is {point.value}"
            fields = {
                "state": State.FAILED,
                "reason": "error",
                "detail": f"metric {metric.name} {what}",
            }
        else:
            told["value"] = point.value
        # the copy to MLflow may have written there meanwhile
        extra = self._backends.store.run(trial.id).extra
        fields["extra"] = {**extra, "trial": told}
        self._backends.store.commit(
            [SetRun(trial.id, fields, unless_final=False)], lease=self.lease
        )
        return dataclasses.replace(trial, **fields)

    def _cancel(self, active: Sequence[Run]) -> None:
        for trial in active:
            if trial.state is State.PENDING:
                self._backends.store.commit(
                    ending(trial, State.CANCELLED, self._now()), lease=self.lease
                )
                self._know(self._backends.store.run(trial.id))
            elif trial.id not in self._cancelled:
                self._cancelled.add(trial.id)
                self._backends.store.commit([SetRun(trial.id, {"stop": True})], lease=self.lease)
                self._backends.engine.cancel(trial.id)

    def _end(self) -> None:
        good, bad = self._count(State.SUCCEEDED), self._count(State.FAILED, State.LOST)
        best = self._best()
        state, detail = State.SUCCEEDED, f"{good} trials succeeded, {bad} failed"
        if self.run.stop:
            state, detail = State.CANCELLED, "stopped"
        elif self._hopeless() or not good or (bad and self._spec.metric is None):
            state = State.FAILED
        values: dict[str, Any] = {"trials": len(self._trials), "succeeded": good, "failed": bad}
        if best is not None:
            told = best.extra["trial"]
            values |= {
                "best": told.get("value"),
                "best_trial": int(best.key),
                "best_run": best.id,
                "best_params": dict(best.params),
                **dict(best.values),
            }
        changes = self._outputs(best) if state is State.SUCCEEDED else []
        fields = {"detail": detail, "values": values}
        changes += ending(self.run, state, self._now(), fields)
        self._backends.store.commit(changes, lease=self.lease)
        self.run = as_ended(self.run, self._backends.store.run(self.run.id), state)

    def _best(self) -> Run | None:
        if self._spec.metric is None:
            return None
        sign = 1 if self._spec.metric.goal == "max" else -1
        scored = [
            trial
            for trial in self._trials.values()
            if trial.state is State.SUCCEEDED and trial.extra["trial"].get("value") is not None
        ]
        return max(
            scored,
            key=lambda trial: (sign * trial.extra["trial"]["value"], -int(trial.key)),
            default=None,
        )

    def _outputs(self, best: Run | None) -> list[Change]:
        """Let the sweep have the best trial's outputs, and a table of all trials."""
        links: list[Link] = []
        if best is not None:
            links = [
                dataclasses.replace(link, run_id=self.run.id)
                for link in self._backends.store.links([best.id])
                if link.direction == "output"
            ]
        folder = Path(tempfile.mkdtemp(dir=self._backends.home, prefix=".trials-"))
        try:
            write_table(folder / "trials.csv", self._trials)
            manifest = self._backends.artifacts.add(folder / "trials.csv")
        finally:
            shutil.rmtree(folder)
        links.append(Link(self.run.id, "output", "trials.csv", "files", manifest.digest))
        return [AddLinks(tuple(links))]


def write_table(target: Path, trials: Mapping[int, Run]) -> None:
    """Write one line per trial: number, state, value, params."""
    names = sorted({name for trial in trials.values() for name in trial.params})
    with target.open("w", newline="", encoding="utf-8") as out:
        table = csv.writer(out)
        table.writerow(["number", "run", "state", "value", *names])
        for number, trial in sorted(trials.items()):
            value = trial.extra["trial"].get("value")
            row = [_cell(trial.params.get(name)) for name in names]
            table.writerow([number, trial.id, str(trial.state), value, *row])


def _cell(value: object) -> object:
    return value if isinstance(value, str | int | float | None) else json.dumps(value)
