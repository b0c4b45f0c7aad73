"""The part of a work file that is Kubernetes' own: a merge patch on the Job, and its limits."""

import copy
from collections.abc import Mapping
from typing import Any, Final

from mlstead.errors import UserError

_HOST: Final = (
    "restartPolicy", "subdomain", "hostname", "os",
    "hostNetwork", "hostPID", "hostIPC", "hostUsers", "serviceAccountName", "serviceAccount",
    "automountServiceAccountToken", "shareProcessNamespace",
)  # fmt: skip
_VOLUMES: Final = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim",
    "projected", "secret",
}  # fmt: skip
_POD: Final = "spec.template.spec"
_CONTAINERS: Final = ("containers", "initContainers", "ephemeralContainers")
_OURS: Final = (
    "apiVersion", "kind", "metadata.name", "metadata.generateName", "metadata.namespace",
    "metadata.ownerReferences", "metadata.finalizers", "status",
    *(
        f"spec.{name}"
        for name in (
            "selector", "manualSelector", "completions", "completionMode", "parallelism",
            "successPolicy", "backoffLimit", "backoffLimitPerIndex", "maxFailedIndexes",
            "podFailurePolicy", "podReplacementPolicy",
        )
    ),
)  # fmt: skip
"""What our reading of a Job rests on."""
_LABELLED: Final = ("metadata", "spec.template.metadata")
_PREFIX: Final = "mlstead.io/"
_APPARMOR: Final = "container.apparmor.security.beta.kubernetes.io/"


def patched(job: dict[str, Any], patch: Mapping[str, Any] | None) -> dict[str, Any]:
    """Merge a patch (RFC 7396) into a Job.

    Raises:
        UserError: it touches what is ours, or leaves the Pod Security Standard "restricted".
    """
    if not patch:
        return job
    merged = _merged(copy.deepcopy(job), patch)
    for field in _OURS:
        if _at(merged, field) != _at(job, field):
            raise UserError(f"native.kubernetes.{field}: is mlstead's own")
    for part in _LABELLED:
        _check_marks(_at(merged, part), _at(job, part), part)
    pod, before = _at(merged, _POD), job["spec"]["template"]["spec"]
    for problem in _problems(pod, before):
        raise UserError(f"native.kubernetes.{_POD}.{problem}")
    whole: dict[str, Any] = merged
    return whole


def _check_marks(part: Any, before: Mapping[str, Any], where: str) -> None:
    """Refuse to lose the labels by which we find what is ours, or to change what we note."""
    where = f"native.kubernetes.{where}"
    if not isinstance(part, Mapping):
        raise UserError(f"{where}: must be a map")
    for kind in ("labels", "annotations"):
        marks = part.get(kind, {})
        if not isinstance(marks, Mapping):
            raise UserError(f"{where}.{kind}: must be a map")
        was = before.get(kind, {})
        for name in {**was, **marks}:
            ours = name in was or str(name).startswith(_PREFIX)
            if ours and marks.get(name) != was.get(name):
                raise UserError(f"{where}.{kind}.{name}: is mlstead's own")
            if str(name).startswith(_APPARMOR):
                raise UserError(f"{where}.{kind}.{name}: not allowed")


def _merged(target: Any, patch: Any) -> Any:
    if not isinstance(patch, Mapping):
        many = isinstance(patch, list | tuple)
        return [_merged(None, it) for it in patch] if many else patch
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
    found += _volume_problems(pod.get("volumes"), before["volumes"])
    for kind in _CONTAINERS:
        if pod.get(kind) != before.get(kind):
            found.append(f"{kind}: not allowed")
    return found


def _volume_problems(volumes: Any, before: list[Any]) -> list[str]:
    if not isinstance(volumes, list) or not all(isinstance(it, Mapping) for it in volumes):
        return ["volumes: must be a list of maps (those of mlstead must stay)"]
    kinds = sorted({str(kind) for it in volumes for kind in it} - _VOLUMES - {"name"})
    if kinds:
        return [f"volumes: {kinds[0]} is not allowed"]
    if not all(it in volumes for it in before):
        return ["volumes: those of mlstead must stay (a list is replaced whole)"]
    return []
