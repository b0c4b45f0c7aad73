"""The part of a work file that is Kubernetes' own: a merge patch on the Job, and its limits."""

import copy
from collections.abc import Mapping
from typing import Any, Final

from mlstead.errors import UserError

_HOST: Final = (
    "hostNetwork", "hostPID", "hostIPC", "hostUsers", "serviceAccountName", "serviceAccount",
    "automountServiceAccountToken", "shareProcessNamespace",
)  # fmt: skip
_VOLUMES: Final = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim",
    "projected", "secret",
}  # fmt: skip
_CONTAINERS: Final = ("containers", "initContainers", "ephemeralContainers")
_OURS: Final = ("apiVersion", "kind", "metadata.name", "spec.selector")


def patched(job: dict[str, Any], patch: Mapping[str, Any] | None) -> dict[str, Any]:
    """Merge a patch (RFC 7396) into a Job.

    Raises:
        UserError: it touches what is ours, or leaves the Pod Security Standard "restricted".
    """
    if not patch:
        return job
    merged: dict[str, Any] = _merged(copy.deepcopy(job), patch)
    for field in _OURS:
        if _at(merged, field) != _at(job, field):
            raise UserError(f"native.kubernetes.{field}: is mlstead's own")
    pod = merged.get("spec", {}).get("template", {}).get("spec", {})
    before = job["spec"]["template"]["spec"]
    for problem in _problems(pod, before):
        raise UserError(f"native.kubernetes.spec.template.spec.{problem}")
    return merged


def _merged(target: Any, patch: Any) -> Any:
    if not isinstance(patch, Mapping):
        return list(patch) if isinstance(patch, tuple) else patch
    result = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), value)
    return result


def _at(value: Any, path: str) -> Any:
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _problems(pod: Any, before: Mapping[str, Any]) -> list[str]:
    """List what the standard, or our own pods, do not allow."""
    if not isinstance(pod, Mapping):
        return [": must be a map"]
    found = [f"{name}: not allowed" for name in _HOST if pod.get(name) != before.get(name)]
    if pod.get("securityContext") != before["securityContext"]:
        found.append("securityContext: not allowed")
    for volume in pod.get("volumes") or []:
        kinds = set(volume) - {"name"}
        if kinds - _VOLUMES:
            found.append(f"volumes: {sorted(kinds - _VOLUMES)[0]} is not allowed")
    if pod.get("volumes") != before["volumes"]:
        names = {it.get("name") for it in pod.get("volumes") or []}
        if not {it["name"] for it in before["volumes"]} <= names:
            found.append("volumes: those of mlstead must stay (a list is replaced whole)")
    for kind in _CONTAINERS:
        if pod.get(kind) != before.get(kind):
            found.append(f"{kind}: not allowed")
    return found
