"""Three bare hosts become a cluster, are used, damaged, put right, rebooted, and given back."""

from __future__ import annotations

import base64
import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.machines.lab.host import Host
from tests.machines.lab.lab import Lab
from tests.machines.lab.snapshot import Snapshot, difference
from tests.machines.site_door import PASSPHRASE, SiteDoor, kubectl, objects, ready, until

from mlstead.plan import HostFacts, PartFacts
from mlstead.site.applying import Doing, run_steps
from mlstead.site.planning import plan_site
from mlstead.site.session import Session
from mlstead.spec.load import load_site

pytestmark = pytest.mark.timeout(3600)  # the first test waits for the whole install
STAYS = (
    # the tools that make users keep the file before the last change
    "files /etc/group-",
    "files /etc/gshadow-",
    "files /etc/passwd-",
    "files /etc/shadow-",
    # a mount of the lab, whose folder cannot be taken away
    "files /var/lib/containerd",
    # systemd reaches it for any unit that wants it
    "units unit network-online.target",
)
"""What may differ on a host after a removal, and why; everything else is as it was."""
POD = """\
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  nodeSelector: {kubernetes.io/hostname: h1}
  containers:
  - name: c
    image: docker.io/local/busybox:1
    imagePullPolicy: Never
    command:
    - sh
    - -c
    - mkdir -p /tmp/w; echo hello >/tmp/w/index.html; exec httpd -f -p 8080 -h /tmp/w
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
"""
JOBS = """\
apiVersion: batch/v1
kind: Job
metadata: {name: ask}
spec:
  completions: 3
  parallelism: 3
  backoffLimit: 20
  template:
    metadata: {labels: {app: ask}}
    spec:
      restartPolicy: Never
      topologySpreadConstraints:
      - maxSkew: 1
        topologyKey: kubernetes.io/hostname
        whenUnsatisfiable: DoNotSchedule
        labelSelector: {matchLabels: {app: ask}}
      containers:
      - name: c
        image: docker.io/local/busybox:1
        imagePullPolicy: Never
        command:
        - sh
        - -c
        - |
          for i in 1 2 3 4 5 6 7 8 9; do
            wget -T 3 -qO- http://web.default.svc.cluster.local && exit
            sleep 1
          done
          exit 1
"""
NAMES = ("h1", "h2", "h3")


