"""Which steps come before which."""

import graphlib
import itertools

import pytest

from mlstead.spec.graph import cycle, needs_of, order
from mlstead.spec.load import parse
from mlstead.spec.work import JobStep, Pipeline, ServiceStep, SweepStep

TEXT = """mlstead: 1
kind: pipeline
name: p
steps:
  a: {command: x, outputs: {m: {}, v: {kind: value}}}
  b: {command: x, needs: [a]}
  c: {command: "x ${{ steps.b.outputs.files }}", data: {d: {step: a, output: m}}}
  d:
    kind: sweep
    trial: {command: x, params: {k: 1}, data: {d: {step: b, output: files}}}
    search: {points: [{k: 2}]}
    when: {value: "${{ steps.a.values.v }}", gt: 1}
  e: {kind: service, model: {step: a, output: m}, env: {X: "${{ steps.c.outputs.files }}"}}
"""


def test_needs_come_from_names_data_and_expressions() -> None:
    work = parse(TEXT)
    assert isinstance(work, Pipeline)
    assert {name: set(needs_of(step)) for name, step in work.steps.items()} == {
        "a": set(),
        "b": {"a"},
        "c": {"a", "b"},
        "d": {"a", "b"},
        "e": {"a", "c"},
    }
    kinds = (JobStep, SweepStep, ServiceStep)
    assert {type(step) for step in work.steps.values()} == set(kinds)


def test_steps_are_ordered_after_what_they_need() -> None:
    work = parse(TEXT)
    assert isinstance(work, Pipeline)
    found = order(work.steps)
    assert all(
        found.index(need) < found.index(n) for n in found for need in needs_of(work.steps[n])
    )
    assert cycle(work.steps) == ()


def test_a_cycle_is_named_in_the_order_of_need() -> None:
    steps = {
        "a": JobStep(command="x", needs=("b",)),
        "b": JobStep(command="x", needs=("c",)),
        "c": JobStep(command="x", needs=("a",)),
        "d": JobStep(command="x"),
    }
    found = cycle(steps)
    assert found[0] == found[-1]
    assert all(after in needs_of(steps[before]) for before, after in itertools.pairwise(found))
    with pytest.raises(graphlib.CycleError):
        order(steps)
