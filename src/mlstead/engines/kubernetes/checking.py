"""Looks whether a cluster, an S3 server and a registry have what tasks need; leaves nothing."""

import re
import uuid
from collections.abc import Callable, Iterator
from typing import Final

from mlstead.clients.image_name import parse_image
from mlstead.clients.kubernetes import Cluster
from mlstead.clients.kubernetes_login import Login
from mlstead.clients.objects import Objects
from mlstead.clients.registry import Registry
from mlstead.engines.base import Check
from mlstead.engines.kubernetes import nodes
from mlstead.engines.kubernetes.images import TaskImages
from mlstead.engines.kubernetes.settings import Settings
from mlstead.errors import NotFoundError, PlatformError

OLDEST: Final = (1, 31)  # the first one with all that our Jobs ask for switched on
RIGHTS: Final = (
    ("batch", "jobs", ("create", "get", "list", "watch", "patch", "delete")),
    ("", "pods", ("get", "list", "watch")),
    ("", "configmaps", ("create", "get", "patch")),
    ("", "secrets", ("create", "patch", "delete")),
    ("", "services", ("create", "patch")),
    ("", "events", ("list",)),
)
_REVIEWS: Final = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_STANDARD: Final = "pod-security.kubernetes.io/enforce"


def checks(settings: Settings, login: Login, cluster: Cluster, namespace: str) -> Iterator[Check]:
    """Look at one thing after another; without an answer from the cluster, only at the others."""
    found = list(_told("cluster", lambda: _version(cluster, login)))
    yield from found
    if found[0].state == "ok":
        yield from _told("namespace", lambda: _namespace(cluster, namespace))
        yield from _told("rights", lambda: _rights(cluster, namespace))
        yield from _told("nodes", lambda: _nodes(settings, cluster, namespace))
    yield from _told("s3", lambda: _objects(settings))
    yield from _told("image", lambda: _image(settings))
    yield from _told("registry", lambda: _registry(settings))


def _told(name: str, look: Callable[[], Check]) -> Iterator[Check]:
    """Make one check of a look, and of what it fails with."""
    try:
        yield look()
    except PlatformError as error:
        yield Check(name, "missing", str(error), error.hint)


def _version(cluster: Cluster, login: Login) -> Check:
    found = cluster.get("/version")
    version = str(found.get("gitVersion"))
    number = re.match(r"v?(\d+)\.(\d+)", version)
    if number is None or (int(number[1]), int(number[2])) < OLDEST:
        hint = f"Kubernetes {'.'.join(map(str, OLDEST))} or newer"
        return Check("cluster", "missing", f"{version} at {login.server} is too old", hint)
    return Check("cluster", "ok", f"{version} at {login.server}, as {login.name}")


def _namespace(cluster: Cluster, namespace: str) -> Check:
    try:
        found = cluster.get(f"/api/v1/namespaces/{namespace}")
    except NotFoundError:
        hint = f"kubectl create namespace {namespace}"
        return Check("namespace", "missing", f"there is no namespace {namespace}", hint)
    standard = (found["metadata"].get("labels") or {}).get(_STANDARD, "")
    if standard != "restricted":
        hint = f"kubectl label namespace {namespace} {_STANDARD}=restricted"
        detail = (
            f"{namespace} lets pods do more than ours need (Pod Security: {standard or 'none'})"
        )
        return Check("namespace", "limited", detail, hint)
    return Check("namespace", "ok", f"{namespace}, Pod Security: restricted")


def _rights(cluster: Cluster, namespace: str) -> Check:
    missing = []
    for group, resource, verbs in RIGHTS:
        for verb in verbs:
            asked = {
                "namespace": namespace, "group": group, "resource": resource, "verb": verb,
            }  # fmt: skip
            answer = cluster.create(_REVIEWS, {"spec": {"resourceAttributes": asked}})
            if not answer["status"].get("allowed"):
                missing.append(f"{verb} {resource}")
    if missing:
        hint = f"a Role in {namespace} that allows it, and a RoleBinding to you"
        return Check("rights", "missing", f"you may not: {', '.join(missing)}", hint)
    return Check("rights", "ok", "all that runs need, and no more was asked for")


def _nodes(settings: Settings, cluster: Cluster, namespace: str) -> Check:
    facts = nodes.facts(cluster, settings.folder, namespace)
    if not facts.details["nodes"]:
        detail = "you may not see nodes: nothing is refused for its size before it is sent"
        return Check("nodes", "limited", detail)
    kinds = sorted(set(facts.gpus))
    gpus = f", {len(facts.gpus)} GPUs ({', '.join(kinds)})" if facts.gpus else ""
    count = len(facts.details["nodes"])
    detail = f"{count}: cpu {facts.cpu:g}, memory {facts.memory / (1 << 30):.0f} GiB{gpus}"
    return Check("nodes", "ok", detail)


def _objects(settings: Settings) -> Check:
    """Write an object, read it, and remove it."""
    objects = Objects(settings.artifacts, settings.endpoint, settings.pod_endpoint)
    try:
        prefix = f"tasks/{settings.token}/doctor-{uuid.uuid4().hex[:8]}/"
        objects.put(f"{prefix}here", b"here")
        try:
            if objects.get(f"{prefix}here") != b"here":
                return Check("s3", "missing", f"{settings.artifacts} gives back other bytes")
        finally:
            objects.delete_all(prefix)
    finally:
        objects.close()
    detail = f"{settings.artifacts} can be written and read from here"
    return Check("s3", "ok", detail, "--deep asks a pod to do it")


def _image(settings: Settings) -> Check:
    if not settings.image:
        detail = "no usual image: work files must name one"
        return Check("image", "limited", detail, "mlstead context add … --image HOST/NAME:TAG")
    return Check("image", "ok", settings.image)


def _registry(settings: Settings) -> Check:
    if not settings.registry:
        detail = "none: code and packages of a work file are refused"
        return Check("registry", "limited", detail, "mlstead context add … --registry HOST/PREFIX")
    login = TaskImages(settings).login(settings.registry)
    with Registry(login) as registry:
        registry.has(parse_image(f"{settings.registry}/code").repository, f"sha256:{'0' * 64}")
    return Check("registry", "ok", f"{settings.registry}, as {login.user or 'nobody'}")
