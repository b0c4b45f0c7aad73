"""Apps in a cluster of two hosts: storage, metrics, addresses, and policies that are enforced."""

from __future__ import annotations

import base64
import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.machines import given
from tests.machines.cluster import Cluster, wait_for
from tests.machines.lab.host import Host
from tests.machines.lab.lab import Lab
from tests.machines.policies import BESIDE, PORTS, SERVED, Probes, Way, egress, ingress

from mlstead.plan import APP_LABEL, CHARTS, CLUSTER, OURS, SITE_LABEL, VOLUMES, chart_of
from mlstead.site import bundle as bundles
from mlstead.site.planning import plan_site

STORED = "mlstead-storage"
APPS = """\
local_path: {}
metrics_server: {}
metallb: {addresses: [ADDRESSES]}"""
HELM = ("helm", "--kubeconfig", "/etc/kubernetes/admin.conf")

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def cluster(lab: Lab, hosts: list[Host], tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """Give a cluster with all apps."""
    subnet = hosts[0].address.rpartition(".")[0]
    apps = APPS.replace("ADDRESSES", f"{subnet}.200-{subnet}.203, {subnet}.208/30")
    made = Cluster(hosts, tmp_path_factory.mktemp("site"), given.bundle(), lab.folder, apps)
    made.apply()
    return made


@pytest.fixture(scope="module")
def image(cluster: Cluster) -> str:
    images = bundles.load(cluster.bundle).images
    return next(it for it in images if "busybox" in it)


def _reasons(cluster: Cluster, apps: str | None = None) -> dict[str, tuple[str, ...]]:
    return {step.key: step.reasons for step in cluster.plan(apps)}


def _repairs(cluster: Cluster, key: str, *words: str) -> None:
    """See that exactly one step is planned, for this reason, and that it leaves nothing to do."""
    found = _reasons(cluster)
    assert list(found) == [key], found
    assert any(all(word in reason for word in words) for reason in found[key]), found
    cluster.apply()
    assert _reasons(cluster) == {}


def _chart(cluster: Cluster) -> str:
    """Give the file of metrics-server's chart on the control plane."""
    files = bundles.load(cluster.bundle).under("charts")
    return next(
        f"{CHARTS}/{Path(it.path).name}" for it in files if chart_of(it.path)[0] == "metrics-server"
    )


def _pod(name: str, image: str, script: str, **spec: Any) -> dict[str, Any]:
    container = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", script],
        **spec.pop("container", {}),
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": {"app": name}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [container], **spec},
    }


# ---- the plan ------------------------------------------------------------------------------


def test_a_second_plan_is_empty(cluster: Cluster) -> None:
    assert _reasons(cluster) == {}


def test_another_option_is_exactly_one_step(cluster: Cluster) -> None:
    other = cluster.apps.replace("metrics_server: {}", "metrics_server: {seconds: 20}")
    found = _reasons(cluster, other)
    assert list(found) == ["metrics_server:cluster"]
    assert "defaultArgs[4] was changed" in found["metrics_server:cluster"][0]


def test_a_value_that_was_changed_by_hand_is_put_back(cluster: Cluster) -> None:
    chart = _chart(cluster)
    words = ("-n", "kube-system", "upgrade", "metrics-server", chart, "--reuse-values")
    cluster.run(*HELM, *words, "--set", "resources.requests.cpu=60m")
    _repairs(cluster, "metrics_server:cluster", "the value resources.requests.cpu was changed")


def test_a_deployment_of_a_release_that_is_gone_is_made_again(cluster: Cluster) -> None:
    cluster.kubectl("-n", "kube-system", "delete", "deployment", "metrics-server")
    _repairs(cluster, "metrics_server:cluster", "Deployment/metrics-server is not there")
    assert cluster.get("-n", "kube-system", "deployment", "metrics-server")["status"][
        "readyReplicas"
    ]


def test_a_field_of_a_release_that_was_edited_is_put_back(cluster: Cluster) -> None:
    patch = json.dumps({"spec": {"template": {"spec": {"priorityClassName": ""}}}})
    words = ("patch", "deployment", "metrics-server", "--field-manager=somebody", "-p", patch)
    cluster.kubectl("-n", "kube-system", *words)
    _repairs(cluster, "metrics_server:cluster", "Deployment/metrics-server:", "priorityClassName")


