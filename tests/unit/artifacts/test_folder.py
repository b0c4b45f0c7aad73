"""The folder store when things go wrong: a kill, a full disk, a collection at the wrong moment."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.meta import Meta
from dvc_data.hashfile.tree import Tree
from hypothesis import given
from hypothesis import strategies as st

from mlstead.artifacts import _disk, _hashing, _manifest
from mlstead.artifacts.base import Entry
from mlstead.artifacts.folder import FolderStore, create
from mlstead.errors import NotFoundError, UserError

OLD = -60.0


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return create(str(tmp_path / "store"), tmp_path / "cache")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a").write_text("a")
    (tmp_path / "source" / "large").write_bytes(os.urandom(5 << 20))
    return tmp_path / "source"


def files(place: Path) -> list[Path]:
    return [path for path in place.rglob("*") if path.is_file()]


def blob(store: FolderStore, path: Path) -> Path:
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    return store.location / "files" / "md5" / md5[:2] / md5[2:]


NAMES = st.text(
    st.characters(min_codepoint=32, exclude_characters="/\\\x7f", exclude_categories=["Cs", "Cc"]),
    min_size=1,
).filter(lambda name: name not in (".", ".."))


@given(st.dictionaries(NAMES, st.binary(max_size=4), max_size=6))
def test_folder_listings_are_those_that_dvc_writes(content: dict[str, bytes]) -> None:
    hashes = {path: _hashing.of_bytes(data) for path, data in content.items()}
    entries = [Entry(path, h.size, h.md5, h.sha256) for path, h in hashes.items()]
    tree = Tree()
    for path, h in hashes.items():
        tree.add((path,), Meta(size=h.size), HashInfo("md5", h.md5))
    tree.digest()
    assert _manifest.listing(entries) == tree.as_bytes()
    assert _manifest.build(entries, single=False).address == tree.oid


def test_both_hashes_are_right_whatever_the_size(tmp_path: Path) -> None:
    for size in (0, 1, _hashing.SMALL, _hashing.SMALL + 1, (9 << 20) + 7):
        content = os.urandom(size)
        (tmp_path / "x").write_bytes(content)
        copied = _hashing.copy(str(tmp_path / "x"), str(tmp_path / f"y{size}"))
        expected = hashlib.md5(content).hexdigest(), hashlib.sha256(content).hexdigest(), size
        assert (copied.md5, copied.sha256, copied.size) == expected
        assert _hashing.of_file(str(tmp_path / "x")) == copied
        assert (tmp_path / f"y{size}").read_bytes() == content


def test_a_changed_manifest_is_refused(store: FolderStore, source: Path) -> None:
    digest = store.add(source).digest
    path = store.manifests / digest[:2] / f"{digest[2:]}.json"
    good = path.read_text()
    path.chmod(0o644)
    for bad in (good.replace('"a"', '"../a"'), good.replace('"a",1', '"a",2'), "[]", "{", ""):
        path.write_text(bad)
        with pytest.raises(UserError, match=r"corrupt|leaves the folder"):
            store.manifest(digest)


def test_objects_are_read_only_and_shared_with_no_program(store: FolderStore, source: Path) -> None:
    digest = store.add(source).digest
    tree = store.materialize(digest)
    assert not blob(store, source / "large").samefile(tree / "large")
    assert blob(store, source / "large").stat().st_mode & 0o222 == 0


def test_a_torn_object_is_replaced_when_added_again(store: FolderStore, source: Path) -> None:
    digest = store.add(source).digest
    place = blob(store, source / "large")
    place.chmod(0o644)
    place.write_bytes(b"torn")
    assert store.verify(digest) == ("large",)
    store.add(source)
    assert store.verify(digest) == ()


@pytest.mark.parametrize("name", ["a", "large", "the listing"])
def test_an_object_damaged_at_the_same_size_is_not_trusted(
    store: FolderStore, source: Path, name: str
) -> None:
    manifest = store.add(source)
    place = blob(store, source / name) if name != "the listing" else None
    place = place or store.blobs / manifest.address[:2] / manifest.address[2:]
    content = place.read_bytes()
    place.chmod(0o644)
    place.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert store.add(source) == manifest
    assert place.read_bytes() == content
    assert store.verify(manifest.digest) == ()


def test_unchanged_objects_are_not_written_again(store: FolderStore, source: Path) -> None:
    store.add(source)
    before = {path: path.stat().st_ino for path in files(store.blobs)}
    store.add(source)
    assert {path: path.stat().st_ino for path in files(store.blobs)} == before


def test_damaged_bytes_are_called_so(store: FolderStore, source: Path, tmp_path: Path) -> None:
    digest = store.add(source).digest
    place = blob(store, source / "a")
    place.chmod(0o644)
    place.write_text("b")
    for _ in range(2):
        with pytest.raises(UserError, match="a: damaged in the store") as caught:
            store.checkout(digest, tmp_path / "back")
        assert "data verify" in caught.value.hint
        assert store.verify(digest) == ("a",)  # which takes it out of the way


def test_a_file_that_grows_while_it_is_read_is_refused(
    store: FolderStore, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = _hashing.copy

    def slow(path: str, target: str, told: _hashing.Told | None = None) -> _hashing.Hashes:
        hashes = real(path, target, told)
        with (source / "large").open("ab") as file:
            file.write(b"more")
        return hashes

    monkeypatch.setattr(_hashing, "copy", slow)
    with pytest.raises(UserError, match="large: changed while it was read"):
        store.add(source)
    assert list(store.digests()) == []


def test_a_store_inside_its_own_source_is_refused(source: Path, tmp_path: Path) -> None:
    store = create(str(source / "store"), tmp_path / "cache")
    store.add(source / "a")
    with pytest.raises(UserError, match="holds the store"):
        store.add(source)


def test_a_full_disk_gives_one_error_and_leaves_nothing(source: Path, tmp_path: Path) -> None:
    """A limit on the size of files: the only full disk that needs no root."""
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from mlstead.artifacts.folder import create\n"
        "from mlstead.errors import PlatformError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "try: create(sys.argv[1], Path(sys.argv[2])).add(Path(sys.argv[3]))\n"
        "except PlatformError as error: print(error, '|', error.hint)\n"
    )
    args = [str(tmp_path / "store"), str(tmp_path / "cache"), str(source)]
    done = subprocess.run(
        [sys.executable, "-c", code, *args], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert done.stdout == f"no space left for {args[0]} | free some space, then do the same again\n"
    store = create(args[0], tmp_path / "cache")
    assert list(store.digests()) == []
    assert files(store.tmp) == []
    assert [path for path in files(store.blobs) if path.stat().st_size > 1] == []
    assert store.verify(store.add(source).digest) == ()


def test_a_full_disk_while_checking_out_leaves_nothing(
    store: FolderStore, source: Path, tmp_path: Path
) -> None:
    digest = store.add(source).digest
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from mlstead.artifacts.folder import create\n"
        "from mlstead.errors import PlatformError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "try: create(sys.argv[1], Path(sys.argv[2])).checkout(sys.argv[3], Path(sys.argv[4]))\n"
        "except PlatformError as error: print(error)\n"
    )
    target = tmp_path / "place" / "out"
    args = [str(store.location), str(tmp_path / "cache"), digest, str(target)]
    done = subprocess.run(
        [sys.executable, "-c", code, *args], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"no space left for {target}\n"
    assert list((tmp_path / "place").iterdir()) == []


def test_a_kill_while_adding_leaves_no_version_and_no_object_half_written(
    store: FolderStore, source: Path, tmp_path: Path
) -> None:
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from mlstead.artifacts.folder import create\n"
        "def told(done, total):\n"
        "    if done > 2 << 20: os.kill(os.getpid(), signal.SIGKILL)\n"
        "create(sys.argv[1], Path(sys.argv[2])).add(Path(sys.argv[3]), progress=told)\n"
    )
    args = [str(store.location), str(tmp_path / "cache"), str(source)]
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert list(store.digests()) == []
    assert not blob(store, source / "large").exists()
    assert len(files(store.tmp)) == 1
    assert store.verify(store.add(source).digest) == ()
    store.collect(list(store.digests()), older_than=OLD)
    assert list(store.tmp.iterdir()) == []


def test_an_object_that_a_collection_is_about_to_take_is_spared_when_it_is_touched(
    tmp_path: Path,
) -> None:
    place = tmp_path / "object"
    place.write_text("x")
    os.utime(place, (1, 1))
    os.utime(place)  # an addition found it useful after the collection had looked
    assert _disk.remove_if_old(place, 3600) is None
    assert place.read_text() == "x"
    os.utime(place, (1, 1))
    assert _disk.remove_if_old(place, 3600) == 1
    assert list(tmp_path.iterdir()) == []


def test_adding_old_data_again_makes_it_young(store: FolderStore, source: Path) -> None:
    digest = store.add(source).digest
    for path in files(store.location):
        os.utime(path, (time.time() - 1e6,) * 2)
    store.add(source)
    assert store.collect([]).objects == 0
    assert store.verify(digest) == ()


def test_an_object_collected_during_an_addition_is_stored_again(
    store: FolderStore, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add(source)
    real = _disk.settle
    taken: list[Path] = []

    def settle(folder: Path, written: list[str]) -> None:
        real(folder, written)
        if not taken:
            taken.append(blob(store, source / "a"))
            taken[0].unlink()

    monkeypatch.setattr(_disk, "settle", settle)
    assert store.verify(store.add(source).digest) == ()


def test_adding_needs_no_heavy_library(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x")
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from mlstead.artifacts.folder import create\n"
        "from mlstead.artifacts.code import CodeStore\n"
        "create(sys.argv[1] + '/store', Path(sys.argv[1] + '/c')).add(Path(sys.argv[1] + '/x'))\n"
        "print({m.partition('.')[0] for m in sys.modules}"
        " & {'dvc_data', 'dvc_objects', 's3fs', 'fsspec', 'httpx', 'ruamel', 'pydantic'})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


@pytest.mark.parametrize(
    "path",
    ["../x", "/etc/passwd", "a/../../x", "..", "a//b", "./a", "", "a\0b", "a\nb", "a\\..\\b"],
)
def test_names_that_climb_are_no_names(path: str) -> None:
    with pytest.raises(UserError):
        _manifest.check_path(path)


@given(st.text(max_size=80))
def test_what_is_no_digest_is_never_looked_for(text: str) -> None:
    if not (len(text) == 64 and set(text) <= set("0123456789abcdef")):
        with pytest.raises(NotFoundError):
            _manifest.check_digest(text)
