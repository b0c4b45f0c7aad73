"""Who reaches whom in a cluster: pods on two nodes that try each other, and policies over them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from tests.machines.cluster import Cluster, wait_for

SERVED: Final = "served"  # the namespace of the servers
BESIDE: Final = "beside"  # another one
PORTS: Final = (8080, 9090)
NAMES: Final = {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}
SETTLED: Final = 45.0  # seconds


@dataclass(frozen=True)
class Client:
    """A pod that tries to reach the servers."""

    namespace: str
    name: str
    node: str
    label: str


@dataclass(frozen=True)
class Way:
    """One thing that is tried: a client, a server on a node, its address or its service, a port."""

    client: Client
    server: str
    by: str
    port: int


Matrix = dict[Way, bool]


class Probes:
    """The pods of the matrix: a server and three clients on each of two nodes."""

    def __init__(self, cluster: Cluster, image: str) -> None:
        self.cluster = cluster
        self.nodes = [host.name for host in cluster.hosts]
        self._image = image
        self.clients = [
            Client(namespace, f"{label}-{node}", node, label)
            for namespace, label in ((SERVED, "friend"), (SERVED, "other"), (BESIDE, "friend"))
            for node in self.nodes
        ]
        self.addresses: dict[tuple[str, str], str] = {}

    def make(self) -> None:
        """Make namespaces, pods and services, and wait until all of them run."""
        for name in (SERVED, BESIDE):
            labels = {"team": name}
            metadata = {"name": name, "labels": labels}
            self.cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        pods = [self._server(node) for node in self.nodes]
        pods += [
            self._pod(it.namespace, it.name, it.node, it.label, "sleep 100000")
            for it in self.clients
        ]
        services = [self._service(node) for node in self.nodes]
        self.cluster.put(*pods, *services)
        for name in (SERVED, BESIDE):
            words = ("wait", "--for=condition=Ready", "pods", "--all", "--timeout=120s")
            self.cluster.kubectl("-n", name, *words)
        for node in self.nodes:
            pod = self.cluster.get("-n", SERVED, "pod", f"server-{node}")
            service = self.cluster.get("-n", SERVED, "service", f"server-{node}")
            self.addresses[node, "pod"] = pod["status"]["podIP"]
            self.addresses[node, "service"] = service["spec"]["clusterIP"]

    def ways(self) -> Iterator[Way]:
        """Give everything that is tried."""
        for client in self.clients:
            for node, by in self.addresses:
                for port in PORTS:
                    yield Way(client, node, by, port)

    def matrix(self) -> Matrix:
        """Try all ways, those of one client at once."""
        found: Matrix = {}
        for client in self.clients:
            ways = [way for way in self.ways() if way.client == client]
            script = "".join(
                f"(wget -T 2 -qO- http://{self.addresses[way.server, way.by]}:{way.port}/ "
                f"2>/dev/null | grep -qx {way.server} && echo {at}) & "
                for at, way in enumerate(ways)
            )
            reached = self.cluster.inside(client.namespace, client.name, script + "wait").split()
            found |= {way: str(at) in reached for at, way in enumerate(ways)}
        return found

    def settle(self, reached: Callable[[Way], bool]) -> None:
        """Wait until exactly those ways are open that should be, and see that it stays so."""
        wanted = {way: reached(way) for way in self.ways()}
        last: list[Matrix] = []

        def as_wanted() -> bool:
            last[:] = [self.matrix()]
            return last[0] == wanted

        try:
            wait_for("the policy holds", as_wanted, SETTLED)
        finally:
            wrong = [way for way in wanted if last[0][way] != wanted[way]]
            assert not wrong, f"{len(wrong)} of {len(wanted)} ways are not as they should be"
        assert self.matrix() == wanted

    def resolves(self, client: Client, name: str) -> bool:
        """Say whether a client finds the address of a service by its name."""
        script = f"nslookup {name}.{SERVED}.svc.cluster.local 2>&1"
        return self.addresses[name.removeprefix("server-"), "service"] in self.cluster.inside(
            client.namespace, client.name, script
        )

    def _server(self, node: str) -> dict[str, Any]:
        serving = " & ".join(f"httpd -f -p {port} -h /tmp" for port in PORTS)
        script = f"echo {node} > /tmp/index.html; {serving}"
        pod = self._pod(SERVED, f"server-{node}", node, "server", script)
        probe = {"httpGet": {"path": "/", "port": PORTS[-1]}, "periodSeconds": 1}
        pod["spec"]["containers"][0]["readinessProbe"] = probe
        return pod

    def _pod(self, namespace: str, name: str, node: str, label: str, script: str) -> dict[str, Any]:
        container = {"name": "main", "image": self._image, "command": ["sh", "-c", script]}
        labels = {"role": label, "on": node}
        spec = {
            "nodeName": node,
            "terminationGracePeriodSeconds": 0,
            "containers": [{**container, "imagePullPolicy": "IfNotPresent"}],
        }
        metadata = {"namespace": namespace, "name": name, "labels": labels}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}

    def _service(self, node: str) -> dict[str, Any]:
        ports = [{"name": f"p{port}", "port": port} for port in PORTS]
        return {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"namespace": SERVED, "name": f"server-{node}"},
            "spec": {"selector": {"role": "server", "on": node}, "ports": ports},
        }


def policy(name: str, namespace: str, spec: dict[str, Any]) -> dict[str, Any]:
    """Give a policy; without another selector it holds for all pods of its namespace."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"podSelector": {}, **spec},
    }


def ingress(name: str, **rule: Any) -> dict[str, Any]:
    """Give a policy that lets some in to the servers; without a rule it lets nobody in."""
    servers: dict[str, Any] = {
        "podSelector": {"matchLabels": {"role": "server"}},
        "policyTypes": ["Ingress"],
    }
    allowed: dict[str, Any] = {}
    if "peer" in rule:
        allowed["from"] = [rule["peer"]]
    if "port" in rule:
        allowed["ports"] = [{"port": rule["port"]}]
    if rule:
        servers["ingress"] = [allowed]
    return policy(name, SERVED, servers)


def egress(name: str, *, servers: bool = False) -> dict[str, Any]:
    """Give a policy that lets pods beside ask for names only, and reach one port if wanted."""
    rules: list[dict[str, Any]] = [
        {
            "to": [{"namespaceSelector": NAMES}],
            "ports": [{"port": 53, "protocol": it} for it in ("UDP", "TCP")],
        }
    ]
    if servers:
        peer = {"namespaceSelector": {"matchLabels": {"team": SERVED}}}
        rules.append({"to": [peer], "ports": [{"port": PORTS[0]}]})
    return policy(name, BESIDE, {"policyTypes": ["Egress"], "egress": rules})