def test_a_release_that_is_gone_is_made_again(cluster: Cluster) -> None:
    cluster.run(*HELM, "-n", "kube-system", "uninstall", "metrics-server", "--wait")
    _repairs(cluster, "metrics_server:cluster", "release kube-system/metrics-server is not there")


def test_an_apply_that_was_killed_in_a_release_is_finished_by_the_next(cluster: Cluster) -> None:
    chart = _chart(cluster)
    program = "/usr/local/bin/helm"
    words = [*HELM[1:], "-n", "kube-system", "upgrade", "metrics-server", chart, "--reuse-values"]
    argv = [program, *words, "--wait", "--set", "image.tag=never"]
    command = cluster.hosts[0].command(argv)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        wait_for("the release is being made", lambda: "pending-upgrade" in _statuses(cluster))
        cluster.hosts[0].run(["pkill", "-9", "-x", "helm"])
        process.wait(30)
    _repairs(cluster, "metrics_server:cluster", "is pending-upgrade")


def _statuses(cluster: Cluster) -> str:
    words = ("get", "secrets", "-l", "owner=helm", "-L", "status")
    return cluster.kubectl("-n", "kube-system", *words)


@pytest.mark.parametrize(
    ("kind", "name", "namespace", "key"),
    [
        ("StorageClass", "local-path", "", "local_path:cluster"),
        ("Deployment", "local-path", STORED, "local_path:cluster"),
        ("IPAddressPool", "site", "metallb-system", "metallb:cluster/addresses"),
        ("L2Advertisement", "site", "metallb-system", "metallb:cluster/addresses"),
    ],
)
def test_an_object_that_is_gone_is_exactly_one_step(
    cluster: Cluster, kind: str, name: str, namespace: str, key: str
) -> None:
    cluster.kubectl(*(("-n", namespace) if namespace else ()), "delete", kind, name)
    _repairs(cluster, key, kind, "is not there")


def test_a_setting_that_was_edited_is_put_back(cluster: Cluster) -> None:
    patch = json.dumps({"data": {"setup": "exit 1"}})
    cluster.kubectl("-n", STORED, "patch", "configmap", "local-path", "-p", patch)
    _repairs(cluster, "local_path:cluster", "ConfigMap", "data.setup was changed")


def test_a_release_that_somebody_made_anew_is_put_back(cluster: Cluster) -> None:
    words = ("-n", "kube-system", "upgrade", "metrics-server", _chart(cluster), "--reuse-values")
    cluster.run(*HELM, *words)
    _repairs(cluster, "metrics_server:cluster", "somebody changed it")


def test_another_file_of_a_charts_same_version_is_told(cluster: Cluster) -> None:
    site = cluster.site()
    with cluster.ssh() as ssh:
        facts = cluster.facts(ssh, site)
    assert facts.bundle is not None
    files = tuple(
        replace(it, sha256="0" * 64) if "metrics-server" in it.path else it
        for it in facts.bundle.files
    )
    facts = replace(facts, bundle=replace(facts.bundle, files=files))
    found = {it.key: it.reasons for it in plan_site(site, facts) if it.target == CLUSTER}
    assert list(found) == ["metrics_server:cluster"]
    assert "it was made of another file of its chart" in found["metrics_server:cluster"][0]


def test_apps_that_are_taken_out_of_the_file_leave_nothing(cluster: Cluster) -> None:
    found = cluster.plan("local_path: {}")
    assert {it.component for it in found} == {"metallb", "metrics_server"}
    assert {it.tasks for it in found} == {"remove"}
    cluster.apply("local_path: {}")
    assert _reasons(cluster, "local_path: {}") == {}
    kinds = "crd,clusterroles,clusterrolebindings,apiservices,validatingwebhookconfigurations,ns"
    left = cluster.kubectl("get", f"{kinds},deploy,ds,cm,secret,sa", "-A", "-o", "name")
    assert [name for name in left.split() if "metallb" in name or "metrics-server" in name] == []
    assert "storageclass.storage.k8s.io/local-path" in cluster.kubectl("get", "sc", "-o", "name")
    cluster.apply()
    assert _reasons(cluster) == {}


def test_a_namespace_that_others_use_stays_when_its_app_goes(cluster: Cluster) -> None:
    cluster.kubectl("-n", STORED, "create", "configmap", "of-others")
    cluster.apply("metrics_server: {}")
    assert "of-others" in cluster.kubectl("-n", STORED, "get", "cm", "-o", "name")
    labels = cluster.get("ns", STORED)["metadata"]["labels"]
    assert not {SITE_LABEL, APP_LABEL, OURS.split("=")[0]} & set(labels)
    assert _reasons(cluster, "metrics_server: {}") == {}
    cluster.kubectl("-n", STORED, "delete", "configmap", "of-others")
    cluster.apply()
    assert _reasons(cluster) == {}


