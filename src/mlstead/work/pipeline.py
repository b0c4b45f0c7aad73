"""Drives a pipeline: asks ``graph.decide`` what is next, does it, and writes it down."""

import contextlib
import dataclasses
from collections.abc import Sequence

from mlstead.errors import NotFoundError, PlatformError, UnavailableError
from mlstead.records.base import (
    AddEvents,
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
from mlstead.spec.graph import needs_of
from mlstead.spec.record import from_record
from mlstead.spec.work import Pipeline, Step
from mlstead.work import generations, graph, job, reuse, steps
from mlstead.work.base import Backends
from mlstead.work.ending import as_ended, ending
from mlstead.work.family import Family, taken_up
from mlstead.work.later import Later, told

ALL = 1_000_000
SAME_SECONDS = 0.5
"""How often a step looks whether the run that computes the same has ended."""


def graph_of(spec: Pipeline) -> graph.Graph:
    """Reduce a pipeline to what its order depends on."""
    nodes = [_node(name, step, last=False) for name, step in spec.steps.items()]
    nodes += [_node(name, step, last=True) for name, step in spec.finally_.items()]
    main = set(spec.steps)
    # a step of finally: comes after all others anyway, so a reference to one is no need
    nodes = [
        dataclasses.replace(node, needs=tuple(n for n in node.needs if n not in main))
        if node.last
        else node
        for node in nodes
    ]
    return graph.Graph(tuple(nodes), spec.fail_fast)


def _node(name: str, step: Step, *, last: bool) -> graph.Node:
    run_if = "always" if last and step.run_if == "success" else step.run_if
    return graph.Node(name, tuple(sorted(needs_of(step))), run_if, step.max_parallel, last)


class Driver:
    """Drives one pipeline as long as it holds its lease; all it knows can be read again."""

    def __init__(self, backends: Backends, run: Run, lease: Lease) -> None:
        self._backends = backends
        self.run = run
        self.lease = lease
        spec = from_record(run.spec)
        assert isinstance(spec, Pipeline)
        self._spec = spec
        self._steps: dict[str, Step] = {**spec.steps, **spec.finally_}
        self._graph = graph_of(spec)
        children = backends.store.runs(Query(parent=run.id, limit=ALL))
        self._family = Family(run, children, spec.finally_)
        self._drop_ended_services()
        self._later = Later()
        self._same: dict[str, str] = {}  # who computes what a waiting child wants
        self._sent: list[Run] = []
        self._at_work: dict[str, Run] | None = None
        self._links: dict[str, list[Link]] = {}
        self._load_links(list(self._family))
        waiting = [it for it in self._family if it.kind == "job" and it.state is State.QUEUED]
        for row in job.resend(backends, waiting):
            self._family.put(row)

    def _drop_ended_services(self) -> None:
        """Let a service that ended with the pipeline start again where steps still need it."""
        family, good = self._family.states(), (State.SUCCEEDED, State.SKIPPED)
        needed: set[str] = set()
        for node in self._graph.nodes:
            if not all(state in good for state in family.get(node.name) or (None,)):
                needed.update(node.needs)
        for name in needed:
            if any(steps.ended_before(self.run, it) for it in self._family.by_step.get(name, ())):
                self._family.drop(name)

    @property
    def due(self) -> float:
        """When ``advance`` is wanted though nothing has happened, by the monotonic clock."""
        return self._later.due

    def touched(self, child: Run) -> None:
        """Take in what has become of a child."""
        known = self._family.get(child.key)
        if known is None or known.id != child.id:
            return
        self._family.put(child)
        if child.state.final:
            self._load_links([child])
            if child.state is State.SUCCEEDED:
                step = self._steps[steps.step_name(child)]
                self._commit(reuse.remembered(child, step, self._backends.clock()))

    def sent(self) -> Sequence[Run]:
        """Give the steps that were sent since the last call."""
        sent, self._sent = self._sent, []
        return sent

    def advance(self) -> None:
        """Do all that can be done now."""
        if self.run.state is not State.RUNNING:
            fields = {"state": State.RUNNING, "started": self.run.started or self._backends.clock()}
            self._commit([SetRun(self.run.id, fields)])
            self.run = self._backends.store.run(self.run.id)
        self._later.begin()
        self._at_work = None
        while True:
            decided = graph.decide(self._graph, self._family.states(), stopping=self.run.stop)
            actions = [action for action in decided if not self._held(action)]
            if not actions or not self._do(actions):
                return

    def _commit(self, changes: Sequence[Change]) -> None:
        if changes:
            self._backends.store.commit(changes, lease=self.lease)

    def _held(self, action: graph.Action) -> bool:
        match action:
            case graph.Expand():
                return self._later.holds(action.step)
            case graph.Start():
                child = self._family.by_step[action.step][action.index]
                return self._later.holds(action.step) or self._later.holds(child.key)
        return False

    def _do(self, actions: Sequence[graph.Action]) -> bool:
        """Do what was decided; say whether the next decision may be another one."""
        fresh: list[Run] = []
        starting: list[Run] = []
        cancelled: list[Run] = []
        moved = False
        for action in actions:
            match action:
                case graph.Expand():
                    rows = self._expand(action.step)
                    fresh += rows or ()
                    moved = moved or rows is not None
                case graph.Mark():
                    row = self._bare(action.step, action.state, action.detail)
                    fresh += self._family.merge(action.step, [row])
                    moved = True
                case graph.Start():
                    starting.append(self._family.by_step[action.step][action.index])
                case graph.Cancel():
                    cancelled.append(self._family.by_step[action.step][action.index])
                case graph.End():
                    self._end(action)
        if fresh:
            self._record(fresh)
        for child in starting:
            if not self._later.holds(steps.step_name(child)):  # another instance had to wait
                moved = self._start(child) or moved
        return self._cancel(cancelled) or moved

    def _expand(self, name: str) -> list[Run] | None:
        """Write a step down; a mistake in it fails the step, not the driver. None: later."""
        step = self._steps[name]
        sofar = steps.Sofar(self._backends, self.run, self._family.by_step, self._links)
        scope = steps.scope_of(sofar)
        try:
            if step.when is not None and not steps.holds(step.when, scope):
                rows = [self._bare(name, State.SKIPPED, "its condition did not hold")]
            else:
                rows = steps.instances(sofar, name, step, scope)
        except UnavailableError as error:
            self._later.put(name, error.delay)
            self._tell(f"step {name} waits: {told(error)}")
            return None
        except PlatformError as error:
            rows = [self._bare(name, State.FAILED, told(error))]
        self._later.drop(name)
        self._tell("")
        limit = step.max_parallel or ALL
        rows = self._family.merge(name, rows)
        return [self._ready(row, index < limit) for index, row in enumerate(rows)]

    def _tell(self, detail: str) -> None:
        """Say on the pipeline what keeps it from going on."""
        if self.run.detail != detail:
            self._commit([SetRun(self.run.id, {"detail": detail})])
            self.run = dataclasses.replace(self.run, detail=detail)

    def _ready(self, row: Run, now: bool) -> Run:
        """Answer a step from the cache, or make it ready to be sent if it may start now."""
        if row.kind != "job" or row.state is not State.PENDING:
            return row
        name = steps.step_name(row)
        row = reuse.marked(row, self._steps[name])
        answer = self._answer(row)
        if answer is not None:
            return answer
        if not now or self._later.holds(name):
            return row
        if other := self._same.get(row.key):
            self._later.put(row.key, SAME_SECONDS)
            return dataclasses.replace(row, detail=f"waits for {other}, which computes the same")
        if job.waits_for_tracking(row):
            row = dataclasses.replace(row, state=State.STARTING)
        else:
            row = self._prepared(row)
        if row.state is not State.PENDING and reuse.KEY in row.extra:
            self._working()[row.extra[reuse.KEY]] = row
        return row

    def _prepared(self, row: Run) -> Run:
        try:
            return dataclasses.replace(job.prepared(self._backends, row), detail="")
        except UnavailableError as error:
            self._later.put(steps.step_name(row), error.delay)
            return dataclasses.replace(row, detail=told(error))
        except PlatformError as error:
            now = self._backends.clock()
            return dataclasses.replace(row, state=State.FAILED, detail=told(error), ended=now)

    def _answer(self, row: Run) -> Run | None:
        """Answer a row by an equal one; note which run is just computing the same."""
        if reuse.KEY not in row.extra:
            return None
        was = self._same.pop(row.key, "")
        hit = reuse.hit(self._backends, row, self._steps[steps.step_name(row)])
        if hit is None and was:
            hit = reuse.taken(self._backends, row, was)
        other = None if hit else self._working().get(row.extra[reuse.KEY])
        if other is not None and reuse.worth_waiting(self._backends, other, self.run):
            self._same[row.key] = other.id
        return hit

    def _working(self) -> dict[str, Run]:
        if self._at_work is None:
            self._at_work = reuse.at_work(self._backends, self.run)
        return self._at_work

    def _record(self, fresh: Sequence[Run]) -> None:
        now = self._backends.clock()
        changes: list[Change] = []
        for row in fresh:
            if self._family.reopens(row):
                changes += taken_up(row, now)
            else:
                changes += [AddRun(row), AddEvents((Event(row.id, str(row.state), now),))]
            if row.kind == "job" and row.extra:
                changes += job.input_links(row)
            if row.cached:
                changes += reuse.copied_links(self._backends, row)
        self._commit(changes)
        for row in fresh:
            self._family.put(row)
        self._load_links([row for row in fresh if row.cached])
        sent = [row for row in fresh if row.state is State.QUEUED]
        for row in job.send(self._backends, sent):
            self._family.put(row)
        self._sent += sent

    def _start(self, child: Run) -> bool:
        """Start an instance that waited for its turn; say whether it has ended instead."""
        child = self._backends.store.run(child.id)  # somebody may have stopped it
        if child.state is not State.PENDING:
            self._family.put(child)
            return child.state.final
        if child.stop:
            return self._cancel([child])
        if child.kind != "job":
            self._commit([SetRun(child.id, {"state": State.QUEUED})])
            self._family.put(dataclasses.replace(child, state=State.QUEUED))
            return False
        row = self._ready(child, now=True)
        if row.cached:
            self._commit(reuse.settled(self._backends, row))
        elif row.state is State.QUEUED:
            row = job.begin(self._backends, row, self.lease)
            self._sent += [row] if row.state is State.QUEUED else []
        elif (row.state, row.detail) != (child.state, child.detail):
            fields = {"state": row.state, "detail": row.detail, "ended": row.ended}
            self._commit([SetRun(row.id, fields)])
        self._family.put(row)
        if row.state.final:
            self._load_links([row])
        return row.state.final

    def _cancel(self, children: Sequence[Run]) -> bool:
        """End what has not started and ask the rest to end; say whether any has ended."""
        now = self._backends.clock()
        waiting = [child for child in children if child.state is State.PENDING]
        asked = [child for child in children if child.state is not State.PENDING and not child.stop]
        changes = [it for child in waiting for it in ending(child, State.CANCELLED, now)]
        self._commit([*changes, *(SetRun(child.id, {"stop": True}) for child in asked)])
        for child in waiting:
            self._later.drop(child.key)
            self._family.put(dataclasses.replace(child, state=State.CANCELLED, ended=now))
        for child in asked:
            self._family.put(dataclasses.replace(child, stop=True))
            if child.kind == "job":
                with contextlib.suppress(NotFoundError):  # it waits for its copy in MLflow
                    self._backends.engine.cancel(child.id)
        return bool(waiting)

    def _end(self, action: graph.End) -> None:
        for child in self._family:
            if child.kind == "service" and child.extra.get("lifetime") == "pipeline":
                generations.retire(self._backends, child)
        fields = {"detail": action.detail, "values": self._values()}
        self._backends.store.commit(
            ending(self.run, action.state, self._backends.clock(), fields), lease=self.lease
        )
        self.run = as_ended(self.run, self._backends.store.run(self.run.id), action.state)

    def _values(self) -> dict[str, object]:
        return {child.key: dict(child.values) for child in self._family if child.values}

    def _bare(self, name: str, state: State, detail: str) -> Run:
        row = steps.bare(self._backends, self.run, name, self._steps[name], state)
        return dataclasses.replace(row, detail=detail)

    def _load_links(self, children: Sequence[Run]) -> None:
        ended = [child.id for child in children if child.state.final]
        if not ended:
            return
        for run_id in ended:
            self._links[run_id] = []
        for link in self._backends.store.links(ended):
            self._links[link.run_id].append(link)
