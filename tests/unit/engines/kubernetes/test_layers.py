"""Layers: the same tree gives the same bytes, a change makes one bucket anew, any name is kept."""

from __future__ import annotations

import gzip
import io
import os
import random
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlstead.clients.git import EMPTY_TREE, Git, make_store
from mlstead.clients.registry import sha256
from mlstead.engines.base import Code
from mlstead.engines.kubernetes.code_layers import code_parts
from mlstead.engines.kubernetes.layers import Layer, LayerCache, Part, Tar
from mlstead.errors import NotFoundError, UserError

Files = Mapping[bytes, tuple[str, bytes]]
FILE, PROGRAM, LINK = "100644", "100755", "120000"


class Trees:
    """A bare store with trees made of names and contents, so that any name can be in them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "code.git"
        make_store(self.store)
        self._blobs: dict[bytes, str] = {}

    def make(self, files: Files) -> Code:
        if not files:
            return Code(str(self.store), EMPTY_TREE)
        index = self.folder / "index"
        index.unlink(missing_ok=True)
        git = Git(self.store, {"GIT_INDEX_FILE": str(index)})
        rows = [
            f"{mode} {self._blob(content)}\t".encode() + path
            for path, (mode, content) in files.items()
        ]
        git.run("update-index", "-z", "--index-info", content=b"\0".join(rows) + b"\0")
        return Code(str(self.store), git.run("write-tree").decode().strip())

    def _blob(self, content: bytes) -> str:
        if content not in self._blobs:
            made = Git(self.store).run("hash-object", "-w", "--stdin", content=content)
            self._blobs[content] = made.decode().strip()
        return self._blobs[content]


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Trees:
    return Trees(tmp_path_factory.mktemp("trees"))


@pytest.fixture
def cache(tmp_path: Path) -> LayerCache:
    return LayerCache(tmp_path / "cache")


def layers(code: Code, cache: LayerCache, made: list[str] | None = None) -> list[Layer]:
    return cache.layers(code_parts(code), (made if made is not None else []).append)


def unpacked(found: list[Layer]) -> dict[bytes, tuple[str, bytes]]:
    """Give the files of layers as a node would see them, and check what is said of each layer."""
    files: dict[bytes, tuple[str, bytes]] = {}
    for layer in found:
        packed = layer.path.read_bytes()
        plain = gzip.decompress(packed)
        assert (layer.digest, layer.inner, layer.size) == (
            sha256(packed), sha256(plain), len(packed),
        )  # fmt: skip
        folders = {"."}
        with tarfile.open(fileobj=io.BytesIO(plain), errors="surrogateescape") as tar:
            for member in tar:
                assert (member.uid, member.gid, member.mtime) == (0, 0, 0)
                assert (member.uname, member.gname) == ("", "")
                assert (os.path.dirname(member.name) or ".") in folders  # noqa: PTH120
                name = member.name.encode("utf-8", "surrogateescape")
                if member.isdir():
                    assert member.mode == 0o755
                    folders.add(member.name)
                    continue
                assert name.startswith(b"mlstead/code/") and name not in files
                file = tar.extractfile(member) if member.isreg() else None
                content = (
                    file.read() if file else member.linkname.encode("utf-8", "surrogateescape")
                )
                mode = LINK if member.issym() else {0o644: FILE, 0o755: PROGRAM}[member.mode]
                files[name.removeprefix(b"mlstead/code/")] = (mode, content)
    return files


NASTY: Files = {
    b"plain.py": (FILE, b"print()\n"),
    b"empty": (FILE, b""),
    b"run.sh": (PROGRAM, b"#!/bin/sh\n"),
    b"link": (LINK, b"plain.py"),
    b"deep/er/link": (LINK, b"../../" + b"d" * 200),
    b"new\nline/tab\t/quote\"'": (FILE, b"1"),
    "grün/ünï 🎈.txt".encode(): (FILE, b"2"),
    b"latin-\xe9\xff/\x01": (FILE, b"3"),
    b"x" * 200 + b"/" + b"y" * 250: (FILE, b"4"),
    b"-rf": (FILE, b"5"),
    b"trailing ": (FILE, b"6"),
    b"back\\slash": (FILE, b"7"),
    b"..hidden": (FILE, b"8"),
    b"zeros": (FILE, bytes(70_000)),
}


def test_any_name_any_link_and_the_right_to_run_are_kept(trees: Trees, cache: LayerCache) -> None:
    assert unpacked(layers(trees.make(NASTY), cache)) == NASTY


def test_the_same_tree_gives_the_same_bytes_in_any_cache(trees: Trees, tmp_path: Path) -> None:
    code = trees.make(NASTY)
    first, second = (layers(code, LayerCache(tmp_path / name)) for name in ("a", "b"))
    assert [layer.digest for layer in first] == [layer.digest for layer in second]
    assert [one.path.read_bytes() for one in first] == [one.path.read_bytes() for one in second]


names = st.lists(
    st.binary(min_size=1, max_size=20).filter(
        lambda name: not {b"/"[0], 0} & set(name)
        and name not in (b".", b"..")
        and not name.lower().startswith((b".git", b"git~", b".wh."))
        and b":" not in name and b"\\" not in name
    ),
    min_size=1, max_size=3,
).map(b"/".join)  # fmt: skip
contents = st.tuples(st.sampled_from([FILE, PROGRAM]), st.binary(max_size=50))


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(names, contents, max_size=6))
def test_what_git_holds_is_what_the_image_holds(
    tmp_path_factory: pytest.TempPathFactory, files: dict[bytes, tuple[str, bytes]]
) -> None:
    # a name cannot be a file and a folder at once
    kept = {
        path: it
        for path, it in files.items()
        if not any(other.startswith(path + b"/") for other in files)
    }
    folder = tmp_path_factory.mktemp("any")
    trees = Trees(folder)
    try:
        code = trees.make(kept)
    except Exception as error:  # git refuses some names itself: then no tree can have them
        assert "nvalid path" in str(error), error
        return
    assert unpacked(layers(code, LayerCache(folder / "cache"))) == kept


def large(seed: int = 1, count: int = 300) -> dict[bytes, tuple[str, bytes]]:
    rnd = random.Random(seed)
    files = {
        f"package{i % 7}/module{i}.py".encode(): (FILE, rnd.randbytes(20_000)) for i in range(count)
    }
    return files | {f"pictures/{i}.bin".encode(): (FILE, rnd.randbytes(1 << 20)) for i in range(4)}


def test_a_small_tree_is_one_layer_and_a_large_one_several(trees: Trees, cache: LayerCache) -> None:
    assert len(layers(trees.make(NASTY), cache)) == 1
    found = layers(trees.make(large()), cache)
    assert unpacked(found) == large()
    assert 16 <= len(found) <= 32


@pytest.mark.parametrize("path", [b"package3/module3.py", b"pictures/2.bin"])
def test_a_changed_file_makes_one_bucket_anew(trees: Trees, cache: LayerCache, path: bytes) -> None:
    files = large()
    before = layers(trees.make(files), cache)
    files[path] = (FILE, files[path][1][::-1])
    made: list[str] = []
    after = layers(trees.make(files), cache, made)
    changed = {layer.digest for layer in after} - {layer.digest for layer in before}
    assert len(made) == len(changed) == 1
    assert unpacked(after) == files


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 299), st.sampled_from(["change", "remove", "add", "run"]))
def test_one_change_touches_at_most_one_bucket(trees: Trees, which: int, how: str) -> None:
    files = large()
    path = sorted(files)[which]
    before = {part.key for part in code_parts(trees.make(files))}
    mode, content = files[path]
    if how == "remove":
        del files[path]
    elif how == "add":
        files[path + b".new"] = (FILE, b"new")
    else:
        files[path] = (PROGRAM if how == "run" else mode, content[:-1] + b"!")
    after = {part.key for part in code_parts(trees.make(files))}
    assert len(after - before) <= 1 and len(before - after) <= 1


def test_ten_thousand_files_are_all_there(trees: Trees, cache: LayerCache) -> None:
    files = {
        f"d{i % 97}/e{i % 11}/file{i}.txt".encode(): (FILE, b"%d" % (i % 50) * 300)
        for i in range(10_000)
    }
    assert unpacked(layers(trees.make(files), cache)) == files


def test_no_code_is_an_empty_folder(trees: Trees, cache: LayerCache) -> None:
    (layer,) = layers(trees.make({}), cache)
    with tarfile.open(layer.path) as tar:
        assert tar.getnames() == ["mlstead", "mlstead/code"]


@pytest.mark.parametrize("name", [b".wh.main.py", b"deep/.wh..wh..opq"])
def test_a_name_that_would_remove_others_in_an_image_is_refused(
    trees: Trees, cache: LayerCache, name: bytes
) -> None:
    with pytest.raises(UserError, match=r"\.wh\."):
        layers(trees.make({name: (FILE, b"")}), cache)


def test_code_that_is_not_there_is_not_found(trees: Trees, tmp_path: Path) -> None:
    for store in (trees.store, tmp_path / "nothing"):
        with pytest.raises(NotFoundError, match="no code"):
            code_parts(Code(str(store), "ab" * 20))


def test_a_file_that_the_store_has_lost_is_told(trees: Trees, cache: LayerCache) -> None:
    code = trees.make({b"lost": (FILE, b"of this test only")})
    parts = code_parts(code)
    for path in (trees.store / "objects").glob("??/*"):
        if path.parent.name + path.name == trees._blob(b"of this test only"):
            path.unlink()
    with pytest.raises(NotFoundError, match="missing"):
        cache.layers(parts, lambda line: None)


def test_a_layer_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    def fill(tar: Tar) -> None:
        tar.file("a", io.BytesIO(b"1"), 1)
        raise UserError("no")

    cache = LayerCache(tmp_path)
    with pytest.raises(UserError, match="no"):
        cache.layers([Part("one", "key", fill)], lambda line: None)
    assert list((tmp_path / "blobs").iterdir()) == []


def test_a_layer_whose_bytes_were_lost_is_made_again(trees: Trees, cache: LayerCache) -> None:
    code = trees.make(NASTY)
    (layer,) = layers(code, cache)
    layer.path.write_bytes(layer.path.read_bytes()[:-1])
    made: list[str] = []
    assert unpacked(layers(code, cache, made)) == NASTY
    assert made == ["making code"]
