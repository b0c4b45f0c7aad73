"""Talks to the site's cluster by kubectl, on its control plane."""

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Final

from mlstead.clients.ssh import Ssh
from mlstead.errors import UnavailableError, UserError
from mlstead.site.facts import target
from mlstead.spec.site import Site

KUBECTL: Final = ("kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf")
MANAGER: Final = "mlstead"
PATIENCE: Final = 300


def put(site: Site, ssh: Ssh, arguments: Mapping[str, Any]) -> None:
    """Apply objects on the server's side, and wait until those that must be ready are.

    Args:
        site: whose cluster.
        ssh: reaches the control plane.
        arguments: ``objects``: the manifests; ``wait``: names such as ``deployment/x -n y``.
    """
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": arguments["objects"]})
    call(
        site,
        ssh,
        ("apply", "--server-side", "--force-conflicts", "--field-manager", MANAGER, "-f", "-"),
        text.encode(),
    )
    for words in arguments.get("wait", ()):
        call(site, ssh, (*words, f"--timeout={PATIENCE}s"))


def call(site: Site, ssh: Ssh, words: Sequence[str], content: bytes = b"") -> str:
    """Run kubectl on the control plane; give what it printed.

    Raises:
        UnavailableError: the machine or the API server does not answer.
        UserError: kubectl refused.
    """
    head = site.with_role("control-plane")[0]
    command = shlex.join((*KUBECTL, *words))
    command = f'if [ "$(id -u)" = 0 ]; then {command}; else sudo -n -- {command}; fi'
    answer = ssh.run(target(site, head), command, input=content, timeout=PATIENCE + 30)
    if answer.code == 0:
        return answer.out.decode("utf-8", "replace")
    lines = answer.err.strip().splitlines() or [f"exit code {answer.code}"]
    message = f"{head}: kubectl {words[0]}: {lines[-1]}"
    if any(word in answer.err for word in ("refused", "timed out", "Unable to connect", "EOF")):
        raise UnavailableError(message, hint="is the control plane up? mlstead site status")
    raise UserError(message)
