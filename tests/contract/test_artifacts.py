"""Every store keeps its promises; and the real DVC reads what they write."""

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.contract.s3_server import KEY, SECRET, S3Server, s3_server

from mlstead import artifacts, discover
from mlstead.artifacts import folder, s3
from mlstead.artifacts.base import ArtifactStore
from mlstead.artifacts.sources import fetch
from mlstead.errors import NotFoundError, UnavailableError, UserError
from mlstead.testing.artifact_contract import ArtifactContract, Make, Spoil, large
from mlstead.testing.artifact_contract import folder as make_folder

pytestmark = pytest.mark.usefixtures("plain_environment")


@pytest.fixture
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what a person's S3 settings would change."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server() as running:
        yield running


@pytest.fixture
def bucket(server: S3Server) -> str:
    return server.bucket()


def test_the_stores_are_all_under_contract() -> None:
    stores = {
        name
        for name in discover.names(artifacts)
        if "\nPART = " in Path(str(artifacts.__path__[0]), f"{name}.py").read_text("utf-8")
    }
    assert stores == {"folder", "s3"}


class TestFolder(ArtifactContract):
    @pytest.fixture
    def again(self, tmp_path: Path) -> Make:
        return lambda: folder.create(str(tmp_path / "store"), tmp_path / "cache")

    @pytest.fixture
    def spoil(self, tmp_path: Path) -> Spoil:
        def change(address: str, content: bytes | None) -> None:
            place = tmp_path / "store" / "files" / "md5" / address[:2] / address[2:]
            place.unlink()
            if content is not None:
                place.write_bytes(content)

        return change


class TestS3(ArtifactContract):
    @pytest.fixture
    def again(self, server: S3Server, bucket: str, tmp_path: Path) -> Make:
        location, cache = f"s3://{bucket}/pre/fix", tmp_path / "cache"
        return lambda: s3.create(location, cache, endpoint=server.endpoint, key=KEY, secret=SECRET)

    @pytest.fixture
    def spoil(self, server: S3Server, bucket: str) -> Spoil:
        def change(address: str, content: bytes | None) -> None:
            key = f"pre/fix/files/md5/{address[:2]}/{address[2:]}"
            if content is None:
                server.client().delete_object(Bucket=bucket, Key=key)
            else:
                server.client().put_object(Bucket=bucket, Key=key, Body=content)

        return change

    def test_credentials_and_endpoint_come_from_the_environment(
        self, server: S3Server, bucket: str, source: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        store = s3.create(f"s3://{bucket}", source.parent / "cache")
        assert store.verify(store.add(source).digest) == ()

    def test_a_damaged_cache_is_filled_again(
        self, store: ArtifactStore, source: Path, tmp_path: Path
    ) -> None:
        digest = store.add(source).digest
        store.checkout(digest, tmp_path / "one")
        for place in (tmp_path / "cache" / "blobs").rglob("*"):
            if place.is_file():
                place.chmod(0o644)
                place.write_bytes(b"spoiled")
        store.checkout(digest, tmp_path / "two")
        assert (tmp_path / "two" / "a.csv").read_bytes() == b"1,2\r\n"

    def test_what_an_addition_announced_is_spared(
        self, store: ArtifactStore, source: Path, server: S3Server, bucket: str
    ) -> None:
        digest, added = store.add(source).digest, time.time()
        while int(time.time()) < int(added) + 2:  # the server counts in whole seconds
            time.sleep(0.05)
        key = f"{digest[:2]}/{digest[2:]}.json"
        copy = {"Bucket": bucket, "Key": f"pre/fix/manifests/{key}"}
        client = server.client()
        client.copy_object(Bucket=bucket, Key=f"pre/fix/pending/{key}", CopySource=copy)
        client.delete_object(**copy)
        assert store.collect([], older_than=time.time() - added - 1).objects == 0
        assert store.collect([], older_than=-60.0, dry_run=True).objects == 5

    def test_a_bucket_that_is_not_there_is_said(self, server: S3Server, source: Path) -> None:
        store = s3.create(
            "s3://nobody/x", source.parent, endpoint=server.endpoint, key=KEY, secret=SECRET
        )
        with pytest.raises(NotFoundError, match="bucket"):
            store.add(source)

    def test_a_server_that_does_not_answer_is_unavailable(self, source: Path) -> None:
        store = s3.create(
            "s3://b/x", source.parent, endpoint="http://127.0.0.1:9", key=KEY, secret=SECRET
        )
        with pytest.raises(UnavailableError):
            store.add(source)

    @pytest.mark.parametrize("location", ["/a/path", "s3://", "http://b/x"])
    def test_a_location_that_is_none_is_refused(self, location: str, tmp_path: Path) -> None:
        with pytest.raises(UserError):
            s3.create(location, tmp_path)


def test_an_object_of_a_bucket_is_fetched_and_checked(
    server: S3Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    server.client().put_object(Bucket=bucket, Key="a/b.csv", Body=b"1,2")
    fetch(f"s3://{bucket}/a/b.csv", hashlib.sha256(b"1,2").hexdigest(), tmp_path / "b.csv")
    assert (tmp_path / "b.csv").read_bytes() == b"1,2"
    for url, sha256, error in (
        (f"s3://{bucket}/a/b.csv", "0" * 64, UserError),
        (f"s3://{bucket}/a/none", "", NotFoundError),
    ):
        with pytest.raises(error):
            fetch(url, sha256, tmp_path / "other")
    assert [path.name for path in tmp_path.iterdir()] == ["b.csv"]


def dvc(repo: Path, *args: str, env: dict[str, str] | None = None) -> str:
    """Run the real DVC in a repository."""
    program = Path(sys.executable).with_name("dvc")
    full = {**os.environ, "DVC_NO_ANALYTICS": "1", "DVC_TEST": "1", **(env or {})}
    done = subprocess.run(
        [program, *args], cwd=repo, env=full, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def write_dvc_file(repo: Path, store: ArtifactStore, source: Path) -> None:
    manifest = store.add(source)
    (repo / f"{source.name}.dvc").write_text(
        f"outs:\n- md5: {manifest.address}\n  hash: md5\n  path: {source.name}\n"
    )


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_dvc_pulls_versions_and_says_they_are_up_to_date(
    kind: str, server: S3Server, bucket: str, tmp_path: Path
) -> None:
    source, repo = make_folder(tmp_path / "source"), tmp_path / "repo"
    large(source)
    (repo / ".dvc").mkdir(parents=True)
    location = str(tmp_path / "store") if kind == "folder" else f"s3://{bucket}/pre"
    cache = tmp_path / "cache"
    store: ArtifactStore = (
        folder.create(location, cache)
        if kind == "folder"
        else s3.create(location, cache, endpoint=server.endpoint, key=KEY, secret=SECRET)
    )
    endpoint = f"    endpointurl = {server.endpoint}\n" if kind == "s3" else ""
    (repo / ".dvc" / "config").write_text(
        "[core]\n    no_scm = True\n    remote = ours\n"
        f"['remote \"ours\"']\n    url = {location}\n{endpoint}"
    )
    env = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
    write_dvc_file(repo, store, source)
    write_dvc_file(repo, store, source / "large.bin")
    dvc(repo, "pull", "-q", env=env)
    for path in ("a.csv", "größe ü.txt", "sub/deep/run.sh", "large.bin", "empty"):
        assert (repo / "source" / path).read_bytes() == (source / path).read_bytes()
    assert (repo / "large.bin").read_bytes() == (source / "large.bin").read_bytes()
    assert "in sync" in dvc(repo, "status", "-c", env=env)
