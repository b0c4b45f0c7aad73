"""Names in the cluster, by CoreDNS; names outside only where the machines have name servers."""

from typing import Final

from mlstead.apps._objects import labelled
from mlstead.plan import Component, Facts, Step, object_steps
from mlstead.spec.site import Site

NAMESPACE: Final = "kube-system"
COREFILE: Final = """\
.:53 {
    errors
    health {
       lameduck 5s
    }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }
    prometheus :9153
FORWARD    cache 30
    loop
    reload
    loadbalance
}
"""
FORWARD: Final = """\
    forward . /etc/resolv.conf {
       max_concurrent 1000
    }
"""


def _plan(site: Site, facts: Facts) -> list[Step]:
    if site.kubernetes.distribution != "kubeadm":
        return []
    known = [host.system.get("nameservers") for host in facts.hosts.values()]
    # Without a name server anywhere (no internet) CoreDNS would refuse to start.
    forward = FORWARD if any(known) or not known else ""
    metadata = {"name": "coredns", "namespace": NAMESPACE}
    data = {"Corefile": COREFILE.replace("FORWARD", forward)}
    one = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
    return object_steps("cluster_dns", PART, labelled(site, "cluster_dns", [one]), facts)


PART = Component("Set up names in the cluster", "apps", plan=_plan)
