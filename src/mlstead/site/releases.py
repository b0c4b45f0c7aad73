"""Makes, changes and takes away Helm releases in the site's cluster."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from mlstead.errors import PlatformError
from mlstead.plan import SecretRef
from mlstead.site import cluster
from mlstead.site.cluster import Reach
from mlstead.site.facts import MADE_OF

PATIENCE: Final = 300
"""How many seconds what a release consists of has to be ready."""
KEPT: Final = 3  # revisions


def upgrade(reach: Reach, arguments: Mapping[str, Any], secret: Callable[[str], str]) -> None:
    """Install a release, or change it, and wait until its pods are ready.

    Objects that were changed by hand are put back, gone ones are made again.

    Args:
        reach: the way to the cluster.
        arguments: ``release``, ``namespace``, ``chart`` (a file's name) and its ``sha256``,
            ``values``; ``labels``, by which it is known as ours; ``stuck``: a revision of which
            Helm was killed while it made it, 0 if there is none.
        secret: gives the values of secrets.

    Raises:
        PlatformError: Helm refused, or the cluster does not answer.
    """
    name, namespace = arguments["release"], arguments["namespace"]
    if arguments.get("stuck"):
        # Helm refuses to go on beside a revision that looks as if it were still being made.
        revision = f"sh.helm.release.v1.{name}.v{arguments['stuck']}"
        gone = ("-n", namespace, "delete", "secret", revision, "--ignore-not-found")
        cluster.call(reach, gone)
    used: list[str] = []
    values = json.dumps(_filled(arguments["values"], secret, used))
    labels = ",".join(f"{key}={value}" for key, value in arguments["labels"].items())
    words = (
        "upgrade", "--install", name, reach.chart(arguments["chart"]),
        "--namespace", namespace, "--create-namespace",
        "--labels", labels, "--description", MADE_OF + arguments["sha256"],
        "--server-side=true", "--force-conflicts", "--wait", f"--timeout={PATIENCE}s",
        f"--history-max={KEPT}", "--hide-notes", "-o", "json", "-f", "-",
    )  # fmt: skip
    try:
        reach.run("helm", words, values.encode(), PATIENCE + 60)
    except PlatformError as error:
        # Helm quotes values that it does not like.
        raise type(error)(_hidden(str(error), used), hint=_hidden(error.hint, used)) from None


def uninstall(reach: Reach, arguments: Mapping[str, Any]) -> None:
    """Take a release away, and wait until its objects are gone; none there is fine.

    Raises:
        PlatformError: Helm refused, or the cluster does not answer.
    """
    words = ("uninstall", arguments["release"], "--namespace", arguments["namespace"], "--wait",
             "--ignore-not-found", f"--timeout={PATIENCE}s")  # fmt: skip
    reach.run("helm", words, patience=PATIENCE + 60)


def _filled(value: Any, secret: Callable[[str], str], used: list[str]) -> Any:
    """Put the values of secrets in the place of their names, and write down which they are."""
    if isinstance(value, SecretRef):
        used.append(secret(value.name))
        return used[-1]
    if isinstance(value, Mapping):
        return {key: _filled(item, secret, used) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_filled(item, secret, used) for item in value]
    return value


def _hidden(text: str, secrets: list[str]) -> str:
    for one in sorted(secrets, key=len, reverse=True):
        text = text.replace(one, "…") if one else text
    return text
