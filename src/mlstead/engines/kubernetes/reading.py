"""Reads what a Job and its pods say as attempts of a task: which phases, when, and why; pure."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from mlstead.engines.base import Phase, Reason, Status, TaskEvent
from mlstead.engines.kubernetes import manifests
from mlstead.engines.kubernetes.manifests import CANCEL, END, FAILURES, Object
from mlstead.engines.kubernetes.quantity import amount

Ends = Callable[[int, int], Mapping[str, Any] | None]
"""Gives what a worker of an attempt wrote down at its end, where its pod is gone."""
_DISRUPTIONS = {"PreemptionByScheduler": Reason.PREEMPTED, "EvictionByEvictionAPI": Reason.EVICTED,
                "TerminationByKubelet": Reason.EVICTED}  # fmt: skip
_DELETED = {"phase": "lost", "reason": "lost", "detail": "its pod was deleted"}
_IMAGE = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
_TOLD = ("succeeded", "failed", "cancelled")
_NUMBERS = ("started", "peak", "code", "signal", "rank")
_PROGRAM = ("StartError", "ContainerCannotRun", "RunContainerError")


def seconds(text: str | None) -> float | None:
    """Read a time as Kubernetes writes it: seconds since the epoch."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() if text else None


def events(job: Object, pods: Sequence[Object], ends: Ends) -> list[TaskEvent]:
    """Give all that has happened to a task so far, oldest first; cursors are empty."""
    return _Reader(job, pods, ends).events()


def now(job: Object, pods: Sequence[Object], ends: Ends) -> Status:
    """Say how far a task is, with what it waits for."""
    return _Reader(job, pods, ends).now()


def words(text: str | bytes) -> dict[str, Any]:
    """Give what the first process of a pod said of its end; {} if those are not its words.

    Where it could say nothing, the end of the program's log stands there, which may be JSON too.
    """
    try:
        said = json.loads(text or "null")
    except (ValueError, RecursionError):
        return {}
    ours = isinstance(said, dict) and {"phase", "reason", "attempt", "worker", "time"} <= set(said)
    if not ours or said["phase"] not in _TOLD or said["reason"] not in (None, *Reason):
        return {}
    numbers = [said[name] for name in _NUMBERS if said.get(name) is not None]
    return dict(said) if all(type(it) in (int, float) for it in (said["time"], *numbers)) else {}


def queued(job: Object) -> TaskEvent:
    """Give the first event of a task, whatever else has happened to it."""
    return _Reader(job, (), lambda attempt, worker: None).first()


def is_live(pod: Object) -> bool:
    """Say whether a pod has not ended yet."""
    return pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")


def is_over(job: Object) -> bool:
    """Say whether Kubernetes will start nothing of a Job any more."""
    return _condition(job, "Complete", "Failed", "FailureTarget") is not None


def _condition(item: Object, *kinds: str) -> Object | None:
    for kind in kinds:
        for one in item.get("status", {}).get("conditions") or []:
            if one["type"] == kind and one["status"] == "True":
                found: Object = one
                return found
    return None


