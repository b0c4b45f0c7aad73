"""The site's vault: what it keeps, where its key is, what it does with files it cannot read."""

from __future__ import annotations

import base64
import json
import re
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.backends import fail, null
from keyring.errors import KeyringLocked

from mlstead.clients.vault import Vault, generate
from mlstead.errors import NotFoundError, PlatformError, UnavailableError, UserError

VALUE = "hidden-value"
WORDS = "correct horse battery"


class Memory(KeyringBackend):  # type: ignore[misc]
    priority = 1

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}
        self.locked = False

    def get_password(self, service: str, username: str) -> str | None:
        if self.locked:
            raise KeyringLocked("locked")
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.kept[service, username]


@pytest.fixture(autouse=True)
def _no_ring() -> Iterator[None]:
    before = keyring.get_keyring()
    keyring.set_keyring(fail.Keyring())
    yield
    keyring.set_keyring(before)


@pytest.fixture
def ring() -> Memory:
    memory = Memory()
    keyring.set_keyring(memory)
    return memory


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "site"


def _saying(*answers: str) -> Callable[[], str]:
    """Ask somebody who answers so, and no more often."""
    left = list(answers)
    return lambda: left.pop(0)


def _never() -> str:
    raise AssertionError("nobody was to be asked")


# ---- secrets -------------------------------------------------------------------------------


def test_what_is_set_is_there_for_all_and_what_is_removed_is_gone(
    ring: Memory, folder: Path
) -> None:
    vault = Vault(folder, "lab")
    assert vault.names() == []
    vault.set("b", VALUE)
    vault.set("a", "ü\0\n")
    other = Vault(folder, "lab")
    assert (other.names(), other.get("b"), other.get("a")) == (["a", "b"], VALUE, "ü\0\n")
    other.remove("b")
    with pytest.raises(NotFoundError, match="'b'"):
        vault.get("b")
    with pytest.raises(NotFoundError, match="'b'"):
        vault.remove("b")


def test_a_vault_that_is_not_there_asks_nobody(folder: Path) -> None:
    vault = Vault(folder, "lab", passphrase=_never)
    assert vault.names() == []
    with pytest.raises(NotFoundError, match="lab has no secret 'a'"):
        vault.get("a")
    vault.destroy()
    assert not folder.exists()


@pytest.mark.parametrize("name", ["", "A", "1", "a b", "a/b", "a" * 64])
def test_a_name_that_cannot_be_one_is_refused(ring: Memory, folder: Path, name: str) -> None:
    with pytest.raises(UserError, match="cannot name a secret"):
        Vault(folder, "lab").set(name, VALUE)


@pytest.mark.parametrize("value", ["", f"{VALUE}\udc80", VALUE * (1 << 17)])
def test_a_value_that_cannot_be_one_is_refused_and_not_shown(
    ring: Memory, folder: Path, value: str
) -> None:
    with pytest.raises(UserError) as caught:
        Vault(folder, "lab").ensure("a", lambda: value)
    assert VALUE not in repr(caught.value) + repr(caught.value.__cause__)
    assert not (folder / "vault").exists()


def test_a_secret_is_made_once(ring: Memory, folder: Path) -> None:
    first = Vault(folder, "lab").ensure("a", generate)
    assert Vault(folder, "lab").ensure("a", _never) == first
    assert Vault(folder, "lab").get("a") == first


def test_a_secret_may_be_made_from_others_of_the_same_vault(ring: Memory, folder: Path) -> None:
    vault = Vault(folder, "lab")
    assert vault.ensure("a", lambda: vault.ensure("b", lambda: VALUE) + "!") == f"{VALUE}!"
    assert vault.names() == ["a", "b"]


