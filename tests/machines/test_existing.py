"""Apps in a cluster that is there: planned, installed and taken away by its kubeconfig alone."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import pytest
from tests.machines import given
from tests.machines.cluster import Cluster, wait_for
from tests.machines.lab.lab import Lab
from tests.machines.site_door import SiteDoor

KINDS = (
    "all,configmaps,secrets,serviceaccounts,namespaces,roles,rolebindings,clusterroles,"
    "clusterrolebindings,crd,apiservices,storageclasses,priorityclasses,"
    "validatingwebhookconfigurations,mutatingwebhookconfigurations"
)
SITE = """\
mlstead: 1
kind: site
name: lab
kubernetes: {distribution: existing, kubeconfig: admin.conf}
"""
ALONE = SITE + "apps:\n  metrics_server: {}\n"

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def cluster(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """Give a cluster of one host, which another made and gives a kubeconfig of."""
    made = Cluster(lab.up(1), tmp_path_factory.mktemp("theirs"), given.bundle(), lab.folder, "{}")
    made.apply()
    return made


class Door(SiteDoor):
    """The command line where there is no ssh."""

    def environment(self) -> dict[str, str]:
        """Give the variables of a shell whose path has nothing but Python."""
        (self.folder / "bin").mkdir(exist_ok=True)
        return {**super().environment(), "PATH": str(self.folder / "bin")}

    def write(self, text: str) -> None:
        """Write the site file; programs come from the bundle."""
        self.file.write_text(text + f"bundle: {given.bundle()}\n", encoding="utf-8")


@pytest.fixture(scope="module")
def door(cluster: Cluster, lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Door:
    head = cluster.hosts[0]
    made = Door(tmp_path_factory.mktemp("ours"), lab.folder, {"h1": (head, "control-plane")})
    config = head.run(["cat", "/etc/kubernetes/admin.conf"]).stdout
    place = os.open(made.folder / "admin.conf", os.O_WRONLY | os.O_CREAT, 0o600)
    os.write(place, config.encode())
    os.close(place)
    return made


def _there(cluster: Cluster) -> Mapping[str, str]:
    """Give everything in the cluster that does not come and go by itself, with its identity."""
    items: list[dict[str, Any]] = cluster.get(KINDS, "-A")["items"]
    return {
        f"{it['kind']}/{it['metadata'].get('namespace', '')}/{it['metadata']['name']}": it[
            "metadata"
        ]["uid"]
        for it in items
        if it["kind"] not in ("Pod", "ReplicaSet")
    }


def test_an_app_is_planned_installed_used_and_taken_away(cluster: Cluster, door: Door) -> None:
    before = _there(cluster)
    door.write(ALONE)
    assert door.left() == ["metrics_server:cluster"]
    assert _there(cluster) == before
    assert [it["name"] for it in door.data("site", "status")["machines"]] == [cluster.hosts[0].name]
    assert door.data("site", "apply")["changed"]
    assert door.left() == []
    assert not door.data("site", "apply")["changed"]
    (app,) = door.data("site", "status")["apps"]
    assert (app["name"], app["state"]) == ("metrics_server", "ok")
    wait_for(
        "nodes are measured",
        lambda: "%" in cluster.kubectl("top", "nodes", "--no-headers", check=False),
    )
    door.call("site", "remove", "--yes")
    assert _there(cluster) == before


def test_an_app_that_is_taken_out_of_the_file_goes_and_others_stay(
    cluster: Cluster, door: Door
) -> None:
    before = _there(cluster)
    subnet = cluster.hosts[0].address.rpartition(".")[0]
    door.write(ALONE + f"  metallb: {{addresses: [{subnet}.200-{subnet}.203]}}\n")
    door.call("site", "apply")
    door.write(ALONE)
    steps = door.left()
    assert steps == [f"metallb:cluster/{it}" for it in ("own", "metallb", "objects")]
    door.call("site", "apply")
    assert door.left() == []
    assert "metallb" not in str(list(_there(cluster)))
    assert "Deployment/kube-system/metrics-server" in _there(cluster)
    door.call("site", "remove", "--yes")
    assert _there(cluster) == before


def test_what_others_made_is_neither_taken_over_nor_lost(cluster: Cluster, door: Door) -> None:
    theirs = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "mlstead-storage"}}
    cluster.put(theirs)
    before = _there(cluster)
    door.write(SITE + "apps:\n  local_path: {}\n")
    said = door.call("site", "apply", code=2)
    assert "Namespace/mlstead-storage: there, and not made by this site" in " ".join(said.split())
    door.call("site", "remove", "--yes")
    assert _there(cluster) == before
    cluster.kubectl("delete", "namespace", "mlstead-storage")


def test_a_namespace_of_ours_in_which_others_have_something_stays(
    cluster: Cluster, door: Door
) -> None:
    door.write(SITE + "apps:\n  local_path: {}\n")
    door.call("site", "apply")
    cluster.kubectl("-n", "mlstead-storage", "create", "configmap", "of-others")
    door.call("site", "remove", "--yes")
    left = cluster.kubectl("-n", "mlstead-storage", "get", "cm,sa,deploy", "-o", "name").split()
    assert "configmap/of-others" in left
    assert not [name for name in left if "local-path" in name]
    cluster.kubectl("delete", "namespace", "mlstead-storage")


def test_a_user_without_rights_is_told_what_is_missing(cluster: Cluster, door: Door) -> None:
    words = ("create", "clusterrolebinding", "looker", "--clusterrole=view")
    cluster.kubectl("-n", "default", "create", "serviceaccount", "looker")
    cluster.kubectl(*words, "--serviceaccount=default:looker")
    token = cluster.kubectl("-n", "default", "create", "token", "looker").strip()
    full = (door.folder / "admin.conf").read_text(encoding="utf-8")
    head, _, rest = full.partition("users:\n")
    rest = rest[rest.index("  user:\n") :].splitlines()[0]
    user = f"users:\n- name: kubernetes-admin\n{rest}\n    token: {token}\n"
    (door.folder / "looker.conf").write_text(head + user, encoding="utf-8")
    door.write(ALONE.replace("admin.conf", "looker.conf").replace("name: lab", "name: looking"))
    said = door.call("site", "plan", code=2)
    assert "annot list resource" in said
    assert token not in door.said
    cluster.kubectl("delete", "clusterrolebinding/looker")
    cluster.kubectl("-n", "default", "delete", "serviceaccount/looker")


def test_a_cluster_that_is_away_is_told_within_its_time(door: Door, cluster: Cluster) -> None:
    text = (door.folder / "admin.conf").read_text(encoding="utf-8")
    (door.folder / "away.conf").write_text(text.replace(":6443", ":6444"), encoding="utf-8")
    door.write(ALONE.replace("admin.conf", "away.conf").replace("name: lab", "name: away"))
    assert "refused" in door.call("site", "plan", code=3)
    assert json.loads(json.dumps(door.data("site", "status")))["machines"][0]["state"] == (
        "unreachable"
    )
    assert cluster.hosts
