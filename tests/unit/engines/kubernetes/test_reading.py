"""What a Job and its pods say is told as the phases of a task, whatever became of the pods."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.engines.kubernetes.cluster_objects import (
    BEGIN,
    completed,
    disrupted,
    ended,
    ends_of,
    failed,
    job,
    no_ends,
    pod,
    running,
    stopped,
    suspended,
    task,
    terminated,
    waiting,
    words,
)

from mlstead.engines.base import Phase, Reason, Status, TaskEvent
from mlstead.engines.kubernetes import manifests, reading

CANCEL = {manifests.CANCEL: stopped()}
OK = words("succeeded", code=0)
BAD = words("failed", "error", code=3, detail="exit code 3")


def told(events: list[TaskEvent]) -> list[str]:
    return [f"{it.attempt} {it.phase}{' again' if it.retried else ''}" for it in events]


def read(one: Any, pods: list[Any], ends: Any = no_ends) -> tuple[list[str], Status]:
    events = reading.events(one, pods, ends)
    assert all(it.status.attempt == it.attempt for it in events)
    assert all(it.status.phase is it.phase for it in events)
    return told(events), reading.now(one, pods, ends)


# ---- on the way


def test_a_job_without_a_pod_is_queued() -> None:
    assert read(job(task()), []) == (["1 queued"], reading.now(job(task()), [], no_ends))
    now = reading.now(job(task()), [], no_ends)
    assert (now.phase, now.submitted, now.memory_limit) == (Phase.QUEUED, BEGIN, 64 << 20)


def test_a_pod_that_fits_nowhere_is_queued_and_says_why() -> None:
    why = {
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "0/2 nodes are available: 2 Insufficient memory.",
    }  # fmt: skip
    events, now = read(job(task(), active=1), [pod(node="", conditions=[why])])
    assert events == ["1 queued"]
    assert (now.phase, now.reason) == (Phase.QUEUED, Reason.UNSCHEDULABLE)
    assert now.detail.startswith("0/2 nodes")


def test_a_pod_on_a_node_is_starting_there() -> None:
    events, now = read(job(task(), active=1), [pod(waiting())])
    assert events == ["1 queued", "1 starting"]
    assert (now.hosts, now.reason, now.detail) == (("h1",), None, "")


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff", "InvalidImageName"])
def test_a_pod_whose_image_is_not_there_is_starting_and_says_so(reason: str) -> None:
    _, now = read(job(task(), active=1), [pod(waiting(reason, "none:1: not found"))])
    assert (now.phase, now.reason) == (Phase.STARTING, Reason.IMAGE)
    assert now.detail == "none:1: not found"


def test_a_pod_that_cannot_be_made_says_what_kubernetes_says() -> None:
    _, now = read(job(task(), active=1), [pod(waiting("CreateContainerConfigError", "no key"))])
    assert (now.reason, now.detail) == (None, "CreateContainerConfigError: no key")


def test_a_pod_that_runs_is_running_since_its_container_does() -> None:
    events, now = read(job(task(), active=1), [pod(running(), phase="Running")])
    assert events == ["1 queued", "1 starting", "1 running"]
    assert now.started == BEGIN + 10


def test_a_container_that_ended_in_a_pod_that_is_not_over_yet_is_running_still() -> None:
    one = pod(terminated(91, BAD), phase="Running")
    assert read(job(task(), active=1), [one])[0] == ["1 queued", "1 starting", "1 running"]


def test_a_group_is_starting_until_all_of_it_runs() -> None:
    one = job(task(workers=2), active=2)
    first = pod(running(5), phase="Running", count=2)
    second = pod(waiting(), count=2, worker=1, node="h2")
    assert read(one, [second, first])[1].phase is Phase.STARTING
    both = [first, pod(running(8), phase="Running", count=2, worker=1, node="h2")]
    events, now = read(one, both)
    assert events == ["1 queued", "1 starting", "1 running"]
    assert (now.hosts, now.started) == (("h1", "h2"), BEGIN + 8)


def test_a_group_of_which_one_has_ended_well_is_running() -> None:
    pods = [ended(0, OK, count=2), pod(running(), phase="Running", count=2, worker=1)]
    assert read(job(task(workers=2), active=1), pods)[1].phase is Phase.RUNNING


@pytest.mark.parametrize("memory", [968 << 20, 93 << 20, 4 << 30])
def test_an_amount_is_read_in_whatever_form_the_server_gives_it_back(memory: int) -> None:
    one = job(task(memory=memory))
    (container,) = one["spec"]["template"]["spec"]["containers"]
    total = memory + manifests.OVERHEAD
    for text in (str(total), f"{total >> 20}Mi", f"{total / 1000:.3f}k".replace(".000k", "k")):
        container["resources"]["limits"]["memory"] = text
        assert reading.now(one, [], no_ends).memory_limit == memory


# ---- ends


def test_a_pod_that_succeeded_is_a_task_that_did() -> None:
    events, now = read(job(task(), conditions=completed()), [ended(0, OK)])
    assert events == ["1 queued", "1 starting", "1 running", "1 succeeded"]
    assert (now.exit_code, now.reason, now.started, now.ended) == (
        0,
        None,
        BEGIN + 12.5,
        BEGIN + 30,
    )
    assert (now.peak_memory, now.hosts) == (17 << 20, ("h1",))


def test_a_success_without_words_is_one() -> None:
    now = read(job(task(), conditions=completed()), [ended(0, "", "Completed")])[1]
    assert (now.phase, now.exit_code) == (Phase.SUCCEEDED, 0)


def test_a_program_that_failed_is_told_with_its_code_and_the_limit() -> None:
    events, now = read(job(task(), conditions=failed()), [ended(91, BAD)])
    assert events[-1] == "1 failed"
    assert (now.reason, now.exit_code, now.detail) == (Reason.ERROR, 3, "exit code 3")


@pytest.mark.parametrize(
    ("message", "reason", "said"),
    [
        (words("failed", "oom", code=137, peak=96 << 20), "OOMKilled", "it held 96 MiB, "),
        (words("failed", "oom", signal=9, peak=96 << 20), "Error", "it held 96 MiB, "),
        ("", "OOMKilled", ""),
        ("the last line of a log", "OOMKilled", ""),
    ],
)
def test_want_of_memory_is_told_with_the_limit(message: str, reason: str, said: str) -> None:
    now = read(job(task(), conditions=failed()), [ended(137, message, reason)])[1]
    assert (now.phase, now.reason) == (Phase.FAILED, Reason.OOM)
    assert now.detail == f"out of memory: {said}the limit is 64 MiB"


@pytest.mark.parametrize(
    "log",
    [
        '{"phase": "train", "loss": 1}',
        '{"phase": "succeeded"}',
        '{"phase": "failed", "reason": "because"}',
        '{"phase": ["failed"], "reason": {}, "attempt": 1, "worker": 0, "time": 1}',
        '{"phase": "failed", "reason": "mine", "attempt": 1, "worker": 0, "time": 1}',
        "[1, 2]",
        "7",
        "[" * 100_000,
    ],
)
def test_the_end_of_a_log_is_not_taken_for_our_own_words(log: str) -> None:
    now = read(job(task(), conditions=failed()), [ended(139, log)])[1]
    assert (now.phase, now.reason, now.exit_code) == (Phase.FAILED, Reason.ERROR, 139)
    assert now.detail.endswith(f"its last line: {log}")


def test_a_pod_that_could_not_be_started_is_replaced_and_was_no_try() -> None:
    one = ended(128, "cannot freeze", "StartError")
    assert read(job(task()), [one])[1].phase is Phase.QUEUED
    now = read(job(task()), [one, pod(waiting(), at=40.0)])[1]
    assert (now.phase, now.attempt) == (Phase.STARTING, 1)
    assert reading.program_problem(one) == ""


def test_an_image_without_python_can_never_be_started() -> None:
    one = ended(128, 'exec: "python3": executable file not found in $PATH', "StartError")
    assert "python3" in reading.program_problem(one)


def test_a_pod_evicted_for_its_disk_was_evicted() -> None:
    one = pod(phase="Failed", reason="Evicted", message="The node was low on disk")
    now = read(job(task(), conditions=failed()), [one])[1]
    assert (now.phase, now.reason) == (Phase.FAILED, Reason.EVICTED)
    assert now.detail == "The node was low on disk"


@pytest.mark.parametrize(
    ("why", "phase", "reason"),
    [
        ("EvictionByEvictionAPI", Phase.FAILED, Reason.EVICTED),
        ("TerminationByKubelet", Phase.FAILED, Reason.EVICTED),
        ("PreemptionByScheduler", Phase.FAILED, Reason.PREEMPTED),
        ("DeletionByTaintManager", Phase.LOST, Reason.LOST),
        ("DeletionByPodGC", Phase.LOST, Reason.LOST),
    ],
)
def test_who_took_a_pod_away_is_told(why: str, phase: Phase, reason: Reason) -> None:
    left = ended(91, words("cancelled"), conditions=[disrupted(why)], deleted=True)
    now = read(job(task(), conditions=failed()), [left])[1]
    assert (now.phase, now.reason, now.detail) == (phase, reason, "taken away")


def test_a_pod_that_was_done_when_it_was_taken_away_has_succeeded() -> None:
    left = ended(0, OK, conditions=[disrupted("EvictionByEvictionAPI")])
    assert read(job(task(), conditions=completed()), [left])[1].phase is Phase.SUCCEEDED


def test_a_node_that_does_not_answer_loses_the_task() -> None:
    one = pod(phase="Failed", conditions=[disrupted("DeletionByPodGC", "PodGC: node not found")])
    now = read(job(task(), conditions=failed()), [one])[1]
    assert (now.phase, now.reason) == (Phase.LOST, Reason.LOST)
    assert now.detail == "PodGC: node not found"


def test_a_pod_that_somebody_deleted_is_lost_and_not_cancelled() -> None:
    one = ended(91, words("cancelled", detail="stopped on request"), deleted=True)
    now = read(job(task(), conditions=failed()), [one])[1]
    assert (now.phase, now.detail) == (Phase.LOST, "its pod was deleted")


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("Job has failed indexes", Reason.LOST),
        ("Pod ktest/t has condition DisruptionTarget matching FailIndex rule", Reason.EVICTED),
    ],
)
def test_a_deleted_pod_that_is_gone_is_lost_and_not_cancelled(message: str, reason: Reason) -> None:
    kept = ends_of(a1w0=words("cancelled", detail="stopped on request"))
    events, now = read(job(task(), conditions=failed(message)), [], kept)
    assert events == ["1 queued", "1 starting", "1 running", "1 lost"]
    assert (now.phase, now.reason, now.detail) == (Phase.LOST, reason, "its pod was deleted")


def test_a_pod_that_is_gone_without_words_was_lost_when_its_job_failed() -> None:
    events, now = read(job(task(), conditions=failed(second=60)), [])
    assert events == ["1 queued", "1 starting", "1 lost"]
    assert (now.reason, now.ended, now.detail) == (Reason.LOST, BEGIN + 60, "its pod is gone")


def test_a_pod_that_is_gone_is_known_by_what_it_wrote() -> None:
    kept = ends_of(a1w0=OK)
    assert read(job(task(), conditions=completed()), [], kept)[1].phase is Phase.SUCCEEDED


# ---- retries


def test_a_failure_that_is_tried_again_is_told_so_at_once() -> None:
    one = job(task(retries=1))
    events, now = read(one, [ended(90, BAD)])
    assert events[-2:] == ["1 failed again", "2 queued"]
    assert (now.phase, now.attempt) == (Phase.QUEUED, 2)


def test_the_last_try_is_not_tried_again() -> None:
    again = ended(90, words("failed", "error", attempt=2, code=3), failures=1, at=40)
    events = read(job(task(retries=1)), [ended(90, BAD), again])[0]
    assert events[3:] == ["1 failed again", "2 queued", "2 starting", "2 running", "2 failed"]


@pytest.mark.parametrize(
    ("code", "reasons", "again"),
    [
        (90, (Reason.ERROR,), True),
        (91, (Reason.ERROR,), False),
        (137, (Reason.ERROR,), False),
        (137, (Reason.OOM,), True),
        (1, (Reason.ERROR, Reason.OOM, Reason.LOST), False),
    ],
)
def test_what_the_policy_of_a_job_counts_is_tried_again(
    code: int, reasons: tuple[Reason, ...], again: bool
) -> None:
    one = job(task(retries=1, reasons=reasons))
    assert ("1 failed again" in read(one, [ended(code, BAD)])[0]) is again


@pytest.mark.parametrize(("reasons", "again"), [((Reason.LOST,), True), ((Reason.OOM,), False)])
def test_a_disruption_is_tried_again_if_that_is_wanted(
    reasons: tuple[Reason, ...], again: bool
) -> None:
    one = ended(91, words("cancelled"), conditions=[disrupted("EvictionByEvictionAPI")])
    events = read(job(task(retries=1, reasons=reasons)), [one])[0]
    assert ("1 failed again" in events) is again


def test_a_first_try_whose_pod_is_gone_was_tried_again_however_it_ended() -> None:
    second = pod(running(40), failures=1, phase="Running", at=35)
    one = job(task(retries=2), active=1)
    for kept, way in (
        (no_ends, ["1 queued", "1 starting", "1 lost again"]),
        (ends_of(a1w0=BAD), ["1 queued", "1 starting", "1 running", "1 failed again"]),
        (ends_of(a1w0=words("cancelled")), ["1 queued", "1 starting", "1 running", "1 lost again"]),
    ):
        events, now = read(one, [second], kept)
        assert events == [*way, "2 queued", "2 starting", "2 running"]
        assert (now.phase, now.attempt) == (Phase.RUNNING, 2)


def test_a_gap_between_two_tries_is_filled() -> None:
    third = ended(0, words("succeeded", code=0, attempt=3), failures=2, at=50)
    one = job(task(retries=2), conditions=completed())
    events, now = read(one, [ended(90, BAD), third], ends_of(a2w0=BAD))
    assert [it for it in events if "again" in it] == ["1 failed again", "2 failed again"]
    assert (events[-1], now.attempt) == ("3 succeeded", 3)


def test_a_try_that_is_gone_ended_before_the_next_began() -> None:
    second = pod(running(40), failures=1, phase="Running", at=35)
    events = reading.events(job(task(retries=1), active=1), [second], no_ends)
    times = [it.time for it in events if it.phase in (Phase.LOST, Phase.QUEUED)]
    assert times == [BEGIN, BEGIN + 35, BEGIN + 35]


# ---- stopped by us


def test_a_task_that_is_being_stopped_is_what_it_was() -> None:
    one = job(task(), notes=CANCEL, active=1)
    live = pod(running(), phase="Running", deleted=True)
    assert read(one, [live])[0] == ["1 queued", "1 starting", "1 running"]
    one = job(task(), notes=CANCEL, conditions=suspended(), terminating=1)
    assert read(one, [])[1].phase is Phase.QUEUED


def test_a_task_stopped_before_it_had_a_pod_is_cancelled() -> None:
    events, now = read(job(task(), notes=CANCEL, conditions=suspended()), [])
    assert events == ["1 queued", "1 cancelled"]
    assert (now.started, now.hosts, now.detail) == (None, (), "stopped on request")


@pytest.mark.parametrize("seen", [True, False])
def test_a_task_stopped_while_it_ran_is_cancelled_and_says_since_when_it_ran(seen: bool) -> None:
    end = words("cancelled", end=55)
    pods = [ended(91, end, deleted=True)] if seen else []
    one = job(task(), notes=CANCEL, conditions=suspended())
    events, now = read(one, pods, no_ends if seen else ends_of(a1w0=end))
    assert events == ["1 queued", "1 starting", "1 running", "1 cancelled"]
    assert (now.reason, now.exit_code, now.started, now.ended) == (
        None, None, BEGIN + 12.5, BEGIN + 55,
    )  # fmt: skip


def test_a_task_that_was_done_when_it_was_stopped_has_succeeded() -> None:
    for conditions in (suspended(), completed()):
        one = job(task(), notes=CANCEL, conditions=conditions)
        assert read(one, [ended(0, OK)])[1].phase is Phase.SUCCEEDED


def test_a_task_that_failed_while_it_was_stopped_is_cancelled() -> None:
    one = job(task(), notes=CANCEL, conditions=failed())
    assert read(one, [ended(91, BAD)])[0][-1] == "1 cancelled"


def test_a_task_stopped_between_two_tries_is_cancelled_in_the_second() -> None:
    pods = [ended(90, BAD)]
    one = job(task(retries=1), notes=CANCEL)
    assert read(one, pods)[0][-2:] == ["1 failed again", "2 queued"]
    one = job(task(retries=1), notes=CANCEL, conditions=suspended())
    events, now = read(one, pods)
    assert events[-3:] == ["1 failed again", "2 queued", "2 cancelled"]
    assert (now.phase, now.attempt) == (Phase.CANCELLED, 2)


def test_a_second_try_that_is_stopped_is_cancelled() -> None:
    second = ended(91, words("cancelled", attempt=2), failures=1, deleted=True, at=35)
    one = job(task(retries=2), notes=CANCEL, conditions=suspended())
    assert read(one, [ended(90, BAD), second])[0][-1] == "2 cancelled"


def test_a_task_given_up_for_its_image_has_failed_and_is_not_cancelled() -> None:
    notes = {manifests.END: stopped("failed", "image")}
    events, now = read(job(task(), notes=notes, conditions=suspended()), [])
    assert (events[-1], now.reason) == ("1 failed", Reason.IMAGE)


def test_a_job_suspended_by_somebody_else_is_queued() -> None:
    assert read(job(task(), conditions=suspended()), [])[0] == ["1 queued"]


# ---- groups


def rank(number: int, phase: str, reason: str | None, end: float, **more: Any) -> Any:
    said = words(phase, reason, worker=number, rank=number, end=end, **more)
    return ended(91, said, count=2, worker=number, node=f"h{number + 1}", deleted=more == {})


def test_the_rank_that_failed_first_decides_how_a_group_ended() -> None:
    one = job(task(workers=2), conditions=failed())
    pods = [rank(0, "failed", "error", 33, code=4), rank(1, "failed", "error", 30, code=5)]
    now = read(one, pods)[1]
    assert (now.rank, now.exit_code, now.hosts) == (1, 5, ("h1", "h2"))
    pods = [rank(0, "cancelled", None, 20), rank(1, "failed", "error", 30, code=5)]
    now = read(one, pods)[1]  # its clock is behind: it was ended because the other failed
    assert (now.phase, now.rank, now.exit_code, now.ended) == (Phase.FAILED, 1, 5, BEGIN + 30)


def test_a_group_has_not_failed_before_all_of_it_has_ended() -> None:
    one = job(task(workers=2), conditions=failed()[:1], terminating=1)
    bad = rank(1, "failed", "error", 30, code=5)
    live = pod(running(), phase="Running", count=2, deleted=True)
    assert read(one, [live, bad])[0] == ["1 queued", "1 starting", "1 running"]
    assert read(one, [bad])[0][-1] == "1 failed"


def test_a_group_that_fails_is_not_over_before_its_job_says_so() -> None:
    bad = rank(1, "failed", "error", 30, code=5)
    assert not read(job(task(workers=2), active=1), [bad])[1].phase.final


@pytest.mark.parametrize("kept", [no_ends, ends_of(a1w1=words("cancelled", worker=1, end=29))])
def test_a_group_whose_pod_was_deleted_is_lost(kept: Any) -> None:
    other = rank(0, "cancelled", None, 30)
    events, now = read(job(task(workers=2), conditions=failed()), [other], kept)
    assert events[-1] == "1 lost"
    assert (now.phase, now.reason) == (Phase.LOST, Reason.LOST)


def test_a_group_of_which_all_succeeded_has_even_if_its_pods_are_gone() -> None:
    kept = ends_of(a1w0=OK, a1w1=OK)
    now = read(job(task(workers=2), conditions=completed()), [], kept)[1]
    assert (now.phase, now.exit_code) == (Phase.SUCCEEDED, 0)


def test_a_group_that_is_stopped_is_cancelled_even_if_one_was_done() -> None:
    pods = [ended(0, OK, count=2), rank(1, "cancelled", None, 55)]
    one = job(task(workers=2), notes=CANCEL, conditions=suspended())
    assert read(one, pods)[0][-1] == "1 cancelled"


def test_a_time_is_read_to_the_part_of_a_second() -> None:
    assert reading.seconds("2026-11-22T13:21:54.500000Z") == BEGIN - 5.5
    assert reading.seconds(None) is None
