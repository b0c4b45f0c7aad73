"""Helm releases are planned from what is in the cluster: one step, with the reason for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mlstead.apps._releases import Charted, Wanted, charted, helm_steps, unequal
from mlstead.plan import (
    Bundle,
    BundleFile,
    Component,
    Facts,
    Release,
    SecretRef,
    Step,
    chart_of,
    mark,
)
from mlstead.testing.site_values import sites

PART = Component("Do it", "apps")
VALUES: dict[str, Any] = {"image": {"tag": "v1"}, "list": [1, {"a": True}], "word": SecretRef("w")}
WANTED = Wanted("db", "data", "postgres", VALUES)
FILES = ("charts/postgres-extra-9.9.9.tgz", "charts/postgres-1.2.3.tgz", "bin/postgres-1.2.3.tgz")
SITE = sites()["three"]
BUNDLE = Bundle("/b", {}, tuple(BundleFile(path, "0" * 64, 1) for path in FILES))
GOOD = Release(
    "postgres",
    "1.2.3",
    "deployed",
    4,
    {**VALUES, "word": "hunter2"},
    labels=mark(SITE, "db"),
    source="0" * 64,
)


def _steps(facts: Facts) -> list[Step]:
    return helm_steps("db", PART, SITE, facts, WANTED)


def _reasons(release: Release | None) -> tuple[str, ...]:
    releases = {} if release is None else {"data/db": release}
    steps = _steps(Facts(bundle=BUNDLE, releases=releases))
    assert len(steps) <= 1
    return steps[0].reasons if steps else ()


def test_a_release_as_wanted_needs_no_step() -> None:
    assert _reasons(GOOD) == ()


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (None, "release data/db is not there"),
        (replace(GOOD, status="failed"), "release data/db is failed"),
        (replace(GOOD, status="pending-upgrade"), "release data/db is pending-upgrade"),
        (replace(GOOD, version="1.2.2"), "release data/db: postgres 1.2.2, not postgres 1.2.3"),
        (
            replace(GOOD, values={**GOOD.values, "image": {"tag": "v2"}}),
            "release data/db: the value image.tag was changed",
        ),
        (
            replace(GOOD, values={**GOOD.values, "more": 1}),
            "release data/db: the value more was changed",
        ),
        (
            replace(GOOD, values={**GOOD.values, "list": [1, {"a": False}]}),
            "release data/db: the value list[1].a was changed",
        ),
        (
            replace(GOOD, source="1" * 64),
            "release data/db: it was made of another file of its chart",
        ),
        (replace(GOOD, source=""), "release data/db: somebody changed it"),
        (replace(GOOD, labels=mark(SITE, "dc")), "release data/db is not marked as ours"),
        (replace(GOOD, labels=mark(sites()["one"], "db")), "release data/db is not marked as ours"),
        (replace(GOOD, drift=("Service/db is not there",)),
         "release data/db: Service/db is not there"),
    ],
)  # fmt: skip
def test_any_one_difference_is_one_step_with_its_reason(found: Release | None, reason: str) -> None:
    assert _reasons(found) == (reason,)


def test_all_differences_are_told_in_one_step() -> None:
    found = replace(GOOD, status="failed", version="0.1.0", drift=("a", "b"))
    assert len(_reasons(found)) == 4


def test_without_facts_the_release_is_to_be_made() -> None:
    step = _steps(Facts())[0]
    assert (step.action, step.target, step.arguments["chart"]) == ("helm", "cluster", "")


def test_the_step_names_the_chart_file_and_version_of_the_bundle() -> None:
    step = _steps(Facts(bundle=BUNDLE))[0]
    assert step.arguments == {
        "release": "db",
        "namespace": "data",
        "chart": "postgres-1.2.3.tgz",
        "version": "1.2.3",
        "sha256": "0" * 64,
        "labels": {"mlstead.io/site": "three", "mlstead.io/app": "db"},
        "values": VALUES,
        "stuck": 0,
    }


@pytest.mark.parametrize("status", ["pending-install", "pending-upgrade", "pending-rollback"])
def test_a_revision_that_was_cut_short_is_named_in_the_step(status: str) -> None:
    facts = Facts(bundle=BUNDLE, releases={"data/db": replace(GOOD, status=status)})
    assert _steps(facts)[0].arguments["stuck"] == 4


def test_no_reason_holds_a_value() -> None:
    found = replace(GOOD, values={"image": {"tag": "CANARY"}, "word": "CANARY"})
    steps = _steps(Facts(bundle=BUNDLE, releases={"data/db": found}))
    assert "CANARY" not in repr(steps)
    assert "CANARY" not in repr(found)


@pytest.mark.parametrize(
    ("wanted", "found", "path"),
    [
        ({}, {}, ""),
        ({"a": None}, {}, ""),
        ({}, {"a": None}, ""),
        ({"a": {"b": 1}}, {"a": {"b": 1}}, ""),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, "a.b"),
        ({"a": {"b": 1}}, {"a": 1}, "a"),
        ({"a": [1]}, {"a": [1, 2]}, "a"),
        ({"a": (1, 2)}, {"a": [1, 2]}, ""),
        ({"a": SecretRef("x")}, {"a": ""}, "a"),
        ({"a": SecretRef("x")}, {}, "a"),
        (1, 2, "."),
    ],
)
def test_unequal_names_the_first_value_that_differs_on_either_side(
    wanted: object, found: object, path: str
) -> None:
    assert unequal(wanted, found) == path


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("charts/metallb-0.16.1.tgz", ("metallb", "0.16.1")),
        ("charts/metrics-server-3.13.0.tgz", ("metrics-server", "3.13.0")),
        ("argo-v2-1.0.0-rc.1.tgz", ("argo-v2", "1.0.0-rc.1")),
        ("charts/x-v1.2.3.tgz", ("x", "v1.2.3")),
        ("charts/readme.txt", ("", "")),
        ("charts/chart.tgz", ("", "")),
    ],
)
def test_a_chart_is_known_by_its_file_name(path: str, name: tuple[str, str]) -> None:
    assert chart_of(path) == name


def test_a_chart_is_not_taken_for_another_whose_name_begins_so() -> None:
    assert charted(Facts(bundle=BUNDLE), "postgres") == Charted(
        "postgres-1.2.3.tgz", "1.2.3", "0" * 64
    )
    assert charted(Facts(bundle=BUNDLE), "redis") == Charted()