# ---- certificates of kubelets --------------------------------------------------------------

SHOWN = """
import socket, ssl, sys
context = ssl.create_default_context(cafile="/etc/kubernetes/pki/ca.crt")
with socket.create_connection((sys.argv[1], 10250), 10) as plain:
    with context.wrap_socket(plain, server_hostname=sys.argv[1]) as secured:
        print(sorted(value for _, value in secured.getpeercert()["subjectAltName"]))
"""


def test_every_kubelet_shows_a_certificate_of_the_cluster(cluster: Cluster) -> None:
    for host in cluster.hosts:
        shown = cluster.hosts[0].run(["python3", "-c", SHOWN, host.address]).stdout
        assert shown.strip() == str(sorted([host.name, host.address]))


def test_a_node_gets_no_certificate_for_the_name_of_another(cluster: Cluster) -> None:
    head, worker = cluster.hosts[:2]
    script = (
        "set -e; cd $(mktemp -d); export OPENSSL_CONF=$PWD/conf; printf '[req]\\n"
        "distinguished_name=dn\\n[dn]\\n' > conf; openssl req -new -newkey rsa:2048 -nodes "
        '-keyout key -subj "/O=system:nodes/CN=system:node:$1" -addext "subjectAltName=$2" '
        "2>/dev/null"
    )
    for number, names in enumerate((f"IP:{head.address}", f"DNS:{worker.name},DNS:{head.name}")):
        request = worker.run(["sh", "-c", script, "sh", worker.name, names]).stdout
        wanted = {
            "apiVersion": "certificates.k8s.io/v1",
            "kind": "CertificateSigningRequest",
            "metadata": {"name": f"foreign-{number}"},
            "spec": {
                "signerName": "kubernetes.io/kubelet-serving",
                "request": base64.b64encode(request.encode()).decode(),
                "usages": ["digital signature", "key encipherment", "server auth"],
            },
        }
        argv = ["/usr/local/bin/kubectl", "--kubeconfig", "/etc/kubernetes/kubelet.conf"]
        worker.run([*argv, "create", "-f", "-"], json.dumps(wanted))
    head.run(["systemctl", "start", "mlstead-kubelet-certificates.service"])
    for number in range(2):
        found = cluster.get("csr", f"foreign-{number}")
        assert "conditions" not in found["status"]
        cluster.kubectl("delete", "csr", f"foreign-{number}")


# ---- what the apps are for -----------------------------------------------------------------


def test_the_use_of_nodes_and_pods_is_measured(cluster: Cluster) -> None:
    names = {host.name for host in cluster.hosts}

    def measured() -> bool:
        rows = cluster.kubectl("top", "nodes", "--no-headers", check=False).splitlines()
        return {row.split()[0] for row in rows if row.split()[1] != "<unknown>"} == names

    wait_for("all nodes are measured", measured)
    wait_for(
        "pods are measured",
        lambda: "etcd-" in cluster.kubectl("top", "pods", "-n", "kube-system", check=False),
    )


