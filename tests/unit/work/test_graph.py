"""The one semantics of a pipeline: what ``decide`` says for a graph and its states."""

from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlstead.records.base import State
from mlstead.work.graph import (
    Cancel,
    End,
    Expand,
    Graph,
    Mark,
    Node,
    Start,
    decide,
    outcome,
)

P, Q, R = State.PENDING, State.QUEUED, State.RUNNING
OK, BAD, SKIP = State.SUCCEEDED, State.FAILED, State.SKIPPED


def chain(*nodes: Node, fail_fast: bool = False) -> Graph:
    return Graph(nodes, fail_fast)


A, B = Node("a"), Node("b", ("a",))


def test_a_step_without_needs_is_looked_at_first() -> None:
    assert decide(chain(A, B), {}) == [Expand("a")]


def test_a_step_waits_for_its_needs() -> None:
    assert decide(chain(A, B), {"a": [R]}) == []


def test_a_step_follows_when_all_instances_of_its_need_succeeded() -> None:
    assert decide(chain(A, B), {"a": [OK, R]}) == []
    assert decide(chain(A, B), {"a": [OK, OK]}) == [Expand("b")]


def test_the_pipeline_ends_when_all_steps_have() -> None:
    assert decide(chain(A, B), {"a": [OK], "b": [OK]}) == [End(State.SUCCEEDED)]


def test_a_step_whose_need_failed_is_blocked_and_the_pipeline_fails() -> None:
    [action] = decide(chain(A, B), {"a": [BAD]})
    assert isinstance(action, Mark)
    assert (action.step, action.state) == ("b", State.BLOCKED)
    [end] = decide(chain(A, B), {"a": [BAD], "b": [State.BLOCKED]})
    assert isinstance(end, End)
    assert end.state is State.FAILED
    assert "a" in end.detail


def test_a_pipeline_fails_where_a_step_stayed_blocked_though_its_need_ended_well_since() -> None:
    assert decide(chain(A, B), {"a": [OK], "b": [State.BLOCKED]}) == [
        End(State.FAILED, "step b did not run")
    ]


def test_a_step_whose_need_was_skipped_is_skipped_and_that_is_no_failure() -> None:
    [action] = decide(chain(A, B), {"a": [SKIP]})
    assert isinstance(action, Mark)
    assert action.state is SKIP
    assert decide(chain(A, B), {"a": [SKIP], "b": [SKIP]}) == [End(State.SUCCEEDED)]


def test_independent_branches_go_on_after_a_failure() -> None:
    other = Node("c")
    assert Expand("c") in decide(chain(A, B, other), {"a": [BAD]})


def test_fail_fast_cancels_what_runs_and_blocks_what_waits() -> None:
    graph = chain(A, Node("c"), Node("d", ("c",)), fail_fast=True)
    actions = decide(graph, {"a": [BAD], "c": [R]})
    assert Cancel("c", 0) in actions
    assert [a.state for a in actions if isinstance(a, Mark)] == [State.BLOCKED]


def test_max_parallel_bounds_the_active_instances() -> None:
    graph = chain(Node("a", max_parallel=2))
    assert decide(graph, {"a": [P, P, P]}) == [Start("a", 0), Start("a", 1)]
    assert decide(graph, {"a": [R, P, P]}) == [Start("a", 1)]
    assert decide(graph, {"a": [R, Q, P]}) == []


def test_run_if_always_runs_after_a_failure_and_run_if_failed_only_then() -> None:
    graph = chain(A, Node("tidy", ("a",), run_if="always"), Node("cure", ("a",), run_if="failed"))
    assert decide(graph, {"a": [BAD]}) == [Expand("tidy"), Expand("cure")]
    actions = decide(graph, {"a": [OK]})
    assert actions[0] == Expand("tidy")
    assert isinstance(actions[1], Mark)
    assert actions[1].state is SKIP


@pytest.mark.parametrize(
    ("state", "stopping"), [(OK, False), (BAD, False), (State.CANCELLED, True)]
)
def test_finally_steps_run_once_on_success_failure_and_stop(state: State, stopping: bool) -> None:
    graph = chain(A, Node("bye", run_if="always", last=True))
    assert decide(graph, {"a": [state]}, stopping=stopping) == [Expand("bye")]
    [end] = decide(graph, {"a": [state], "bye": [OK]}, stopping=stopping)
    assert isinstance(end, End)
    assert end.state is state


def test_finally_steps_wait_for_every_other_step() -> None:
    graph = chain(A, B, Node("bye", run_if="always", last=True))
    assert decide(graph, {"a": [OK], "b": [R]}) == []


def test_stopping_cancels_everything_that_has_not_ended() -> None:
    actions = decide(chain(A, B), {"a": [R, P, OK]}, stopping=True)
    assert Cancel("a", 0) in actions
    assert Cancel("a", 1) in actions
    assert [(a.step, a.state) for a in actions if isinstance(a, Mark)] == [("b", State.CANCELLED)]


def test_a_lost_instance_makes_its_step_failed() -> None:
    assert outcome([OK, State.LOST]) is State.FAILED
    assert outcome([OK, R]) is None
    assert outcome([]) is None


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    names = [f"s{number}" for number in range(draw(st.integers(1, 7)))]
    nodes = []
    for index, name in enumerate(names):
        needs = draw(st.lists(st.sampled_from(names[:index]), unique=True)) if index else []
        rules: tuple[Literal["success", "always", "failed"], ...] = ("success", "always", "failed")
        run_if = draw(st.sampled_from(rules))
        limit = draw(st.one_of(st.none(), st.integers(1, 3)))
        nodes.append(Node(name, tuple(needs), run_if, limit))
    if draw(st.booleans()):
        nodes.append(Node("last", run_if="always", last=True))
    return Graph(tuple(nodes), draw(st.booleans()))


@settings(max_examples=300, deadline=None)
@given(graphs(), st.data())
def test_every_pipeline_ends_and_no_instance_starts_twice(
    graph: Graph, data: st.DataObject
) -> None:
    children: dict[str, list[State]] = {}
    started: set[tuple[str, int]] = set()
    stopping = False
    for _ in range(500):
        actions = decide(graph, children, stopping=stopping)
        assert actions == decide(graph, children, stopping=stopping)
        for action in actions:
            match action:
                case Expand():
                    assert action.step not in children
                    children[action.step] = [P] * data.draw(st.integers(1, 3))
                case Mark():
                    children[action.step] = [action.state]
                case Start():
                    assert (action.step, action.index) not in started
                    started.add((action.step, action.index))
                    children[action.step][action.index] = R
                case Cancel():
                    children[action.step][action.index] = State.CANCELLED
                case End():
                    assert set(children) == {node.name for node in graph.nodes}
                    assert all(s.final for states in children.values() for s in states)
                    return
        active = [
            (name, index)
            for name, states in children.items()
            for index, state in enumerate(states)
            if state is R
        ]
        if active and not actions:
            name, index = data.draw(st.sampled_from(active))
            children[name][index] = data.draw(st.sampled_from([OK, OK, BAD, State.LOST]))
        stopping = stopping or data.draw(st.sampled_from([False] * 9 + [True]))
    raise AssertionError("the pipeline never ended")
