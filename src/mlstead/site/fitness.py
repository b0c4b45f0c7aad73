"""Says what keeps apps from being installed in an existing cluster: pure over facts."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from mlstead.plan import CLUSTER, Facts
from mlstead.site.existing import CHANGED, VERBS
from mlstead.spec.site import Site

OLDER: Final = 3
"""How many minor versions a cluster may be older than kubectl: as Helm has it."""
NEWER: Final = 1
"""How many it may be newer: as kubectl has it."""


@dataclass(frozen=True, slots=True)
class Unfit:
    """Something about the cluster; ``stops``: nothing can be done until it is put right."""

    message: str
    hint: str
    stops: bool = True


def unfit(site: Site, facts: Facts) -> Iterator[Unfit]:
    """Find everything about an existing cluster that people must know before an apply."""
    host = facts.hosts.get(CLUSTER)
    if host is None:
        return
    if (version := host.answers.get("version")) and version.code == 0:
        yield from _version(version.out)
    if rights := host.answers.get("rights"):
        yield from _rights(rights.out.split(), facts)
    if facts.taken:
        message = f"{_some(facts.taken)}: there, and not made by this site"
        yield Unfit(message, "take it away yourself, or leave the app out of the site file")
    if site.apps and facts.bundle is None and not facts.charts:
        yield Unfit(
            "no bundle is given, and images are named by it", "mlstead bundle create --help"
        )


def _version(text: str) -> Iterator[Unfit]:
    data = json.loads(text)
    minors = [
        int(re.sub(r"\D.*", "", str(data[which]["minor"])) or 0)
        for which in ("serverVersion", "clientVersion")
    ]
    server, client = minors
    told = f"Kubernetes 1.{server}"
    if server < client - OLDER:
        yield Unfit(f"{told} is too old for these programs", f"1.{client - OLDER} is needed")
    elif server > client + NEWER:
        message = f"{told} is newer than kubectl 1.{client} knows"
        yield Unfit(message, "take a newer bundle, or kubectl", stops=False)


def _rights(allowed: list[str], facts: Facts) -> Iterator[Unfit]:
    """Say what the user of the kubeconfig may not do; all of it is not needed for each app."""
    everything, *each = [word == "true" for word in allowed] or [False]
    if everything:
        return
    asked = [(verb, ".".join(filter(None, (resource, group))))
             for group, resource in CHANGED for verb in VERBS]  # fmt: skip
    if len(each) != len(asked):
        yield Unfit("what may be done in it cannot be known", "kubectl auth can-i --list")
        return
    refused = [f"{verb} {kind}" for (verb, kind), may in zip(asked, each, strict=True) if not may]
    if refused:
        message = f"the user of the kubeconfig may not {_some(refused)}"
        yield Unfit(message, "an administrator of the cluster is needed")


def _some(words: Sequence[str]) -> str:
    more = f" and {len(words) - 3} more" if len(words) > 3 else ""
    return ", ".join(words[:3]) + more
