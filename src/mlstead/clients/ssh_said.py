"""Turns what OpenSSH says when it fails into one line and a hint."""

import base64
import binascii
import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path

from mlstead.clients.ssh_target import Target
from mlstead.errors import PlatformError, UnavailableError, UserError

TRUST = "mlstead site trust FILE shows it and asks; or write host_key: in the site file"
REPLACE = "ask who runs the host; only if it was set up anew: mlstead site trust --replace"
_CROWDED = "sshd drops those who come too fast or failed to log in; wait, or try ssh by hand"
_LONGEST = 300  # characters of ssh's words in an error

Found = re.Match[str]


def failure(target: Target, log: str, said: str = "") -> PlatformError:
    """Say why ssh did not get as far as running a command.

    Args:
        target: the host that was asked.
        log: what ssh itself logged.
        said: what came on its standard error: a jump host's words, the banner of the host.
    """
    for known in (_KNOWN, _VAGUE):
        for text in (log, said):
            for pattern, tell in known:
                if found := pattern.search(text):
                    return tell(target, found)
    return UnavailableError(
        f"{target.title}: ssh failed: {short(log) or short(said) or 'it gave no reason'}",
        hint=f"try it by hand: ssh {target.address}",
    )


def lost(target: Target, said: str) -> PlatformError:
    """Say that the connection ended while a command ran."""
    reason = f": {short(said)}" if short(said) else ""
    return UnavailableError(
        f"{target.title}: the connection was lost while a command ran{reason}",
        hint="is the host still up?",
    )


def shut(target: Target, said: str) -> PlatformError:
    """Say that the login works, but no command can be run by it."""
    who = target.user or "the user"
    return UserError(
        f"{target.title}: lets {who} in but runs no command: {short(said) or 'it said nothing'}",
        hint="the login shell must take commands, and the key must be tied to none",
    )


def fingerprint(key_base64: str) -> str:
    """Give the fingerprint of a public key as ssh shows it; ValueError if it is none."""
    digest = hashlib.sha256(base64.b64decode(key_base64, validate=True)).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def short(said: str) -> str:
    """Give the last line that tells something, without what a terminal would obey."""
    lines = [line.strip() for line in said.splitlines()]
    kept = [line for line in lines if line and not line.startswith(("**", "@", "Warning: "))]
    text = "".join(sign for sign in (kept[-1] if kept else "") if sign.isprintable())
    return text[:_LONGEST]


def _changed(target: Target, found: Found) -> PlatformError:
    said = found.string
    now = re.search(r"SHA256:[A-Za-z0-9+/]+", said)
    place = re.search(r"Offending .*key.* in (.+):(\d+)$", said, re.MULTILINE)
    before = _key_at(_path(place[1]), int(place[2])) if place else ""
    facts = [f"now {now[0]}"] if now else []
    if place:
        facts.append(f"{before or 'another'} in {_path(place[1])}:{place[2]}")
    return UserError(
        f"{target.title}: its host key has CHANGED, this may be an attack: {', '.join(facts)}",
        hint=REPLACE,
    )


def _path(said: str) -> Path:
    """Read a path as ssh logs it: in ASCII, all else by its octal number."""
    data = re.sub(
        rb"\\(\\|[0-3][0-7]{2})",
        lambda found: b"\\" if found[1] == b"\\" else bytes([int(found[1], 8)]),
        said.encode(),
    )
    return Path(os.fsdecode(data)).expanduser()


def _key_at(file: Path, number: int) -> str:
    try:
        fields = file.read_text("utf-8", "replace").split("\n")[number - 1].split()
        return fingerprint(fields[3 if fields[0].startswith("@") else 2])
    except (OSError, IndexError, binascii.Error, ValueError):
        return ""


def _revoked(target: Target, found: Found) -> PlatformError:
    return UserError(
        f"{target.title}: its host key is marked as revoked, this may be an attack",
        hint="ask who runs the host; the mark stands in a known_hosts file",
    )