class Place:
    """The lab of this file, its site, and how its hosts were before."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.hosts = lab.up(3)
        self.before = {host.name: host.snapshot() for host in self.hosts}
        roles = ("control-plane, worker, registry", "worker", "worker")
        machines = {it.name: (it, role) for it, role in zip(self.hosts, roles, strict=True)}
        self.door = SiteDoor(folder, lab.folder, machines)

    @property
    def head(self) -> Host:
        return self.hosts[0]

    def changed(self, host: Host) -> list[str]:
        now: Snapshot = host.snapshot()
        return difference(self.before[host.name], now, STAYS)


@pytest.fixture(scope="module")
def place(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    found = Place(lab, tmp_path_factory.mktemp("site"))
    found.door.call("site", "trust", "--yes")
    yield found


@pytest.fixture(scope="module")
def installed(place: Place) -> Place:
    place.door.call("site", "apply")
    return place


def test_a_plan_of_bare_hosts_names_every_part_and_changes_nothing(place: Place) -> None:
    planned = place.door.data("site", "plan")
    steps = {it["step"] for it in planned["steps"]}
    assert {f"kubeadm:{name}" for name in NAMES} | {"registry:h1", "pod_network:cluster"} <= steps
    assert place.changed(place.hosts[1]) == []


def test_an_apply_makes_a_cluster_and_a_second_one_does_nothing(installed: Place) -> None:
    assert ready(installed.head, NAMES)
    assert installed.door.left() == []
    assert installed.door.data("site", "apply") == {"changed": False, "run": None}
    runs = installed.door.data("ps", "--json")
    assert [(it["kind"], it["state"]) for it in runs] == [("site", "succeeded")]
    log = installed.door.call("logs", runs[0]["id"])
    assert "kubeadm h1: Start the control plane: changed" in log


def test_every_role_run_again_changes_nothing(installed: Place) -> None:
    loaded = load_site(installed.door.file)
    with Session(installed.door.home, loaded, passphrase=lambda: PASSPHRASE) as session:
        found = session.look().facts
        bare = {
            name: HostFacts(host.system, {part: PartFacts() for part in host.parts}, host.answers)
            for name, host in found.hosts.items()
        }
        facts = type(found)(bare, found.objects, found.laptop, found.bundle, found.roles)
        steps = [it for it in plan_site(session.site, facts) if it.action == "role"]
        bundle = session.bundle()
        assert bundle is not None
        told: list[str] = []

        def take(event: Any) -> None:
            if event.state == "changed":
                told.append(f"{event.component}: {event.title} on {', '.join(event.targets)}")

        doing = Doing(session.site, session.ssh, bundle.folder, session.secrets.value, take)
        changes = run_steps(doing, steps)
    assert {step.component for step in steps} >= {"python", "network", "containerd", "kubeadm"}
    assert (changes, told) == (0, [])


def test_pods_on_every_node_reach_a_service_by_its_name(installed: Place) -> None:
    kubectl(installed.head, "apply", "-f", "-", input=POD)
    kubectl(installed.head, "wait", "--for=condition=Ready", "pod/web", "--timeout=120s")
    kubectl(installed.head, "apply", "-f", "-", input=JOBS)
    kubectl(installed.head, "wait", "--for=condition=complete", "job/ask", "--timeout=180s")
    pods = objects(installed.head, "pods", "-l", "app=ask")["items"]
    done = [it for it in pods if it["status"]["phase"] == "Succeeded"]
    assert {it["spec"]["nodeName"] for it in done} == set(NAMES)
    kubectl(installed.head, "delete", "job/ask", "pod/web", "service/web", "--timeout=60s")


def test_an_image_pushed_to_the_registry_runs_on_another_node(installed: Place) -> None:
    address = f"{installed.head.address}:5000"
    with Session(
        installed.door.home, load_site(installed.door.file), passphrase=lambda: PASSPHRASE
    ) as session:
        word = session.secrets.value("registry.password")
    image = f"{address}/team/box:1"
    h2 = installed.hosts[1]
    h2.run(["ctr", "-n", "k8s.io", "images", "tag", "docker.io/local/busybox:1", image])
    push = ["ctr", "-n", "k8s.io", "images", "push"]
    trusted = ["--local", "--tlscacert", f"/etc/containerd/certs.d/{address}/ca.crt"]
    assert h2.run([*push, *trusted, image], check=False).returncode != 0
    h2.run([*push, *trusted, "--user", f"mlstead:{word}", image])
    overrides = {
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": "h3"},
            "containers": [
                {
                    "name": "box",
                    "image": image,
                    "imagePullPolicy": "Always",
                    "command": ["echo", "pulled"],
                }
            ],
        }
    }
    kubectl(
        installed.head, "run", "box", "--image", image, "--restart=Never",
        f"--overrides={json.dumps(overrides)}",
    )  # fmt: skip
    kubectl(
        installed.head, "wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/box",
        "--timeout=90s",
    )  # fmt: skip
    assert kubectl(installed.head, "logs", "box").strip() == "pulled"
    kubectl(installed.head, "delete", "pod/box", "--timeout=60s")


def test_what_listens_is_what_was_declared_and_nothing_answers_without_a_login(
    installed: Place,
) -> None:
    declared = {
        (it["target"], it["number"])
        for it in installed.door.data("site", "plan")["ports"]
        if it["protocol"] == "tcp" and it["sources"] == "anywhere"
    }
    found = set()
    for host in installed.hosts:
        rows = host.run(["ss", "-H", "-lnt"]).stdout.splitlines()
        numbers = {int(row.split()[3].rsplit(":", 1)[1]) for row in rows}
        found |= {(host.name, it) for it in numbers | set(range(1, 1024)) if answers(host, it)}
    assert found == declared
    for path, port in (("/api", 6443), ("/version", 6443), ("/pods", 10250), ("/v2/", 5000)):
        assert status_of(installed.head.address, port, path) in (401, 403), path


def answers(host: Host, port: int) -> bool:
    with socket.socket() as caller:
        caller.settimeout(2)
        return caller.connect_ex((host.address, port)) == 0


def status_of(address: str, port: int, path: str) -> int:
    """Ask without a login; whom the certificate is from does not matter here."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection((address, port), timeout=10) as plain,
        context.wrap_socket(plain) as caller,
    ):
        caller.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        return int(caller.recv(100).split()[1])


