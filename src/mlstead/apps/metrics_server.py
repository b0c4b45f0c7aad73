"""Use of CPU and memory by nodes and pods (``kubectl top``), as a Helm release."""

from typing import Annotated, Any, Final

from pydantic import Field

from mlstead.apps._objects import image_named, image_parts
from mlstead.apps._options import chosen
from mlstead.apps._releases import Wanted, helm_steps
from mlstead.plan import Component, Facts, Step
from mlstead.spec.base import Model
from mlstead.spec.site import Site

NAME: Final = "metrics-server"
AUTHORITY: Final = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"


class Options(Model):
    """How closely nodes and pods are looked at."""

    # It gives a kubelet 10 s to answer, and refuses to start with less than that.
    seconds: Annotated[int, Field(ge=11, le=300)] = Field(
        default=15, description="How often it asks the nodes."
    )
    verify: bool = Field(
        default=True,
        description="Whether kubelets must show certificates that the cluster's authority signed.",
    )


OPTIONS: Final = Options


def _plan(site: Site, facts: Facts) -> list[Step]:
    options = chosen(site, "metrics_server", Options)
    if options is None:
        return []
    wanted = Wanted(NAME, "kube-system", NAME, _values(options, image_named(facts, NAME)))
    return helm_steps("metrics_server", PART, site, facts, wanted)


def _values(options: Options, image: str) -> dict[str, Any]:
    """Give the chart's values: kubelets and metrics-server itself show certificates that count."""
    return {
        "image": image_parts(image),
        "defaultArgs": [
            "--cert-dir=/tmp",
            "--kubelet-preferred-address-types=InternalIP",
            "--kubelet-use-node-status-port",
            f"--kubelet-certificate-authority={AUTHORITY}"
            if options.verify
            else "--kubelet-insecure-tls",
            f"--metric-resolution={options.seconds}s",
        ],
        "apiService": {"insecureSkipTLSVerify": False},
        "tls": {"type": "helm", "helm": {"certDurationDays": 3650}},
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
    }


def _unmet(site: Site, facts: Facts) -> list[str]:
    if "metrics_server" not in site.apps or facts.bundle is None:
        return []
    return [] if image_named(facts, NAME) else [f"the bundle has no image {NAME}"]


PART = Component(
    "Measure nodes and pods",
    "apps",
    plan=_plan,
    needs=("pod_network",),
    unmet=_unmet,
    charts=(NAME,),
)
