"""The engine of a Kubernetes cluster: each task a Job, its state by watch, its words from S3."""

import contextlib
import dataclasses
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from mlstead.clients import kubernetes_login
from mlstead.clients.kubernetes import Cluster, Object
from mlstead.clients.objects import Objects
from mlstead.engines.base import (
    Check,
    Engine,
    Facts,
    Phase,
    Reason,
    Status,
    Submission,
    Task,
    TaskEvent,
)
from mlstead.engines.kubernetes import (
    checking,
    manifests,
    nodes,
    prepare,
    reading,
    results,
    streams,
)
from mlstead.engines.kubernetes.images import TaskImages
from mlstead.engines.kubernetes.journal import Journal
from mlstead.engines.kubernetes.sending import Sender, digest_of, prefix_of
from mlstead.engines.kubernetes.settings import Settings
from mlstead.engines.kubernetes.watching import Kept
from mlstead.errors import (
    ConflictError,
    NotFoundError,
    PlatformError,
    UnavailableError,
    UserError,
)

_AT_ONCE: Final = 8
_LOOK: Final = 0.25  # seconds between two looks at what other processes wrote down
_NO_IMAGE: Final = 60.0  # seconds that a pod may be without its image before its task has failed
_ALL: Final = 10.0  # seconds between two looks at everything that is watched


