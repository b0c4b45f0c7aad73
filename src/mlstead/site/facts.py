"""Gathers what is there: one SSH round trip a machine, all machines side by side."""

import base64
import contextlib
import json
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from typing import Any, Final

import mlstead.site
from mlstead.clients.ssh import Answer, Ssh, Target
from mlstead.errors import PlatformError, UnavailableError, UserError
from mlstead.plan import OURS, Bundle, Facts, HostFacts, PartFacts, Release, object_key
from mlstead.plan import Answer as ProbeAnswer
from mlstead.site import laptop
from mlstead.site.components import apps, charts_of, machine_parts, role_digests
from mlstead.spec.site import Site

PATIENCE: Final = 60.0
COMMAND: Final = 'if [ "$(id -u)" = 0 ]; then exec sh -s; else exec sudo -n -- sh -s; fi'
"""What runs on the machine; the script comes through its standard input."""
_REFUSALS: Final = (
    "a password is required",
    "a terminal is required",
    "must have a tty",
    "is not in the sudoers file",
    "is not allowed to",
    "may not run sudo",
)
"""By these words sudo says no."""
MADE_OF: Final = "mlstead: chart sha256:"
"""How we describe a release of Helm; a change by somebody else describes it otherwise."""
_NO_PYTHON: Final = """\
if ! command -v python3 >/dev/null 2>&1; then
  printf '%s{"system": {"python": "", "arch": "%s"}, "parts": {}, "answers": {}}\\n' \\
    MARK "$(uname -m)"
  exit 0
fi
"""


@dataclass(frozen=True, slots=True)
class Gathered:
    """What was found, and why machines are missing in it.

    Attributes:
        facts: of the machines that answered.
        problems: machine → why nothing is known of it.
        skew: machine → how many seconds its clock is ahead of this one's.
    """

    facts: Facts
    problems: Mapping[str, PlatformError] = field(default_factory=dict)
    skew: Mapping[str, float] = field(default_factory=dict)


def target(site: Site, name: str) -> Target:
    """Give a machine as ssh reaches it."""
    address = site.machines[name].address
    return Target(name, address, site.port_of(name), site.user_of(name), site.key_of(name))


def gather(
    site: Site, ssh: Ssh, bundle: Bundle | None, machines: Sequence[str] | None = None
) -> Gathered:
    """Look at machines, all of the site if none are named; nothing is changed."""
    names = list(site.machines if machines is None else machines)
    mark = secrets.token_hex(16)
    calls = [(target(site, name), COMMAND, _script(site, name, mark)) for name in names]
    hosts: dict[str, HostFacts] = {}
    problems: dict[str, PlatformError] = {}
    began = time.time()
    for name, answer in zip(names, ssh.run_all(calls, timeout=PATIENCE), strict=True):
        found = answer if isinstance(answer, PlatformError) else _read(site, name, answer, mark)
        if isinstance(found, PlatformError):
            problems[name] = found
        else:
            hosts[name] = found
    ended = time.time()
    facts = known(site, hosts, bundle)
    facts = replace(facts, laptop=laptop.look(site))
    return Gathered(
        facts, problems, {name: _skew(host, began, ended) for name, host in hosts.items()}
    )


def known(site: Site, hosts: Mapping[str, HostFacts], bundle: Bundle | None) -> Facts:
    """Make facts of what machines, or an existing cluster, answered."""
    objects, foreign = _objects(hosts)
    return Facts(
        hosts=hosts,
        objects=objects,
        bundle=bundle,
        roles=role_digests(),
        releases=_releases(hosts),
        charts=charts_of(site),
        foreign=foreign,
    )


def _skew(host: HostFacts, began: float, ended: float) -> float:
    """Give how far a clock is outside the time in which it was read; 0 within it."""
    clock = float(host.system.get("clock", ended))
    return clock - ended if clock > ended else min(0.0, clock - began)


_Objects = Mapping[str, Mapping[str, Any]]


