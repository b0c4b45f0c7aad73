"""Keeps the secrets of a user on this machine, and hides their values in what is shown."""

import contextlib
import fcntl
import importlib
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol, cast, overload

from mlstead.errors import NotFoundError, UnavailableError, UserError

BACKEND = "MLSTEAD_SECRETS"  # file (the default) or keyring
NAME = re.compile(r"[a-z][a-z0-9._-]{0,62}", re.ASCII)
SHORTEST = 8  # characters; shorter values would blacken ordinary words
MASK = "***"
_LARGEST = 64 << 10  # bytes of one value: an environment variable takes 128 KiB


class Ring(Protocol):
    """Where values lie when they do not lie in the file."""

    def read(self, name: str) -> str | None:
        """Give a value, or None."""

    def write(self, name: str, value: str) -> None:
        """Keep a value."""

    def drop(self, name: str) -> None:
        """Forget a value."""


class SecretStore:
    """Names and values in ``<home>/secrets.json``, readable by its owner alone.

    With ``MLSTEAD_SECRETS=keyring`` the values lie in the keyring of the desktop, and
    ``<home>/keyring.json`` holds their names, which a keyring cannot list. Safe for use by
    several processes at once.
    """

    def __init__(self, home: Path, *, backend: str | None = None) -> None:
        """Choose the file or the keyring; UserError if ``backend`` is neither."""
        chosen = os.environ.get(BACKEND, "") if backend is None else backend
        if chosen not in ("", "file", "keyring"):
            raise UserError(f"{BACKEND}={chosen}: no such place", hint="known: file, keyring")
        self._home = home
        self._file = home / ("keyring.json" if chosen == "keyring" else "secrets.json")
        self._ring: Ring | None = None
        if chosen == "keyring":
            # By name: the file must not pay for the keyring's imports.
            self._ring = cast("Ring", importlib.import_module("mlstead.clients.keyring").Ring(home))

    def names(self) -> list[str]:
        """Name every secret, sorted."""
        return sorted(self._read())

    def get(self, name: str) -> str:
        """Give the value of a secret; NotFoundError if there is none of that name."""
        kept = self._read()
        value = self._ring.read(name) if self._ring and name in kept else kept.get(name)
        if value is None:
            raise NotFoundError(f"no secret {name!r}", hint=f"mlstead secret set {name}")
        return value

    def set(self, name: str, value: str) -> None:
        """Keep a value under a name, in place of an older one.

        Raises:
            UserError: the name or the value cannot be one.
            UnavailableError: the disk is full or read-only, or the keyring is locked.
        """
        check(name, value, _LARGEST)
        if "\0" in value:
            raise UserError(f"secret {name!r}: the value holds a zero byte")
        with self._changing() as kept:
            if self._ring:
                self._ring.write(name, value)
            kept[name] = None if self._ring else value

    def remove(self, name: str) -> None:
        """Forget a secret; NotFoundError if there is none of that name."""
        with self._changing() as kept:
            if name not in kept:
                raise NotFoundError(f"no secret {name!r}", hint="see: mlstead secret list")
            if self._ring:
                self._ring.drop(name)
            del kept[name]

    def _read(self) -> dict[str, str | None]:
        try:
            with self._file.open("rb") as file:
                found = os.fstat(file.fileno())
                if found.st_uid != os.geteuid() or found.st_mode & 0o077:
                    raise UserError(
                        f"{self._file}: others may read it, or it is not yours",
                        hint=f"chmod 600 {self._file}, and change the secrets in it",
                    )
                data = json.loads(file.read())
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise UnavailableError(f"{self._file}: {error.strerror}") from error
        except ValueError as error:
            raise _torn(self._file) from error
        kept = data.get("secrets") if isinstance(data, dict) else None
        if not isinstance(kept, dict):
            raise _torn(self._file)
        return kept

    @contextlib.contextmanager
    def _changing(self) -> Iterator[dict[str, str | None]]:
        """Give the content for change, alone, and write it whole or not at all."""
        try:
            self._home.mkdir(parents=True, exist_ok=True, mode=0o700)
            with (self._home / "secrets.lock").open("ab") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                kept = self._read()
                yield kept
                _replace(self._file, kept)
        except OSError as error:
            raise UnavailableError(f"{self._file}: {error.strerror}") from error


