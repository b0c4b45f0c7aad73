"""What the control plane tells of Helm's releases, and when Helm is installed at all."""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import replace
from typing import Any

import pytest

from mlstead.machines import _helm_probe as probe
from mlstead.machines.helm import PART
from mlstead.plan import Facts
from mlstead.testing.site_values import a_bundle, bare, sites

ROLE = {"chart": {"metadata": {"name": "db", "version": "1.2.3"}}, "info": {"status": "deployed"}}


def _secret(name: str, revision: int, **more: Any) -> dict[str, Any]:
    release = {"name": name, "namespace": "data", "version": revision, **ROLE, **more}
    packed = base64.b64encode(gzip.compress(json.dumps(release).encode()))
    metadata = {"labels": {"owner": "helm", "mlstead.io/app": name}}
    return {"data": {"release": base64.b64encode(packed).decode()}, "metadata": metadata}


# ---- the part ------------------------------------------------------------------------------


def test_helm_is_installed_on_the_control_plane_when_an_app_is_a_chart() -> None:
    site = sites()["three"]
    assert PART.plan is not None
    (step,) = PART.plan(site, bare(site))
    names = [file["dest"].rsplit("/", 1)[-1] for file in step.arguments["helm_files"]]
    assert (step.target, names) == (
        "head",
        ["helm", "metallb-0.16.1.tgz", "metrics-server-3.13.0.tgz"],
    )


def test_only_charts_that_are_needed_are_copied() -> None:
    site = sites()["three"]
    facts = replace(bare(site), charts=("metallb",))
    paths = [file["src"] for file in PART.inputs(site, facts, "head")["helm_files"]]
    assert paths == ["bin/helm", "charts/metallb-0.16.1.tgz"]


def test_without_a_chart_there_is_no_helm() -> None:
    site = sites()["one"]
    assert PART.plan is not None
    assert PART.plan(site, bare(site)) == []
    assert [probe.name for probe in PART.probes(site, "box")] == ["releases"]  # one may be left
    assert PART.unmet(site, Facts()) == []


def test_what_the_bundle_lacks_is_told() -> None:
    site = sites()["three"]
    assert PART.unmet(site, bare(site)) == []
    files = tuple(
        it for it in a_bundle().files if "helm" not in it.path and "metallb" not in it.path
    )
    facts = replace(bare(site), bundle=replace(a_bundle(), files=files))
    assert PART.unmet(site, facts) == [
        "the bundle has no bin/helm",
        "the bundle has no charts/metallb-….tgz",
    ]
    assert PART.unmet(site, replace(facts, bundle=None)) == PART.unmet(site, Facts(charts=("x",)))


# ---- the program on the control plane ------------------------------------------------------


def test_the_last_revision_of_each_release_counts() -> None:
    secrets = [_secret("a", 2), _secret("b", 1), _secret("a", 10), _secret("a", 9)]
    found = [(one["name"], one["version"]) for one in probe.latest(secrets)]
    assert found == [("a", 10), ("b", 1)]


@pytest.mark.parametrize(
    "secret", [{}, {"data": {}}, {"data": {"release": "!"}}, {"data": {"release": "YWJj"}}]
)
def test_a_release_that_cannot_be_read_is_passed_over(secret: dict[str, Any]) -> None:
    assert [one["name"] for one in probe.latest([secret, _secret("a", 1)])] == ["a"]


def test_objects_one_after_the_other_and_lists_of_them_are_read() -> None:
    text = '{"kind": "A"}\n{"kind": "List", "items": [{"kind": "B"}, {"kind": "C"}]}\n'
    assert [one["kind"] for one in probe.documents(text)] == ["A", "B", "C"]
    assert probe.documents(" \n") == []