class KubernetesEngine(Engine):
    """Runs tasks in one namespace of one cluster."""

    name = prepare.NAME

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._journal = Journal(settings.folder)
        self._news = threading.Condition()
        self._kept: tuple[Kept, Kept] | None = None
        self._tidier: ThreadPoolExecutor | None = None
        self._imageless: dict[str, float] = {}
        self._dirty: set[str] = set()
        self._all_at = 0.0

    # ---- what it talks to

    @cached_property
    def _login(self) -> kubernetes_login.Login:
        path = self._settings.kubeconfig
        return kubernetes_login.read(
            Path(path).expanduser() if path else None,
            self._settings.kube_context,
        )

    @cached_property
    def _cluster(self) -> Cluster:
        return Cluster(self._login)

    @cached_property
    def _objects(self) -> Objects:
        one = self._settings
        return Objects(one.artifacts, one.endpoint, one.pod_endpoint)

    @cached_property
    def _sender(self) -> Sender:
        images = TaskImages(self._settings)
        return Sender(self._cluster, self._objects, self._settings, images)

    @cached_property
    def _namespace(self) -> str:
        return self._settings.namespace or self._login.namespace or "default"

    @property
    def _jobs(self) -> str:
        return f"/apis/batch/v1/namespaces/{self._namespace}/jobs"

    def _path(self, task_id: str) -> str:
        return f"{self._jobs}/{manifests.name_of(task_id, self._settings.token)}"

    def facts(self) -> Facts:
        """Say what the cluster's nodes have, as it was told at most five minutes ago."""
        found = nodes.facts(self._cluster, self._settings.folder, self._namespace)
        details = {**found.details, "image": self._settings.image}
        return dataclasses.replace(found, details=details)

    def check(self) -> Iterator[Check]:
        """Look at the cluster, the S3 server and the registry."""
        return checking.checks(self._settings, self._login, self._cluster, self._namespace)

    def prepare(self, task: Task, facts: Facts) -> Submission:
        """Make the request; pure."""
        return prepare.prepare(task, facts, self._settings)

    def submit(
        self, submissions: Sequence[Submission], secrets: Mapping[str, str] | None = None
    ) -> None:
        """Send the requests, several at once."""
        for submission in submissions:
            self._refuse_other(submission)
        todo = [it for it in submissions if self._journal.ended(it.task_id) is None]
        if len(todo) == 1:
            self._send(todo[0], secrets or {})
            return
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for done in [pool.submit(self._send, it, secrets or {}) for it in todo]:
                done.result()

    def _send(self, submission: Submission, secrets: Mapping[str, str]) -> None:
        """Send one, and write down that it was: its Job may be gone before anybody looks."""
        job = self._sender.send(submission, secrets)
        with self._journal.adding() as adding:
            if self._journal.ended(submission.task_id) is None:
                adding.add([reading.queued(job)], digest_of(submission))

    def _refuse_other(self, submission: Submission) -> None:
        ended = self._journal.ended(submission.task_id)
        # of one whose Job was gone when it was looked at, nobody knows what it was asked
        if ended is not None and ended["request"] not in ("", digest_of(submission)):
            raise ConflictError(f"task {submission.task_id} exists with another request")

    # ---- what happens

    def events(self, after: str = "") -> Iterator[TaskEvent]:
        """Give the events behind a cursor, after a look at the cluster."""
        if self._keeping()[0].started:
            self._observe_patiently()
        else:
            self._observe()
        yield from self._journal.events(after)

    def wait(self, after: str, timeout: float) -> None:
        """Return when there is something behind the cursor, or after ``timeout`` seconds."""
        end = time.monotonic() + timeout
        place = self._journal.place(after)
        self._watch()
        while self._journal.size() <= place:
            left = end - time.monotonic()
            if left <= 0:
                return
            with self._news:
                self._news.wait(min(left, _LOOK))
            self._observe_patiently()

    def _observe_patiently(self) -> None:
        """Look, for a process that stays: what does not answer now is asked again later."""
        try:
            self._observe()
        except UnavailableError:
            self._all_at = 0.0

    def status(self, task_id: str) -> Status:
        """Say how far a task is, by how it ended or by a look at its Job."""
        self._check(task_id)
        if ended := self._journal.final(task_id):
            return ended
        job = self._job(task_id)
        if job is None:
            return self._without_job(task_id)
        pods = self._pods_of(task_id)
        found = reading.now(job, pods, self._ends(task_id))
        if found.phase.final:
            self._tell({task_id: (job, pods)})
            return self._journal.final(task_id) or found
        if found.phase is Phase.QUEUED and not found.reason:
            reason, detail = nodes.why_no_pod(self._cluster, self._namespace, job)
            found = dataclasses.replace(found, reason=reason, detail=detail)
        return found

    def _watch(self) -> None:
        for kept in self._keeping():
            kept.start()

    def _keeping(self) -> tuple[Kept, Kept]:
        """Give what is kept of the cluster: Jobs that have not ended, and pods."""
        if self._kept is None:
            ours = f"{manifests.HOME}={self._settings.token}"
            pods = f"/api/v1/namespaces/{self._namespace}/pods"
            self._kept = (
                Kept(self._cluster, self._jobs, f"{ours},!{manifests.ENDED}", self._changed),
                Kept(
                    self._cluster,
                    pods,
                    f"{ours},{manifests.TASK}",
                    self._changed,
                    ghosts=lambda pod: not reading.is_live(pod),
                ),
            )
        return self._kept

    def _changed(self, item: Object | None) -> None:
        with self._news:
            if item is None:
                self._all_at = 0.0
            else:
                self._dirty.add(item["metadata"]["labels"][manifests.TASK])
            self._news.notify_all()

    def _changed_task(self, task: str) -> None:
        with self._news:
            self._dirty.add(task)

    def _wanted(self) -> set[str] | None:
        """Give the tasks that something has changed of; None for all, as now and then."""
        with self._news:
            dirty, self._dirty = self._dirty, set()
            if time.monotonic() - self._all_at < _ALL:
                return dirty
            self._all_at = time.monotonic()
            return None

    def _observe(self) -> None:
        """Write down what is new, by what the watches know or by a list.

        Jobs are read before pods: a pod of a Job that is not known yet waits for the next look.
        """
        jobs, pods = self._keeping()
        wanted = None
        if jobs.watched and pods.watched:
            wanted = self._wanted()
            if wanted is not None and not wanted:
                return
            found, all_pods = jobs.objects(), pods.objects()
        elif jobs.problem is not None and jobs.listed.is_set():
            if jobs.refused is not None:
                raise jobs.refused
            return  # the cluster is away: what is known stays as it is
        else:
            found, all_pods = jobs.list(), pods.list()
        by_task: dict[str, list[Object]] = {}
        for pod in all_pods.values():
            by_task.setdefault(pod["metadata"]["labels"][manifests.TASK], []).append(pod)
        seen = {}
        for job in found.values():
            task = job["metadata"]["labels"][manifests.TASK]
            seen[task] = (job, by_task.get(task, []))
        self._tell({task: it for task, it in seen.items() if wanted is None or task in wanted})
        self._look_for_lost(set(seen), wanted)

    def _tell(self, seen: Mapping[str, tuple[Object, list[Object]]]) -> None:
        """Write down the events of some tasks that were not told yet."""
        ended = []
        with self._journal.adding() as adding:
            for task, (job, pods) in seen.items():
                if self._journal.ended(task) is not None:
                    continue
                request = (job["metadata"].get("annotations") or {}).get(manifests.REQUEST, "")
                events = reading.events(job, pods, self._ends(task))
                if adding.add(events, request):
                    ended.append((task, job, events[-1].status))
        for task, job, status in ended:
            self._tidy(task, job, status)
        for task, (job, pods) in seen.items():
            self._give_up_without_image(task, job, pods)

    def _look_for_lost(self, seen: set[str], wanted: set[str] | None) -> None:
        """End tasks whose Job was deleted: by what they wrote down, else as lost."""
        gone = self._journal.open_tasks() - seen
        for task in gone if wanted is None else gone & wanted:
            if self._job(task) is not None or self._journal.ended(task) is not None:
                continue
            if self._pods_of(task):
                self._changed_task(task)  # they may still say how they ended
            else:
                self._end(task, self._written(task) or self._deleted(task))

    def _deleted(self, task: str) -> Status:
        attempt, detail = self._journal.attempt(task), "its Job is gone: somebody deleted it"
        return Status(Phase.LOST, Reason.LOST, attempt=attempt, ended=time.time(), detail=detail)

    def _written(self, task: str) -> Status | None:
        found = results.written_end(self._objects, prefix_of(self._settings, task))
        if found is not None and found.attempt < self._journal.attempt(task):
            return None  # an earlier one was tried again
        return found

    def _end(self, task: str, status: Status) -> None:
        """Write down how a task ended whose Job is gone."""
        time_ = status.ended or time.time()
        ended = TaskEvent(task, status.attempt, status.phase, time_, status, "")
        with self._journal.adding() as adding:
            if self._journal.ended(task) is None:
                adding.add([ended], "")
        with contextlib.suppress(PlatformError):
            self._sender.take_parts(self._namespace, task)

    def _without_job(self, task: str) -> Status:
        """Say how a task ended that has no Job any more.

        Raises:
            NotFoundError: it was never sent, as far as anybody knows.
        """
        self._observe()
        if ended := self._journal.final(task):
            return ended
        if self._journal.is_open(task):
            return Status(Phase.RUNNING, detail="its Job was deleted, its pods are ending")
        written = self._written(task)
        if written is None:
            raise NotFoundError(f"no task {task}")
        self._end(task, written)
        return self._journal.final(task) or written

    def _ends(self, task_id: str) -> reading.Ends:
        prefix = prefix_of(self._settings, task_id)

        def found(attempt: int, worker: int) -> Mapping[str, Any] | None:
            return results.end_of(self._objects, prefix, attempt, worker)

        return found

    # ---- tidying

    def _tidy(self, task: str, job: Object, status: Status) -> None:
        """Take away what an ended task needs no more, meanwhile: its secrets first of all."""
        if self._tidier is None:
            self._tidier = ThreadPoolExecutor(4, thread_name_prefix="tidy")
        # one that we suspended goes at once: Kubernetes would hold its last pod for ever
        stopped = manifests.END in (job["metadata"].get("annotations") or {})
        failed = status.phase not in (Phase.SUCCEEDED, Phase.CANCELLED) and not stopped
        self._tidier.submit(self._sender.tidy, task, job, failed)

    def _give_up_without_image(self, task: str, job: Object, pods: Sequence[Object]) -> None:
        """Fail a task whose image is nowhere: Kubernetes itself would try for ever."""
        notes = job["metadata"].get("annotations") or {}
        if manifests.END in notes or manifests.CANCEL in notes:
            return
        for pod in pods:
            if program := reading.program_problem(pod):
                self._stop(task, manifests.END, Phase.FAILED, Reason.IMAGE, program)
                return
            problem, name = reading.image_problem(pod), pod["metadata"]["name"]
            if not problem:
                continue
            # by the clock of this machine alone: the cluster's may be another
            since = self._imageless.setdefault(name, time.monotonic())
            if time.monotonic() - since > _NO_IMAGE:
                self._stop(task, manifests.END, Phase.FAILED, Reason.IMAGE, problem)

    # ---- stopping

    def cancel(self, task_id: str, grace: float | None = None) -> None:
        """Stop a task: its Job is suspended, which ends its pods, and stays to tell of it."""
        if self.status(task_id).phase.final:
            return
        note = {} if grace is None else {"grace": max(0.0, grace)}
        self._objects.put(f"{prefix_of(self._settings, task_id)}cancel", json.dumps(note).encode())
        self._stop(task_id, manifests.CANCEL, Phase.CANCELLED, None, "stopped on request")

    def _stop(
        self, task_id: str, note: str, phase: Phase, reason: Reason | None, detail: str
    ) -> None:
        said = {
            "phase": str(phase), "reason": reason and str(reason), "detail": detail[:1000],
            "time": time.time(),
        }  # fmt: skip
        notes = {note: json.dumps(said)}
        change = {"metadata": {"annotations": notes}, "spec": {"suspend": True}}
        try:
            self._cluster.merge(self._path(task_id), change)
        except NotFoundError:
            return
        except UserError:
            if not reading.is_over(self._job(task_id) or {}):
                raise  # a Job that has ended cannot be suspended, and need not

    def signal_stop(self, task_id: str) -> None:
        """Ask the program to end by itself."""
        self._find(task_id)
        self._objects.put(f"{prefix_of(self._settings, task_id)}stop", b"stop\n")

    def forget(self, task_id: str) -> None:
        """Remove what is kept of a task that has ended."""
        if not prepare.is_id(task_id):
            return
        try:
            if not self.status(task_id).phase.final:
                raise ConflictError(f"task {task_id} has not ended", hint="stop it first")
        except NotFoundError:
            return
        self._cluster.delete(self._path(task_id))
        self._until_gone(task_id)
        self._objects.delete_all(prefix_of(self._settings, task_id))
        results.drop(self._settings.folder, task_id)
        self._journal.forget(task_id)

    def _until_gone(self, task_id: str) -> None:
        end = time.monotonic() + 30.0
        while self._job(task_id) is not None and time.monotonic() < end:
            time.sleep(0.05)

    # ---- what it left

    def logs(
        self, task_id: str, *, rank: int | None = None, offset: int = 0, follow: bool = False
    ) -> Iterator[bytes]:
        """Give the output of all attempts in order."""
        self._find(task_id)
        pieces = streams.Pieces(self._objects, prefix_of(self._settings, task_id), "log")
        return streams.logs(pieces, self._is_final(task_id), rank, offset, follow)

    def _is_final(self, task_id: str) -> Callable[[], bool]:
        def is_final() -> bool:
            try:
                return self.status(task_id).phase.final
            except UnavailableError:
                return False  # what pods have sent can be read nevertheless

        return is_final

    def metrics(
        self, task_id: str, attempt: int, rank: int, offset: int, limit: int = 8 << 20
    ) -> bytes:
        """Give metric lines from a byte offset on; the last one may be cut."""
        self._check(task_id)
        pieces = streams.Pieces(self._objects, prefix_of(self._settings, task_id), "metrics")
        return pieces.read(attempt, rank, offset, limit)

    def outputs(self, task_id: str) -> str:
        """Bring what the last attempt left, once, and give its folder."""
        attempt, prefix = self.status(task_id).attempt, prefix_of(self._settings, task_id)
        return str(results.bring(self._objects, prefix, self._settings.folder, task_id, attempt))

    def leaves_nothing(self, task_id: str) -> bool:
        """Say whether a task left no output, without bringing it here."""
        return not self._objects.list(f"{prefix_of(self._settings, task_id)}outputs/")

    def release(self, task_id: str) -> None:
        """Drop outputs and checkpoints that are kept elsewhere; logs and metrics stay."""
        results.drop(self._settings.folder, task_id)
        for kind in ("outputs/", "checkpoints/"):
            self._objects.delete_all(prefix_of(self._settings, task_id) + kind)

    def close(self) -> None:
        """Let go of threads and connections."""
        for kept in self._kept or ():
            kept.stop()
        self._kept = None
        if self._tidier is not None:
            self._tidier.shutdown()
            self._tidier = None
        for part in ("_cluster", "_objects"):
            if part in self.__dict__:
                self.__dict__[part].close()

    def _check(self, task_id: str) -> None:
        if not prepare.is_id(task_id):
            raise NotFoundError(f"no task {task_id}")

    def _find(self, task_id: str) -> None:
        """Raise NotFoundError if there is no such task."""
        self._check(task_id)
        if self._journal.ended(task_id) is None and not self._journal.is_open(task_id):
            self.status(task_id)

    def _job(self, task_id: str) -> Object | None:
        try:
            return self._cluster.get(self._path(task_id))
        except NotFoundError:
            return None

    def _pods_of(self, task_id: str) -> list[Object]:
        ours = f"{manifests.HOME}={self._settings.token},{manifests.TASK}={task_id}"
        path = f"/api/v1/namespaces/{self._namespace}/pods"
        found: list[Object] = self._cluster.get(path, labelSelector=ours)["items"]
        return found