def _unknown(target: Target, found: Found) -> PlatformError:
    return UserError(f"{target.title}: its host key is not known yet", hint=TRUST)


def _unverified(target: Target, found: Found) -> PlatformError:
    return UserError(
        f"{target.title}: a host key on the way there could not be checked", hint=TRUST
    )


def _bad_key(target: Target, found: Found) -> PlatformError:
    return UserError(
        f"{target.title}: the key {found[1]} cannot be used: {found[2]}",
        hint="it must be a private key of OpenSSH, readable by you alone",
    )


def _denied(target: Target, found: Found) -> PlatformError:
    by = f"the key {target.key}" if target.key else "any key of your agent or of ~/.ssh"
    return UserError(
        f"{target.title}: {found[1] or target.user or 'you'} may not log in with {by}",
        hint="put the public key into ~/.ssh/authorized_keys there (ssh-copy-id); "
        "a key with a passphrase must be in the agent (ssh-add)",
    )


def _too_many(target: Target, found: Found) -> PlatformError:
    return UserError(
        f"{target.title}: refused after too many keys were tried",
        hint="name the one to use: key: in the site file",
    )


def _nameless(target: Target, found: Found) -> PlatformError:
    return UnavailableError(
        f"{target.title}: the name {found[1]} is not found: {found[2]}",
        hint="is it written right, and does name service answer?",
    )


def _silent(target: Target, found: Found) -> PlatformError:
    return UnavailableError(
        f"{target.title}: does not answer on port {found[1]}: {found[2]}",
        hint="is it on, does sshd run there, and is the port open in the firewall?",
    )


def _mute(target: Target, found: Found) -> PlatformError:
    port = f"port {target.port or 22}"
    return UnavailableError(
        f"{target.title}: does not answer on {port}: it takes connections but says nothing",
        hint="is it very busy, or is that another program's port?",
    )


def _unlike(target: Target, found: Found) -> PlatformError:
    return UserError(
        f"{target.title}: its sshd and this ssh have nothing in common: {found[1][:_LONGEST]}",
        hint="update the older of the two",
    )


def _configured(target: Target, found: Found) -> PlatformError:
    return UserError(
        f"{target.title}: ssh cannot read its configuration: {found[0].strip()[:_LONGEST]}",
        hint="mend ~/.ssh/config",
    )


def _dropped(target: Target, found: Found) -> PlatformError:
    return UnavailableError(
        f"{target.title}: closed the connection before login: {found[0].strip()[:_LONGEST]}",
        hint=_CROWDED,
    )


_Known = list[tuple[re.Pattern[str], Callable[[Target, Found], PlatformError]]]


def _table(*rows: tuple[str, Callable[[Target, Found], PlatformError]]) -> _Known:
    return [(re.compile(text, re.MULTILINE), tell) for text, tell in rows]


# The first that fits is told.
_KNOWN = _table(
    (r"REMOTE HOST IDENTIFICATION HAS CHANGED", _changed),
    (r"REVOKED HOST KEY DETECTED", _revoked),
    (r"^No \S+ host key is known for", _unknown),
    (r"^Host key verification failed", _unverified),
    (r'^Load key "(.*)": (.*)$', _bad_key),
    (r"Too many authentication failures", _too_many),
    (r"^(?:(\S+): )?Permission denied", _denied),
    (r"Could not resolve hostname (\S+): (.*)$", _nameless),
    (r"connect to host \S+ port (\d+): (.*)$", _silent),
    (r"timed out during banner exchange", _mute),
    (r"Unable to negotiate with [^:]*: (.*)$", _unlike),
    (r"^.*(?:[Bb]ad configuration option|Bad owner or permissions| line \d+: ).*$", _configured),
)
_VAGUE = _table((r"^.*(?:Connection (?:closed|reset)|Not allowed at this time).*$", _dropped))
