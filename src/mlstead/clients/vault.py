"""Keeps the secrets of a site in one encrypted file; decision 0011 says how and why."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import secrets
import string
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mlstead.clients import durable, vault_key
from mlstead.clients.secrets import check
from mlstead.clients.vault_key import Ask, Lock
from mlstead.errors import NotFoundError, PlatformError, UnavailableError, UserError

FILE = "vault"
_LARGEST = 1 << 20  # bytes of one value
_FIRST_LINE = re.compile(rb"mlstead-vault (\d+) ([0-9a-f]{64})\n")
_VERSION = 1
_NONCE = 12  # bytes; random for each write, safe for 2**32 of them
_LETTERS = string.ascii_letters + string.digits


def generate(length: int = 32) -> str:
    """Make a password of letters and digits, with 5.95 bits for each."""
    return "".join(secrets.choice(_LETTERS) for _ in range(length))


@dataclass(frozen=True, slots=True)
class _Sealed:
    """What the file holds; all but ``data`` can be read by anyone, and changed by no one."""

    site: str
    lock: Lock
    nonce: bytes
    data: bytes

    @property
    def header(self) -> bytes:
        head = {"version": _VERSION, "site": self.site, **asdict(self.lock)}
        return json.dumps(head, sort_keys=True).encode()


class Vault:
    """The secrets of one site, in ``<folder>/vault``. Safe for several processes and threads.

    The file is encrypted (AES-256-GCM) by a key from the desktop's keyring, or from a passphrase:
    ``MLSTEAD_PASSPHRASE``, or in the file named by ``MLSTEAD_PASSPHRASE_FILE``, or asked for.
    Which of the two is chosen when the first secret is kept. A file that cannot be read is never
    written over.
    """

    def __init__(self, folder: Path, name: str, *, passphrase: Ask | None = None) -> None:
        """Name the vault; nothing is read or made yet.

        Args:
            folder: where the file lies, or is to.
            name: of the site.
            passphrase: asks for the passphrase where none is set; twice for a new vault. None:
                there is no one to ask.
        """
        self._file = folder / FILE
        self._folder = folder
        self._site = name
        self._ask = passphrase
        self._mutex = threading.RLock()
        self._deep = 0
        self._opened: tuple[Lock, bytes] | None = None

    def names(self) -> list[str]:
        """Name every secret, sorted."""
        return sorted(self._read())

    def get(self, name: str) -> str:
        """Give a secret.

        Raises:
            NotFoundError: there is none of that name.
            UserError: wrong passphrase, or a file that is damaged or not this site's.
            UnavailableError: the keyring or the disk does not answer.
        """
        try:
            return self._read()[name]
        except KeyError:
            raise NotFoundError(f"the vault of {self._site} has no secret {name!r}") from None

    def set(self, name: str, value: str) -> None:
        """Keep a secret, in place of an older one; it is on the disk when this returns.

        Raises:
            UserError: the name or the value cannot be one; else as ``get``.
        """
        check(name, value, _LARGEST)
        with self._alone():
            self._write({**self._read(), name: value})

    def ensure(self, name: str, make: Callable[[], str]) -> str:
        """Give a secret, made now if there is none; all who ask get the same one.

        It is on the disk before this returns. ``make`` may use this same vault.

        Raises:
            UserError: as ``set``.
        """
        there = self._read()
        if name in there:
            return there[name]
        with self._alone():
            there = self._read()
            if name not in there:
                value = make()
                check(name, value, _LARGEST)
                there = {**self._read(), name: value}
                self._write(there)
            return there[name]

    def remove(self, name: str) -> None:
        """Forget a secret; NotFoundError if there is none of that name."""
        with self._alone():
            there = self._read()
            if name not in there:
                raise NotFoundError(f"the vault of {self._site} has no secret {name!r}")
            self._write({other: there[other] for other in there if other != name})

    def change_passphrase(self, ask: Ask) -> None:
        """Encrypt by a new passphrase, asked for twice; a key in the keyring is given up.

        Raises:
            NotFoundError: there is no vault yet.
            UserError: the answers differ or are too short; else as ``get``.
        """
        with self._alone():
            sealed = self._load()
            if sealed is None:
                raise NotFoundError(f"{self._file}: there is no vault yet")
            there = self._open(sealed)
            passphrase = vault_key.new_passphrase(ask)
            self._opened = vault_key.of_passphrase(sealed.lock.mark, passphrase)
            self._write(there)
            vault_key.drop(sealed.lock)

    def destroy(self) -> None:
        """Remove the file, damaged or not, and its key; none there is fine."""
        if not self._folder.is_dir():
            return
        with self._alone():
            with contextlib.suppress(PlatformError):
                if sealed := self._load():
                    vault_key.drop(sealed.lock)
            left = [*self._folder.glob(f".{FILE}-*"), durable.lock_of(self._file)]
            with self._disk():
                for path in (self._file, *left):
                    path.unlink(missing_ok=True)
                durable.sync_folder(self._folder)
            self._opened = None

    # ---- the file --------------------------------------------------------------------------

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        with self._mutex, contextlib.ExitStack() as stack:
            if not self._deep:
                with self._disk():
                    stack.enter_context(durable.alone(self._file))
            self._deep += 1
            stack.callback(self._rise)
            yield

    @contextlib.contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UnavailableError(f"{self._file}: {error.strerror}") from error

    def _rise(self) -> None:
        self._deep -= 1

    def _read(self) -> dict[str, str]:
        sealed = self._load()
        return {} if sealed is None else self._open(sealed)

    def _load(self) -> _Sealed | None:
        try:
            with self._file.open("rb") as file:
                found = os.fstat(file.fileno())
                if found.st_uid != os.geteuid() or found.st_mode & 0o077:
                    raise UserError(
                        f"{self._file}: others may read it, or it is not yours",
                        hint=f"chmod 600 {self._file}",
                    )
                content = file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UnavailableError(f"{self._file}: {error.strerror}") from error
        sealed = _parse(self._file, content)
        if sealed.site != self._site:
            raise UserError(f"{self._file}: is the vault of {sealed.site}, not of {self._site}")
        return sealed

    def _open(self, sealed: _Sealed) -> dict[str, str]:
        with self._mutex:
            try:
                if self._opened is None or self._opened[0] != sealed.lock:
                    found = vault_key.find(sealed.lock, self._folder, self._ask)
                else:
                    found = self._opened[1]
                text = AESGCM(found).decrypt(sealed.nonce, sealed.data, sealed.header)
            except (InvalidTag, ValueError):
                what = "passphrase" if sealed.lock.salt else "key in the keyring"
                raise UserError(
                    f"{self._file}: the {what} is wrong, or somebody changed the file",
                    hint="nothing was written",
                ) from None
            self._opened = sealed.lock, found
        there: dict[str, str] = json.loads(text)
        return there

    def _write(self, there: dict[str, str]) -> None:
        if self._opened is None or not self._file.exists():
            self._opened = vault_key.make(self._folder, self._ask)
        lock, key = self._opened
        sealed = _Sealed(self._site, lock, secrets.token_bytes(_NONCE), b"")
        text = json.dumps(there, sort_keys=True).encode()
        data = AESGCM(key).encrypt(sealed.nonce, text, sealed.header)
        with self._disk():
            durable.write(self._file, _shown(sealed, data))


def _shown(sealed: _Sealed, data: bytes) -> bytes:
    said = {
        "site": sealed.site,
        "lock": asdict(sealed.lock),
        "nonce": base64.b64encode(sealed.nonce).decode(),
        "data": base64.b64encode(data).decode(),
    }
    body = json.dumps(said, indent=1) + "\n"
    total = hashlib.sha256(body.encode()).hexdigest()
    return f"mlstead-vault {_VERSION} {total}\n{body}".encode()


def _parse(file: Path, content: bytes) -> _Sealed:
    first = _FIRST_LINE.match(content)
    if first and int(first[1]) > _VERSION:
        raise UserError(f"{file}: made by a newer mlstead", hint="update mlstead")
    body = content[first.end() :] if first else b""
    try:
        if not first or hashlib.sha256(body).hexdigest().encode() != first[2]:
            raise ValueError
        said = json.loads(body)
        nonce, data = (base64.b64decode(said[word]) for word in ("nonce", "data"))
        lock = Lock(**{word: str(text) for word, text in said["lock"].items()})
        return _Sealed(said["site"], lock, nonce, data)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{file}: damaged or cut short", hint="put a copy of it back; nothing was written"
        ) from error
