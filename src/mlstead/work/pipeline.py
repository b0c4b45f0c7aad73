"""Drives a pipeline: asks ``graph.decide`` what is next, does it, and writes it down."""

import dataclasses
from collections.abc import Mapping, Sequence

from mlstead.errors import NotFoundError, PlatformError
from mlstead.records.base import (
    AddCache,
    AddEvents,
    AddLinks,
    AddRun,
    CacheEntry,
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
from mlstead.spec.work import CacheRule, JobStep, Pipeline, Step
from mlstead.work import generations, graph, job, steps
from mlstead.work.base import Backends
from mlstead.work.ending import ending
from mlstead.work.family import Family, taken_up
from mlstead.work.task import cache_key

ALL = 1_000_000


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
        self._links: dict[str, list[Link]] = {}
        self._load_links(list(self._family))
        waiting = [it for it in self._family if it.kind == "job" and it.state is State.QUEUED]
        job.resend(backends, waiting)

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

    def touched(self, child: Run) -> None:
        """Take in what has become of a child."""
        known = self._family.get(child.key)
        if known is None or known.id != child.id:
            return
        self._family.put(child)
        if child.state.final:
            self._load_links([child])
            if child.state is State.SUCCEEDED:
                self._remember(child)

    def sent(self) -> Sequence[Run]:
        """Give nothing: steps are few, and read again when the engine tells of them."""
        return ()

    def advance(self) -> None:
        """Do all that can be done now."""
        if self.run.state is not State.RUNNING:
            fields = {"state": State.RUNNING, "started": self.run.started or self._backends.clock()}
            self._backends.store.commit([SetRun(self.run.id, fields)], lease=self.lease)
            self.run = self._backends.store.run(self.run.id)
        for _ in range(ALL):
            actions = graph.decide(self._graph, self._family.states(), stopping=self.run.stop)
            if not actions:
                return
            self._do(actions)
            if any(isinstance(action, graph.End) for action in actions):
                return
            if all(isinstance(action, graph.Cancel) for action in actions):
                return

    def _do(self, actions: Sequence[graph.Action]) -> None:
        fresh: list[Run] = []
        for action in actions:
            match action:
                case graph.Expand():
                    fresh += self._expand(action.step)
                case graph.Mark():
                    row = self._bare(action.step, action.state, action.detail)
                    fresh += self._family.merge(action.step, [row])
                case graph.Start():
                    self._start(self._family.by_step[action.step][action.index])
                case graph.Cancel():
                    self._cancel(self._family.by_step[action.step][action.index])
                case graph.End():
                    self._end(action)
        if fresh:
            self._record(fresh)

    def _expand(self, name: str) -> list[Run]:
        """Write a step down; a mistake in it fails the step, not the driver."""
        step = self._steps[name]
        sofar = steps.Sofar(self._backends, self.run, self._family.by_step, self._links)
        scope = steps.scope_of(sofar)
        try:
            if step.when is not None and not steps.holds(step.when, scope):
                rows = [self._bare(name, State.SKIPPED, "its condition did not hold")]
            else:
                rows = steps.instances(sofar, name, step, scope)
        except PlatformError as error:
            rows = [self._bare(name, State.FAILED, str(error))]
        limit = step.max_parallel or ALL
        rows = self._family.merge(name, rows)
        return [self._ready(row, step, index < limit) for index, row in enumerate(rows)]

    def _ready(self, row: Run, step: Step, now: bool) -> Run:
        """Answer a step from the cache, or make it ready to be sent if it may start now."""
        if row.kind != "job" or row.state is not State.PENDING:
            return row
        hit = self._cached(row, step)
        if hit is not None:
            return hit
        if not now:
            return row
        if job.waits_for_tracking(row):
            return dataclasses.replace(row, state=State.STARTING)
        try:
            return job.prepared(self._backends, row)
        except PlatformError as error:
            return _failed(row, error, self._backends.clock())

    def _cached(self, row: Run, step: Step) -> Run | None:
        if not isinstance(step, JobStep) or step.cache is False:
            return None
        rule = step.cache if isinstance(step.cache, CacheRule) else CacheRule()
        key = cache_key(row, rule.key_extra)
        entry = self._backends.store.cache(key)
        now = self._backends.clock()
        if entry is None or (rule.ttl is not None and now - entry.created > rule.ttl):
            return None
        try:
            source = self._backends.store.run(entry.run_id)
        except NotFoundError:
            return None
        return dataclasses.replace(
            row,
            state=State.SUCCEEDED,
            ended=now,
            started=now,
            cached=source.id,
            values=source.values,
            detail=f"from {source.id}",
        )

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
                changes += self._copied_links(row)
        self._backends.store.commit(changes, lease=self.lease)
        for row in fresh:
            self._family.put(row)
        self._load_links([row for row in fresh if row.cached])
        job.send(self._backends, [row for row in fresh if row.state is State.QUEUED])

    def _copied_links(self, row: Run) -> list[Change]:
        source = self._backends.store.links([row.cached])
        copies = tuple(
            dataclasses.replace(link, run_id=row.id)
            for link in source
            if link.direction == "output"
        )
        return [AddLinks(copies)] if copies else []

    def _start(self, child: Run) -> None:
        """Start an instance that waited for its turn."""
        if child.kind == "job":
            if job.waits_for_tracking(child):
                self._set(child, {"state": State.STARTING})
                return
            try:
                self._family.put(job.start(self._backends, child, self.lease))
            except PlatformError as error:
                failed = _failed(child, error, self._backends.clock())
                self._set(
                    child, {"state": failed.state, "detail": failed.detail, "ended": failed.ended}
                )
            return
        self._set(child, {"state": State.QUEUED})

    def _cancel(self, child: Run) -> None:
        if child.state is State.PENDING:
            self._backends.store.commit(
                ending(child, State.CANCELLED, self._backends.clock()), lease=self.lease
            )
            self._family.put(self._backends.store.run(child.id))
        elif not child.stop:
            self._set(child, {"stop": True})
            if child.kind == "job":
                self._backends.engine.cancel(child.id)

    def _set(self, child: Run, fields: Mapping[str, object]) -> None:
        self._backends.store.commit([SetRun(child.id, fields)], lease=self.lease)
        self._family.put(self._backends.store.run(child.id))

    def _remember(self, child: Run) -> None:
        """Let the outputs of a step that succeeded answer for equal steps to come."""
        step = self._steps[steps.step_name(child)]
        if child.cached or not isinstance(step, JobStep) or step.cache is False:
            return
        rule = step.cache if isinstance(step.cache, CacheRule) else CacheRule()
        entry = CacheEntry(cache_key(child, rule.key_extra), child.id, self._backends.clock())
        self._backends.store.commit([AddCache(entry)], lease=self.lease)

    def _end(self, action: graph.End) -> None:
        for child in self._family:
            if child.kind == "service" and child.extra.get("lifetime") == "pipeline":
                generations.retire(self._backends, child)
        fields = {"detail": action.detail, "values": self._values()}
        self._backends.store.commit(
            ending(self.run, action.state, self._backends.clock(), fields), lease=self.lease
        )
        self.run = self._backends.store.run(self.run.id)

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


def _failed(row: Run, error: PlatformError, now: float) -> Run:
    detail = f"{error}" + (f" ({error.hint})" if error.hint else "")
    return dataclasses.replace(row, state=State.FAILED, detail=detail, ended=now)