def test_making_that_fails_keeps_nothing_and_locks_nobody_out(ring: Memory, folder: Path) -> None:
    vault = Vault(folder, "lab")
    with pytest.raises(ZeroDivisionError):
        vault.ensure("a", lambda: str(1 // 0))
    Vault(folder, "lab").set("a", VALUE)
    assert vault.get("a") == VALUE


def test_all_who_ask_at_once_get_the_same_secret(ring: Memory, folder: Path) -> None:
    shared = Vault(folder, "lab")
    vaults = [shared, shared, *(Vault(folder, "lab") for _ in range(6))]
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda one=vault: found.append(one.ensure("a", generate)))
        for vault in vaults
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert set(found) == {shared.get("a")}


WRITER = """
import sys
from pathlib import Path
from mlstead.clients.vault import Vault
vault = Vault(Path(sys.argv[1]), "lab")
for number in range(10_000):
    print(f"n{number}", vault.ensure(f"n{number}", lambda: f"v{number}"), flush=True)
"""


def test_a_secret_that_was_given_out_outlives_a_kill(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLSTEAD_PASSPHRASE", WORDS)
    argv = [sys.executable, "-c", WRITER, str(folder)]
    given = {}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        for line in writer.stdout:
            name, value = line.split()
            given[name] = value
            if len(given) == 20:
                writer.send_signal(signal.SIGKILL)
    vault = Vault(folder, "lab")
    assert len(given) >= 20
    assert {name: vault.get(name) for name in given} == given
    vault.set("after", VALUE)


def test_passwords_are_long_plain_and_never_the_same() -> None:
    made = {generate() for _ in range(100)}
    assert len(made) == 100
    assert all(re.fullmatch("[A-Za-z0-9]{32}", password) for password in made)
    assert len(generate(48)) == 48


# ---- what lies on the disk -----------------------------------------------------------------


def test_the_file_shows_neither_names_values_nor_key(ring: Memory, folder: Path) -> None:
    Vault(folder, "lab").set("database", VALUE)
    (key,) = ring.kept.values()
    content = (folder / "vault").read_bytes()
    for hidden in (b"database", VALUE.encode(), key.encode(), base64.b64decode(key)):
        assert hidden not in content
    assert stat.S_IMODE((folder / "vault").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {path.name for path in folder.iterdir()} == {"vault", "vault.lock"}


def test_nothing_shows_a_value_or_a_key(ring: Memory, folder: Path) -> None:
    vault = Vault(folder, "lab")
    vault.set("a", VALUE)
    (key,) = ring.kept.values()
    assert VALUE not in repr(vault) and key not in repr(vault)


def test_the_same_content_is_never_encrypted_alike(ring: Memory, folder: Path) -> None:
    vault = Vault(folder, "lab")
    seen = set()
    for _ in range(5):
        vault.set("a", VALUE)
        said = json.loads((folder / "vault").read_text().partition("\n")[2])
        seen |= {said["nonce"], said["data"]}
    assert len(seen) == 10


def _spoiled(content: bytes) -> dict[str, bytes]:
    middle = len(content) // 2
    return {
        "empty": b"",
        "cut": content[:middle],
        "one byte short": content[:-1],
        "one bit": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        "another file": b"hello\n",
        "longer": content + b"\n",
    }


@pytest.mark.parametrize("how", _spoiled(b"x" * 10))
def test_a_damaged_file_is_told_and_left_alone(ring: Memory, folder: Path, how: str) -> None:
    Vault(folder, "lab").set("a", VALUE)
    file = folder / "vault"
    spoiled = _spoiled(file.read_bytes())[how]
    file.write_bytes(spoiled)
    vault = Vault(folder, "lab")
    for call in (
        vault.names,
        lambda: vault.get("a"),
        lambda: vault.set("a", "new"),
        lambda: vault.ensure("b", _never),
        lambda: vault.remove("a"),
        lambda: vault.change_passphrase(_never),
    ):
        with pytest.raises(UserError, match="vault: damaged or cut short") as caught:
            call()
        assert "\n" not in str(caught.value)
    assert file.read_bytes() == spoiled
    vault.destroy()
    assert list(folder.iterdir()) == []


def _resealed(file: Path, **changed: object) -> None:
    """Change what the file says and make its sum fit again, as an attacker would."""
    said = {**json.loads(file.read_text().partition("\n")[2]), **changed}
    body = json.dumps(said) + "\n"
    total = subprocess.run(["sha256sum"], input=body.encode(), capture_output=True, check=True)
    file.write_text(f"mlstead-vault 1 {total.stdout.split()[0].decode()}\n{body}")


@pytest.mark.parametrize(
    "changed",
    [
        {"nonce": "AAAAAAAAAAAAAAAA"}, {"data": "AAAA"}, {"nonce": ""}, {"data": 1}, {"lock": {}},
        {"lock": {"mark": "a", "salt": "b", "more": ""}}, {"lock": {"mark": "a", "salt": 7}},
    ],
)  # fmt: skip
def test_a_file_that_somebody_changed_is_refused(
    ring: Memory, folder: Path, changed: dict[str, object]
) -> None:
    Vault(folder, "lab").set("a", VALUE)
    file = folder / "vault"
    _resealed(file, **changed)
    before = file.read_bytes()
    with pytest.raises(UserError, match=r"somebody changed the file|damaged"):
        Vault(folder, "lab", passphrase=lambda: WORDS).set("a", VALUE)
    assert file.read_bytes() == before


def test_the_vault_of_another_site_is_refused_also_when_it_is_renamed(
    ring: Memory, folder: Path
) -> None:
    Vault(folder, "lab").set("a", VALUE)
    with pytest.raises(UserError, match="is the vault of lab, not of prod"):
        Vault(folder, "prod").get("a")
    _resealed(folder / "vault", site="prod")
    with pytest.raises(UserError, match="somebody changed"):
        Vault(folder, "prod").get("a")


def test_a_newer_file_is_told(ring: Memory, folder: Path) -> None:
    folder.mkdir()
    (folder / "vault").write_text(f"mlstead-vault 2 {'0' * 64}\nwhat comes then\n")
    (folder / "vault").chmod(0o600)
    with pytest.raises(UserError, match="made by a newer mlstead"):
        Vault(folder, "lab").set("a", VALUE)


def test_a_file_that_others_may_read_is_refused(ring: Memory, folder: Path) -> None:
    Vault(folder, "lab").set("a", VALUE)
    (folder / "vault").chmod(0o640)
    with pytest.raises(UserError, match="others may read it"):
        Vault(folder, "lab").get("a")


def test_a_folder_that_cannot_be_written_is_unavailable(ring: Memory, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UnavailableError):
        Vault(tmp_path / "file" / "site", "lab").set("a", VALUE)


# ---- the keyring ---------------------------------------------------------------------------


def test_the_keyring_is_asked_before_a_person(ring: Memory, folder: Path) -> None:
    Vault(folder, "lab", passphrase=_never).set("a", VALUE)
    assert Vault(folder, "lab", passphrase=_never).get("a") == VALUE


def test_two_vaults_have_keys_of_their_own(ring: Memory, tmp_path: Path) -> None:
    Vault(tmp_path / "a", "lab").set("x", "1")
    Vault(tmp_path / "b", "lab").set("x", "2")
    assert len(set(ring.kept.values())) == 2
    assert Vault(tmp_path / "a", "lab").get("x") == "1"


def test_a_folder_that_moved_keeps_its_key(ring: Memory, folder: Path) -> None:
    Vault(folder, "lab").set("a", VALUE)
    assert Vault(folder.rename(folder.parent / "moved"), "lab").get("a") == VALUE


def test_a_key_that_is_gone_from_the_keyring_is_told(ring: Memory, folder: Path) -> None:
    Vault(folder, "lab").set("a", VALUE)
    before = (folder / "vault").read_bytes()
    ring.kept.clear()
    with pytest.raises(UserError, match="not in the keyring here"):
        Vault(folder, "lab").set("a", "new")
    assert (folder / "vault").read_bytes() == before


@pytest.mark.parametrize("wrong", [base64.b64encode(b"x" * 32).decode(), "eA==", "no base64"])
def test_a_wrong_key_in_the_keyring_is_told(ring: Memory, folder: Path, wrong: str) -> None:
    Vault(folder, "lab").set("a", VALUE)
    ring.kept = dict.fromkeys(ring.kept, wrong)
    with pytest.raises(UserError, match="key in the keyring is wrong") as caught:
        Vault(folder, "lab").get("a")
    assert wrong not in repr(caught.value)


def test_a_locked_keyring_is_unavailable(ring: Memory, folder: Path) -> None:
    Vault(folder, "lab").set("a", VALUE)
    ring.locked = True
    with pytest.raises(UnavailableError, match="keyring") as caught:
        Vault(folder, "lab").get("a")
    assert "MLSTEAD_SECRETS" not in caught.value.hint


def test_a_keyring_that_keeps_nothing_is_none(folder: Path) -> None:
    keyring.set_keyring(null.Keyring())
    Vault(folder, "lab", passphrase=_saying(WORDS, WORDS)).set("a", VALUE)
    assert Vault(folder, "lab", passphrase=_saying(WORDS)).get("a") == VALUE


def test_a_destroyed_vault_leaves_neither_file_nor_key(ring: Memory, folder: Path) -> None:
    vault = Vault(folder, "lab")
    vault.set("a", VALUE)
    vault.destroy()
    assert (list(folder.iterdir()), ring.kept) == ([], {})
    vault.destroy()
    vault.set("b", VALUE)
    assert Vault(folder, "lab").names() == ["b"]


# ---- the passphrase ------------------------------------------------------------------------


def test_a_person_is_asked_twice_for_a_new_vault_and_once_later(folder: Path) -> None:
    vault = Vault(folder, "lab", passphrase=_saying(WORDS, WORDS))
    vault.set("a", VALUE)
    vault.set("b", VALUE)
    again = Vault(folder, "lab", passphrase=_saying(WORDS))
    assert (again.get("a"), again.names()) == (VALUE, ["a", "b"])


@pytest.mark.parametrize(
    ("answers", "said"),
    [((WORDS, "other words"), "not the same"), (("short", "short"), "at least")],
)
def test_a_new_passphrase_is_checked(folder: Path, answers: tuple[str, str], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        Vault(folder, "lab", passphrase=_saying(*answers)).set("a", VALUE)
    assert not any(answer in str(caught.value) for answer in answers)
    assert not (folder / "vault").exists()


def test_a_wrong_passphrase_is_told_and_nothing_is_written(folder: Path) -> None:
    Vault(folder, "lab", passphrase=_saying(WORDS, WORDS)).set("a", VALUE)
    before = (folder / "vault").read_bytes()
    with pytest.raises(UserError, match="passphrase is wrong") as caught:
        Vault(folder, "lab", passphrase=_saying("wrong words")).set("a", "new")
    assert "wrong words" not in repr(caught.value)
    assert (folder / "vault").read_bytes() == before


def test_without_keyring_and_passphrase_the_way_out_is_told(folder: Path) -> None:
    with pytest.raises(UserError, match="no one to ask") as caught:
        Vault(folder, "lab").set("a", VALUE)
    assert "MLSTEAD_PASSPHRASE_FILE" in caught.value.hint


def test_a_passphrase_in_the_environment_or_a_file_is_taken(
    ring: Memory, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLSTEAD_PASSPHRASE", WORDS)
    Vault(folder, "lab", passphrase=_never).set("a", VALUE)
    assert ring.kept == {}
    monkeypatch.delenv("MLSTEAD_PASSPHRASE")
    file = tmp_path / "passphrase"
    file.write_text(f"{WORDS}\n")
    file.chmod(0o600)
    monkeypatch.setenv("MLSTEAD_PASSPHRASE_FILE", str(file))
    assert Vault(folder, "lab", passphrase=_never).get("a") == VALUE


def test_a_file_with_the_passphrase_is_its_owners_alone_and_lies_elsewhere(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.mkdir()
    cases: list[tuple[Path, int, type[PlatformError], str]] = [
        (tmp_path / "open", 0o640, UserError, "others may read"),
        (folder / "inside", 0o600, UserError, "lies in the folder of the vault"),
    ]
    for file, mode, kind, said in cases:
        file.write_text(WORDS)
        file.chmod(mode)
        monkeypatch.setenv("MLSTEAD_PASSPHRASE_FILE", str(file))
        with pytest.raises(kind, match=said):
            Vault(folder, "lab").set("a", VALUE)
    link = tmp_path / "link"
    link.symlink_to(folder / "inside")
    for path, said in ((link, "lies in the folder"), (tmp_path / "none", "No such file")):
        monkeypatch.setenv("MLSTEAD_PASSPHRASE_FILE", str(path))
        with pytest.raises(UserError, match=said):
            Vault(folder, "lab").set("a", VALUE)
    assert not (folder / "vault").exists()


def test_a_changed_passphrase_is_the_only_one_that_opens(folder: Path) -> None:
    Vault(folder, "lab", passphrase=_saying(WORDS, WORDS)).set("a", VALUE)
    vault = Vault(folder, "lab", passphrase=_saying(WORDS))
    vault.change_passphrase(_saying("other words", "other words"))
    assert vault.get("a") == VALUE
    with pytest.raises(UserError, match="wrong"):
        Vault(folder, "lab", passphrase=_saying(WORDS)).get("a")
    assert Vault(folder, "lab", passphrase=_saying("other words")).get("a") == VALUE


def test_a_vault_of_the_keyring_changes_to_a_passphrase(ring: Memory, folder: Path) -> None:
    vault = Vault(folder, "lab")
    with pytest.raises(NotFoundError, match="no vault yet"):
        vault.change_passphrase(_never)
    vault.set("a", VALUE)
    vault.change_passphrase(_saying(WORDS, WORDS))
    assert ring.kept == {}
    assert Vault(folder, "lab", passphrase=_saying(WORDS)).get("a") == VALUE


def test_one_who_opened_before_a_change_is_asked_again(folder: Path) -> None:
    early = Vault(folder, "lab", passphrase=_saying(WORDS, WORDS, "other words"))
    early.set("a", VALUE)
    Vault(folder, "lab", passphrase=_saying(WORDS)).change_passphrase(
        _saying("other words", "other words")
    )
    early.set("b", VALUE)
    assert Vault(folder, "lab", passphrase=_saying("other words")).names() == ["a", "b"]
