"""What is marked as ours and is of no app of the site goes, in a safe order; nothing else does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mlstead.plan import CLUSTER, Facts, Release, mark, object_key
from mlstead.site.components import apps
from mlstead.site.planning import plan_site
from mlstead.site.preflight import preflight
from mlstead.site.pruning import lost_with, prune_steps, without_apps
from mlstead.spec.base import freeze
from mlstead.spec.site import Site
from mlstead.testing.site_values import APPS, after, bare, sites

SITE = sites()["three"]


def _with(*names: str) -> Site:
    return SITE.model_copy(update={"apps": freeze({name: APPS[name] for name in names})})


@pytest.fixture
def full() -> Facts:
    """Give the facts when all apps are installed."""
    facts = bare(SITE)
    return after(facts, [it for it in plan_site(SITE, facts) if it.target == CLUSTER])


def _keys(site: Site, facts: Facts) -> list[str]:
    return [step.key for step in prune_steps(site, facts)]


def test_nothing_goes_while_the_site_has_the_apps(full: Facts) -> None:
    assert prune_steps(SITE, full) == []


@pytest.mark.parametrize("name", list(APPS))
def test_an_app_that_is_taken_out_goes_and_comes_back(full: Facts, name: str) -> None:
    site = _with(*(set(APPS) - {name}))
    steps = prune_steps(site, full)
    assert {step.component for step in steps} == {name}
    gone = after(full, steps)
    assert prune_steps(site, gone) == []
    assert {it.component for it in plan_site(SITE, gone) if it.target == CLUSTER} == {name}


def test_the_last_app_goes_first_and_custom_resources_before_what_watches_them(
    full: Facts,
) -> None:
    found = _keys(_with(), full)
    assert found == [
        "metrics_server:cluster/metrics-server",
        "metallb:cluster/own",
        "metallb:cluster/metallb",
        "metallb:cluster/objects",
        "local_path:cluster/objects",
    ]


def test_a_namespace_goes_after_all_that_is_in_it(full: Facts) -> None:
    for step in prune_steps(_with(), full):
        if step.action == "manifest":
            kinds = [one["kind"] for one in step.arguments["objects"]]
            assert "Namespace" not in kinds
            assert {one["kind"] for one in step.arguments["namespaces"]} <= {"Namespace"}


def test_what_comes_with_each_cluster_of_ours_stays(full: Facts) -> None:
    left = after(full, prune_steps(_with(), full)).objects or {}
    assert {"DaemonSet/kube-system/kindnet", "ConfigMap/kube-system/coredns"} <= set(left)


def test_a_site_of_the_same_name_that_only_uses_the_cluster_takes_no_network_away(
    full: Facts,
) -> None:
    there = sites()["existing"].model_copy(update={"name": SITE.name})
    steps = prune_steps(without_apps(there), full)
    assert {step.component for step in steps} == set(APPS)


def _marked(site: str, app: str, **more: Any) -> dict[str, Any]:
    labels = {**mark(SITE, app), "mlstead.io/site": site, **more}
    metadata = {"name": "x", "namespace": "n", "labels": labels}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}


@pytest.mark.parametrize(
    "labels",
    [None, {}, {"app.kubernetes.io/managed-by": "mlstead"}, {"mlstead.io/app": "metallb"},
     {"mlstead.io/app": "metallb", "mlstead.io/site": "other"}, {"mlstead.io/site": "three"}],
)  # fmt: skip
def test_what_is_not_marked_as_this_sites_stays(full: Facts, labels: dict[str, str] | None) -> None:
    metadata = {"name": "x", "namespace": "n", **({} if labels is None else {"labels": labels})}
    one = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
    release = Release("db", "1.0.0", "deployed", 1, labels=labels or {})
    facts = replace(bare(SITE), objects={object_key(one): one}, releases={"n/db": release})
    assert prune_steps(_with(), facts) == []


def test_what_an_app_made_once_and_makes_no_more_goes(full: Facts) -> None:
    one = _marked("three", "local_path")
    facts = replace(full, objects={**(full.objects or {}), object_key(one): one})
    (step,) = prune_steps(SITE, facts)
    assert step.reasons == ("ConfigMap/n/x: the app has it no more",)
    assert step.arguments["objects"] == [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": "n"}}
    ]


def test_an_app_that_this_version_does_not_know_goes(full: Facts) -> None:
    one = _marked("three", "forgotten")
    facts = replace(bare(SITE), objects={object_key(one): one})
    (step,) = prune_steps(SITE, facts)
    assert (step.title, step.key) == ("Remove: forgotten", "forgotten:cluster/objects")


def test_a_cluster_of_which_nothing_is_known_loses_nothing() -> None:
    assert prune_steps(_with(), replace(bare(SITE), objects=None, releases=None)) == []


def test_an_app_goes_before_others_are_installed(full: Facts) -> None:
    facts = replace(after(full, prune_steps(_with("metallb"), full)), releases=full.releases)
    steps = [it for it in plan_site(_with("metallb", "local_path"), facts) if it.target == CLUSTER]
    assert [step.tasks for step in steps] == ["remove", "main"]


def test_what_others_made_of_an_apps_kinds_keeps_it_from_going(full: Facts) -> None:
    facts = replace(full, foreign={"metallb": ("IPAddressPool/metallb-system/mine",)})
    said = "IPAddressPool/metallb-system/mine would be lost with metallb, and mlstead did not make"
    assert lost_with(SITE, facts) == []
    (told,) = lost_with(_with("local_path"), facts)
    assert told.startswith(said)
    assert [it.message for it in preflight(_with("local_path"), facts, {}) if it.stops] == [told]


def test_every_step_of_a_removal_names_an_app_and_why(full: Facts) -> None:
    for step in prune_steps(_with(), full):
        assert step.component in apps()
        assert step.reasons
        assert all("it is not of the site's apps" in reason for reason in step.reasons)
