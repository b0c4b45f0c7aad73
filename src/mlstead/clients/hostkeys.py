"""Knows hosts by their keys: asks for them, looks them up, writes the known_hosts of a site."""

from __future__ import annotations

import base64
import binascii
import os
import pwd
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mlstead.clients import durable, ssh_said
from mlstead.clients.ssh import KNOWN_HOSTS
from mlstead.clients.ssh_target import Target, environment, login, quoted
from mlstead.errors import ConflictError, PlatformError, UnavailableError, UserError

_AT_ONCE = 32
_QUICK = 30.0  # seconds for a program that asks no other machine
_KIND = re.compile(r"[a-z0-9][a-z0-9@.-]{2,80}", re.ASCII)
_PLACE = re.compile(r"# Host .* found: line (\d+)\s*([A-Z]*)\s*$")
_DEFAULT_PORT = "22"


@dataclass(frozen=True, slots=True)
class HostKey:
    """A public key by which a host is known.

    Attributes:
        kind: such as ``ssh-ed25519``.
        key_base64: the key as it stands in a known_hosts file.
    """

    kind: str
    key_base64: str

    def __post_init__(self) -> None:
        """Check that it is a key of its kind; UserError if not."""
        with suppress(binascii.Error, ValueError):
            data = base64.b64decode(self.key_base64, validate=True)
            said = data[4 : 4 + int.from_bytes(data[:4], "big")]
            if _KIND.fullmatch(self.kind) and said == self.kind.encode():
                return
        raise UserError(f"{self.kind[:40]!r} {self.key_base64[:20]!r}… is no host key")

    @property
    def fingerprint(self) -> str:
        """The short form that people compare: ``SHA256:…``, as ssh shows it."""
        return ssh_said.fingerprint(self.key_base64)


def scan(
    targets: Sequence[Target], timeout: float = 5
) -> Mapping[str, tuple[HostKey, ...] | PlatformError]:
    """Ask hosts for their keys, side by side; nothing says yet that they are the right ones.

    A host that ``ssh-keyscan`` gets no key of, or that is behind a jump host, is asked by ssh
    itself, which gives one key, or the reason why not.

    Args:
        targets: the hosts; their names are the keys of the result.
        timeout: seconds that a host has to answer each of the two programs.

    Raises:
        UserError: OpenSSH's programs are not installed.
    """
    whole = max(1, round(timeout))
    with ThreadPoolExecutor(max_workers=max(1, min(_AT_ONCE, len(targets)))) as pool:
        found = pool.map(lambda target: _ask(target, whole), targets)
        return {target.name: keys for target, keys in zip(targets, found, strict=True)}


def known(
    folder: Path, target: Target, *, own: Sequence[Path] | None = None
) -> tuple[HostKey, ...]:
    """Give the keys that ssh takes from a host without a question; none: it is not known.

    Args:
        folder: with the site's known_hosts.
        target: the host.
        own: more known_hosts files; by default the user's and the machine's.

    Raises:
        UserError: a file cannot be read, or OpenSSH's programs are not installed.
    """
    name = _Way.of(target).name
    files = [folder / KNOWN_HOSTS, *(_own() if own is None else own)]
    keys = [key for file in files for key, _ in _listed(file, name)]
    return tuple(dict.fromkeys(keys))


def trust(
    folder: Path,
    target: Target,
    keys: Iterable[HostKey],
    replace: bool = False,
    *,
    own: Sequence[Path] | None = None,
) -> None:
    """Write down that a host is known by these keys; they are on the disk when this returns.

    With ``replace`` all that stood in our file for this host goes. The user's own known_hosts is
    never changed: a key that stands there is still taken by ssh.

    Raises:
        ConflictError: the host is known by another key of the same kind, and not ``replace``.
        UserError: a file cannot be read or written.
    """
    new = tuple(dict.fromkeys(keys))
    way = _Way.of(target)
    file = folder / KNOWN_HOSTS
    try:
        with durable.alone(file):
            if not replace:
                _refuse_others(target, new, known(folder, target, own=own))
            lines = _without(file, way.name) if replace else _lines(file)
            there = set() if replace else {key for key, _ in _listed(file, way.name)}
            lines += [f"{way.name} {key.kind} {key.key_base64}" for key in new if key not in there]
            _write(file, lines)
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from error


def forget(folder: Path, target: Target) -> None:
    """Take a host out of our known_hosts; one that is not there is fine.

    Raises:
        UserError: the file cannot be read or written.
    """
    name = _Way.of(target).name
    file = folder / KNOWN_HOSTS
    try:
        with durable.alone(file):
            lines = _without(file, name)
            if lines != _lines(file):
                _write(file, lines)
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from error


def match(keys: Iterable[HostKey], wanted: str) -> HostKey | None:
    """Give the key that somebody named beforehand, or None.

    Args:
        keys: what the host showed.
        wanted: a fingerprint, ``SHA256:…``, or the key itself, ``ssh-ed25519 AAAA…``.
    """
    words = wanted.split()
    for key in keys:
        if words[:2] == [key.kind, key.key_base64] or words == [key.fingerprint]:
            return key
    return None


# ---- how ssh gets there --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Way:
    """Where the user's configuration leads to, and under which name ssh looks for the key."""

    host: str
    port: str
    name: str
    direct: bool

    @staticmethod
    def of(target: Target) -> _Way:
        done = _run(["ssh", "-G", *login(target), "--", target.address], _QUICK)
        if done.code:
            raise ssh_said.failure(target, done.err)
        rows = (line.partition(" ") for line in done.out.splitlines())
        said = {word: rest for word, _, rest in rows}
        host = said.get("hostname", target.address).lower()
        port = said.get("port", _DEFAULT_PORT)
        plain = host if port == _DEFAULT_PORT else f"[{host}]:{port}"
        jumps = {said.get("proxyjump", "none"), said.get("proxycommand", "none")}
        return _Way(host, port, said.get("hostkeyalias", "").lower() or plain, jumps == {"none"})


