"""Where the key of a vault comes from: the keyring of the desktop, or a passphrase."""

from __future__ import annotations

import base64
import binascii
import importlib
import os
import secrets
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from mlstead.errors import UnavailableError, UserError

PASSPHRASE = "MLSTEAD_PASSPHRASE"
PASSPHRASE_FILE = "MLSTEAD_PASSPHRASE_FILE"
SIZE = 32  # bytes of a key
SHORTEST = 8  # characters of a new passphrase
_LARGEST = 4096  # bytes of a file with a passphrase
# Version 1 of the file; half a second and 128 MiB for one guess (OWASP's first choice for scrypt).
_COST, _BLOCK, _LANES = 2**17, 8, 1

Ask = Callable[[], str]


class Ring(Protocol):
    """The keyring of the desktop."""

    def read(self, name: str) -> str | None:
        """Give a value, or None."""

    def write(self, name: str, value: str) -> None:
        """Keep a value."""

    def drop(self, name: str) -> None:
        """Forget a value."""


@dataclass(frozen=True, slots=True)
class Lock:
    """What stands in the file about its key, which does not.

    Attributes:
        mark: the vault's own, random; under it the keyring keeps the key.
        salt: of the passphrase; "" when the key is in the keyring.
    """

    mark: str
    salt: str = ""


def make(folder: Path, ask: Ask | None) -> tuple[Lock, bytes]:
    """Make the key of a new vault: for the passphrase that is set, else in the keyring, else asked.

    Raises:
        UserError: no keyring and no passphrase, or a passphrase that cannot be one.
    """
    mark = secrets.token_hex(8)
    given = _given(folder)
    if given is None and (key := _into_ring(mark)):
        return Lock(mark), key
    return of_passphrase(mark, _checked(_asked_twice(ask) if given is None else given))


def of_passphrase(mark: str, passphrase: str) -> tuple[Lock, bytes]:
    """Derive the key of a vault from a passphrase, with a new salt."""
    lock = Lock(mark, base64.b64encode(secrets.token_bytes(16)).decode())
    return lock, _derived(passphrase, lock.salt)


def new_passphrase(ask: Ask) -> str:
    """Ask twice; UserError if the answers differ or cannot be a passphrase."""
    return _checked(_asked_twice(ask))


def find(lock: Lock, folder: Path, ask: Ask | None) -> bytes:
    """Give the key of a vault that is there; whether it fits is seen when it is used.

    Raises:
        UserError: it is not in the keyring, or there is no passphrase.
        UnavailableError: the keyring is locked or missing.
        ValueError: what stands in the file cannot be.
    """
    if lock.salt:
        given = _given(folder)
        return _derived(_ask(ask) if given is None else given, lock.salt)
    if ring := _ring():
        try:
            value = ring.read(lock.mark)
        except UnavailableError as error:
            raise UnavailableError(str(error), hint="unlock the keyring of your desktop") from error
        if value is not None:
            return _decoded(value)
    raise UserError(
        f"{folder}: the key of its vault is not in the keyring here",
        hint="it is on the desktop that made it; change to a passphrase there to take it along",
    )


def drop(lock: Lock) -> None:
    """Take a key out of the keyring; one that is gone already is fine.

    Raises:
        UnavailableError: the keyring is locked or missing.
    """
    if not lock.salt and (ring := _ring()):
        ring.drop(lock.mark)


def _ring() -> Ring | None:
    try:
        found = importlib.import_module("mlstead.clients.keyring")
    except ImportError:
        return None  # an optional part
    return cast("Ring", found.Ring.named("mlstead-vault"))


def _into_ring(mark: str) -> bytes | None:
    """Keep a new key in the keyring, if there is one that keeps what it is given."""
    key = secrets.token_bytes(SIZE)
    value = base64.b64encode(key).decode()
    ring = _ring()
    try:
        if ring:
            ring.write(mark, value)
            if ring.read(mark) == value:
                return key
    except UnavailableError:
        pass
    return None


def _given(folder: Path) -> str | None:
    """Give the passphrase that is set for this process, if there is one."""
    if said := os.environ.get(PASSPHRASE, ""):
        return said
    named = os.environ.get(PASSPHRASE_FILE, "")
    return _read(Path(named).expanduser(), folder) if named else None


def _read(path: Path, folder: Path) -> str:
    if path.resolve().is_relative_to(folder.resolve()):
        raise UserError(
            f"{PASSPHRASE_FILE}: {path} lies in the folder of the vault",
            hint="keep the two apart: who copies the folder must not get both",
        )
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            if found.st_uid != os.geteuid() or found.st_mode & 0o077:
                raise UserError(
                    f"{PASSPHRASE_FILE}: others may read {path}, or it is not yours",
                    hint=f"chmod 600 {path}, and change the passphrase",
                )
            content = file.read(_LARGEST)
    except OSError as error:
        raise UserError(f"{PASSPHRASE_FILE}: {path}: {error.strerror}") from error
    try:
        return content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise UserError(f"{PASSPHRASE_FILE}: {path} is no UTF-8 text") from None  # it shows bytes


def _ask(ask: Ask | None) -> str:
    if ask is None:
        raise UserError(
            "the vault needs its passphrase, and there is no one to ask",
            hint=f"name a file with it by {PASSPHRASE_FILE}",
        )
    return ask()


def _asked_twice(ask: Ask | None) -> str:
    first = _ask(ask)
    if _ask(ask) != first:
        raise UserError("the two passphrases are not the same", hint="try again")
    return first


def _checked(passphrase: str) -> str:
    if len(passphrase) < SHORTEST:
        raise UserError(
            f"a passphrase has at least {SHORTEST} characters", hint="take a longer one"
        )
    return passphrase


def _derived(passphrase: str, salt: str) -> bytes:
    data = unicodedata.normalize("NFC", passphrase).encode("utf-8", "surrogatepass")
    kdf = Scrypt(salt=_decoded(salt), length=SIZE, n=_COST, r=_BLOCK, p=_LANES)
    return kdf.derive(data)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError("no base64") from None  # the text may be a key
