"""The one semantics of a pipeline: a pure function from a graph and its states to actions."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from mlstead.records.base import State

_OPEN = tuple(state for state in State if not state.final)
_ACTIVE = tuple(state for state in _OPEN if state is not State.PENDING)
BAD = frozenset({State.FAILED, State.CANCELLED, State.LOST, State.BLOCKED})


@dataclass(frozen=True, slots=True)
class Node:
    """One step: its needs and the rules that decide whether it runs.

    ``last`` marks a step of ``finally:``; ``max_parallel`` bounds the instances that are active.
    """

    name: str
    needs: tuple[str, ...] = ()
    run_if: Literal["success", "always", "failed"] = "success"
    max_parallel: int | None = None
    last: bool = False


@dataclass(frozen=True, slots=True)
class Graph:
    """The steps of a pipeline."""

    nodes: tuple[Node, ...]
    fail_fast: bool = False


@dataclass(frozen=True, slots=True)
class Expand:
    """Look at the step's condition and fan-out, and write down its instances."""

    step: str


@dataclass(frozen=True, slots=True)
class Mark:
    """Write the step down as one that does not run."""

    step: str
    state: State
    detail: str


@dataclass(frozen=True, slots=True)
class Start:
    """Start one instance that is written down."""

    step: str
    index: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """End one instance that has not ended."""

    step: str
    index: int


@dataclass(frozen=True, slots=True)
class End:
    """End the pipeline."""

    state: State
    detail: str = ""


Action = Expand | Mark | Start | Cancel | End
Children = Mapping[str, Sequence[State]]


def outcome(states: Sequence[State]) -> State | None:
    """Give the state of a step from those of its instances; None while one is not final."""
    if not states or any(state in states for state in _OPEN):
        return None
    for state in (State.FAILED, State.LOST, State.CANCELLED, State.BLOCKED):
        if state in states:
            return State.FAILED if state is State.LOST else state
    return State.SKIPPED if all(state is State.SKIPPED for state in states) else State.SUCCEEDED


def decide(graph: Graph, children: Children, *, stopping: bool = False) -> list[Action]:
    """Say what to do next; deciding twice on the same states says the same.

    ``children`` holds the states of each step's instances, by index; a step that is absent has
    not been looked at yet.
    """
    outcomes = {node.name: outcome(children.get(node.name, ())) for node in graph.nodes}
    main = [node for node in graph.nodes if not node.last]
    broken = graph.fail_fast and any(outcomes[node.name] in BAD for node in main)
    actions = _phase(main, children, outcomes, cut=_cut(stopping, broken))
    if any(outcomes[node.name] is None for node in main):
        return actions
    last = [node for node in graph.nodes if node.last]
    actions = _phase(last, children, outcomes, cut=None)
    if any(outcomes[node.name] is None for node in last):
        return actions
    return [_end(graph.nodes, outcomes, stopping)]


def _cut(stopping: bool, broken: bool) -> tuple[State, str] | None:
    if stopping:
        return State.CANCELLED, "the pipeline was stopped"
    if broken:
        return State.BLOCKED, "another step failed, and fail_fast is set"
    return None


def _phase(
    nodes: Iterable[Node],
    children: Children,
    outcomes: Mapping[str, State | None],
    *,
    cut: tuple[State, str] | None,
) -> list[Action]:
    actions: list[Action] = []
    for node in nodes:
        states = children.get(node.name)
        if outcomes[node.name] is not None:
            continue
        if cut is not None:
            if states is None:
                actions.append(Mark(node.name, *cut))
            else:
                actions += [
                    Cancel(node.name, index)
                    for index, state in enumerate(states)
                    if not state.final
                ]
        elif states is None:
            actions += _open(node, outcomes)
        else:
            actions += _starts(node, states)
    return actions


def _open(node: Node, outcomes: Mapping[str, State | None]) -> list[Action]:
    needs = {need: outcomes[need] for need in node.needs}
    if any(state is None for state in needs.values()):
        return []
    bad = [need for need, state in needs.items() if state in BAD]
    skipped = [need for need, state in needs.items() if state is State.SKIPPED]
    if node.run_if == "always":
        return [Expand(node.name)]
    if node.run_if == "failed":
        if bad:
            return [Expand(node.name)]
        return [Mark(node.name, State.SKIPPED, "nothing it waits for failed")]
    if bad:
        return [Mark(node.name, State.BLOCKED, f"step {bad[0]} did not succeed")]
    if skipped:
        return [Mark(node.name, State.SKIPPED, f"step {skipped[0]} was skipped")]
    return [Expand(node.name)]


def _starts(node: Node, states: Sequence[State]) -> list[Action]:
    room = None
    if node.max_parallel is not None:
        room = max(0, node.max_parallel - sum(states.count(state) for state in _ACTIVE))
    waiting = (index for index, state in enumerate(states) if state is State.PENDING)
    return [Start(node.name, index) for index in islice(waiting, room)]


def _end(nodes: Iterable[Node], outcomes: Mapping[str, State | None], stopping: bool) -> Action:
    if stopping:
        return End(State.CANCELLED, "stopped")
    bad = [node.name for node in nodes if outcomes[node.name] in BAD - {State.BLOCKED}]
    if bad:
        return End(State.FAILED, f"step {bad[0]} did not succeed")
    # what failed may have been taken up alone meanwhile; what waited for it has still not run
    blocked = [node.name for node in nodes if outcomes[node.name] is State.BLOCKED]
    if blocked:
        return End(State.FAILED, f"step {blocked[0]} did not run")
    return End(State.SUCCEEDED)