def _objects(
    hosts: Mapping[str, HostFacts],
) -> tuple[_Objects | None, Mapping[str, tuple[str, ...]]]:
    """Read what the control plane says is ours in the cluster; None if no one said anything.

    An app that has kinds of its own asks for them by a probe ``objects:APP``: where the kinds are
    not known yet, kubectl answers nothing at all. Of these all are told: those that are not ours
    are named beside, by app.
    """
    found = {
        name: answer.out
        for host in hosts.values()
        for name, answer in host.answers.items()
        if name.partition(":")[0] == "objects" and answer.code == 0
    }
    if not found:
        return None, {}
    ours: dict[str, Mapping[str, Any]] = {}
    foreign: dict[str, tuple[str, ...]] = {}
    key, _, value = OURS.partition("=")
    with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):  # cut off, no list
        for name, text in found.items():
            items = {object_key(one): one for one in json.loads(text)["items"]}
            marked = {
                it: one
                for it, one in items.items()
                if name == "objects" or (one["metadata"].get("labels") or {}).get(key) == value
            }
            ours |= marked
            if others := tuple(sorted(set(items) - set(marked))):
                foreign[name.partition(":")[2]] = others
        return ours, foreign
    return None, {}


def _releases(hosts: Mapping[str, HostFacts]) -> Mapping[str, Release] | None:
    """Read what the control plane says Helm installed; None if no one said anything."""
    for host in hosts.values():
        answer = host.answers.get("releases")
        if answer and answer.code == 0:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                found = json.loads(answer.out)
                return {f"{it['namespace']}/{it['name']}": _release(it) for it in found}
    return None


def _release(one: Mapping[str, Any]) -> Release:
    return Release(
        one["chart"],
        one["version"],
        one["status"],
        one["revision"],
        one["values"],
        tuple(one["drift"]),
        dict(one["labels"]),
        text.removeprefix(MADE_OF) if (text := str(one["description"])).startswith(MADE_OF) else "",
    )


@cache
def _program() -> str:
    return files(mlstead.site).joinpath("_probe.py").read_text(encoding="utf-8")


def _script(site: Site, name: str, mark: str) -> bytes:
    """Make the script for one machine: our program, and as data what it is asked."""
    probes = {
        probe.name: list(probe.argv)
        for part in (*machine_parts().values(), *apps().values())
        for probe in part.probes(site, name)
    }
    request = base64.b64encode(json.dumps({"mark": mark, "probes": probes}).encode()).decode()
    body = f"{_program()}\nmain({request!r})\n"
    end = f"END-{mark}"
    return f"{_NO_PYTHON.replace('MARK', mark)}exec python3 -I - <<'{end}'\n{body}{end}\n".encode()


def _read(site: Site, name: str, answer: Answer, mark: str) -> HostFacts | PlatformError:
    """Understand what a machine printed; words of its login shell are passed over."""
    _, found, text = answer.out.decode("utf-8", "replace").rpartition(mark)
    if not found:
        return _failed(site, name, answer)
    try:
        return _understood(json.loads(text.partition("\n")[0]))
    except (ValueError, LookupError, TypeError, AttributeError):
        return UnavailableError(f"{name}: its answer was cut off", hint="try again")


def _understood(data: Mapping[str, Any]) -> HostFacts:
    parts = {
        part: PartFacts(it["inputs"], tuple(it["drift"])) for part, it in data["parts"].items()
    }
    answers = {key: ProbeAnswer(int(it[0]), str(it[1])) for key, it in data["answers"].items()}
    return HostFacts(dict(data["system"]), parts, answers)


def _failed(site: Site, name: str, answer: Answer) -> PlatformError:
    words = answer.err.strip().splitlines()
    last = words[-1] if words else f"exit code {answer.code}"
    user = site.user_of(name)
    if any("sudo: not found" in line or "sudo: command not found" in line for line in words):
        message = f"{name}: {user or 'the login'} is not root, and sudo is not there"
        return UserError(message, hint=f"install sudo on {name}, or log in as root")
    refusal = next((line for line in words if any(it in line for it in _REFUSALS)), "")
    if refusal:
        rule = f"{user or '<login>'} ALL=(ALL) NOPASSWD: ALL"
        hint = f"as root on {name}: echo '{rule}' > /etc/sudoers.d/mlstead"
        message = f"{name}: {user or 'the login'} may not use sudo without a password: {refusal}"
        return UserError(message, hint=hint)
    return UnavailableError(f"{name}: could not look at it: {last}")
