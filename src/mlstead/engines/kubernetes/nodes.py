"""What a cluster has, and why it gives a Job no pods."""

import json
import time
import uuid
from pathlib import Path
from typing import Any, Final

from mlstead.clients.kubernetes import Cluster, Object
from mlstead.engines.base import Facts, Reason
from mlstead.engines.kubernetes.quantity import amount
from mlstead.engines.kubernetes.reading import seconds
from mlstead.errors import PlatformError, UserError

_FRESH: Final = 300.0  # seconds
_PATIENCE: Final = 3.0  # seconds that a Job may be without a pod before somebody asks why
_GPU: Final = "nvidia.com/gpu"


def facts(cluster: Cluster, folder: Path, namespace: str) -> Facts:
    """Say what the nodes have; asked of the cluster when what is known is five minutes old.

    Somebody who may not see nodes gets no figures, and is refused nothing because of its size.
    """
    path = folder / "facts.json"
    known = _read(path)
    if known is not None and known["server"] != cluster.server:
        known = None  # the context leads elsewhere now
    if known is None or abs(time.time() - known["time"]) > _FRESH:
        known = _look(cluster, known)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        aside = path.with_name(f".facts.{uuid.uuid4().hex[:8]}")
        aside.write_text(json.dumps(known), encoding="utf-8")
        aside.replace(path)
    nodes = known["nodes"]
    kinds = [node["kind"] for node in nodes for _ in range(node["gpu"])]
    return Facts(
        cpu=sum(node["cpu"] for node in nodes),
        memory=sum(node["memory"] for node in nodes),
        gpus=tuple(kinds),
        details={
            "nodes": nodes,
            "namespace": namespace,
            "platform": "linux-x86_64",
            "server": known["server"],
        },
    )


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return found


def _look(cluster: Cluster, known: dict[str, Any] | None) -> dict[str, Any]:
    now = {"time": time.time(), "server": cluster.server}
    try:
        ask = cluster.get if known is None else cluster.look
        items = ask("/api/v1/nodes")["items"]
    except UserError:
        return {**now, "nodes": []}
    except PlatformError:
        if known is None:
            raise
        return known  # it is away: what it had is the best guess
    return {**now, "nodes": [_node(it) for it in items if not it["spec"].get("unschedulable")]}


def _node(item: Object) -> dict[str, Any]:
    has = item["status"].get("allocatable") or {}
    labels = item["metadata"].get("labels") or {}
    return {
        "name": item["metadata"]["name"],
        "cpu": amount(has.get("cpu", "0")),
        "memory": int(amount(has.get("memory", "0"))),
        "gpu": int(amount(has.get(_GPU, "0"))),
        "kind": labels.get("nvidia.com/gpu.product", "gpu"),
    }


def why_no_pod(cluster: Cluster, namespace: str, job: Object) -> tuple[Reason | None, str]:
    """Say why a Job that has been there for a while has no pod, by the events about it."""
    created = seconds(job["metadata"].get("creationTimestamp")) or time.time()
    if time.time() - created < _PATIENCE or job.get("status", {}).get("active"):
        return None, ""
    selector = f"involvedObject.uid={job['metadata']['uid']},reason=FailedCreate"
    try:
        found = cluster.get(f"/api/v1/namespaces/{namespace}/events", fieldSelector=selector)
    except PlatformError:
        return None, ""
    for event in reversed(found["items"]):
        said = str(event.get("message", ""))
        return (Reason.QUOTA if "exceeded quota" in said else Reason.ADMISSION), said[:500]
    return None, ""