def test_a_claim_without_a_class_is_bound_written_and_cleared(cluster: Cluster, image: str) -> None:
    worker = cluster.hosts[1]
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "namespace": "default"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "16Mi"}}},
    }
    mounted = {
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        "securityContext": {"runAsUser": 1234},
    }
    pod = _pod(
        "writer",
        image,
        "echo kept > /data/file && sleep 1000",
        nodeSelector={"kubernetes.io/hostname": worker.name},
        volumes=[{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
        container=mounted,
    )
    cluster.put(claim, pod)
    cluster.kubectl("wait", "--for=condition=Ready", "pod/writer", "--timeout=120s")
    assert cluster.get("pvc", "data")["status"]["phase"] == "Bound"
    assert cluster.get("pvc", "data")["spec"]["storageClassName"] == "local-path"
    look = ["sh", "-c", f"cat {VOLUMES}/*/file; stat -c %a {VOLUMES}"]
    wait_for("the file is there", lambda: worker.run(look, check=False).stdout == "kept\n700\n")
    cluster.kubectl("delete", "pod/writer", "pvc/data")
    empty = ["sh", "-c", f'test -z "$(ls {VOLUMES})"']
    wait_for("the folder is gone", lambda: worker.run(empty, check=False).returncode == 0)


def test_a_service_is_reached_from_outside_by_an_address_of_the_site(
    cluster: Cluster, image: str
) -> None:
    script = "echo hello > /tmp/index.html; exec httpd -f -p 8080 -h /tmp"
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "type": "LoadBalancer",
            "selector": {"app": "web"},
            "ports": [{"port": 80, "targetPort": 8080}],
        },
    }
    cluster.put(_pod("web", image, script), service)
    cluster.kubectl("wait", "--for=condition=Ready", "pod/web", "--timeout=120s")
    given = wait_for(
        "the service has an address",
        lambda: cluster.get("service", "web")["status"]["loadBalancer"].get("ingress"),
    )
    address = given[0]["ip"]
    assert address.rpartition(".")[2] in {"200", "201", "202", "203", "208", "209", "210", "211"}

    def answered() -> str:
        try:
            with urllib.request.urlopen(f"http://{address}/", timeout=3) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""

    assert wait_for("it answers", answered) == "hello\n"
    cluster.kubectl("delete", "service/web", "pod/web")


# ---- policies ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def probes(cluster: Cluster, image: str) -> Iterator[Probes]:
    """Give pods that try each other, on both nodes."""
    made = Probes(cluster, image)
    made.make()
    yield made
    cluster.kubectl("delete", "namespace", SERVED, BESIDE)


@pytest.fixture(autouse=True)
def no_policies(request: pytest.FixtureRequest) -> Iterator[None]:
    """Take the policies of a test away after it."""
    yield
    if "probes" in request.fixturenames:
        cluster = request.getfixturevalue("cluster")
        for name in (SERVED, BESIDE):
            cluster.kubectl("-n", name, "delete", "networkpolicies", "--all")


def _friend(way: Way) -> bool:
    return way.client.namespace == SERVED and way.client.label == "friend"


def test_without_a_policy_everyone_reaches_everything(probes: Probes) -> None:
    probes.settle(lambda way: True)


def test_who_lets_nobody_in_is_reached_by_nobody(probes: Probes) -> None:
    probes.cluster.put(ingress("deny"))
    probes.settle(lambda way: False)


def test_pods_with_a_label_come_in_by_one_port_and_only_those_of_the_namespace(
    probes: Probes,
) -> None:
    peer = {"podSelector": {"matchLabels": {"role": "friend"}}}
    probes.cluster.put(ingress("deny"), ingress("friends", peer=peer, port=PORTS[0]))
    probes.settle(lambda way: _friend(way) and way.port == PORTS[0])


def test_pods_of_another_namespace_come_in_by_its_label(probes: Probes) -> None:
    peer = {"namespaceSelector": {"matchLabels": {"team": BESIDE}}}
    probes.cluster.put(ingress("deny"), ingress("team", peer=peer))
    probes.settle(lambda way: way.client.namespace == BESIDE)


def test_a_port_may_be_open_for_all(probes: Probes) -> None:
    probes.cluster.put(ingress("deny"), ingress("port", port=PORTS[1]))
    probes.settle(lambda way: way.port == PORTS[1])


def test_pods_that_may_only_ask_for_names_still_can(probes: Probes) -> None:
    probes.cluster.put(egress("names"))
    probes.settle(lambda way: way.client.namespace == SERVED)
    for client in probes.clients:
        assert probes.resolves(client, f"server-{probes.nodes[0]}"), client


def test_pods_reach_what_they_may_go_out_to_and_what_lets_them_in(probes: Probes) -> None:
    peer = {"namespaceSelector": {"matchLabels": {"team": BESIDE}}}
    probes.cluster.put(egress("names", servers=True), ingress("deny"), ingress("team", peer=peer))
    probes.settle(lambda way: way.client.namespace == BESIDE and way.port == PORTS[0])


def test_a_policy_that_is_gone_forbids_nothing(probes: Probes) -> None:
    probes.cluster.put(ingress("deny"))
    probes.settle(lambda way: False)
    probes.cluster.kubectl("-n", SERVED, "delete", "networkpolicy", "deny")
    probes.settle(lambda way: True)


def test_a_plan_stays_within_its_time_and_is_still_empty(cluster: Cluster) -> None:
    began = time.monotonic()
    assert cluster.plan() == []
    assert time.monotonic() - began < 15  # promised are 5 s for three hosts; waits have three times
