"""A release is made by one call on the control plane, and no secret of it is told."""

from __future__ import annotations

import base64
import json
import shlex
from typing import Any

import pytest

from mlstead.clients.ssh import Answer, Target
from mlstead.errors import UnavailableError, UserError
from mlstead.plan import Facts, Release, SecretRef
from mlstead.site import cluster, releases
from mlstead.site.facts import gather
from mlstead.testing.site_values import sites

SITE = sites()["three"]
VALUES = {"login": {"password": SecretRef("db.password")}, "list": ["a", SecretRef("other")]}
ARGUMENTS = {
    "release": "db",
    "namespace": "data",
    "chart": "postgres-1.2.3.tgz",
    "version": "1.2.3",
    "sha256": "5" * 64,
    "labels": {"mlstead.io/site": "three", "mlstead.io/app": "db"},
    "values": VALUES,
    "stuck": 0,
}


class FakeSsh:
    """Keeps what it was asked, and gives answers in turn; the last one for ever."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers) or [Answer(0, b"", "")]
        self.calls: list[tuple[Target, list[str], bytes]] = []

    def run(
        self, target: Target, command: str, *, input: bytes = b"", timeout: float = 0
    ) -> Answer:
        words = shlex.split(command)
        self.calls.append((target, words[words.index("then") + 1 : words.index("else")], input))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def _secret(name: str) -> str:
    return f"CANARY-{name}"


def _way(ssh: FakeSsh) -> cluster.OnHead:
    return cluster.OnHead(SITE, ssh)  # type: ignore[arg-type]


def _upgrade(ssh: FakeSsh, **more: Any) -> None:
    releases.upgrade(_way(ssh), {**ARGUMENTS, **more}, _secret)


def test_values_go_by_standard_input_with_their_secrets() -> None:
    ssh = FakeSsh()
    _upgrade(ssh)
    ((target, words, content),) = ssh.calls
    assert target.name == "head"
    assert json.loads(content) == {
        "login": {"password": "CANARY-db.password"},
        "list": ["a", "CANARY-other"],
    }
    assert "CANARY" not in " ".join(words)
    assert words[:6] == ["helm", "--kubeconfig", "/etc/kubernetes/admin.conf", "upgrade",
                         "--install", "db"]  # fmt: skip
    assert "/var/lib/mlstead/charts/postgres-1.2.3.tgz" in words
    assert {"--wait", "--force-conflicts", "--create-namespace"} <= set(words)
    assert words[words.index("--labels") + 1] == "mlstead.io/site=three,mlstead.io/app=db"
    assert words[words.index("--description") + 1] == "mlstead: chart sha256:" + "5" * 64


def test_a_release_is_taken_away_and_waited_for() -> None:
    ssh = FakeSsh()
    releases.uninstall(_way(ssh), {"release": "$(reboot)", "namespace": "data"})
    ((_, words, _),) = ssh.calls
    assert words[3:7] == ["uninstall", "$(reboot)", "--namespace", "data"]
    assert {"--wait", "--ignore-not-found"} <= set(words)


def test_a_revision_that_was_cut_short_is_forgotten_first() -> None:
    ssh = FakeSsh()
    _upgrade(ssh, stuck=7)
    first, second = (words for _, words, _ in ssh.calls)
    assert first[0] == "kubectl"
    assert "sh.helm.release.v1.db.v7" in first
    assert second[0] == "helm"


def test_a_refusal_names_the_last_line_without_secrets() -> None:
    said = "coalesce\nError: UPGRADE FAILED: 'CANARY-db.password' is no number;"
    with pytest.raises(UserError) as raised:
        _upgrade(FakeSsh(Answer(1, b"", said)))
    assert "head: helm upgrade: Error: UPGRADE FAILED: '…' is no number" in str(raised.value)
    assert "CANARY" not in "".join(map(repr, (raised.value, raised.value.__cause__)))


def test_a_cluster_that_is_away_is_worth_another_try() -> None:
    said = "Error: Kubernetes cluster unreachable: dial tcp 10.0.0.1:6443: connection refused"
    with pytest.raises(UnavailableError):
        _upgrade(FakeSsh(Answer(1, b"", said)))


def test_a_name_that_looks_like_a_command_is_one_word() -> None:
    ssh = FakeSsh()
    _upgrade(ssh, release="$(reboot); --x")
    assert "$(reboot); --x" in ssh.calls[0][1]


def test_objects_are_put_again_while_their_webhook_is_not_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mlstead.site.cluster.time.sleep", lambda seconds: None)
    late = Answer(1, b"", 'Internal error: failed calling webhook "x": no endpoints')
    ssh = FakeSsh(late, late, Answer(0, b"", ""))
    cluster.put(_way(ssh), {"objects": []})
    assert len(ssh.calls) == 3


def test_objects_that_are_refused_are_not_put_again() -> None:
    ssh = FakeSsh(Answer(1, b"", "error: spec is immutable"))
    with pytest.raises(UserError, match="immutable"):
        cluster.put(_way(ssh), {"objects": []})
    assert len(ssh.calls) == 1


# ---- what is gathered ----------------------------------------------------------------------


class FakeHosts:
    """Answers for each machine with the answers of its probes."""

    def __init__(self, answers: dict[str, list[Any]]) -> None:
        self.answers, self.asked = answers, ""

    def run_all(self, calls: list[Any], *, timeout: float) -> list[Answer]:
        found = []
        for _, _, script in calls:
            request = next(it for it in script.decode().split("'") if it.startswith("eyJ"))
            asked = json.loads(base64.b64decode(request))
            self.asked += " ".join(asked["probes"])
            data = {"system": {"clock": 0}, "parts": {}, "answers": self.answers}
            found.append(Answer(0, (asked["mark"] + json.dumps(data) + "\n").encode(), ""))
        return found


def _gathered(answers: dict[str, list[Any]]) -> tuple[Facts, FakeHosts]:
    hosts = FakeHosts(answers)
    found = gather(SITE, hosts, None, ["head"])  # type: ignore[arg-type]
    return found.facts, hosts


def _list(*names: str, labels: dict[str, str] | None = None) -> str:
    marked = {} if labels is None else {"labels": labels}
    items = [{"kind": "X", "metadata": {"name": name, **marked}} for name in names]
    return json.dumps({"items": items})


OURS = {"app.kubernetes.io/managed-by": "mlstead"}


def test_objects_of_an_apps_own_kinds_are_beside_the_others() -> None:
    facts, hosts = _gathered({
        "objects": [0, _list("a")], "objects:metallb": [0, _list("b", labels=OURS)]
    })  # fmt: skip
    assert facts.foreign == {}
    assert set(facts.objects or {}) == {"X/a", "X/b"}
    assert "objects:metallb" in hosts.asked
    assert "releases" in hosts.asked


@pytest.mark.parametrize("labels", [None, {}, {"app.kubernetes.io/managed-by": "Helm"}])
def test_objects_of_an_apps_own_kinds_that_others_made_are_told_apart(
    labels: dict[str, str] | None,
) -> None:
    facts, _ = _gathered({
        "objects": [0, _list("a")], "objects:metallb": [0, _list("c", "b", labels=labels)]
    })  # fmt: skip
    assert set(facts.objects or {}) == {"X/a"}
    assert facts.foreign == {"metallb": ("X/b", "X/c")}


def test_kinds_that_the_cluster_does_not_know_yet_hide_no_others() -> None:
    facts, _ = _gathered({"objects": [0, _list("a")], "objects:metallb": [1, ""]})
    assert set(facts.objects or {}) == {"X/a"}


def test_releases_are_read_with_their_drift() -> None:
    one = {
        "name": "db",
        "namespace": "data",
        "chart": "postgres",
        "version": "1.2.3",
        "status": "deployed",
        "revision": 2,
        "values": {"a": 1},
        "drift": ["Service/x is not there"],
        "labels": {"mlstead.io/app": "db"},
        "description": "mlstead: chart sha256:" + "5" * 64,
    }
    facts, _ = _gathered({"releases": [0, json.dumps([one])]})
    drift = ("Service/x is not there",)
    assert facts.releases == {
        "data/db": Release(
            "postgres", "1.2.3", "deployed", 2, {"a": 1}, drift, {"mlstead.io/app": "db"}, "5" * 64
        )
    }
    one["description"] = "Upgrade complete"
    facts, _ = _gathered({"releases": [0, json.dumps([one])]})
    assert (facts.releases or {})["data/db"].source == ""
    assert facts.charts == ("metallb", "metrics-server")


@pytest.mark.parametrize("answer", [[1, ""], [0, ""], [0, "[{"], [0, '[{"name": "x"}]'], [0, "7"]])
def test_an_answer_about_releases_that_is_none_is_not_known(answer: list[Any]) -> None:
    assert _gathered({"releases": answer})[0].releases is None


def test_what_was_answered_shows_in_no_traceback() -> None:
    facts, _ = _gathered({"releases": [0, '[{"values": "CANARY"}]']})
    assert "CANARY" not in repr(facts)
