"""What every store of artifacts must do. Subclass, and give ``store``, ``again`` and ``spoil``."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from mlstead.artifacts.base import ArtifactStore
from mlstead.clients.dvcfile import DvcOut
from mlstead.errors import ConflictError, NotFoundError, UserError

Make = Callable[[], ArtifactStore]
Spoil = Callable[[str, bytes | None], None]

_OLD = -60.0
"""Older than a minute in the future: everything is."""


def folder(place: Path) -> Path:
    """Make a small folder with everything a store must keep."""
    (place / "sub" / "deep").mkdir(parents=True)
    (place / "a.csv").write_bytes(b"1,2\r\n")
    (place / "same.csv").write_bytes(b"1,2\r\n")
    (place / "empty").write_bytes(b"")
    (place / "größe ü.txt").write_text("grün", encoding="utf-8")
    (place / "sub" / "deep" / "run.sh").write_text("#!/bin/sh\n", encoding="utf-8")
    (place / "sub" / "deep" / "run.sh").chmod(0o755)
    return place


def large(place: Path) -> bytes:
    """Put a file beside them that is too large to be read at once."""
    content = os.urandom(1 << 20) * 4 + b"end"
    (place / "large.bin").write_bytes(content)
    return content


def contents(place: Path) -> dict[str, bytes]:
    """Give every file of a folder with its bytes."""
    files = (path for path in place.rglob("*") if path.is_file())
    return {path.relative_to(place).as_posix(): path.read_bytes() for path in files}


class ArtifactContract:
    """One test per promise in ``artifacts/base.py``."""

    @pytest.fixture
    def again(self, tmp_path: Path) -> Make:
        """Give what makes one more object of the same store."""
        raise NotImplementedError

    @pytest.fixture
    def spoil(self) -> Spoil:
        """Give what puts other bytes at an address behind the store's back (None: removes)."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, again: Make) -> ArtifactStore:
        return again()

    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        return folder(tmp_path / "source")

    def test_a_folder_comes_back_as_it_was(
        self, store: ArtifactStore, source: Path, tmp_path: Path
    ) -> None:
        large(source)
        manifest = store.add(source)
        store.checkout(manifest.digest, tmp_path / "out")
        assert contents(tmp_path / "out") == contents(source)
        assert (tmp_path / "out/sub/deep/run.sh").stat().st_mode & 0o100
        assert (manifest.files, manifest.single) == (6, False)
        assert manifest.size == sum(map(len, contents(source).values()))

    def test_a_single_file_comes_back_as_it_was(
        self, store: ArtifactStore, source: Path, tmp_path: Path
    ) -> None:
        manifest = store.add(source / "a.csv")
        store.checkout(manifest.digest, tmp_path / "out" / "b.csv")
        assert (tmp_path / "out" / "b.csv").read_bytes() == b"1,2\r\n"
        assert manifest.address == "188e20b30bb8fe467cad1f8413cd1515"
        assert [entry.path for entry in manifest.entries] == ["a.csv"]

    def test_a_single_file_goes_into_a_folder_that_exists(
        self, store: ArtifactStore, source: Path, tmp_path: Path
    ) -> None:
        manifest = store.add(source / "a.csv")
        store.checkout(manifest.digest, tmp_path)
        assert (tmp_path / "a.csv").read_bytes() == b"1,2\r\n"

    def test_adding_again_changes_nothing(self, again: Make, source: Path) -> None:
        first, second = again().add(source), again().add(source)
        assert first == second
        assert list(again().digests()) == [first.digest]

    def test_another_object_sees_the_version(self, again: Make, source: Path) -> None:
        manifest = again().add(source)
        assert again().manifest(manifest.digest) == manifest

    def test_a_folder_with_one_file_is_not_the_file(
        self, store: ArtifactStore, tmp_path: Path
    ) -> None:
        (tmp_path / "one").mkdir()
        (tmp_path / "one" / "x").write_text("x")
        assert store.add(tmp_path / "one").digest != store.add(tmp_path / "one" / "x").digest

    def test_the_right_to_run_is_part_of_the_identity(
        self, store: ArtifactStore, source: Path
    ) -> None:
        before = store.add(source)
        (source / "a.csv").chmod(0o755)
        after = store.add(source)
        assert (before.digest != after.digest, before.address == after.address) == (True, True)

    def test_an_empty_folder_is_a_version(self, store: ArtifactStore, tmp_path: Path) -> None:
        (tmp_path / "none").mkdir()
        manifest = store.add(tmp_path / "none")
        store.checkout(manifest.digest, tmp_path / "out")
        assert contents(tmp_path / "out") == {}
        assert store.verify(manifest.digest) == ()

    def test_progress_ends_at_the_total(self, store: ArtifactStore, source: Path) -> None:
        told: list[tuple[int, int]] = []
        manifest = store.add(source, progress=lambda done, total: told.append((done, total)))
        assert told[-1] == (manifest.size, manifest.size)
        assert told == sorted(told)

    def test_what_does_not_exist_is_not_found(self, store: ArtifactStore, tmp_path: Path) -> None:
        for digest in ("0" * 64, "../../etc/passwd", ""):
            with pytest.raises(NotFoundError):
                store.manifest(digest)
            with pytest.raises(NotFoundError):
                store.materialize(digest)
        with pytest.raises(NotFoundError):
            store.add(tmp_path / "nothing")

    def test_links_inside_are_kept_as_copies(
        self, store: ArtifactStore, source: Path, tmp_path: Path
    ) -> None:
        (source / "link.csv").symlink_to("a.csv")
        (source / "again").symlink_to("sub")
        manifest = store.add(source)
        store.checkout(manifest.digest, tmp_path / "out")
        assert (tmp_path / "out/link.csv").read_bytes() == b"1,2\r\n"
        assert not (tmp_path / "out/link.csv").is_symlink()
        assert (tmp_path / "out/again/deep/run.sh").is_file()

    def test_names_left_out_are_not_kept_but_links_to_them_are(
        self, store: ArtifactStore, source: Path
    ) -> None:
        (source / "latest").symlink_to("sub")
        (source / "more" / "sub").mkdir(parents=True)
        (source / "more" / "sub" / "same").symlink_to("../../a.csv")
        manifest = store.add(source, without={"sub", "a.csv", "same.csv", "nowhere"})
        assert {entry.path for entry in manifest.entries} == {
            "empty",
            "größe ü.txt",
            "latest/deep/run.sh",
            "more/sub/same",
        }

    @pytest.mark.parametrize("to", ["/etc/passwd", "../outside", "nowhere", "."])
    def test_links_that_lead_out_or_nowhere_or_round_are_refused(
        self, store: ArtifactStore, source: Path, to: str
    ) -> None:
        (source.parent / "outside").write_text("secret")
        (source / "link").symlink_to(to)
        with pytest.raises(UserError, match="link"):
            store.add(source)
        assert list(store.digests()) == []

    def test_a_pipe_is_refused(self, store: ArtifactStore, source: Path) -> None:
        os.mkfifo(source / "pipe")
        with pytest.raises(UserError, match=r"pipe: a named pipe cannot be kept \(in /"):
            store.add(source)

    @pytest.mark.parametrize("name", [b"a\nb", b"a\\b", b"\xff\xfe", b"tab\t"])
    def test_odd_names_are_refused(self, store: ArtifactStore, source: Path, name: bytes) -> None:
        (source / os.fsdecode(name)).write_text("x")
        with pytest.raises(UserError, match="name"):
            store.add(source)

    @pytest.mark.parametrize("mode", ["copy", "link"])
    def test_checkout_never_touches_what_is_there(
        self, store: ArtifactStore, source: Path, tmp_path: Path, mode: str
    ) -> None:
        digest = store.add(source).digest
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "mine").write_text("mine")
        (tmp_path / "file").write_text("mine")
        (tmp_path / "empty").mkdir()
        for target in (tmp_path / "full", tmp_path / "file"):
            with pytest.raises(ConflictError):
                store.checkout(digest, target, mode)
        store.checkout(digest, tmp_path / "empty", mode)
        assert contents(tmp_path / "empty") == contents(source)
        assert contents(tmp_path / "full") == {"mine": b"mine"}

    def test_a_copy_can_be_changed_and_the_store_stays(
        self, store: ArtifactStore, source: Path, tmp_path: Path
    ) -> None:
        digest = store.add(source).digest
        store.checkout(digest, tmp_path / "out")
        with (tmp_path / "out" / "a.csv").open("ab") as file:
            file.write(b"more")
        assert store.verify(digest) == ()

    def test_a_mode_that_does_not_exist_is_refused(
        self, store: ArtifactStore, source: Path, tmp_path: Path
    ) -> None:
        digest = store.add(source).digest
        with pytest.raises(UserError, match="no mode"):
            store.checkout(digest, tmp_path / "out", "hug")

    def test_materialize_gives_one_read_only_tree(self, again: Make, source: Path) -> None:
        digest = again().add(source).digest
        first, second = again().materialize(digest), again().materialize(digest)
        assert first == second
        assert contents(first) == contents(source)
        modes = [path.stat().st_mode & 0o222 for path in [first, *first.rglob("*")]]
        assert not any(modes)
        assert (first / "sub/deep/run.sh").stat().st_mode & 0o100

    def test_a_program_that_writes_to_its_input_harms_only_itself(
        self, again: Make, source: Path
    ) -> None:
        digest = again().add(source).digest
        tree = again().materialize(digest)
        file = tree / "a.csv"
        times = file.stat()
        file.chmod(0o644)
        file.write_bytes(b"9,9\r\n")
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert again().verify(digest) == ()
        assert contents(again().materialize(digest)) == contents(source)
        (tree / "sub").chmod(0o755)
        (tree / "sub" / "more").write_bytes(b"")
        assert contents(again().materialize(digest)) == contents(source)

    def test_a_program_that_stands_in_a_tree_that_is_made_again_keeps_its_files(
        self, again: Make, source: Path
    ) -> None:
        digest = again().add(source).digest
        tree = again().materialize(digest)
        handle = os.open(tree, os.O_RDONLY)  # as its working folder would
        try:
            tree.chmod(0o755)
            (tree / "cache.idx").write_bytes(b"x")
            assert contents(again().materialize(digest)) == contents(source)
            again().collect([digest])
            assert os.access("a.csv", os.R_OK, dir_fd=handle)
            again().collect([digest], older_than=_OLD)
            assert not os.listdir(handle)  # noqa: PTH208 a folder without a path
        finally:
            os.close(handle)
        assert contents(again().materialize(digest)) == contents(source)

    def test_materialize_gives_a_single_file_under_its_name(
        self, store: ArtifactStore, source: Path
    ) -> None:
        digest = store.add(source / "a.csv").digest
        for _ in range(2):
            path = store.materialize(digest)
            assert (path.name, path.read_bytes()) == ("a.csv", b"1,2\r\n")

    def test_many_may_materialize_at_once(self, again: Make, source: Path) -> None:
        digest = again().add(source).digest
        found: list[Path] = []
        threads = [
            threading.Thread(target=lambda: found.append(again().materialize(digest)))
            for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 6
        assert len(set(found)) == 1

    def test_other_bytes_in_the_store_are_named_and_never_handed_out(
        self, store: ArtifactStore, source: Path, spoil: Spoil, tmp_path: Path
    ) -> None:
        flipped = bytearray(large(source))
        manifest = store.add(source)
        address = next(entry.md5 for entry in manifest.entries if entry.path == "large.bin")
        flipped[1000] ^= 1
        spoil(address, bytes(flipped))
        for mode in ("copy", "link"):
            with pytest.raises(UserError, match="damaged in the store"):
                store.checkout(manifest.digest, tmp_path / "out", mode)
        with pytest.raises(UserError, match="damaged in the store"):
            store.materialize(manifest.digest)
        assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == []
        assert store.verify(manifest.digest) == ("large.bin",)
        assert store.verify(manifest.digest) == ("large.bin",)
        store.add(source)
        assert store.verify(manifest.digest) == ()

    def test_a_missing_object_is_named_and_adding_again_heals(
        self, store: ArtifactStore, source: Path, spoil: Spoil, tmp_path: Path
    ) -> None:
        manifest = store.add(source)
        spoil(next(entry.md5 for entry in manifest.entries if entry.path == "a.csv"), None)
        assert store.verify(manifest.digest) == ("a.csv", "same.csv")
        with pytest.raises(UserError, match="damaged in the store"):
            store.checkout(manifest.digest, tmp_path / "out")
        store.add(source)
        assert store.verify(manifest.digest) == ()

    def test_a_spoiled_listing_is_named(
        self, store: ArtifactStore, source: Path, spoil: Spoil
    ) -> None:
        manifest = store.add(source)
        spoil(manifest.address, b"[]")
        assert store.verify(manifest.digest) == (manifest.address,)

    def test_collection_spares_what_is_young(self, store: ArtifactStore, source: Path) -> None:
        manifest = store.add(source)
        assert store.collect([]).objects == 0
        assert store.verify(manifest.digest) == ()

    def test_collection_keeps_what_it_is_told(
        self, store: ArtifactStore, source: Path, tmp_path: Path
    ) -> None:
        kept = store.add(source)
        (source / "a.csv").write_text("changed")
        gone = store.add(source)
        counted = store.collect([kept.digest], older_than=_OLD, dry_run=True)
        assert set(store.digests()) == {kept.digest, gone.digest}
        collected = store.collect([kept.digest], older_than=_OLD)
        # The bytes of the changed file, a folder listing, and a manifest.
        assert (collected.objects, collected) == (3, counted)
        assert collected.bytes > 7
        assert list(store.digests()) == [kept.digest]
        assert store.verify(kept.digest) == ()
        with pytest.raises(NotFoundError):
            store.checkout(gone.digest, tmp_path / "out")

    def test_collection_takes_trees_of_versions_that_are_gone(
        self, store: ArtifactStore, source: Path
    ) -> None:
        digest = store.add(source).digest
        tree = store.materialize(digest)
        store.collect([digest], older_than=_OLD)
        assert tree.exists()
        store.collect([], older_than=_OLD)
        assert not tree.exists()

    def test_data_of_a_dvc_repository_is_taken_from_its_cache(
        self, store: ArtifactStore, source: Path, tmp_path: Path
    ) -> None:
        expected = store.add(source)
        cache = tmp_path / "repo" / ".dvc" / "cache"
        objects = {entry.md5: (source / entry.path).read_bytes() for entry in expected.entries}
        objects[expected.address] = store_listing(expected.entries)
        for address, content in objects.items():
            place = cache / "files" / "md5" / address[:2] / address[2:]
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        adopted = store.adopt(cache, DvcOut(expected.address, "source"))
        assert adopted.address == expected.address
        assert store.verify(adopted.digest) == ()
        (cache / "files" / "md5" / expected.address[:2] / expected.address[2:]).unlink()
        with pytest.raises(NotFoundError):
            store.adopt(cache, DvcOut(expected.address, "source"))

    def test_a_dvc_cache_with_other_bytes_is_refused(
        self, store: ArtifactStore, tmp_path: Path
    ) -> None:
        place = tmp_path / "cache" / "files" / "md5" / "18" / "8e20b30bb8fe467cad1f8413cd1515"
        place.parent.mkdir(parents=True)
        place.write_bytes(b"1,3\r\n")
        out = DvcOut("188e20b30bb8fe467cad1f8413cd1515", "a.csv", 5, 1)
        with pytest.raises(UserError, match="corrupt"):
            store.adopt(tmp_path / "cache", out)
        assert list(store.digests()) == []


def store_listing(entries: object) -> bytes:
    """Write a folder listing the way DVC documents it, not with our own code."""
    assert isinstance(entries, tuple)
    rows = ", ".join(
        f'{{"md5": "{entry.md5}", "relpath": {ascii_json(entry.path)}}}' for entry in entries
    )
    return f"[{rows}]".encode()


def ascii_json(text: str) -> str:
    """Quote text as JSON with every letter outside ASCII escaped."""
    return '"' + "".join(c if c.isascii() else f"\\u{ord(c):04x}" for c in text) + '"'
