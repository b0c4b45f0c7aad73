"""Keeps the values of secrets in the keyring of the desktop."""

import hashlib
from pathlib import Path
from typing import Self

import keyring
from keyring.errors import KeyringError, PasswordDeleteError

from mlstead.errors import PlatformError, UnavailableError

HINT = "unlock or install one, or unset MLSTEAD_SECRETS"


class Ring:
    """The values of one MLSTEAD_HOME; two homes do not see each other's."""

    def __init__(self, home: Path) -> None:
        """Choose the name under which the keyring files the values."""
        place = hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:12]
        self._service = f"mlstead-{place}"

    @classmethod
    def named(cls, service: str) -> Self:
        """Give the values filed under a name of their own, whatever the home."""
        ring = cls(Path())
        ring._service = service
        return ring

    def read(self, name: str) -> str | None:
        """Give a value, or None; UnavailableError when the keyring is locked or missing."""
        try:
            value = keyring.get_password(self._service, name)
        except KeyringError as error:
            raise _unavailable() from error
        return None if value is None else str(value)

    def write(self, name: str, value: str) -> None:
        """Keep a value; UnavailableError when the keyring is locked or missing."""
        try:
            keyring.set_password(self._service, name, value)
        except KeyringError as error:
            raise _unavailable() from error

    def drop(self, name: str) -> None:
        """Forget a value; one that is gone already is fine."""
        try:
            keyring.delete_password(self._service, name)
        except PasswordDeleteError:
            return
        except KeyringError as error:
            raise _unavailable() from error


def _unavailable() -> PlatformError:
    return UnavailableError("the keyring does not answer", hint=HINT)
