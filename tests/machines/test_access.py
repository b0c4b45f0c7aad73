"""The laptop's way into a real cluster: its own certificate, renewed, replaced and taken away.

Needs a bundle (MLSTEAD_LAB_BUNDLE) and Ansible beside root and a lab.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.machines import given
from tests.machines.lab.lab import Lab

from mlstead.clients import kubeconfig
from mlstead.errors import PlatformError
from mlstead.machines.laptop import GROUP
from mlstead.plan import Step
from mlstead.records.memory import MemoryStore
from mlstead.site import access, cluster, driving, laptop
from mlstead.site.session import Session
from mlstead.spec.load import load_site

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]
BUNDLE = str(given.bundle())
FILE = """\
mlstead: 1
kind: site
name: lab
ssh: {{user: {user}, key: {key}}}
machines:
  h1: {{address: {address}, roles: [control-plane, worker, registry]}}
kubernetes:
  kubelet:  # the lab's disk is this machine's, and may be rather full
    imageGCHighThresholdPercent: 100
    imageGCLowThresholdPercent: 99
    evictionHard: {{memory.available: 100Mi, nodefs.available: 2%, imagefs.available: 2%}}
"""
THEIRS = """\
# my clusters
apiVersion: v1
kind: Config
clusters:
    - name: work   # the office
      cluster:
          server:   "https://10.1.1.1:6443"
contexts:
- context: {cluster: work, user: me, namespace: prod}
  name: work
current-context: work
users:
- name: me
  user:
    token: 'ab c'
"""


@dataclass(frozen=True)
class Opened:
    """A site with its cluster, and the records of its changes."""

    session: Session
    store: MemoryStore

    def apply(self) -> None:
        driving.apply(self.session, self.store, "default", lambda event: None)

    def planned(self) -> list[tuple[str, tuple[str, ...]]]:
        return [(step.key, step.reasons) for step in driving.plan(self.session).steps]


@pytest.fixture(scope="module")
def opened(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    folder = tmp_path_factory.mktemp("site")
    host = lab.up(1)[0]
    text = FILE.format(user=host.user, key=lab.folder / "id", address=host.address)
    (folder / "site.yaml").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(folder / "kubeconfig"))
        patch.setenv("MLSTEAD_PASSPHRASE", "of this test alone")
        loaded = load_site(folder / "site.yaml")
        with Session(folder / "home", loaded, bundle=BUNDLE) as session:
            for stranger in session.strangers():
                session.trust(stranger.name, stranger.fingerprints)
            made = Opened(session, MemoryStore())
            made.apply()
            yield made


@pytest.fixture
def path(home: Path, opened: Opened) -> Path:
    """The kubeconfig of this test, with a context that is not ours, and ours."""
    found = Path(os.environ["KUBECONFIG"])
    found.write_text(THEIRS)
    opened.apply()
    return found


def kubectl(*words: str) -> Any:
    """Run kubectl as the user does; give what it printed as JSON."""
    command = [f"{BUNDLE}/bin/kubectl", "--context", "lab", *words, "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def key_of(path: Path) -> str:
    found = kubeconfig.access(path, "lab")
    assert found is not None
    return found.key


def test_kubectl_gets_the_nodes_and_the_cluster_knows_who_asks(path: Path) -> None:
    nodes = kubectl("get", "nodes")["items"]
    assert [it["metadata"]["name"] for it in nodes] == ["h1"]
    who = kubectl("auth", "whoami")["status"]["userInfo"]
    assert who["username"] == access.user_name()
    assert sorted(who["groups"]) == [GROUP, "system:authenticated"]


def test_the_second_plan_is_empty(opened: Opened, path: Path) -> None:
    assert opened.planned() == []


def test_what_else_is_in_the_kubeconfig_stays_byte_for_byte(opened: Opened, path: Path) -> None:
    left = iter(path.read_text().splitlines())
    assert all(line in left for line in THEIRS.splitlines())
    assert laptop.forget(opened.session.site)
    assert path.read_text() == THEIRS


def test_a_certificate_near_its_end_is_made_anew(
    opened: Opened, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = opened.session
    with monkeypatch.context() as patch:
        patch.setattr(access, "VALIDITY", "48h")
        old = access.issue(session.site, session.ssh)
    kubeconfig.merge(path, "lab", old, entry=laptop.entry(session.site))
    kubeconfig.set_namespace(path, "lab", "kube-system")
    assert opened.planned() == [("laptop:laptop", ("its certificate ends in 1 day",))]
    opened.apply()
    assert opened.planned() == []
    assert key_of(path) != old.key
    assert kubeconfig.contexts(path)[1].namespace == "kube-system"
    assert kubectl("get", "pods")["items"]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (("cluster: mlstead-lab", "cluster: work"), "leads to another cluster"),
        ((".11:6443", ".11:6444"), "it leads to"),
        (("certificate-authority-data: ", "other: "), "does not verify"),
        (("client-key-data: ", "other: "), "no certificate of ours"),
    ],
)
def test_a_context_that_leads_elsewhere_is_replaced(
    opened: Opened, path: Path, damage: tuple[str, str], reason: str
) -> None:
    text = path.read_text()
    assert damage[0] in text
    path.write_text(text.replace(*damage))
    [(key, reasons)] = opened.planned()
    assert key == "laptop:laptop"
    assert any(reason in it for it in reasons)
    opened.apply()
    assert opened.planned() == []
    assert kubectl("get", "nodes")["items"]
    assert kubeconfig.contexts(path)[0].name == "work"


def test_a_binding_that_was_deleted_is_put_back(opened: Opened, path: Path) -> None:
    session = opened.session
    cluster.call(cluster.OnHead(session.site, session.ssh), ("delete", "clusterrolebinding", GROUP))
    reason = f"ClusterRoleBinding/{GROUP} is not there"
    assert opened.planned() == [("laptop:cluster", (reason,))]
    opened.apply()
    assert opened.planned() == []


def test_the_private_key_is_in_no_log_and_no_record(opened: Opened, path: Path) -> None:
    key = key_of(path)
    assert "PRIVATE KEY" in key
    needles = (key.encode(), base64.b64encode(key.encode()), b"PRIVATE KEY")
    logs = list((opened.session.folder / "logs").iterdir())
    assert logs
    content = [it.read_bytes() for it in logs]
    content.append(repr(vars(opened.store)).encode())
    assert not [one for one in content for needle in needles if needle in one]


def test_a_damaged_kubeconfig_stops_the_apply_and_is_left(opened: Opened, path: Path) -> None:
    path.write_text("contexts: [")
    with pytest.raises(PlatformError) as caught:
        opened.apply()
    assert f"{path}:1:" in str(caught.value) or f"{path}:2:" in str(caught.value)
    assert path.read_text() == "contexts: ["


def test_what_kubeadm_refuses_is_told_in_one_line(
    opened: Opened, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "CONFIG", "/nowhere; touch /canary $(touch /canary)")
    session = opened.session
    act = access.local_actions(session.site, session.ssh)["laptop"]
    with pytest.raises(PlatformError, match=r"^h1: no certificate for .*no such file") as caught:
        act(Step("", "laptop", "laptop", "local", {}))
    assert "\n" not in str(caught.value)
    words = ("get", "--raw", "/readyz")
    assert cluster.call(cluster.OnHead(session.site, session.ssh), words) == "ok"