class _Reader:
    def __init__(self, job: Object, pods: Sequence[Object], ends: Ends) -> None:
        self._job = job
        self._ends = ends
        spec = job["spec"]
        self._count = spec["completions"]
        self._most = int(spec.get("backoffLimitPerIndex") or 0)
        (container,) = spec["template"]["spec"]["containers"]
        self._limit = int(amount(container["resources"]["limits"]["memory"])) - manifests.OVERHEAD
        notes = job["metadata"].get("annotations") or {}
        self._note = str(notes.get(END) or notes.get(CANCEL) or "")
        self._task = job["metadata"]["labels"][manifests.TASK]
        created = seconds(job["metadata"].get("creationTimestamp")) or 0.0
        self._created = float(notes.get(manifests.SENT) or created)
        self._attempts: dict[int, list[Object]] = {}
        latest: dict[tuple[int, int], Object] = {}
        for pod in sorted(pods, key=lambda it: str(it["metadata"].get("creationTimestamp"))):
            notes = pod["metadata"].get("annotations") or {}
            number = int(notes.get(FAILURES, 0)) + 1 if self._count == 1 else 1
            if not _never_started(pod):  # Kubernetes puts another one in its place
                latest[(number, _index(pod))] = pod
        for (number, _), pod in latest.items():
            self._attempts.setdefault(number, []).append(pod)

    def events(self) -> list[TaskEvent]:
        found: list[TaskEvent] = []
        queued = self._created
        for number in range(1, max(self._attempts, default=1) + 1):
            status = self._status(number, queued)
            retried = self._retried(number, status)
            found += self._phases(number, status, queued, retried)
            queued = status.ended or queued
            if retried and number + 1 > max(self._attempts):
                found += self._waiting(number + 1, queued)
        return found

    def _waiting(self, number: int, queued: float) -> list[TaskEvent]:
        """List what is told of an attempt that is to come, and may have been called off."""
        found = [self._event(number, queued, self._bare(Phase.QUEUED, number))]
        if ended := self._stopped(number, [], [], {}):
            found.append(self._event(number, ended.ended or queued, ended))
        return found

    def first(self) -> TaskEvent:
        return self._event(1, self._created, self._bare(Phase.QUEUED, 1))

    def now(self) -> Status:
        last = self.events()[-1].status
        if last.phase in (Phase.QUEUED, Phase.STARTING):
            reason, detail = self._waits(last.attempt)
            return dataclasses.replace(last, reason=reason, detail=detail)
        return last

    def _event(self, number: int, time: float, status: Status, retried: bool = False) -> TaskEvent:
        return TaskEvent(self._task, number, status.phase, time, status, "", retried)

    def _bare(self, phase: Phase, number: int) -> Status:
        return Status(
            phase,
            attempt=number,
            memory_limit=self._limit,
            submitted=self._created,
            image=self._image(number),
        )

    def _image(self, number: int) -> str:
        """Give the image of an attempt: by digest, as its node says once it has it."""
        for pod in self._attempts.get(number, []):
            for one in pod.get("status", {}).get("containerStatuses") or []:
                if "@sha256:" in (one.get("imageID") or ""):
                    return str(one["imageID"])
        (container,) = self._job["spec"]["template"]["spec"]["containers"]
        return str(container["image"])

    def _phases(self, number: int, status: Status, queued: float, retried: bool) -> list[TaskEvent]:
        """List the phases up to the one an attempt is in."""
        found = [self._event(number, queued, self._bare(Phase.QUEUED, number))]
        if status.phase is Phase.QUEUED:
            return found
        if status.phase is Phase.CANCELLED and not status.hosts and status.started is None:
            return [*found, self._event(number, status.ended or queued, status)]
        pods = self._attempts.get(number, [])
        times = [self._scheduled(pod) for pod in pods]
        begun = max(queued, min((it for it in times if it is not None), default=queued))
        under_way = self._bare(Phase.STARTING, number)
        under_way = dataclasses.replace(under_way, hosts=status.hosts)
        found.append(self._event(number, begun, under_way))
        if status.phase is Phase.STARTING:
            return found
        if status.started is not None:
            runs = dataclasses.replace(under_way, phase=Phase.RUNNING, started=status.started)
            found.append(self._event(number, max(begun, status.started), runs))
        if status.phase is not Phase.RUNNING:
            found.append(self._event(number, status.ended or begun, status, retried))
        return found

    def _scheduled(self, pod: Object) -> float | None:
        condition = _condition(pod, "PodScheduled")
        return seconds(condition["lastTransitionTime"]) if condition else None

    # ---- one attempt

    def _status(self, number: int, queued: float) -> Status:
        pods = self._attempts.get(number, [])
        live = [pod for pod in pods if is_live(pod)]
        ends = self._all_ends(number, pods)
        bad = [end for end in ends.values() if end["phase"] != "succeeded"]
        whole = len(ends) == self._count and not live
        if whole and not bad:
            return self._ended(number, pods, list(ends.values()))
        last = number >= max(self._attempts, default=1)
        if last and self._note and not self._was_to_go_on(number, pods):
            return self._stopped(number, pods, live, ends) or self._under_way(number, pods)
        if live or not ends:
            return self._under_way(number, pods)
        # every pod of a group ends when one fails; the others are still being told to
        if self._count > 1 and not (whole or is_over(self._job)):
            return self._under_way(number, pods)
        return self._ended(number, pods, list(ends.values()))

    def _stopped(
        self, number: int, pods: Sequence[Object], live: Sequence[Object],
        ends: Mapping[int, Mapping[str, Any]],
    ) -> Status | None:  # fmt: skip
        """Say how an attempt ended that we stopped ourselves; None if it has not ended yet."""
        status = self._job.get("status", {})
        if live or status.get("active") or status.get("terminating") or not self._is_stopped():
            return None
        said = json.loads(self._note)
        base = self._ended(number, pods, list(ends.values())) if ends else None
        ended = max(float(said["time"]), (base and base.ended) or 0.0)
        known = base or self._bare(Phase.CANCELLED, number)
        reason = Reason(said["reason"]) if said.get("reason") else None
        return dataclasses.replace(
            known, phase=Phase(said["phase"]), reason=reason, exit_code=None, signal=None,
            rank=None, ended=ended, detail=said["detail"],
            started=known.started, hosts=_hosts(pods),
        )  # fmt: skip

    def _is_stopped(self) -> bool:
        """Say whether Kubernetes has done what we asked for when we stopped the task."""
        over = _condition(self._job, "Suspended") is not None or is_over(self._job)
        return bool(self._note) and over

    def _all_ends(self, number: int, pods: Sequence[Object]) -> dict[int, Mapping[str, Any]]:
        """Give how each worker of an attempt ended, as far as it did."""
        found: dict[int, Mapping[str, Any]] = {}
        for pod in pods:
            if not is_live(pod):
                found[_index(pod)] = self._end_of(pod)
        later = max(self._attempts, default=1) > number
        gone = [it for it in range(self._count) if it not in {_index(pod) for pod in pods}]
        if not gone or not (later or is_over(self._job) or self._is_stopped()):
            return found
        for worker in gone:
            kept = self._ends(number, worker)
            lost = {"phase": "lost", "reason": self._why_over(), "time": self._gone_at(number)}
            if kept is not None and kept["phase"] == "cancelled":
                # who ended it was not us, or the Job would say so
                found[worker] = {**lost, **kept, **_DELETED, "reason": lost["reason"]}
            elif kept is not None or not found:
                found[worker] = kept or lost | {"detail": "its pod is gone"}
        return found

    def _gone_at(self, number: int) -> float:
        """Say when an attempt had ended at the latest whose pods are gone."""
        later = [pod for it, pods in self._attempts.items() if it > number for pod in pods]
        made = [seconds(pod["metadata"].get("creationTimestamp")) for pod in later]
        over = _condition(self._job, "Failed", "Complete", "FailureTarget", "Suspended") or {}
        times = [it for it in (*made, seconds(over.get("lastTransitionTime"))) if it is not None]
        return min(times, default=self._created)

    def _why_over(self) -> str:
        over = _condition(self._job, "Failed", "FailureTarget") or {}
        return "evicted" if "DisruptionTarget" in str(over.get("message")) else "lost"

    def _end_of(self, pod: Object) -> Mapping[str, Any]:
        """Give how a pod ended, in the words of its first process if it left some."""
        terminated = _terminated(pod)
        end: dict[str, Any] = {"phase": "failed", "reason": "error", "detail": ""}
        end |= words(terminated.get("message") or "") or self._end_without_words(pod, terminated)
        end.setdefault("started", seconds(terminated.get("startedAt")))
        end.setdefault("time", seconds(terminated.get("finishedAt")) or self._created)
        disruption = _condition(pod, "DisruptionTarget")
        if disruption and end["phase"] != "succeeded":
            reason = _DISRUPTIONS.get(disruption.get("reason", ""), Reason.LOST)
            end |= {"phase": "lost" if reason is Reason.LOST else "failed", "reason": str(reason),
                    "detail": disruption.get("message") or "its pod was taken away"}  # fmt: skip
        elif pod["status"].get("reason") == "Evicted" and end["phase"] != "succeeded":
            # a full volume: the kubelet gives no condition then
            end |= {"phase": "failed", "reason": "evicted",
                    "detail": pod["status"].get("message", "")}  # fmt: skip
        elif end["phase"] == "cancelled":
            end |= _DELETED
        return end

    def _end_without_words(self, pod: Object, terminated: Object) -> dict[str, Any]:
        why, code = terminated.get("reason", ""), terminated.get("exitCode")
        if pod["status"].get("phase") == "Succeeded":
            return {"phase": "succeeded", "reason": None, "code": 0}
        if why == "OOMKilled":
            return {"reason": "oom", "code": code}
        if pod["status"].get("reason") == "Evicted":
            return {"reason": "evicted", "detail": pod["status"].get("message", "")}
        if not terminated:
            text = pod["status"].get("message") or "its node does not answer"
            return {"phase": "lost", "reason": "lost", "detail": text}
        detail = f"the pod ended with {code} and did not say why"
        for line in str(terminated.get("message") or "").strip().splitlines()[-1:]:
            detail += f"; its last line: {line}"
        return {"code": code, "detail": detail}

    def _ended(
        self, number: int, pods: Sequence[Object], ends: Sequence[Mapping[str, Any]]
    ) -> Status:
        """Join how the workers ended: the first failure decides."""
        bad = [end for end in ends if end["phase"] != "succeeded"]
        # those that were ended because another failed are no cause
        own = [end for end in bad if end.get("reason") not in (None, "lost")] or bad
        end = min(own or ends, key=lambda it: it.get("time") or 0.0)
        times = [it["time"] for it in ends if it.get("time")]
        starts = [it["started"] for it in ends if it.get("started")]
        peaks = [it["peak"] for it in ends if it.get("peak")]
        peak = max(peaks) if peaks else None
        detail = str(end.get("detail") or "")
        if end.get("reason") == "oom":
            held = f"it held {_mebibytes(peak)}, " if peak else ""
            detail = f"out of memory: {held}the limit is {_mebibytes(self._limit)}"
        code = end.get("code")
        return dataclasses.replace(
            self._bare(Phase(end["phase"]), number),
            reason=Reason(end["reason"]) if end.get("reason") else None,
            exit_code=0 if code is None and end["phase"] == "succeeded" else code,
            signal=end.get("signal"),
            rank=end.get("rank") if self._count > 1 or end.get("rank") else None,
            peak_memory=peak,
            hosts=_hosts(pods),
            started=min(starts) if starts else None,
            ended=max(times) if times else self._created,
            detail=detail,
        )

    def _under_way(self, number: int, pods: Sequence[Object]) -> Status:
        """Say how far an attempt is that has not ended."""
        begun = [seconds((_running(pod) or _terminated(pod)).get("startedAt")) for pod in pods]
        starts = [it for it in begun if it is not None]
        hosts = _hosts(pods)
        if len(starts) == self._count:
            status = self._bare(Phase.RUNNING, number)
            return dataclasses.replace(status, started=max(starts), hosts=hosts)
        if hosts:
            return dataclasses.replace(self._bare(Phase.STARTING, number), hosts=hosts)
        return self._bare(Phase.QUEUED, number)

    def _retried(self, number: int, status: Status) -> bool:
        """Say whether another attempt follows one that has ended."""
        if not status.phase.final or status.phase in (Phase.SUCCEEDED, Phase.CANCELLED):
            return False
        if number < max(self._attempts, default=1):
            return True
        pods = self._attempts.get(number, [])
        if self._note:
            return self._was_to_go_on(number, pods)
        return not is_over(self._job) and self._may_go_on(number, pods)

    def _may_go_on(self, number: int, pods: Sequence[Object]) -> bool:
        return number <= self._most and all(self._counts(pod) for pod in pods)

    def _was_to_go_on(self, number: int, pods: Sequence[Object]) -> bool:
        """Say whether an attempt had ended by itself, and another was due, before we stopped all.

        Who stops a Job has its pods deleted, so one that is not had ended before.
        """
        if not pods or is_over(self._job):
            return False
        ended = all(not is_live(it) and not it["metadata"].get("deletionTimestamp") for it in pods)
        return ended and self._may_go_on(number, pods)

    def _counts(self, pod: Object) -> bool:
        """Say whether the policy of the Job has a pod's end count as a try, not as the end."""
        code = _terminated(pod).get("exitCode")
        disrupted = _condition(pod, "DisruptionTarget") is not None
        for rule in self._job["spec"]["podFailurePolicy"]["rules"]:
            codes = rule.get("onExitCodes")
            if codes is None:
                matches = disrupted
            else:
                inside = code in codes["values"]
                matches = bool(code) and inside == (codes["operator"] == "In")
            if matches:
                return bool(rule["action"] == "Count")
        return True

    # ---- what it waits for

    def _waits(self, number: int) -> tuple[Reason | None, str]:
        pods = self._attempts.get(number, [])
        for pod in pods:
            for one in pod.get("status", {}).get("conditions") or []:
                if one["type"] == "PodScheduled" and one.get("reason") == "Unschedulable":
                    return Reason.UNSCHEDULABLE, str(one.get("message", ""))
            if image := image_problem(pod):
                return Reason.IMAGE, image
            for state in _states(pod):
                waiting = state.get("waiting") or {}
                if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
                    said = waiting.get("message") or ""
                    return None, f"{waiting['reason']}: {said}".rstrip(": ")
        return None, ""