@pytest.mark.parametrize(
    ("wanted", "found", "path"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, ""),
        ({"a": 1}, {"a": 2}, "a"),
        ({"a": {"b": [1, {"c": 2}]}}, {"a": {"b": [1, {"c": 3}]}}, "a.b[1].c"),
        ({"a": [1]}, {"a": [1, 2]}, "a"),
        ({"a": [1]}, {"a": "x"}, "a"),
        ({"a": {"b": 1}}, {"a": "x"}, "a.b"),
        ({"a": None}, {"a": 5}, ""),
        ({"a": {}, "b": [], "c": "", "d": False, "e": 0}, {}, ""),
        ({"a": False}, {"a": True}, "a"),
        ({"status": {"x": 1}, "caBundle": "x", "stringData": {"y": "z"}}, {}, ""),
        ({"cpu": "1000m", "memory": "1024Mi"}, {"cpu": "1", "memory": "1Gi"}, ""),
        ({"cpu": "1000m"}, {"cpu": "1001m"}, "cpu"),
        ({"port": 8080}, {"port": 8081}, "port"),
        ({"word": "10.0.0.1"}, {"word": "10.0.0.2"}, "word"),
    ],
)
def test_a_field_that_differs_is_named_and_what_means_the_same_is_not(
    wanted: object, found: object, path: str
) -> None:
    assert probe.differing(wanted, found) == path


def _object(kind: str, name: str, version: str = "v1", **more: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "data"}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **more}


def test_objects_that_are_gone_or_changed_are_told() -> None:
    wanted = [
        _object("Service", "good"),
        _object("Service", "gone"),
        _object("Deployment", "edited", "apps/v1", spec={"replicas": 1}),
        _object("ClusterRole", "everywhere", "rbac.authorization.k8s.io/v1"),
    ]
    live = [
        _object("Service", "good", spec={"more": 1}),
        _object("Deployment", "edited", "apps/v1", spec={"replicas": 2}),
        {
            **_object("ClusterRole", "everywhere", "rbac.authorization.k8s.io/v1"),
            "metadata": {"name": "everywhere"},
        },
    ]
    found = {probe.key(one, one["metadata"].get("namespace", "")): one for one in live}
    assert probe.drift(wanted, found) == [
        "Service/gone is not there",
        "Deployment/edited: spec.replicas was changed",
    ]


def test_an_object_is_known_whatever_the_version_of_its_kind() -> None:
    wanted = [_object("HorizontalPodAutoscaler", "x", "autoscaling/v1")]
    live = _object("HorizontalPodAutoscaler", "x", "autoscaling/v2")
    assert probe.drift(wanted, {probe.key(live, "data"): live}) == []


class FakeCluster:
    """Answers as kubectl does."""

    def __init__(self, secrets: list[dict[str, Any]], live: list[dict[str, Any]]) -> None:
        self.secrets, self.live, self.calls = secrets, live, 0

    def __call__(self, *words: str, given: str = "") -> tuple[int, str]:
        self.calls += 1
        if words[:2] == ("get", "secrets"):
            return 0, json.dumps({"items": self.secrets})
        if words[0] == "label":
            found = [json.loads(part) for part in given.split("\n---\n") if part.strip()]
            for one in found:
                one["metadata"].setdefault("labels", {})["mlstead-seen"] = "1"
            return 0, "\n".join(json.dumps(one) for one in found)
        return 0, json.dumps({"kind": "List", "items": self.live})


def test_all_releases_are_told_in_three_calls(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}}
    secrets = [
        _secret("a", 1, config={"x": 1}, manifest=json.dumps(service)),
        _secret("b", 2, manifest=""),
    ]
    cluster = FakeCluster(secrets, [])
    monkeypatch.setattr(probe, "kubectl", cluster)
    probe.main()
    first, second = json.loads(capsys.readouterr().out)
    assert first == {
        "name": "a",
        "namespace": "data",
        "chart": "db",
        "version": "1.2.3",
        "status": "deployed",
        "revision": 1,
        "values": {"x": 1},
        "drift": ["Service/s is not there"],
        "labels": {"owner": "helm", "mlstead.io/app": "a"},
        "description": "",
    }
    assert (second["values"], second["drift"], cluster.calls) == ({}, [], 3)


def test_without_a_release_one_call_is_enough(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = FakeCluster([], [])
    monkeypatch.setattr(probe, "kubectl", cluster)
    probe.main()
    assert (json.loads(capsys.readouterr().out), cluster.calls) == ([], 1)


def test_a_cluster_that_does_not_answer_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "kubectl", lambda *words, given="": (1, ""))
    with pytest.raises(SystemExit) as raised:
        probe.main()
    assert raised.value.code == 1


def test_the_program_is_sent_whole() -> None:
    site = sites()["three"]
    (one,) = PART.probes(site, "head")
    assert one.argv[:3] == ("python3", "-I", "-c")
    compile(one.argv[3], "probe", "exec")
    assert len(one.argv[3]) < 100_000  # the most that Linux takes as one argument is 128 KiB
