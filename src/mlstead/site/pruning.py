"""Says what the cluster holds of apps that the site does not have any more: pure over facts."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from mlstead.plan import APP_LABEL, CLUSTER, SITE_LABEL, Facts, Step, object_key, steps_of
from mlstead.site.components import apps
from mlstead.site.options import app_options
from mlstead.spec.base import FrozenDict
from mlstead.spec.site import Site

COMMON: Final = frozenset((
    "APIService", "ClusterRole", "ClusterRoleBinding", "ConfigMap", "CronJob",
    "CustomResourceDefinition", "DaemonSet", "Deployment", "Ingress", "IngressClass", "Job",
    "MutatingWebhookConfiguration", "Namespace", "NetworkPolicy", "PersistentVolumeClaim",
    "PodDisruptionBudget", "PriorityClass", "Role", "RoleBinding", "Secret", "Service",
    "ServiceAccount", "StatefulSet", "StorageClass", "ValidatingWebhookConfiguration",
))  # fmt: skip
"""Kinds that need no app of ours; objects of others go before what watches over them."""


def prune_steps(site: Site, facts: Facts) -> list[Step]:
    """Give the steps that take away what is marked as this site's, and is of no app of it now.

    The last app goes first. What is of an app's own kinds goes before the app, whose programs
    may have to see it go; namespaces go last.
    """
    found = _left(site, facts)
    order = [name for name in reversed(list(apps())) if name in found]
    steps = []
    for name in [*sorted(set(found) - set(order)), *order]:
        steps += _steps(site, name, *found[name])
    return steps


def without_apps(site: Site) -> Site:
    """Give the site as it is when none of its apps is wanted."""
    return site.model_copy(update={"apps": FrozenDict()})


def lost_with(site: Site, facts: Facts) -> list[str]:
    """Say what others made and what would go with an app: objects of its own kinds."""
    found = _left(site, facts)
    return [
        f"{key} would be lost with {app}, and mlstead did not make it"
        for app, keys in facts.foreign.items()
        for key in keys
        if app in found and found[app][1]
    ]


_Left = tuple[list[Mapping[str, Any]], list[str]]


def _left(site: Site, facts: Facts) -> dict[str, _Left]:
    """Find objects and releases that are not wanted, by app."""
    wanted = _wanted(site, facts)
    found: dict[str, _Left] = {}
    for key, one in (facts.objects or {}).items():
        app = _app(site, one["metadata"].get("labels") or {}, wanted)
        if app and key not in wanted.get(app, ()):
            found.setdefault(app, ([], []))[0].append(one)
    for key, release in (facts.releases or {}).items():
        app = _app(site, release.labels, wanted)
        if app and key not in wanted.get(app, ()):
            found.setdefault(app, ([], []))[1].append(key)
    return found


def _app(site: Site, labels: Mapping[str, str], wanted: Mapping[str, set[str]]) -> str:
    """Give the app that labels name; "" if it is not this site's, or not to be taken away."""
    app = labels.get(APP_LABEL, "")
    if labels.get(SITE_LABEL) != site.name:
        return ""
    # What comes with each cluster of ours is no app that was chosen, and could be left out.
    chosen = app not in apps() or app in app_options()
    return app if chosen or wanted.get(app) else ""


def _wanted(site: Site, facts: Facts) -> dict[str, set[str]]:
    """Name what each app consists of."""
    found: dict[str, set[str]] = {}
    for step in wanted_steps(site, facts):
        keys = found.setdefault(step.component, set())
        if step.action == "helm":
            keys.add(f"{step.arguments['namespace']}/{step.arguments['release']}")
        else:
            keys |= {object_key(one) for one in step.arguments["objects"]}
    return found


def wanted_steps(site: Site, facts: Facts) -> list[Step]:
    """Give what the apps would do in an empty cluster: all that they consist of."""
    empty = replace(facts, objects={}, releases={})
    found: list[Step] = []
    for name, component in apps().items():
        found += steps_of(name, component, site, empty)
    return found


def _steps(
    site: Site, app: str, objects: Sequence[Mapping[str, Any]], releases: Sequence[str]
) -> list[Step]:
    own = [_named(it) for it in objects if it["kind"] not in COMMON]
    plain = [_named(it) for it in objects if it["kind"] in COMMON - {"Namespace"}]
    namespaces = [_named(it) for it in objects if it["kind"] == "Namespace"]
    if not releases:
        own, plain = [], own + plain
    why = "it is not of the site's apps" if app not in site.apps else "the app has it no more"
    component = apps().get(app)
    name = f"{component.title[:1].lower()}{component.title[1:]}" if component else app

    def step(action: Any, what: str, keys: Sequence[str], arguments: Mapping[str, Any]) -> Step:
        reasons = tuple(f"{key}: {why}" for key in keys)
        return Step(f"Remove: {name}", CLUSTER, app, action, arguments, reasons, "remove", what)

    steps = []
    if own:
        arguments = {"objects": own, "namespaces": []}
        steps.append(step("manifest", "own", [object_key(it) for it in own], arguments))
    for key in sorted(releases):
        namespace, _, release = key.partition("/")
        named = {"release": release, "namespace": namespace}
        steps.append(step("helm", release, [f"release {key}"], named))
    if plain or namespaces:
        keys = [object_key(it) for it in plain + namespaces]
        arguments = {"objects": plain, "namespaces": namespaces}
        steps.append(step("manifest", "objects", keys, arguments))
    return steps


def _named(one: Mapping[str, Any]) -> dict[str, Any]:
    """Give of an object what names it."""
    metadata = {
        key: one["metadata"][key] for key in ("name", "namespace") if key in one["metadata"]
    }
    return {"apiVersion": one["apiVersion"], "kind": one["kind"], "metadata": metadata}
