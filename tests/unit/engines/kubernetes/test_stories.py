"""However a Job and its pods go on, what was told of a task stays true and its end comes once."""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.engines.kubernetes.cluster_objects import (
    completed,
    condition,
    disrupted,
    failed,
    job,
    pod,
    running,
    stopped,
    suspended,
    task,
    terminated,
    waiting,
    words,
)

from mlstead.engines.base import Phase, TaskEvent
from mlstead.engines.kubernetes import manifests, reading
from mlstead.engines.kubernetes.journal import Journal

ORDER = {Phase.QUEUED: 0, Phase.STARTING: 1, Phase.RUNNING: 2}
Snapshot = tuple[dict[str, Any], list[dict[str, Any]], dict[tuple[int, int], Any]]


class Cluster:
    """Plays what Kubernetes does with one Job, in the order in which it does it."""

    def __init__(self, draw: Any) -> None:
        self._draw = draw
        self._retries = draw(st.integers(0, 2))
        self._task = task(retries=self._retries)
        self._notes: dict[str, str] = {}
        self._status: dict[str, Any] = {}
        self._pods: list[dict[str, Any]] = []
        self._ends: dict[tuple[int, int], Any] = {}
        self._at = 0.0

    def story(self) -> Iterator[Snapshot]:
        yield self._now()
        for failures in range(self._retries + 1):
            code = yield from self._attempt(failures)
            if code is None:
                return
            if code == 0:
                self._status = {"conditions": completed()}
                yield self._now()
                break
            if code not in (90, 137) or failures == self._retries:
                self._status = {"conditions": failed(second=self._at)}
                yield self._now()
                break
            self._status = {"failed": failures + 1}
            if (yield from self._cancelled(None)):
                return
            yield self._now()
        if self._draw(st.booleans()):
            self._pods.clear()  # somebody tidies
            yield self._now()

    def _attempt(self, failures: int) -> Generator[Snapshot, None, int | None]:
        """Live one pod; give its exit code, None once the task was stopped."""
        one = pod(failures=failures, node="", at=self._at)
        self._pods.append(one)
        self._status["active"] = 1
        states = [None, waiting(), running(self._at)]
        for number in range(self._draw(st.integers(0, 3))):
            if number == 0:
                one["spec"]["nodeName"] = "h1"
                one["status"]["conditions"] = [condition("PodScheduled", self._at)]
            elif states[number]:
                one["status"]["containerStatuses"] = [{"state": states[number]}]
            one["status"]["phase"] = "Running" if number == 2 else "Pending"
            yield self._now()
            if (yield from self._cancelled(one)):
                return None
        return (yield from self._end(one, failures))

    def _end(self, one: dict[str, Any], failures: int) -> Generator[Snapshot, None, int]:
        how = self._draw(
            st.sampled_from(["ok", "bad", "again", "killed", "evicted", "deleted", "torn away"])
        )
        phase = {"ok": "succeeded", "bad": "failed", "again": "failed"}.get(how, "cancelled")
        code = {"ok": 0, "bad": 91, "killed": 137}.get(how, 90)
        said = words(phase, "error" if phase == "failed" else None, attempt=failures + 1)
        if how not in ("killed", "torn away"):
            self._ends[failures + 1, 0] = json.loads(said)
            state = terminated(code, said)
        else:
            state = terminated(137)
        if how in ("evicted", "deleted", "torn away"):
            one["metadata"]["deletionTimestamp"] = "2026-11-22T13:23:00Z"
            if how == "evicted":
                one["status"]["conditions"].append(disrupted("EvictionByEvictionAPI"))
            yield self._now()
        if how != "torn away":
            one["status"]["containerStatuses"] = [{"state": state}]
            yield self._now()  # the container has ended, the pod not yet
            one["status"]["phase"] = "Succeeded" if code == 0 else "Failed"
            self._status.pop("active", None)
            yield self._now()
        if how in ("evicted", "deleted", "torn away") or self._draw(st.booleans()):
            self._pods.remove(one)
        if how == "torn away":
            return 137
        return code

    def _cancelled(self, one: dict[str, Any] | None) -> Generator[Snapshot, None, bool]:
        """Stop the task, now and then; True if that was done."""
        if self._draw(st.integers(0, 7)):
            return False
        self._notes = {manifests.CANCEL: stopped(second=self._at)}
        yield self._now()
        self._status = {"conditions": suspended(), "terminating": 1 if one else 0}
        yield self._now()
        if one is not None:
            one["metadata"]["deletionTimestamp"] = "2026-11-22T13:23:00Z"
            yield self._now()
            one["status"]["phase"] = "Failed"
            one["status"]["containerStatuses"] = [{"state": terminated(91, words("cancelled"))}]
            yield self._now()
            self._pods.remove(one)
            self._status["terminating"] = 0
            yield self._now()
        return True

    def _now(self) -> Snapshot:
        self._at += 5
        one = job(self._task, notes=self._notes, **self._status)
        return copy.deepcopy((one, self._pods, self._ends))


@st.composite
def stories(draw: Any) -> list[Snapshot]:
    """Draw all that a cluster shows of one task, of which somebody sees some."""
    whole = list(Cluster(draw).story())
    seen = draw(st.lists(st.booleans(), min_size=len(whole), max_size=len(whole)))
    return [it for it, look in zip(whole, seen, strict=True) if look] + whole[-1:]


def key(event: TaskEvent) -> tuple[int, int]:
    return event.attempt, ORDER.get(event.phase, 3)


def is_end(event: TaskEvent) -> bool:
    return event.phase.final and not event.retried


@given(stories())
@settings(max_examples=300, deadline=None)
def test_what_was_told_stays_and_the_end_is_told_once(story: list[Snapshot]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder))
        before: list[TaskEvent] = []
        for one, pods, ends in story:
            events = reading.events(one, pods, lambda *it, ends=ends: ends.get(it))
            assert [key(it) for it in events] == sorted({key(it) for it in events})
            assert not any(is_end(it) for it in events[:-1])
            if journal.ended("t") is None:
                with journal.adding() as adding:
                    adding.add(events, "digest")
            told = list(journal.events(""))
            assert told[: len(before)] == before
            before = told
        assert [key(it) for it in before] == sorted({key(it) for it in before})
        assert [is_end(it) for it in before] == [False] * (len(before) - 1) + [True]
        assert journal.final("t") == before[-1].status


@given(stories())
@settings(max_examples=200, deadline=None)
def test_nobody_is_told_of_a_task_that_was_cancelled_unless_we_did_it(
    story: list[Snapshot],
) -> None:
    asked = any(manifests.CANCEL in one["metadata"]["annotations"] for one, _, _ in story)
    for one, pods, ends in story:
        events = reading.events(one, pods, lambda *it, ends=ends: ends.get(it))
        assert asked or all(it.phase is not Phase.CANCELLED for it in events)


@given(stories())
@settings(max_examples=200, deadline=None)
def test_a_retry_that_is_told_comes_or_is_called_off(story: list[Snapshot]) -> None:
    for one, pods, ends in story:
        events = reading.events(one, pods, lambda *it, ends=ends: ends.get(it))
        for event, following in zip(events, [*events[1:], None], strict=True):
            if event.retried:
                assert following is not None
                assert (following.attempt, following.phase) == (event.attempt + 1, Phase.QUEUED)