def _never_started(pod: Object) -> bool:
    return not is_live(pod) and _terminated(pod).get("reason") in _PROGRAM


def program_problem(pod: Object) -> str:
    """Say why the first process of a pod can never run; "" if it can, or may next time."""
    said = str(_terminated(pod).get("message", "")) if _never_started(pod) else ""
    missing = any(words in said for words in ("executable file not found", "no such file"))
    return f"the image cannot run python3: {said[-300:]}" if missing else ""


def image_problem(pod: Object) -> str:
    """Say why a pod has no image; "" if it has, or may still get it."""
    for state in _states(pod):
        waiting = state.get("waiting") or {}
        if waiting.get("reason") in _IMAGE:
            return str(waiting.get("message") or waiting["reason"])
    return ""


def _states(pod: Object) -> list[Object]:
    found = pod.get("status", {}).get("containerStatuses") or []
    return [it.get("state") or {} for it in found]


def _running(pod: Object) -> Object | None:
    return next((it["running"] for it in _states(pod) if it.get("running")), None)


def _terminated(pod: Object) -> Object:
    return next((it["terminated"] for it in _states(pod) if it.get("terminated")), {})


def _index(pod: Object) -> int:
    notes = pod["metadata"].get("annotations") or {}
    return int(notes.get("batch.kubernetes.io/job-completion-index", 0))


def _hosts(pods: Sequence[Object]) -> tuple[str, ...]:
    names = [pod["spec"].get("nodeName") for pod in sorted(pods, key=_index)]
    return tuple(dict.fromkeys(name for name in names if name))


def _mebibytes(size: int | None) -> str:
    return f"{(size or 0) / (1 << 20):.0f} MiB"
