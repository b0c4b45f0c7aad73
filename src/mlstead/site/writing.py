"""Writes a first site file, and adds and removes machines in one that people wrote."""

import ipaddress
import re
from collections.abc import Sequence
from typing import Final, get_args

from mlstead.errors import ConflictError, NotFoundError, UserError
from mlstead.spec.base import NAME_PATTERN, PATTERN_WORDS
from mlstead.spec.load import parse_site
from mlstead.spec.nodes import Source
from mlstead.spec.problems import close, nearest
from mlstead.spec.site import Role, Site
from mlstead.spec.splice import drop, put, written

Described = tuple[str, str, Sequence[str]]
"""A machine as (name, address, roles)."""
ROLES: Final[tuple[str, ...]] = get_args(Role)

_FIRST: Final = """\
# A site: machines, and the cluster that they become. Look first: mlstead site plan
mlstead: 1
kind: site
name: {name}

{ssh}
# control-plane runs the cluster, worker runs what people submit, registry keeps images.
machines:
{machines}
# A folder with all programs and images, for machines without internet (mlstead bundle --help):
# bundle: bundle
"""
_SSH: Final = """\
# How the machines are reached: the login may use sudo without a password.
ssh: {ssh}
"""
_NO_SSH: Final = """\
# Machines are reached as ssh does by itself; a login that may use sudo, and a key, can be given:
# ssh: {user: admin, key: ~/.ssh/id_ed25519}
"""


def names_for(addresses: Sequence[str]) -> tuple[Described, ...]:
    """Name machines and give them roles: the first is the head, the others are workers.

    Raises:
        UserError: there are none, one is no IPv4 address, or stands there twice.
    """
    if not addresses:
        raise UserError("a site needs at least one machine", hint="give its IPv4 address")
    head = ("control-plane", "registry", *(("worker",) if len(addresses) == 1 else ()))
    machines: list[Described] = [("head", addresses[0], head)]
    machines += [(f"w{at}", it, ("worker",)) for at, it in enumerate(addresses[1:], 1)]
    _check(machines)
    return tuple(machines)


def draft(name: str, machines: Sequence[Described], user: str = "", key: str = "") -> str:
    """Give the text of a new site file.

    Args:
        name: of the site.
        machines: its machines; one has the role control-plane.
        user: the login; "" leaves it to ssh.
        key: the path of the private key; "" leaves it to ssh.

    Raises:
        UserError: it would be no site; SpecError where only the whole text tells.
    """
    _check_name(name)
    _check(machines)
    ssh = {field: value for field, value in (("user", user), ("key", key)) if value}
    lines = [f"  {it[0]}: {written(_fields(it))}\n" for it in machines]
    text = _FIRST.format(
        name=written(name),
        ssh=_SSH.format(ssh=written(ssh)) if ssh else _NO_SSH,
        machines="".join(lines),
    )
    parse_site(text, origin=f"the file of {name}")
    return text


def add_machine(
    text: str, name: str, address: str, roles: Sequence[str], *, origin: str = "<string>"
) -> str:
    """Add a machine at the end of those in a site file; all else stays as it is written.

    Raises:
        ConflictError: the name or the address is there already.
        UserError: a name, an address or a role that cannot be; SpecError: the file is not right.
    """
    site = _with_machines(text, origin)
    _check([(name, address, roles)])
    if name in site.machines:
        raise ConflictError(f"{name} is in the site already", hint="choose another name")
    for other, machine in site.machines.items():
        if machine.address == address:
            raise ConflictError(f"{address} is the address of {other}")
    for role in ("control-plane", "registry"):
        if role in roles and (others := site.with_role(role)):
            raise UserError(f"{others[0]} is the {role}; only one machine can be")
    new = _fields((name, address, roles))
    return _right(put(Source(origin, text), ("machines", name), new, flow=True))


def remove_machine(text: str, name: str, *, origin: str = "<string>") -> str:
    """Take a machine out of a site file; all else, comments above it too, stays as it is written.

    Raises:
        NotFoundError: there is none of that name.
        UserError: the cluster cannot be without it; SpecError: the file is not right.
    """
    site = _with_machines(text, origin)
    if name not in site.machines:
        hint = nearest(name, site.machines)
        raise NotFoundError(f"the site {site.name} has no machine {name}", hint=hint)
    if "control-plane" in site.machines[name].roles:
        message = f"{name} is the control plane: without it there is no cluster"
        raise UserError(message, hint="all of the site goes by: mlstead site remove")
    return _right(drop(Source(origin, text), ("machines", name)))


def _fields(machine: Described) -> dict[str, object]:
    return {"address": machine[1], "roles": list(machine[2])}


def _with_machines(text: str, origin: str) -> Site:
    site = parse_site(text, origin=origin)
    if not site.machines:
        raise UserError(f"{origin}: {site.name} is an existing cluster, without machines here")
    return site


def _right(source: Source) -> str:
    parse_site(source.text, origin=source.name)
    return source.text


def _check(machines: Sequence[Described]) -> None:
    """Refuse what can be told without the rest of the file."""
    names: set[str] = set()
    addresses: dict[str, str] = {}
    for name, address, roles in machines:
        _check_name(name)
        if name.endswith("-"):
            raise UserError(f"{name}: a host name cannot end with -")
        if name in names:
            raise UserError(f"two machines are called {name}")
        names.add(name)
        _check_address(name, address)
        if address in addresses:
            raise UserError(f"{address} is the address of {addresses[address]} and of {name}")
        addresses[address] = name
        _check_roles(name, roles)


def _check_name(name: str) -> None:
    if not re.fullmatch(NAME_PATTERN, name):
        raise UserError(f"{name!r} cannot be a name", hint=PATTERN_WORDS[NAME_PATTERN])


def _check_address(name: str, address: str) -> None:
    try:
        ipaddress.IPv4Address(address)
    except ValueError as error:
        message = f"{name}: {address!r} is no IPv4 address"
        raise UserError(message, hint="such as 192.168.10.50") from error


def _check_roles(name: str, roles: Sequence[str]) -> None:
    if not roles:
        raise UserError(f"{name}: it needs a role", hint="one of " + ", ".join(ROLES))
    for at, role in enumerate(roles):
        if role not in ROLES:
            hint = close(role, ROLES) or "one of " + ", ".join(ROLES)
            raise UserError(f"{name}: no role {role!r}", hint=hint)
        if role in roles[:at]:
            raise UserError(f"{name}: the role {role} is given twice")
