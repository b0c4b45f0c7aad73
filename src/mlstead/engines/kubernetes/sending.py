"""Sends what pods need before they start: images of code, inputs, signed addresses, the objects."""

import contextlib
import hashlib
import json
import os
import tarfile
import tempfile
import threading
import time
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from mlstead.clients.kubernetes import Cluster, Object
from mlstead.clients.objects import Objects
from mlstead.engines.base import Submission
from mlstead.engines.kubernetes import manifests
from mlstead.engines.kubernetes.notes import read_note, write_note
from mlstead.engines.kubernetes.settings import Settings
from mlstead.errors import ConflictError, NotFoundError, PlatformError, UserError
from mlstead.runner import bundle

_OURS = {"app.kubernetes.io/managed-by": "mlstead"}


class Images(Protocol):
    """Makes the image that holds a task's code and environment."""

    def image(self, request: Mapping[str, Any]) -> str:
        """Give the image by digest, pushed where nodes find it."""


def digest_of(submission: Submission) -> str:
    """Hash a request: the same task is sent once, another one under its id is refused."""
    text = json.dumps(submission.request, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Sender:
    """Makes the objects of tasks in the cluster."""

    def __init__(
        self, cluster: Cluster, objects: Objects, settings: Settings, images: Images
    ) -> None:
        self._cluster, self._objects = cluster, objects
        self._settings, self._images = settings, images
        self._runner: dict[str, str] = {}
        self._owned: set[str] = set()
        self._packing = threading.Lock()  # tasks that are sent side by side share their inputs

    def send(self, submission: Submission, secrets: Mapping[str, str]) -> Object:
        """Send one task; again is the same. Gives its Job.

        Raises:
            ConflictError: a task of that id exists with another request.
            UserError: a secret has no value, or the cluster refuses.
        """
        request = submission.request
        for name in request["secrets"]:
            if name not in secrets:
                raise UserError(f"secrets: no value for {name!r}")
        digest = digest_of(submission)
        space = f"/api/v1/namespaces/{request['namespace']}"
        jobs = f"/apis/batch/v1/namespaces/{request['namespace']}/jobs"
        name = request["job"]["metadata"]["name"]
        if known := self._known(jobs, name, digest):
            return known
        inputs = {it["name"]: self._input(it) for it in request["inputs"]}
        image = self._images.image(request)
        runner = self._runner_of(space)
        uploads = self._uploads(submission.task_id, request, inputs)
        values = {f"secret.{it}": secrets[it] for it in request["secrets"]}
        own = [self._make(space, *it) for it in self._parts(submission, uploads | values)]
        job = manifests.filled(request["job"], image, runner)
        notes = {**job["metadata"].get("annotations", {}), manifests.REQUEST: digest}
        notes[manifests.SENT] = f"{time.time():.3f}"
        job = {**job, "metadata": {**job["metadata"], "annotations": notes}}
        try:
            made = self._cluster.create(jobs, job)
        except ConflictError:
            known = self._known(jobs, name, digest)
            if known is None:
                raise
            made = known
        owner = {
            "apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": made["metadata"]["uid"],
        }  # fmt: skip
        for path in own:  # they go when the Job goes
            self._cluster.merge(path, {"metadata": {"ownerReferences": [owner]}})
        self._owned.add(submission.task_id)
        return made

    def tidy(self, task_id: str, job: Object, failed: bool) -> None:
        """Take away what an ended task needs no more: its secrets first of all."""
        name, space = job["metadata"]["name"], job["metadata"]["namespace"]
        path = f"/apis/batch/v1/namespaces/{space}/jobs/{name}"
        try:
            if task_id not in self._owned:  # who sent it may have been killed on the way
                self.take_parts(space, task_id)
            if not failed:
                self._cluster.delete(path)
                return
            # what failed stays for a while, for those who look at it with kubectl
            self._cluster.delete(f"/api/v1/namespaces/{space}/secrets/{name}")
            self._cluster.merge(path, {"metadata": {"labels": {manifests.ENDED: "true"}}})
        except PlatformError:
            return  # it goes with its Job, a week after its end

    def take_parts(self, namespace: str, task_id: str) -> None:
        """Remove what a Job's pods were given: it does not go with a Job that it does not know."""
        name = manifests.name_of(task_id, self._settings.token)
        for kind in ("secrets", "configmaps", "services"):
            self._cluster.delete(f"/api/v1/namespaces/{namespace}/{kind}/{name}")

    def _known(self, jobs: str, name: str, digest: str) -> Object | None:
        try:
            found = self._cluster.get(f"{jobs}/{name}")
        except NotFoundError:
            return None
        if (found["metadata"].get("annotations") or {}).get(manifests.REQUEST) != digest:
            task = found["metadata"]["labels"].get(manifests.TASK, name)
            raise ConflictError(f"task {task} exists with another request")
        return found

    def _parts(self, submission: Submission, secret: Mapping[str, str]) -> list[tuple[str, Object]]:
        """List what a Job's pods are given, besides the Job."""
        request, settings = submission.request, self._settings
        name = request["job"]["metadata"]["name"]
        meta = {"name": name, "labels": manifests.labels_of(submission.task_id, settings)}
        task = {
            "task.json": json.dumps(request["task"]),
            "params.json": json.dumps(request["params"], ensure_ascii=False, indent=2) + "\n",
        }
        found = [
            ("secrets", {"metadata": meta, "stringData": dict(secret)}),
            ("configmaps", {"metadata": meta, "data": task}),
        ]
        if request["task"]["hosts"]:
            found.append(("services", manifests.service(submission.task_id, settings)))
        return found

    def _make(self, space: str, kind: str, content: Object) -> str:
        """Make one of them, or make it so if it is there; give its path."""
        path = f"{space}/{kind}/{content['metadata']['name']}"
        try:
            self._cluster.create(f"{space}/{kind}", content)
        except ConflictError:
            if kind != "services":
                self._cluster.merge(path, content)
        return path

    def _runner_of(self, space: str) -> str:
        """Put our part of a pod into the namespace, if it is not there; give its name."""
        if space not in self._runner:
            data = bundle.archive()
            name = f"mlstead-runner-{hashlib.sha256(data).hexdigest()[:12]}"
            content = {
                "metadata": {"name": name, "labels": _OURS},
                "binaryData": {"runner.zip": b64encode(data).decode()},
                "immutable": True,
            }
            try:
                self._cluster.get(f"{space}/configmaps/{name}")
            except NotFoundError:
                with contextlib.suppress(ConflictError):  # another laptop was first
                    self._cluster.create(f"{space}/configmaps", content)
            self._runner[space] = name
        return self._runner[space]

    def _uploads(
        self, task_id: str, request: Mapping[str, Any], inputs: Mapping[str, str]
    ) -> dict[str, str]:
        """Sign what one task may read and write, and nothing else."""
        prefix, sign = prefix_of(self._settings, task_id), self._objects.address
        form = self._objects.form(prefix)
        workers = range(request["task"]["workers"]["count"])
        content = {
            "post": form,
            "authority": _authority(form["url"]),
            "inputs": {name: sign(key) for name, key in inputs.items()},
            "checkpoints": [sign(f"{prefix}checkpoints/{it}.tar") for it in workers],
            "stop": sign(f"{prefix}stop"),
            "cancel": sign(f"{prefix}cancel"),
        }
        return {"uploads.json": json.dumps(content)}

    def _input(self, wanted: Mapping[str, Any]) -> str:
        """Send a file or folder as an archive, once for all tasks that read it; give its key.

        One that is not there leaves its key empty of an object: its task then says so.
        """
        source = Path(wanted["location"])
        place = hashlib.sha256(os.fsencode(source)).hexdigest()
        if not source.exists():
            return f"inputs/missing/{place}"
        # in a cache of ours a place has its name by what is in it: packed and hashed once
        note = self._settings.folder / "inputs" / f"{place}.txt"
        lasting = source.is_relative_to(self._settings.home) and "cache" in source.parts
        with self._packing:
            known = read_note(note) if lasting else ""
            if known and self._objects.has(known):
                return known
            key = self._send_input(source)
            if lasting:
                write_note(note, key)
            return key

    def _send_input(self, source: Path) -> str:
        with tempfile.TemporaryFile(dir=self._settings.folder) as file:
            digest = _pack(source, file)
            key = f"inputs/{digest}.tar"
            if not self._objects.has(key):
                self._objects.put_file(key, file)
        return key


def prefix_of(settings: Settings, task_id: str) -> str:
    """Give where the objects of a task lie."""
    return f"tasks/{settings.token}/{task_id}/"


def _pack(source: Path, target: Any) -> str:
    """Write what lies there as an archive, links followed; give its hash."""
    with tarfile.open(
        fileobj=target, mode="w", format=tarfile.PAX_FORMAT, dereference=True
    ) as archive:
        archive.add(source.resolve(), arcname="input", filter=_plain)
    target.seek(0)
    return hashlib.file_digest(target, "sha256").hexdigest()


def _plain(item: tarfile.TarInfo) -> tarfile.TarInfo:
    """Leave out what differs between two laptops with the same files."""
    item.uid = item.gid = 0
    item.uname = item.gname = ""
    item.mtime = 0
    item.mode = 0o755 if item.isdir() or item.mode & 0o100 else 0o644
    return item


def _authority(url: str) -> str:
    """Give whom pods trust as the S3 server's authority, if this laptop is told to."""
    path = os.environ.get("AWS_CA_BUNDLE")
    return Path(path).read_text("utf-8") if path and url.startswith("https:") else ""
