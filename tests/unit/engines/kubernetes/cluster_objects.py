"""Jobs and pods as a cluster of Kubernetes 1.36 gives them back, for tests of what reads them."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlstead.engines.base import Reason, Resources, Retry, Task, Workers
from mlstead.engines.kubernetes import manifests
from mlstead.engines.kubernetes.settings import Settings

Object = dict[str, Any]
TOKEN = "9bd33c12"
SETTINGS = Settings(Path("/home/ann/c"), Path("/home/ann"), TOKEN, image="registry/python:3.11")
BEGIN = 1795353720.0  # when Jobs of tests are made
ALL = (Reason.ERROR, Reason.OOM, Reason.LOST)


def stamp(second: float) -> str:
    """Write a moment, so many seconds after a Job was made."""
    moment = datetime.datetime.fromtimestamp(BEGIN + second, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def task(
    *, workers: int = 1, retries: int = 0, reasons: tuple[Reason, ...] = ALL, memory: int = 64 << 20
) -> Task:
    """Describe the task whose Job is read."""
    return Task(
        "t", ("python", "train.py"), resources=Resources(0.1, memory),
        retry=Retry(retries, reasons), workers=Workers(workers),
    )  # fmt: skip


def job(one: Task, *, notes: Mapping[str, str] | None = None, **status: Any) -> Object:
    """Give a Job as the API server has it; what says how far it is comes by name."""
    made = manifests.filled(manifests.job(one, SETTINGS), "registry/python:3.11", "runner-1")
    annotations = {manifests.REQUEST: "digest", **(notes or {})}
    metadata = {
        **made["metadata"], "namespace": "ktest", "uid": "uid-1", "resourceVersion": "1",
        "creationTimestamp": stamp(0), "annotations": annotations,
    }  # fmt: skip
    told = {"startTime": stamp(0), "terminating": 0, "ready": 0, "uncountedTerminatedPods": {}}
    return {**made, "metadata": metadata, "status": {**told, **status}}


def condition(kind: str, second: float = 60.0, **more: str) -> Object:
    """Give a condition that holds since a moment."""
    return {"type": kind, "status": "True", "lastTransitionTime": stamp(second), **more}


def failed(message: str = "Job has failed indexes", second: float = 60.0) -> list[Object]:
    """Give the conditions of a Job that has failed."""
    return [condition(it, second, message=message) for it in ("FailureTarget", "Failed")]


def completed() -> list[Object]:
    """Give the conditions of a Job that is complete."""
    return [condition("SuccessCriteriaMet"), condition("Complete")]


def suspended() -> list[Object]:
    """Give the conditions of a Job that is suspended."""
    return [condition("Suspended", reason="JobSuspended", message="Job suspended")]


def stopped(phase: str = "cancelled", reason: str | None = None, second: float = 50.0) -> str:
    """Give the note that we leave on a Job that we stop."""
    return json.dumps(
        {"phase": phase, "reason": reason, "detail": "stopped on request", "time": BEGIN + second}
    )


def words(
    phase: str, reason: str | None = None, *, attempt: int = 1, worker: int = 0, end: float = 30.0,
    **more: Any,
) -> str:  # fmt: skip
    """Give what the first process of a pod says of its end."""
    said: Object = {
        "phase": phase, "reason": reason, "detail": "", "code": None, "signal": None, "rank": None,
        "outputs": {}, "attempt": attempt, "worker": worker, "started": BEGIN + 12.5,
        "peak": 17 << 20, "time": BEGIN + end,
    }  # fmt: skip
    return json.dumps({**said, **more})


def pod(
    state: Object | None = None, *, phase: str = "Pending", node: str = "h1",
    conditions: Sequence[Object] = (), deleted: bool = False, **more: Any,
) -> Object:  # fmt: skip
    """Give a pod with its one container in some state.

    Of ``more``, ``failures``, ``worker``, ``count`` and ``at`` say which one of its Job it is and
    since when; the rest is part of its status.
    """
    failures, worker = more.pop("failures", 0), more.pop("worker", 0)
    count, at = more.pop("count", 1), more.pop("at", 1.0)
    annotations = {"batch.kubernetes.io/job-completion-index": str(worker)}
    if count == 1:
        annotations[manifests.FAILURES] = str(failures)
    metadata: Object = {
        "name": f"t-{TOKEN[:6]}-{worker}-{failures}", "namespace": "ktest",
        "creationTimestamp": stamp(at), "annotations": annotations,
        "labels": manifests.labels_of("t", SETTINGS),
    }  # fmt: skip
    if deleted:
        metadata["deletionTimestamp"] = stamp(at + 20)
    told: list[Object] = list(conditions)
    if node:
        told.append(condition("PodScheduled", at))
    containers = [] if state is None else [{"name": "main", "state": state, "lastState": {}}]
    return {
        "metadata": metadata,
        "spec": {"nodeName": node} if node else {},
        "status": {
            "phase": phase, "conditions": told, "containerStatuses": containers, **more,
        },
    }  # fmt: skip


def waiting(reason: str = "ContainerCreating", message: str = "") -> Object:
    """Give the state of a container that does not run yet."""
    said: Object = {"reason": reason} | ({"message": message} if message else {})
    return {"waiting": said}


def running(at: float = 10.0) -> Object:
    """Give the state of a container that runs."""
    return {"running": {"startedAt": stamp(at)}}


def terminated(code: int, message: str = "", reason: str = "Error", end: float = 31.0) -> Object:
    """Give the state of a container that has ended."""
    said: Object = {
        "exitCode": code, "reason": reason, "startedAt": stamp(10), "finishedAt": stamp(end),
        "containerID": "containerd://1",
    }  # fmt: skip
    return {"terminated": said | ({"message": message} if message else {})}


def ended(code: int, message: str = "", reason: str = "Error", **more: Any) -> Object:
    """Give a pod that has ended, by itself if nothing else is said."""
    phase = "Succeeded" if code == 0 else "Failed"
    return pod(terminated(code, message, reason), phase=phase, **more)


def disrupted(reason: str, message: str = "taken away") -> Object:
    """Give the condition of a pod that Kubernetes took away."""
    return condition("DisruptionTarget", reason=reason, message=message)


def no_ends(_attempt: int, _worker: int) -> None:
    """Say that no worker wrote down how it ended."""


def ends_of(**said: str) -> Any:
    """Give what workers wrote down: ``a1w0=words(...)``."""
    return lambda attempt, worker: json.loads(said.get(f"a{attempt}w{worker}") or "null")
