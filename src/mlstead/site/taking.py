"""Takes objects and namespaces of ours out of a cluster, and nothing that others put there."""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from mlstead.plan import APP_LABEL, OURS, SITE_LABEL
from mlstead.site.cluster import PATIENCE, Reach, call

DYING: Final = 60  # seconds that what belonged to an app has to go after it
_QUIET: Final = "kube-node-lease"  # what it holds every namespace is given, but for its leases
_PASSED_OVER: Final = ("endpoints", "endpointslices.discovery.k8s.io", "events",
                       "events.events.k8s.io")  # fmt: skip
"""Made by the cluster itself for something else, or told by it."""
_COLUMNS: Final = (
    "KIND:.kind,NAME:.metadata.name,OWNER:.metadata.ownerReferences[0].kind,"
    "GONE:.metadata.deletionTimestamp"
)


def take(reach: Reach, arguments: Mapping[str, Any]) -> list[str]:
    """Delete objects, then namespaces if nothing else is in them; say which namespaces stay.

    A namespace that stays is not marked as ours any more: it belongs to those who use it.

    Args:
        reach: the way to the cluster.
        arguments: ``objects`` and ``namespaces``: what is taken away, by kind and name.

    Raises:
        PlatformError: kubectl refused, or the cluster does not answer.
    """
    _delete(reach, arguments["objects"])
    kinds = _kinds(reach) if arguments["namespaces"] else ()
    told = []
    for one in arguments["namespaces"]:
        name = one["metadata"]["name"]
        others = _others(reach, name, kinds)
        if not others:
            _delete(reach, [one])
            continue
        marks = [f"{label}-" for label in (OURS.split("=")[0], SITE_LABEL, APP_LABEL)]
        call(reach, ("label", "namespace", name, *marks))
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        told.append(f"the namespace {name} stays, with {', '.join(others[:3])}{more}")
    return told


def _delete(reach: Reach, objects: Sequence[Mapping[str, Any]]) -> None:
    if not objects:
        return
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
    words = ("delete", "--ignore-not-found", "--wait", f"--timeout={PATIENCE}s", "-f", "-")
    call(reach, words, text.encode())


def _kinds(reach: Reach) -> list[str]:
    """Name every kind of object that a namespace can hold, and that can be deleted."""
    words = ("api-resources", "--namespaced", "--verbs=list,delete", "-o", "name")
    return [it for it in call(reach, words).split() if it not in _PASSED_OVER]


def _others(reach: Reach, name: str, kinds: Sequence[str]) -> list[str]:
    """Name what is in a namespace and does not go by itself, once that has had its time."""
    usual = {(row[0], row[1]) for row in _rows(reach, _QUIET, kinds)}
    deadline = time.monotonic() + DYING
    while True:
        there = [row for row in _rows(reach, name, kinds) if (row[0], row[1]) not in usual]
        lasting = [row for row in there if row[2] == row[3] == "<none>"]
        if lasting or not there or time.monotonic() > deadline:
            return [f"{row[0]}/{row[1]}" for row in lasting]
        time.sleep(1)


def _rows(reach: Reach, name: str, kinds: Sequence[str]) -> list[list[str]]:
    words = ("get", ",".join(kinds), "-n", name, "--ignore-not-found", "--no-headers")
    out = call(reach, (*words, "-o", f"custom-columns={_COLUMNS}"))
    return [line.split() for line in out.splitlines()]
