"""Prints what Helm installed, and how its objects differ from the live ones; runs on the head.

Standard library only, Python 3.8 or newer. It reads the releases where Helm keeps them, in secrets
of the cluster: one call for all, where ``helm list``, ``get values`` and ``get manifest`` are many.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
import subprocess
import sys
from typing import Any

KUBECTL = ["kubectl"]  # and how it reaches the cluster: given to main
MARK = "mlstead-release-"
PASSED_OVER = ("status", "caBundle", "stringData", "creationTimestamp")
UNITS = {"": 1, "n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12,
         "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}  # fmt: skip


def kubectl(*words: str, given: str = "") -> tuple[int, str]:
    """Run kubectl; give its exit code and what it printed."""
    done = subprocess.run(
        [*KUBECTL, *words],
        input=given.encode(),
        stdout=subprocess.PIPE,
        check=False,
    )
    return done.returncode, done.stdout.decode("utf-8", "replace")


def stored(secret: dict[str, Any]) -> dict[str, Any]:
    """Read a release as Helm stored it."""
    packed = base64.b64decode(base64.b64decode(secret["data"]["release"]))
    found: dict[str, Any] = json.loads(gzip.decompress(packed))
    return found


def latest(secrets: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give the last revision of each release; one that cannot be read is as if it was not there."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for secret in secrets:
        try:
            one = stored(secret)
            one["labels"] = secret.get("metadata", {}).get("labels") or {}
            key = (one["namespace"], one["name"])
            if key not in found or found[key]["version"] < one["version"]:
                found[key] = one
        except (KeyError, ValueError, TypeError, OSError, EOFError):
            continue
    return [found[key] for key in sorted(found)]


def documents(text: str) -> list[dict[str, Any]]:
    """Read JSON objects that stand one after the other."""
    decoder, at = json.JSONDecoder(), 0
    found: list[dict[str, Any]] = []
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        one, at = decoder.raw_decode(text, at)
        found += one["items"] if one.get("kind", "").endswith("List") and "items" in one else [one]
    return found


def manifests(releases: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Give the objects of each release; kubectl reads the YAML, as Python has nothing for it."""
    text = ""
    for number, one in enumerate(releases):
        mark = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": MARK + str(number)}}
        text += "\n---\n%s\n---\n%s\n" % (json.dumps(mark), one.get("manifest", ""))
    code, out = kubectl("label", "--local", "-f", "-", "-o", "json", "mlstead-seen=1", given=text)
    if code:
        raise ValueError("the manifests cannot be read")
    found: list[list[dict[str, Any]]] = []
    for one in documents(out):
        one["metadata"]["labels"].pop("mlstead-seen", None)
        if one["metadata"]["name"].startswith(MARK):
            found.append([])
        else:
            one["metadata"].setdefault("namespace", releases[len(found) - 1]["namespace"])
            found[-1].append(one)
    return found


def key(one: dict[str, Any], namespace: str) -> tuple[str, str, str, str]:
    """Tell objects apart, whatever the version of their kind."""
    group = one["apiVersion"].rpartition("/")[0]
    return group, one["kind"], namespace, one["metadata"]["name"]


def same(one: Any, other: Any) -> bool:
    """Say whether two values mean the same: ``1000m`` is ``1``."""
    return one == other or (
        None not in (amount(one), amount(other)) and amount(one) == amount(other)
    )


def amount(value: Any) -> float | None:
    """Read a quantity of Kubernetes; None if it is none."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([numkMGT]?|[KMGT]i)", str(value))
    return round(float(match[1]) * UNITS[match[2]], 9) if match else None


def differing(wanted: Any, found: Any, path: str = "") -> str:
    """Give the path of the first field that is not as wanted; fields not named are free."""
    if wanted is None:
        return ""
    if isinstance(wanted, dict):
        there = found if isinstance(found, dict) else {}
        for name, value in wanted.items():
            at = (path + "." + name).lstrip(".")
            if name in PASSED_OVER or (name not in there and value in ({}, [], "", None, False, 0)):
                continue
            lost = differing(value, there[name], at) if name in there else at
            if lost:
                return lost
        return ""
    if isinstance(wanted, list):
        if not isinstance(found, list) or len(found) != len(wanted):
            return path
        lost = [differing(one, found[at], "%s[%d]" % (path, at)) for at, one in enumerate(wanted)]
        return next(filter(None, lost), "")
    return "" if same(wanted, found) else path


def drift(objects: list[dict[str, Any]], live: dict[Any, dict[str, Any]]) -> list[str]:
    """Say which objects of a release are gone or were changed."""
    told = []
    for one in objects:
        namespace = one["metadata"].pop("namespace")
        found = live.get(key(one, namespace)) or live.get(key(one, ""))
        name = "%s/%s" % (one["kind"], one["metadata"]["name"])
        if found is None:
            told.append(name + " is not there")
            continue
        one.pop("apiVersion")
        lost = differing(one, found)
        if lost:
            told.append("%s: %s was changed" % (name, lost))
    return told


def main(*program: str) -> None:
    """Print one JSON list; ``program`` is kubectl and how it reaches the cluster."""
    KUBECTL[:] = [*program, "--request-timeout=10s"]
    code, out = kubectl(
        "get", "secrets", "-A", "-l", "owner=helm,status notin (superseded)", "-o", "json"
    )
    if code:
        sys.exit(1)
    releases = latest(json.loads(out)["items"])
    wanted = manifests(releases) if releases else []
    everything = [one for objects in wanted for one in objects]
    out = "" if not everything else kubectl(
        "get", "--ignore-not-found", "-f", "-", "-o", "json",
        given="\n---\n".join(json.dumps(one) for one in everything),
    )[1]  # fmt: skip
    live = {key(one, one["metadata"].get("namespace", "")): one for one in documents(out)}
    found = []
    for one, objects in zip(releases, wanted):
        chart = one["chart"]["metadata"]
        found.append(
            {
                "name": one["name"],
                "namespace": one["namespace"],
                "chart": chart["name"],
                "version": chart["version"],
                "status": one["info"]["status"],
                "revision": one["version"],
                "values": one.get("config") or {},
                "drift": drift(objects, live),
                "labels": one["labels"],
                "description": one["info"].get("description") or "",
            }
        )
    print(json.dumps(found))
