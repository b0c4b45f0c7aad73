"""Secrets: who may read the file, two writers at once, and masking over chunk borders."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlstead.clients.secrets import BACKEND, Masker, SecretStore, mask
from mlstead.errors import NotFoundError, UnavailableError, UserError


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SecretStore:
    monkeypatch.delenv(BACKEND, raising=False)
    return SecretStore(tmp_path / "home")


def file_of(tmp_path: Path) -> Path:
    return tmp_path / "home" / "secrets.json"


def test_a_secret_is_kept_listed_replaced_and_removed(store: SecretStore, tmp_path: Path) -> None:
    assert store.names() == []
    store.set("slack", "first")
    store.set("hf", "zwei\nZeilen ü")
    store.set("slack", "second")
    again = SecretStore(tmp_path / "home")
    assert again.names() == ["hf", "slack"]
    assert (again.get("slack"), again.get("hf")) == ("second", "zwei\nZeilen ü")
    again.remove("slack")
    assert store.names() == ["hf"]


def test_the_file_is_the_owners_alone_whatever_the_umask(
    store: SecretStore, tmp_path: Path
) -> None:
    before = os.umask(0)
    try:
        store.set("a", "b")
    finally:
        os.umask(before)
    assert file_of(tmp_path).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (tmp_path / "home").iterdir() if "secrets-" in path.name] == []


def test_a_file_that_others_may_read_is_refused(store: SecretStore, tmp_path: Path) -> None:
    store.set("a", "hidden-value")
    file_of(tmp_path).chmod(0o640)
    for act in (store.names, lambda: store.get("a"), lambda: store.set("b", "c")):
        with pytest.raises(UserError, match="others may read it") as caught:
            act()
        assert "chmod 600" in caught.value.hint
        assert "hidden" not in str(caught.value)
    assert list(json.loads(file_of(tmp_path).read_bytes())["secrets"]) == ["a"]


def test_a_missing_secret_says_how_to_set_it(store: SecretStore) -> None:
    with pytest.raises(NotFoundError) as caught:
        store.get("slack")
    assert caught.value.hint == "mlstead secret set slack"
    with pytest.raises(NotFoundError):
        store.remove("slack")


@pytest.mark.parametrize("name", ["", "A", "9", "a b", "../x", "a\n", "ä", "a" * 64, "-a"])
def test_odd_names_are_refused(store: SecretStore, name: str) -> None:
    with pytest.raises(UserError, match="cannot name a secret"):
        store.set(name, "value")
    assert store.names() == []


@pytest.mark.parametrize("value", ["", "a\0b", "x" * 70_000, "canary\udcff"])
def test_values_that_no_program_could_get_are_refused(store: SecretStore, value: str) -> None:
    with pytest.raises(UserError) as caught:
        store.set("a", value)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"secrets": 1}', b"\xff"])
def test_a_damaged_file_is_told_and_left_alone(
    store: SecretStore, tmp_path: Path, content: bytes
) -> None:
    file_of(tmp_path).parent.mkdir()
    file_of(tmp_path).write_bytes(content)
    file_of(tmp_path).chmod(0o600)
    with pytest.raises(UserError, match="damaged"):
        store.set("a", "b")
    assert file_of(tmp_path).read_bytes() == content


def test_a_home_that_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    with pytest.raises(UnavailableError, match="secrets"):
        SecretStore(tmp_path / "home").set("a", "b")


def test_writers_at_once_lose_nothing(store: SecretStore, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from mlstead.clients.secrets import SecretStore\n"
        "for n in range(20): SecretStore(Path(sys.argv[1])).set(f'{sys.argv[2]}{n}', 'value')"
    )
    at = str(tmp_path / "home")
    running = [subprocess.Popen([sys.executable, "-c", code, at, name]) for name in "abc"]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert len(store.names()) == 60


def test_the_file_costs_no_imports() -> None:
    code = (
        "import sys; from pathlib import Path; from mlstead.clients.secrets import SecretStore\n"
        "SecretStore(Path('/nowhere'), backend='file').names()\n"
        "print([name for name in sys.modules if name in ('keyring', 'pydantic', 'sqlalchemy')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_an_unknown_place_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BACKEND, "clay-tablet")
    with pytest.raises(UserError, match="clay-tablet"):
        SecretStore(tmp_path)


# ---- masking -------------------------------------------------------------------------------


def test_known_values_are_masked_and_short_ones_are_not() -> None:
    assert mask("key=12345678 and 1234567", ["12345678", "1234567", ""]) == "key=*** and 1234567"
    assert mask(b"\xff12345678\xff", ["12345678"]) == b"\xff***\xff"
    assert mask("nothing known", []) == "nothing known"
    assert mask("odd \udcff 12345678", ["12345678"]) == "odd \udcff ***"


def test_a_value_set_with_a_line_end_is_masked_without_it() -> None:
    assert mask("x 12345678 y", ["12345678\n"]) == "x *** y"


def test_of_two_values_the_longer_is_masked_whole() -> None:
    assert mask("12345678-abcd", ["12345678", "12345678-abcd"]) == "***"


def test_a_value_cut_by_a_border_is_masked() -> None:
    masker = Masker(["0123456789"])
    assert masker.feed(b"log 01234") == b"log "
    assert masker.feed(b"56789 on") == b"*** on"
    assert masker.feed(b" 0123") == b" "
    assert masker.finish() == b"0123"


@given(
    values=st.lists(st.text("ab", min_size=8, max_size=12), max_size=3),
    pieces=st.lists(st.text("abc", max_size=14), max_size=8),
    data=st.data(),
)
def test_chunks_are_masked_as_the_whole_is(
    values: list[str], pieces: list[str], data: st.DataObject
) -> None:
    mixed = data.draw(st.permutations([*pieces, *values]))
    whole = "".join(mixed).encode()
    masker = Masker(values)
    shown = b""
    at = 0
    while at < len(whole):
        size = data.draw(st.integers(1, 9))
        shown += masker.feed(whole[at : at + size])
        at += size
    shown += masker.finish()
    assert shown == mask(whole, values)
    assert not any(value.encode() in shown for value in values)
