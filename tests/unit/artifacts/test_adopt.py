"""Data of DVC repositories: old caches too, and nothing that climbs."""

import hashlib
import json
from pathlib import Path

import pytest

from mlstead.artifacts.folder import FolderStore, create
from mlstead.clients.dvcfile import DvcOut
from mlstead.errors import UserError


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return create(str(tmp_path / "store"), tmp_path / "cache")


def put(cache: Path, content: bytes, name: str = "") -> str:
    md5 = hashlib.md5(content).hexdigest()
    address = name or md5
    (cache / address[:2]).mkdir(parents=True, exist_ok=True)
    (cache / address[:2] / address[2:]).write_bytes(content)
    return address


@pytest.mark.parametrize("size", [1, (1 << 20) - 1])
def test_text_of_an_old_cache_is_taken_with_its_real_md5(
    store: FolderStore, tmp_path: Path, size: int
) -> None:
    content = b"x" * size + b"\r\nb\r\n\r"
    old = hashlib.md5(content.replace(b"\r\n", b"\n")).hexdigest()
    put(tmp_path / "old", content, old)
    manifest = store.adopt(tmp_path / "old", DvcOut(old, "a.csv"))
    assert manifest.address == hashlib.md5(content).hexdigest()
    assert store.materialize(manifest.digest).read_bytes() == content


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "a\nb"])
def test_listings_with_names_that_climb_are_refused(
    store: FolderStore, tmp_path: Path, name: str
) -> None:
    blob = put(tmp_path / "old", b"x")
    listing = json.dumps([{"md5": blob, "relpath": name}]).encode()
    address = hashlib.md5(listing).hexdigest() + ".dir"
    put(tmp_path / "old", listing, address)
    with pytest.raises(UserError):
        store.adopt(tmp_path / "old", DvcOut(address, "data"))
    assert list(store.digests()) == []


@pytest.mark.parametrize("listing", [b"{}", b"[1]", b"[{}]", b"\xff"])
def test_listings_that_are_none_are_refused(
    store: FolderStore, tmp_path: Path, listing: bytes
) -> None:
    address = hashlib.md5(listing).hexdigest() + ".dir"
    put(tmp_path / "old", listing, address)
    with pytest.raises(UserError, match="cannot be read"):
        store.adopt(tmp_path / "old", DvcOut(address, "data"))
