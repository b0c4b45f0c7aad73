"""Secrets in the keyring: a keyring in memory stands for the desktop's."""

from collections.abc import Iterator
from pathlib import Path

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.backends import fail
from keyring.errors import PasswordDeleteError

from mlstead.clients.secrets import SecretStore
from mlstead.errors import NotFoundError, UnavailableError


class Memory(KeyringBackend):  # type: ignore[misc]
    priority = 1

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        if (service, username) not in self.kept:
            raise PasswordDeleteError("none")
        del self.kept[service, username]


@pytest.fixture
def ring() -> Iterator[Memory]:
    before = keyring.get_keyring()
    memory = Memory()
    keyring.set_keyring(memory)
    yield memory
    keyring.set_keyring(before)


def test_values_lie_in_the_keyring_and_names_in_the_file(ring: Memory, tmp_path: Path) -> None:
    store = SecretStore(tmp_path, backend="keyring")
    store.set("slack", "hidden-value")
    assert SecretStore(tmp_path, backend="keyring").get("slack") == "hidden-value"
    assert store.names() == ["slack"]
    assert list(ring.kept.values()) == ["hidden-value"]
    assert not any(b"hidden" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    store.remove("slack")
    assert (store.names(), ring.kept) == ([], {})


def test_two_homes_do_not_see_each_other(ring: Memory, tmp_path: Path) -> None:
    SecretStore(tmp_path / "a", backend="keyring").set("x", "1")
    SecretStore(tmp_path / "b", backend="keyring").set("x", "2")
    assert SecretStore(tmp_path / "a", backend="keyring").get("x") == "1"


def test_the_file_and_the_keyring_are_two_places(ring: Memory, tmp_path: Path) -> None:
    SecretStore(tmp_path, backend="file").set("x", "1")
    with pytest.raises(NotFoundError):
        SecretStore(tmp_path, backend="keyring").get("x")


def test_one_removed_from_the_keyring_by_hand_can_still_be_removed(
    ring: Memory, tmp_path: Path
) -> None:
    store = SecretStore(tmp_path, backend="keyring")
    store.set("x", "1")
    ring.kept.clear()
    with pytest.raises(NotFoundError):
        store.get("x")
    store.remove("x")
    assert store.names() == []


def test_no_keyring_is_unavailable(tmp_path: Path) -> None:
    before = keyring.get_keyring()
    keyring.set_keyring(fail.Keyring())
    try:
        with pytest.raises(UnavailableError, match="keyring"):
            SecretStore(tmp_path, backend="keyring").set("x", "1")
    finally:
        keyring.set_keyring(before)
    assert SecretStore(tmp_path, backend="keyring").names() == []
