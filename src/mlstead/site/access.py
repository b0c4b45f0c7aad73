"""Lets the machine that mlstead is called on into the cluster, as a user of its own."""

import getpass
import os
import re
import shlex
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Final

import mlstead.clients
from mlstead import discover
from mlstead.clients import kubeconfig
from mlstead.clients.kubeconfig import Access
from mlstead.clients.ssh import Ssh
from mlstead.errors import UnavailableError, UserError
from mlstead.machines.laptop import GROUP, NAME
from mlstead.plan import Step
from mlstead.site.facts import target
from mlstead.site.laptop import entry
from mlstead.spec.site import Site

VALIDITY: Final = "8760h"
CONFIG: Final = "/etc/kubernetes/mlstead/kubeadm.yaml"
PATIENCE: Final = 120.0


def local_actions(
    site: Site, ssh: Ssh, path: Path | None = None
) -> Mapping[str, Callable[[Step], None]]:
    """Give what does steps on this machine, by component, for ``applying.Doing``.

    Args:
        site: the site.
        ssh: reaches its control plane.
        path: the kubeconfig, if not the user's own.
    """

    def let_in(step: Step) -> None:
        access = issue(site, ssh)
        if access.server != step.arguments["server"]:
            message = f"the cluster of {site.name} calls itself {access.server}"
            raise UserError(message, hint=f"it should be {step.arguments['server']}")
        where = path or kubeconfig.find()
        kubeconfig.merge(where, step.arguments["context"], access, entry=entry(site))

    return {NAME: let_in}


def user_name() -> str:
    """Name who calls: ``login@machine``, as the cluster's audit log will have it."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a number that nobody gave a name
        user = str(os.getuid())
    words = (user, socket.gethostname().split(".")[0])
    login, machine = (re.sub(r"[^A-Za-z0-9._-]", "-", word)[:28] or "unknown" for word in words)
    return f"{login}@{machine}"


def issue(site: Site, ssh: Ssh) -> Access:
    """Have the control plane make a certificate for who calls, in the group of administrators.

    Its private key comes through the SSH connection and is written nowhere on the way.

    Raises:
        UnavailableError: the control plane does not answer, or was not made yet.
        UserError: it refused, or gave something else.
    """
    head = site.with_role("control-plane")[0]
    name = user_name()
    command = shlex.join(
        ("kubeadm", "kubeconfig", "user", f"--client-name={name}", f"--org={GROUP}",
         f"--validity-period={VALIDITY}", f"--config={CONFIG}")
    )  # fmt: skip
    command = f'if [ "$(id -u)" = 0 ]; then {command}; else sudo -n -- {command}; fi'
    answer = ssh.run(target(site, head), command, timeout=PATIENCE)
    if answer.code:
        lines = answer.err.strip().splitlines() or [f"exit code {answer.code}"]
        message = f"{head}: no certificate for {name}: {lines[-1]}"
        raise UnavailableError(message, hint="is the control plane up? mlstead site status")
    try:
        access = kubeconfig.parse_access(answer.out.decode("utf-8", "replace"))
    except UserError as error:
        raise UserError(f"{head}: kubeadm gave no kubeconfig") from error
    reader: ModuleType = discover.part(mlstead.clients, "certificate")
    found = reader.read(access.certificate)
    if found is None or found.name != name or found.groups != (GROUP,):
        raise UserError(f"{head}: kubeadm gave a certificate for someone else than {name}")
    return access
