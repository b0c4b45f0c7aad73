"""Talks to the site's cluster by kubectl, on its control plane."""

import json
import shlex
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from mlstead.clients.ssh import Ssh
from mlstead.errors import UnavailableError, UserError
from mlstead.plan import KUBECTL
from mlstead.site.facts import target
from mlstead.spec.site import Site

MANAGER: Final = "mlstead"
PATIENCE: Final = 300
NOT_YET: Final = 60  # seconds that a webhook has to answer after its pods are ready


def put(site: Site, ssh: Ssh, arguments: Mapping[str, Any]) -> None:
    """Apply objects on the server's side, and wait until those that must be ready are.

    Args:
        site: whose cluster.
        ssh: reaches the control plane.
        arguments: ``objects``: the manifests; ``wait``: names such as ``deployment/x -n y``.
    """
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": arguments["objects"]})
    words = ("apply", "--server-side", "--force-conflicts", "--field-manager", MANAGER, "-f", "-")
    deadline = time.monotonic() + NOT_YET
    while True:
        try:
            call(site, ssh, words, text.encode())
            break
        except UserError as error:
            if "failed calling webhook" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(1)
    for words in arguments.get("wait", ()):
        call(site, ssh, (*words, f"--timeout={PATIENCE}s"))


def wait_for_nodes(site: Site, ssh: Ssh) -> None:
    """Wait until every node of the cluster is ready.

    Raises:
        UserError: one is not within the time.
    """
    words = ("wait", "--for=condition=Ready", "nodes", "--all", f"--timeout={PATIENCE}s")
    if site.with_role("control-plane"):
        call(site, ssh, words)


def call(site: Site, ssh: Ssh, words: Sequence[str], content: bytes = b"") -> str:
    """Run kubectl on the control plane; give what it printed.

    Raises:
        UnavailableError: the machine or the API server does not answer.
        UserError: kubectl refused.
    """
    return on_head(site, ssh, (*KUBECTL, *words), content, PATIENCE + 30)


def on_head(
    site: Site, ssh: Ssh, argv: Sequence[str], content: bytes = b"", patience: float = PATIENCE
) -> str:
    """Run a program that asks the API server on the control plane, as root; give what it printed.

    Raises:
        UnavailableError: the machine or the API server does not answer.
        UserError: the program refused.
    """
    head = site.with_role("control-plane")[0]
    command = shlex.join(argv)
    command = f'if [ "$(id -u)" = 0 ]; then {command}; else sudo -n -- {command}; fi'
    answer = ssh.run(target(site, head), command, input=content, timeout=patience)
    if answer.code == 0:
        return answer.out.decode("utf-8", "replace")
    lines = answer.err.strip().splitlines() or [f"exit code {answer.code}"]
    message = f"{head}: {argv[0]} {argv[3]}: {lines[-1]}"
    if any(word in answer.err for word in ("refused", "timed out", "Unable to connect", "EOF")):
        raise UnavailableError(message, hint="is the control plane up? mlstead site status")
    raise UserError(message)