def test_secrets_are_encrypted_in_etcd_and_found_in_nothing_that_was_written(
    installed: Place,
) -> None:
    canary = "canary-7f3a91c2"
    kubectl(installed.head, "create", "secret", "generic", "bird", f"--from-literal=word={canary}")
    encoded = base64.b64encode(canary.encode()).decode()
    for word in (canary, encoded):
        found = installed.head.run(["grep", "-rlF", word, "/var/lib/etcd"], check=False)
        assert found.stdout == ""
    assert "bird" in installed.head.read("/var/log/kubernetes/audit.log")
    assert canary not in installed.head.read("/var/log/kubernetes/audit.log")
    tokens = objects(installed.head, "secrets", "-n", "kube-system", "--field-selector",
                     "type=bootstrap.kubernetes.io/token")  # fmt: skip
    assert tokens["items"] == []
    with Session(
        installed.door.home, load_site(installed.door.file), passphrase=lambda: PASSPHRASE
    ) as session:
        words = [
            session.secrets.value("registry.password"),
            session.secrets.value("registry.key").splitlines()[1],
        ]
    for word in (*words, PASSPHRASE):
        assert word not in installed.door.said
        for path in installed.door.home.rglob("*"):
            if path.is_file():
                assert word.encode() not in path.read_bytes(), path
        for host in installed.hosts:
            text = host.run(["journalctl", "--no-pager", "-q"], seconds=60).stdout
            assert word not in text, host.name


def test_whatever_is_damaged_is_named_and_put_right(installed: Place) -> None:
    h1, h2, h3 = installed.hosts
    h1.run(["systemctl", "stop", "mlstead-registry"])
    h2.run(["sh", "-c", "echo '# by hand' >> /etc/containerd/config.toml"])
    h2.run(["sh", "-c", "echo 0 > /proc/sys/net/ipv4/ip_forward"])
    h3.run(["ctr", "-n", "k8s.io", "images", "rm", "docker.io/local/busybox:1"])
    h3.run(["sed", "-i", "/ h1$/d", "/etc/hosts"])
    kubectl(h1, "-n", "kube-system", "patch", "daemonset/kindnet", "--type=json", "-p",
            '[{"op": "remove", "path": "/spec/template/spec/tolerations"}]')  # fmt: skip
    steps = {
        it["step"]: " ".join(it["reasons"]) for it in installed.door.data("site", "plan")["steps"]
    }
    assert set(steps) == {
        "registry:h1", "containerd:h2", "network:h2", "kubelet:h3", "network:h3",
        "pod_network:cluster",
    }  # fmt: skip
    assert "mlstead-registry.service is inactive" in steps["registry:h1"]
    assert "/etc/containerd/config.toml was changed" in steps["containerd:h2"]
    assert "net.ipv4.ip_forward is 0, not 1" in steps["network:h2"]
    assert "image docker.io/local/busybox:1 is gone" in steps["kubelet:h3"]
    assert "spec.template.spec.tolerations was changed" in steps["pod_network:cluster"]
    installed.door.call("site", "apply")
    assert installed.door.left() == []


def test_hosts_that_were_rebooted_come_back_as_described(installed: Place) -> None:
    installed.hosts[1].reboot()
    installed.head.reboot()
    until("all nodes are ready", 240, lambda: ready(installed.head, NAMES))
    until("nothing is left to do", 60, lambda: installed.door.left() == [])


def test_a_worker_leaves_without_a_trace_and_comes_back_under_its_name(installed: Place) -> None:
    text = installed.door.file.read_text(encoding="utf-8")
    installed.door.call("site", "machine", "drain", "h3")
    until("it is cordoned", 10, lambda: "cordoned" in installed.door.call("site", "status"))
    installed.door.call("site", "machine", "remove", "h3")
    assert installed.changed(installed.hosts[2]) == []
    assert ready(installed.head, ("h1", "h2"))
    assert "h3" not in installed.door.file.read_text(encoding="utf-8")
    installed.door.file.write_text(text, encoding="utf-8")
    installed.door.call("site", "apply")
    assert ready(installed.head, NAMES)


def test_a_dead_worker_is_forgotten_when_that_is_said(installed: Place) -> None:
    installed.lab.kill(installed.hosts[2])
    refused = installed.door.call("site", "machine", "remove", "h3", code=3)
    assert "h3" in refused and "--dead" in refused
    installed.door.call("site", "machine", "remove", "h3", "--dead")
    installed.door.call("site", "apply")
    assert ready(installed.head, ("h1", "h2"))


def test_a_removal_leaves_hosts_as_they_were(installed: Place) -> None:
    said = installed.door.call("site", "remove", code=2)
    assert "--yes" in said
    installed.door.call("site", "remove", "--yes")
    for host in installed.hosts[:2]:
        assert installed.changed(host) == []
    assert not (installed.door.home / "sites/lab/vault").exists()
