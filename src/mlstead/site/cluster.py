"""Talks to the site's cluster by kubectl and helm: on its control plane, or from here."""

import json
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from mlstead.clients.ssh import Answer, Ssh
from mlstead.errors import UnavailableError, UserError
from mlstead.plan import CHARTS, KUBECTL
from mlstead.site.facts import target
from mlstead.spec.site import Site

MANAGER: Final = "mlstead"
PATIENCE: Final = 300
NOT_YET: Final = 60  # seconds that a webhook has to answer after its pods are ready
_AWAY: Final = ("refused", "timed out", "Unable to connect", "EOF")


class Reach(Protocol):
    """The way to a cluster as its administrator."""

    def run(
        self, program: str, words: Sequence[str], content: bytes = b"", patience: float = PATIENCE
    ) -> str:
        """Run kubectl or helm; give what it printed.

        Raises:
            UnavailableError: the machine or the API server does not answer.
            UserError: the program refused.
        """

    def chart(self, file: str) -> str:
        """Give the path, where helm runs, of a chart of the bundle."""


@dataclass(frozen=True, slots=True)
class OnHead:
    """Runs the programs of the control plane there, as root."""

    site: Site
    ssh: Ssh

    def run(
        self, program: str, words: Sequence[str], content: bytes = b"", patience: float = PATIENCE
    ) -> str:
        """Run kubectl or helm."""
        head = self.site.with_role("control-plane")[0]
        command = shlex.join((program, *KUBECTL[1:], *words))
        command = f'if [ "$(id -u)" = 0 ]; then {command}; else sudo -n -- {command}; fi'
        answer = self.ssh.run(target(self.site, head), command, input=content, timeout=patience)
        return printed(answer, f"{head}: {program} {words[0]}")

    def chart(self, file: str) -> str:
        """Give the path of a chart on the control plane."""
        return f"{CHARTS}/{file}"


def printed(answer: Answer, what: str) -> str:
    """Give what a program printed.

    Raises:
        UnavailableError: the API server does not answer.
        UserError: the program refused.
    """
    if answer.code == 0:
        return answer.out.decode("utf-8", "replace")
    lines = answer.err.strip().splitlines() or [f"exit code {answer.code}"]
    message = f"{what}: {lines[-1]}"
    if any(word in answer.err for word in _AWAY):
        raise UnavailableError(message, hint="is the cluster up? mlstead site status")
    raise UserError(message)


def put(reach: Reach, arguments: Mapping[str, Any]) -> None:
    """Apply objects on the server's side, and wait until those that must be ready are.

    Args:
        reach: the way to the cluster.
        arguments: ``objects``: the manifests; ``wait``: names such as ``deployment/x -n y``.
    """
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": arguments["objects"]})
    words = ("apply", "--server-side", "--force-conflicts", "--field-manager", MANAGER, "-f", "-")
    deadline = time.monotonic() + NOT_YET
    while True:
        try:
            call(reach, words, text.encode())
            break
        except UserError as error:
            if "failed calling webhook" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(1)
    for words in arguments.get("wait", ()):
        call(reach, (*words, f"--timeout={PATIENCE}s"))


def wait_for_nodes(reach: Reach) -> None:
    """Wait until every node of the cluster is ready.

    Raises:
        UserError: one is not within the time.
    """
    call(reach, ("wait", "--for=condition=Ready", "nodes", "--all", f"--timeout={PATIENCE}s"))


def call(reach: Reach, words: Sequence[str], content: bytes = b"") -> str:
    """Run kubectl; give what it printed.

    Raises:
        UnavailableError: the machine or the API server does not answer.
        UserError: kubectl refused.
    """
    return reach.run("kubectl", words, content, PATIENCE + 30)
