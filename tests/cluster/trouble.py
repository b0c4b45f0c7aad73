"""Looks at the cluster and disturbs it behind the engine's back."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.cluster.conftest import Ground
from tests.local.front_door import wait
from tests.machines import given

from mlstead.clients.kubernetes import Object
from mlstead.clients.objects import Objects
from mlstead.engines.base import Engine, Phase, Status, Task
from mlstead.testing.engine_values import events_of, task

LONG = 240.0


def program(task_id: str, text: str, **fields: Any) -> Task:
    """Describe a task that is a Python program."""
    return task(task_id, "python3", "-c", text, **fields)


def kubectl(ground: Ground, *words: str) -> str:
    """Run kubectl as the administrator of the cluster; give what it says."""
    program = given.bundle() / "bin" / "kubectl"
    done = subprocess.run(
        [str(program), f"--kubeconfig={ground.kubeconfig}", *words],
        capture_output=True, text=True, check=False, timeout=LONG,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


class Space:
    """The test's namespace as kubectl would see it."""

    def __init__(self, ground: Ground) -> None:
        self.cluster, self.name = ground.cluster, ground.namespace
        self.api = f"/api/v1/namespaces/{ground.namespace}"
        self.batch = f"/apis/batch/v1/namespaces/{ground.namespace}"

    def jobs(self, task_id: str) -> list[str]:
        """Give the paths of the Jobs of a task."""
        found = self.cluster.get(f"{self.batch}/jobs", labelSelector=f"mlstead.io/task={task_id}")
        return [f"{self.batch}/jobs/{it['metadata']['name']}" for it in found["items"]]

    def pods(self, task_id: str, *, live: bool = False) -> list[Object]:
        """Give the pods of a task."""
        items = self.cluster.get(f"{self.api}/pods", labelSelector=f"mlstead.io/task={task_id}")
        over = ("Succeeded", "Failed")
        return [it for it in items["items"] if not (live and it["status"].get("phase") in over)]

    def pod(self, task_id: str) -> str:
        """Give the path of the one live pod of a task."""
        (pod,) = self.pods(task_id, live=True)
        return f"{self.api}/pods/{pod['metadata']['name']}"

    def delete_job(self, task_id: str) -> None:
        """Delete the Job of a task, and wait until it and its pods are gone."""
        (job,) = self.jobs(task_id)
        self.cluster.delete(job)
        wait(lambda: not self.jobs(task_id) and not self.pods(task_id), LONG)

    def left(self, task_id: str) -> list[str]:
        """Name what is there of a task."""
        kinds = ("secrets", "configmaps", "services", "pods")
        found = list(self.jobs(task_id))
        for kind in kinds:
            answer = self.cluster.get(
                f"{self.api}/{kind}", labelSelector=f"mlstead.io/task={task_id}"
            )
            found += [f"{kind}/{it['metadata']['name']}" for it in answer["items"]]
        return found

    def is_clean(self, task_id: str) -> None:
        """Wait until nothing is left of a task."""
        wait(lambda: not self.left(task_id), LONG, lambda: f"left: {self.left(task_id)}")


@contextmanager
def watched(engine: Engine) -> Iterator[None]:
    """Have an engine wait for news all the time, as a driver does."""
    over = threading.Event()

    def live() -> None:
        while not over.is_set():
            for event in engine.events(cursor[0]):
                cursor[0] = event.cursor
            engine.wait(cursor[0], 0.5)

    cursor = [""]
    thread = threading.Thread(target=live)
    engine.wait("", 0.0)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def ends_in(ground: Ground, task_id: str, prefix: str = "work") -> list[str]:
    """Name the ends that pods of a task wrote down, as ``attempt/worker.json``."""
    objects = Objects(f"s3://{ground.bucket}/{prefix}", ground.s3.endpoint)
    try:
        keys = [it.key for it in objects.list("tasks/")]
    finally:
        objects.close()
    return [key.partition("/end/")[2] for key in keys if f"/{task_id}/end/" in key]


def told(engine: Engine, task_id: str) -> list[tuple[int, Phase]]:
    """Give what was told of a task that has ended: attempts and phases, in order."""
    return [(event.attempt, event.phase) for event in events_of(engine, task_id)]


def once(told: list[tuple[int, Phase]]) -> None:
    """Hold what was told to: nothing twice, one end, which is the last."""
    assert len(set(told)) == len(told), told
    assert told[-1][1].final, told


def said(status: Status) -> tuple[str, str]:
    """Give phase and reason as words."""
    return str(status.phase), str(status.reason or "")
