"""The site file as frozen data: machines, Kubernetes and what is installed in it."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from mlstead.spec.base import (
    APP_PATTERN,
    FINGERPRINT_PATTERN,
    FOLDER_PATTERN,
    LOGIN_PATTERN,
    MINOR_PATTERN,
    FrozenDict,
    FrozenMap,
    List,
    Model,
    Name,
    Value,
)

Role = Literal["control-plane", "worker", "registry"]


def _ipv4(value: str) -> str:
    try:
        return str(ipaddress.IPv4Address(value))
    except ValueError as error:
        raise ValueError(f"must be an IPv4 address such as 192.168.10.50; found {value}") from error


def _network(value: str) -> str:
    try:
        return str(ipaddress.IPv4Network(value))
    except ValueError as error:
        message = f"must be an IPv4 network such as 10.244.0.0/16; found {value}"
        raise ValueError(message) from error


Address = Annotated[str, AfterValidator(_ipv4), Field(json_schema_extra={"format": "ipv4"})]
"""An IPv4 address."""
Network = Annotated[
    str,
    AfterValidator(_network),
    Field(json_schema_extra={"pattern": r"^[0-9.]{7,15}/[0-9]{1,2}$"}),
]
"""An IPv4 network with its prefix length, its host bits zero."""
Login = Annotated[str, Field(pattern=LOGIN_PATTERN)]
Port = Annotated[int, Field(ge=1, le=65535)]
Fingerprint = Annotated[str, Field(pattern=FINGERPRINT_PATTERN)]
Folder = Annotated[str, Field(pattern=FOLDER_PATTERN)]
"""An absolute path of plain names."""


class Ssh(Model):
    """How ssh logs in to the machines."""

    user: Login | None = Field(default=None, description="The login; it may use sudo.")
    key: str = Field(default="", description="The private key; empty: what ssh would take.")
    port: Port = Field(default=22, description="The port of sshd.")


class Machine(Model):
    """One host and its roles."""

    address: Address = Field(description="Its fixed IPv4 address.")
    roles: Annotated[List[Role], Field(min_length=1)] = Field(
        description="What it does: control-plane, worker, registry.",
        json_schema_extra={"uniqueItems": True},
    )
    user: Login | None = Field(default=None, description="The login, if not the site's.")
    key: str = Field(default="", description="The private key, if not the site's.")
    port: Port | None = Field(default=None, description="The port of sshd, if not the site's.")
    host_key: Fingerprint | None = Field(
        default=None, description="The fingerprint of its SSH host key: SHA256:…"
    )


class Kubernetes(Model):
    """The cluster that the machines become, or one that is there."""

    distribution: Literal["kubeadm", "existing"] = Field(
        default="kubeadm", description="kubeadm makes one; existing uses one."
    )
    version: Annotated[str, Field(pattern=MINOR_PATTERN)] = Field(
        default="1.36", description="Minor version; the bundle or repository gives the patch."
    )
    kubeconfig: str = Field(default="", description="existing: the file that reaches it.")
    context: str = Field(default="", description="existing: the context in that file.")
    pods: Network = Field(default="10.244.0.0/16", description="The network of pods.")
    services: Network = Field(default="10.96.0.0/16", description="The network of services.")
    kubelet: FrozenMap[str, Value] = Field(
        default_factory=FrozenDict, description="Fields of the KubeletConfiguration."
    )


class Registry(Model):
    """The image registry of the site."""

    port: Port = Field(default=5000, description="The port; always TLS.")
    path: Folder = Field(default="/srv/mlstead-registry", description="Where images lie.")


class Site(Model):
    """Everything that shall exist at one place."""

    mlstead: Literal[1] = Field(default=1, description="The version of this format.")
    kind: Literal["site"] = Field(default="site", description="site: machines and a cluster.")
    name: Name = Field(description="What the site is called; contexts and files carry it.")
    ssh: Ssh = Field(default_factory=Ssh, description="How machines are reached.")
    machines: FrozenMap[Name, Machine] = Field(
        default_factory=FrozenDict, description="The hosts, by name; the name becomes theirs."
    )
    kubernetes: Kubernetes = Field(default_factory=Kubernetes, description="The cluster.")
    registry: Registry = Field(default_factory=Registry, description="The image registry.")
    bundle: str = Field(
        default="", description="A folder with all that is installed; relative to this file."
    )
    apps: FrozenMap[Annotated[str, Field(pattern=APP_PATTERN)], Value] = Field(
        default_factory=FrozenDict, description="What is installed in the cluster, with options."
    )

    def with_role(self, *roles: Role) -> tuple[str, ...]:
        """Name the machines that have at least one of some roles, in the file's order."""
        return tuple(
            name for name, machine in self.machines.items() if set(roles) & set(machine.roles)
        )

    @property
    def nodes(self) -> tuple[str, ...]:
        """The machines that are nodes of the cluster, control planes first."""
        return (*self.with_role("control-plane"), *self.workers)

    @property
    def workers(self) -> tuple[str, ...]:
        """The nodes that are no control plane."""
        heads = self.with_role("control-plane")
        return tuple(name for name in self.with_role("worker") if name not in heads)

    def port_of(self, name: str) -> int:
        """Give the port of a machine's sshd."""
        return self.machines[name].port or self.ssh.port

    def user_of(self, name: str) -> str:
        """Give the login on a machine; "" leaves it to ssh."""
        return self.machines[name].user or self.ssh.user or ""

    def key_of(self, name: str) -> str:
        """Give the private key for a machine; "" leaves it to ssh."""
        return self.machines[name].key or self.ssh.key