def check(name: str, value: str, most: int) -> None:
    """See that a name and a value can be kept; the value is at most so many bytes.

    Raises:
        UserError: they cannot; the value is not shown.
    """
    if not NAME.fullmatch(name):
        raise UserError(
            f"{name!r} cannot name a secret",
            hint="a small letter, then small letters, digits, '.', '_' and '-', at most 63",
        )
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        # Its text would show the value: no cause goes on.
        raise UserError(f"secret {name!r}: the value is no UTF-8 text") from None
    if not 0 < size <= most:
        raise UserError(f"secret {name!r}: the value is empty or over {most >> 10} KiB")


def _torn(file: Path) -> UserError:
    return UserError(f"{file}: damaged", hint="remove it and set the secrets again")


def _replace(file: Path, kept: dict[str, str | None]) -> None:
    descriptor, aside = tempfile.mkstemp(dir=file.parent, prefix=".secrets-")  # 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as written:
            if os.fstat(descriptor).st_mode & 0o077:
                raise UserError(
                    f"{file}: this disk keeps no permissions", hint=f"{BACKEND}=keyring"
                )
            json.dump({"version": 1, "secrets": kept}, written, indent=1, sort_keys=True)
            written.flush()
            os.fsync(written.fileno())
        Path(aside).replace(file)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise


# ---- masking -------------------------------------------------------------------------------


class Masker:
    """Hides known values in a stream of bytes, also where one is cut by the border of two chunks.

    Feeding the chunks gives the bytes that masking the whole would give. What could be the
    beginning of a value is held back until it is known; ``finish`` gives it at the end.

    Attributes:
        longest: bytes of the longest value; a reader who starts in the middle of a log starts
            so many bytes earlier to cut none in two.
    """

    def __init__(self, values: Iterable[str]) -> None:
        """Take the values; those under 8 characters are not looked for."""
        known = {found for value in values for found in (value, value.strip())}
        self._values = sorted(
            (value.encode("utf-8", "surrogatepass") for value in known if len(value) >= SHORTEST),
            key=len,
            reverse=True,
        )
        self.longest = len(self._values[0]) if self._values else 0
        self._pattern = re.compile(b"|".join(re.escape(value) for value in self._values))
        self._held = b""

    def feed(self, chunk: bytes) -> bytes:
        """Give what can be shown by now."""
        if not self._values:
            return chunk
        data = self._held + chunk
        shown, at = [], 0
        while True:
            unsure = self._unsure(data, at)
            found = self._pattern.search(data, at)
            if found is None or found.start() >= unsure:
                break
            shown += [data[at : found.start()], MASK.encode()]
            at = found.end()
        self._held = data[unsure:]
        return b"".join([*shown, data[at:unsure]])

    def finish(self) -> bytes:
        """Give what was held back, at the end of the stream."""
        held, self._held = self._held, b""
        return self._pattern.sub(MASK.encode(), held) if self._values else held

    def _unsure(self, data: bytes, start: int) -> int:
        """Find the first place from which the rest is the beginning of a value."""
        first = len(data)
        for value in self._values:
            at = max(start, len(data) - len(value) + 1)
            while (at := data.find(value[:1], at, first)) >= 0:
                if value.startswith(data[at:]):
                    first = at
                    break
                at += 1
        return first


@overload
def mask(text: str, values: Iterable[str]) -> str: ...
@overload
def mask(text: bytes, values: Iterable[str]) -> bytes: ...
def mask(text: str | bytes, values: Iterable[str]) -> str | bytes:
    """Put ``***`` in place of every known value of 8 characters or more."""
    masker = Masker(values)
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    shown = masker.feed(data) + masker.finish()
    return shown.decode("utf-8", "surrogatepass") if isinstance(text, str) else shown
