"""A cluster that is there: asked and changed from this machine, by a kubeconfig; no SSH."""

import hashlib
import json
import platform
import shutil
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from mlstead.clients import kubeconfig
from mlstead.clients.cluster_programs import Programs, call
from mlstead.clients.ssh import Answer
from mlstead.errors import NotFoundError, PlatformError, UnavailableError, UserError
from mlstead.plan import (
    CLUSTER,
    KUBECTL,
    SITE_LABEL,
    Bundle,
    Facts,
    HostFacts,
    Probe,
    Step,
    object_key,
)
from mlstead.plan import Answer as ProbeAnswer
from mlstead.site.cluster import PATIENCE, printed
from mlstead.site.components import apps, machine_parts
from mlstead.site.facts import Gathered, known
from mlstead.site.pruning import wanted_steps
from mlstead.spec.problems import nearest
from mlstead.spec.site import Site

LOOK: Final = 30.0  # seconds for one question
NEEDED: Final = ("version", "objects", "releases")
"""The questions without whose answers nothing can be planned."""
CHANGED: Final = (
    ("", "namespaces"),
    ("", "configmaps"),
    ("", "secrets"),
    ("", "serviceaccounts"),
    ("", "services"),
    ("apps", "daemonsets"),
    ("apps", "deployments"),
    ("rbac.authorization.k8s.io", "roles"),
    ("rbac.authorization.k8s.io", "rolebindings"),
    ("rbac.authorization.k8s.io", "clusterroles"),
    ("rbac.authorization.k8s.io", "clusterrolebindings"),
    ("apiextensions.k8s.io", "customresourcedefinitions"),
    ("apiregistration.k8s.io", "apiservices"),
)
"""What apps consist of, as group and resource: it is made, changed and deleted everywhere."""
VERBS: Final = ("create", "patch", "delete")


@dataclass(frozen=True, slots=True)
class OnHere:
    """Runs the programs of this machine, or of the bundle, against a given cluster."""

    programs: Programs
    bundle: Bundle | None

    def run(
        self, program: str, words: Sequence[str], content: bytes = b"", patience: float = PATIENCE
    ) -> str:
        """Run kubectl or helm."""
        answer = call([*self.programs.argv(program), *words], content, patience)
        return printed(answer, f"{self.programs.context}: {program} {words[0]}")

    def chart(self, file: str) -> str:
        """Give the path of a chart of the bundle.

        Raises:
            UserError: it is not as the manifest says.
        """
        if self.bundle is None:
            raise UserError("no bundle is given, and charts come from one")
        return str(_whole(self.bundle, f"charts/{file}"))


def is_existing(site: Site) -> bool:
    """Say whether the site is a cluster that is there, not machines."""
    return site.kubernetes.distribution == "existing"


def reach(site: Site, path: Path, bundle: Bundle | None) -> OnHere:
    """Find the programs, and the cluster in a kubeconfig.

    Raises:
        NotFoundError: there is no such file, or no such context in it.
        UserError: kubectl is not here; the file is damaged, or has several contexts and none is
            named.
    """
    if not path.is_file():
        raise NotFoundError(f"{path}: no such file", hint="kubernetes.kubeconfig names it")
    there = [it.name for it in kubeconfig.contexts(path)]
    wanted = site.kubernetes.context
    if wanted and wanted not in there:
        message = f"{path}: there is no context {wanted}"
        raise NotFoundError(message, hint=nearest(wanted, there) if there else "it has none")
    if not wanted and len(there) != 1:
        # The current one may be another tomorrow.
        message = f"{path}: it has {len(there)} contexts"
        raise UserError(message, hint=f"kubernetes.context must name one: {', '.join(there)}")
    found = {name: _program(name, bundle) for name in ("kubectl", "helm")}
    programs = Programs(found["kubectl"], found["helm"], path, wanted or there[0])
    programs.argv("kubectl")
    return OnHere(programs, bundle)


def _program(name: str, bundle: Bundle | None) -> str:
    """Give the path of a program: the bundle's, where it can run, or else that of this machine."""
    runs = sys.platform == "linux" and platform.machine() == "x86_64"
    if bundle is not None and runs:
        path = f"bin/{name}"
        if path in bundle.links:
            _whole(bundle, f"bin/{bundle.links[path]}")
            if (Path(bundle.folder) / path).readlink() == Path(bundle.links[path]):
                return str(Path(bundle.folder) / path)
        elif path in {file.path for file in bundle.files}:
            return str(_whole(bundle, path))
    return shutil.which(name) or ""