def _ask(target: Target, timeout: int) -> tuple[HostKey, ...] | PlatformError:
    try:
        way = _Way.of(target)
        keys = _scanned(way, timeout) if way.direct else ()
        return keys or _shown_to_ssh(target, way, timeout)
    except PlatformError as error:
        return error


def _scanned(way: _Way, timeout: int) -> tuple[HostKey, ...]:
    argv = ["ssh-keyscan", "-T", str(timeout), "-p", way.port, "--", way.host]
    try:
        done = _run(argv, 3.0 * timeout)
    except UnavailableError:
        return ()
    found = set()
    for line in done.out.splitlines():
        with suppress(UserError, TypeError):  # what is no key, such as the remarks of old versions
            found.add(HostKey(*line.split()[1:3]))
    return tuple(sorted(found, key=lambda key: (key.kind, key.key_base64)))


def _shown_to_ssh(target: Target, way: _Way, timeout: int) -> tuple[HostKey, ...]:
    """Let ssh note the key in a file of its own; it is not to log in."""
    with tempfile.TemporaryDirectory(prefix="mlstead-key-") as folder:
        file = Path(folder) / KNOWN_HOSTS
        log = Path(folder) / "log"
        options = (
            "StrictHostKeyChecking=accept-new",
            f"UserKnownHostsFile={quoted(file)}",
            "GlobalKnownHostsFile=/dev/null",
            "HashKnownHosts=no",
            "CheckHostIP=no",
            "UpdateHostKeys=no",
            "PreferredAuthentications=none",
            "BatchMode=yes",
            f"ConnectTimeout={timeout}",
            "ControlMaster=no",
            "ControlPath=none",
            "LogLevel=INFO",
            "RemoteCommand=none",
            "ClearAllForwardings=yes",
        )
        argv = ["ssh", "-T", "-E", str(log), *login(target)]
        argv += [word for option in options for word in ("-o", option)]
        try:
            done = _run([*argv, "--", target.address, "true"], 3.0 * timeout)
        except UnavailableError as error:
            raise UnavailableError(
                f"{target.title}: shows no host key in {3 * timeout} s",
                hint="try it by hand: ssh " + target.address,
            ) from error
        keys = tuple(key for key, _ in _listed(file, way.name))
        said = log.read_text("utf-8", "replace") if log.exists() else ""
        if not keys:
            raise ssh_said.failure(target, said, done.err)
        return keys


# ---- known_hosts files ---------------------------------------------------------------------


def _own() -> list[Path]:
    # As ssh does: by the user's number, whatever HOME says.
    home = Path(pwd.getpwuid(os.getuid()).pw_dir)
    return [home / ".ssh" / KNOWN_HOSTS, Path("/etc/ssh/ssh_known_hosts")]


def _listed(file: Path, name: str) -> list[tuple[HostKey, int]]:
    """Find the keys of a host, and the numbers of their lines from 0; hashed names, too."""
    if not file.exists():
        return []
    done = _run(["ssh-keygen", "-F", name, "-f", str(file)], _QUICK)
    if done.code > 1:
        raise UserError(f"{file}: cannot be read: {ssh_said.short(done.err)}")
    found = []
    place: re.Match[str] | None = None
    for line in done.out.splitlines():
        if told := _PLACE.match(line):
            place = told
        elif place and not place[2]:  # else: a mark, of an authority or a revoked key
            with suppress(UserError):
                found.append((HostKey(*line.split()[1:3]), int(place[1]) - 1))
    return found


def _lines(file: Path) -> list[str]:
    try:
        text = file.read_text("utf-8", "surrogateescape")
    except FileNotFoundError:
        return []
    return text.removesuffix("\n").split("\n") if text else []


def _write(file: Path, lines: Iterable[str]) -> None:
    durable.write(file, "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape"))


def _without(file: Path, name: str) -> list[str]:
    """Give the lines of a file after a host is taken out; others on its lines stay."""
    lines = _lines(file)
    for _, number in reversed(_listed(file, name)):
        names, _, rest = lines[number].partition(" ")
        others = [other for other in names.split(",") if other.lower() != name]
        if names.startswith("|") or not others:
            del lines[number]
        else:
            lines[number] = f"{','.join(others)} {rest}"
    return lines


def _refuse_others(target: Target, new: Sequence[HostKey], old: Sequence[HostKey]) -> None:
    for key in new:
        kept = [other for other in old if other.kind == key.kind]
        if kept and key not in kept:
            raise ConflictError(
                f"{target.title}: shows the {key.kind} key {key.fingerprint}, but is known by "
                f"{kept[0].fingerprint}: this may be an attack",
                hint=ssh_said.REPLACE,
            )


# ---- programs ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Done:
    code: int
    out: str
    err: str


def _run(argv: Sequence[str], timeout: float) -> _Done:
    """Run a program that can ask nobody; its own children cannot keep us waiting, either.

    Raises:
        UnavailableError: it took longer; it and its children have been ended.
        UserError: it is not installed.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=environment(),
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise UserError(
                f"{argv[0]} is not installed", hint="install OpenSSH's client"
            ) from error
        except OSError as error:
            raise UserError(f"{argv[0]} cannot be started: {error.strerror}") from error
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise UnavailableError(f"{argv[0]}: no answer in {timeout:g} s") from error
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        return _Done(code, _text(out), _text(err))


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "replace")
