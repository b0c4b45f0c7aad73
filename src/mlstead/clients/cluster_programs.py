"""Runs kubectl and helm on this machine, against the cluster of a kubeconfig."""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlstead.clients.ssh import Answer
from mlstead.errors import UnavailableError, UserError


@dataclass(frozen=True, slots=True)
class Programs:
    """The programs, and which cluster they are to talk to.

    Attributes:
        kubectl, helm: their paths; "" for one that is not here.
        kubeconfig: the file that reaches the cluster; context: the one in it.
    """

    kubectl: str
    helm: str
    kubeconfig: Path
    context: str

    def argv(self, program: str) -> list[str]:
        """Give how kubectl or helm is called, without what it shall do.

        Raises:
            UserError: it is not here.
        """
        path = self.helm if program == "helm" else self.kubectl
        if not path:
            hint = f"install {program}, or name a bundle that has bin/{program}"
            raise UserError(f"{program} is not on this machine", hint=hint)
        context = "--kube-context" if program == "helm" else "--context"
        return [path, "--kubeconfig", str(self.kubeconfig), context, self.context]


def call(argv: Sequence[str], content: bytes = b"", patience: float = 60) -> Answer:
    """Run a program that may ask a cluster; settings of its own that people have do not count.

    Args:
        argv: the program and its words.
        content: its standard input.
        patience: the seconds that it may take.

    Raises:
        UnavailableError: it took longer.
        UserError: it cannot be started.
    """
    environment = {key: it for key, it in os.environ.items() if not key.startswith("HELM_")}
    environment |= {"KUBERC": "off", "LC_ALL": "C"}
    name = Path(argv[0]).name
    try:
        done = subprocess.run(
            list(argv),
            input=content,
            capture_output=True,
            timeout=patience,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"{name}: no answer within {patience:.0f} s") from error
    except OSError as error:
        raise UserError(f"{argv[0]}: {error.strerror}") from error
    return Answer(done.returncode, done.stdout, done.stderr.decode("utf-8", "replace"))