def _whole(bundle: Bundle, path: str) -> Path:
    """Give the path of a file of the bundle, whose content is as the manifest says.

    Raises:
        UserError: it is not.
    """
    wanted = next((file.sha256 for file in bundle.files if file.path == path), "")
    there = Path(bundle.folder) / path
    hint = f"make it again: mlstead bundle create {bundle.folder}"
    try:
        with there.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{there}: {error.strerror}", hint=hint) from error
    if found != wanted:
        raise UserError(f"{there}: not as the manifest says", hint=hint)
    return there


# ---- what is found -------------------------------------------------------------------------


def look(site: Site, way: OnHere) -> Gathered:
    """Ask the cluster what is in it, and what we may; nothing is changed."""
    parts = {**machine_parts(), **apps()}
    probes = [probe for part in parts.values() for probe in part.probes(site, CLUSTER)]
    probes.append(Probe("version", (*KUBECTL, "version", "-o", "json")))
    calls = [(probe.name, _argv(probe, way.programs), b"") for probe in probes]
    calls.append(("rights", [*way.programs.argv("kubectl"), "create", "-f", "-", "-o",
                             r'jsonpath={.status.allowed}{"\n"}'], _reviews()))  # fmt: skip
    with ThreadPoolExecutor(4) as pool:
        told = dict(zip([it[0] for it in calls], pool.map(_ask, calls), strict=True))
    problem = _problem(way.programs.context, told)
    answers = {
        name: ProbeAnswer(it.code, it.out.decode("utf-8", "replace"))
        for name, it in told.items()
        if not isinstance(it, PlatformError)
    }
    facts = known(site, {CLUSTER: HostFacts(answers=answers)}, way.bundle)
    if problem is None:
        try:
            return Gathered(replace(facts, taken=_taken(site, facts, way)))
        except PlatformError as error:
            problem = error
    # What it said besides is of no use: nothing is planned, and nothing found unfit.
    return Gathered(replace(facts, hosts={}), {CLUSTER: problem})


def _argv(probe: Probe, programs: Programs) -> list[str]:
    """Give a probe's words as they are here: another Python, another way to the cluster."""
    words = [sys.executable if word == "python3" else word for word in probe.argv]
    at = words.index(KUBECTL[0])
    return [*words[:at], *programs.argv("kubectl"), *words[at + len(KUBECTL) :]]


def _ask(asked: tuple[str, list[str], bytes]) -> Answer | PlatformError:
    try:
        return call(asked[1], asked[2], LOOK)
    except PlatformError as error:
        return error


def _problem(context: str, told: Mapping[str, Answer | PlatformError]) -> PlatformError | None:
    """Say why nothing can be planned; None if all can."""
    for name in NEEDED:
        answer = told[name]
        if isinstance(answer, PlatformError):
            return answer
        try:
            printed(answer, f"{context}: kubectl")
        except PlatformError as error:
            return error
    return None


def _reviews() -> bytes:
    """Ask what we may do, as ``kubectl auth can-i`` does; the first is everything."""
    wanted = [("*", "*", "*")]
    wanted += [(verb, group, resource) for group, resource in CHANGED for verb in VERBS]
    items = [
        {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {"verb": verb, "group": group, "resource": resource}},
        }
        for verb, group, resource in wanted
    ]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items}).encode()


def _taken(site: Site, facts: Facts, way: OnHere) -> tuple[str, ...]:
    """Name what stands under names that the site's apps need, and is not this site's."""
    steps = wanted_steps(site, facts)
    found = _releases(facts, site, steps)
    wanted = [one for step in steps for one in step.arguments.get("objects", ())]
    if wanted:
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": wanted})
        words = ("get", "-f", "-", "--ignore-not-found", "-o", "json")
        # Kinds that an app is yet to bring are an error, beside what is found of others.
        answer = call([*way.programs.argv("kubectl"), *words], text.encode(), LOOK)
        found += [object_key(one) for one in _items(answer.out) if not _ours(site, one)]
    return tuple(sorted(found))


def _releases(facts: Facts, site: Site, steps: Sequence[Step]) -> list[str]:
    wanted = {
        f"{step.arguments['namespace']}/{step.arguments['release']}"
        for step in steps
        if step.action == "helm"
    }
    there = facts.releases or {}
    return [f"the release {key}" for key in sorted(wanted & set(there))
            if there[key].labels.get(SITE_LABEL) != site.name]  # fmt: skip


def _items(out: bytes) -> list[dict[str, Any]]:
    try:
        found = json.loads(out or b"{}")
        return list(found["items"]) if "items" in found else [found] if found else []
    except (ValueError, KeyError, TypeError) as error:
        raise UnavailableError("the cluster's answer was cut off", hint="try again") from error


def _ours(site: Site, one: Mapping[str, Any]) -> bool:
    labels = one["metadata"].get("labels") or {}
    return bool(labels.get(SITE_LABEL) == site.name)
