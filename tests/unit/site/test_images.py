"""Images of a bundle: read from what docker, ctr and others write, and loaded into a registry."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.unit.clients.registry_in_memory import Shelf

from mlstead.clients.registry import DOCKER_MANIFEST, INDEXES, OCI_MANIFEST, Login, Registry, sha256
from mlstead.errors import UserError
from mlstead.site.images import load_images, read_images

LAYER = b"a layer, not packed" * 100
OTHER = b"another layer" * 100
NAME = "io.containerd.image.name"


def write(path: Path, files: Mapping[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def config(*layers: bytes) -> bytes:
    about = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"diff_ids": [sha256(it) for it in layers]},
    }
    return json.dumps(about).encode()


def saved(*names: str, packed: bool = False) -> dict[str, bytes]:
    """Give what ``docker save`` writes."""
    files = {"config.json": config(LAYER, OTHER), "1/layer.tar": LAYER, "2/layer.tar": OTHER}
    if packed:
        files |= {name: gzip.compress(files[name], mtime=0) for name in list(files)[1:]}
    row = {
        "Config": "config.json",
        "RepoTags": list(names),
        "Layers": ["1/layer.tar", "2/layer.tar"],
    }
    return {"manifest.json": json.dumps([row]).encode(), **files}


def layout(*, listed: bool = False, architecture: str = "amd64") -> tuple[dict[str, bytes], bytes]:
    """Give what ``ctr images export`` writes, and the image's manifest."""
    blobs = [config(LAYER), LAYER]
    kind = DOCKER_MANIFEST
    rows: list[dict[str, Any]] = [{"digest": sha256(it), "size": len(it)} for it in blobs]
    manifest = json.dumps({"mediaType": kind, "config": rows[0], "layers": rows[1:]}).encode()
    blobs.append(manifest)
    top: dict[str, Any] = {"mediaType": kind, "digest": sha256(manifest)}
    if listed:
        arm = {"digest": sha256(b"arm"), "platform": {"os": "linux", "architecture": "arm64"}}
        here = {**top, "platform": {"os": "linux", "architecture": architecture}}
        index = json.dumps({"mediaType": INDEXES[0], "manifests": [arm, here]}).encode()
        blobs.append(index)
        top = {"mediaType": INDEXES[0], "digest": sha256(index)}
    top["annotations"] = {NAME: "ghcr.io/team/app:v1"}
    files = {"blobs/" + sha256(it).replace(":", "/"): it for it in blobs}
    return {"index.json": json.dumps({"manifests": [top]}).encode(), **files}, manifest


def load(shelf: Shelf, path: Path) -> list[tuple[str, str, int]]:
    with Registry(Login("r:1", "me", "pw"), transport=httpx.MockTransport(shelf)) as registry:
        found = load_images(path.parent, [path.name], registry, lambda line: None)
    return [(image.name, image.digest, image.sent) for image in found]


@pytest.mark.parametrize("packed", [False, True])
def test_what_docker_saves_is_loaded_once_under_all_its_names(tmp_path: Path, packed: bool) -> None:
    files = saved("registry.k8s.io/a/b:v1", "c:latest", packed=packed)
    path, shelf = write(tmp_path / "one.tar", files), Shelf()
    first = load(shelf, path)
    assert [name for name, _, _ in first] == ["r:1/a/b:v1", "r:1/library/c:latest"]
    assert first[0][2] == sum(len(it) for name, it in files.items() if name != "manifest.json")
    assert first[1][2] == 0 and shelf.uploads == 3, "a second name needs no second upload"
    kind, manifest = shelf.manifests["a/b", "v1"]
    assert kind == OCI_MANIFEST and first[0][1] == sha256(manifest)
    ending = "tar+gzip" if packed else "tar"
    assert all(row["mediaType"].endswith(ending) for row in json.loads(manifest)["layers"])
    assert [sent for _, _, sent in load(shelf, path)] == [0, 0] and shelf.uploads == 3


@pytest.mark.parametrize("listed", [False, True])
def test_an_image_of_a_layout_keeps_its_digest(tmp_path: Path, listed: bool) -> None:
    files, manifest = layout(listed=listed)
    shelf = Shelf()
    ((name, digest, _),) = load(shelf, write(tmp_path / "one.tar", files))
    assert (name, digest) == ("r:1/team/app:v1", sha256(manifest))
    assert shelf.manifests["team/app", "v1"] == (DOCKER_MANIFEST, manifest)


def test_a_packed_archive_is_read_too(tmp_path: Path) -> None:
    path = write(tmp_path / "one.tar", saved("a:1"), "w:gz")
    assert [name for name, _, _ in load(Shelf(), path)] == ["r:1/library/a:1"]


def test_an_image_without_a_name_is_left_out(tmp_path: Path) -> None:
    assert load(Shelf(), write(tmp_path / "one.tar", saved())) == []


def test_a_layout_for_other_platforms_is_told(tmp_path: Path) -> None:
    files, _ = layout(listed=True, architecture="s390x")
    with pytest.raises(UserError, match="not for linux/amd64"):
        read_images(write(tmp_path / "one.tar", files))


@pytest.mark.parametrize(
    "change",
    [
        {"manifest.json": b"["},
        {"manifest.json": b'{"a": 1}'},
        {"manifest.json": b'[{"RepoTags": ["a:1"]}]'},
        {"config.json": b"{}"},
        {"config.json": config(LAYER)},
        {"manifest.json": b'[{"RepoTags":["a:1"],"Config":"../../etc/passwd","Layers":[]}]'},
    ],
)
def test_a_damaged_archive_is_refused(tmp_path: Path, change: Mapping[str, bytes]) -> None:
    with pytest.raises(UserError, match="no archive of images"):
        read_images(write(tmp_path / "one.tar", {**saved("a:1"), **change}))


def test_a_manifest_with_another_digest_is_refused(tmp_path: Path) -> None:
    files, manifest = layout()
    files["blobs/" + sha256(manifest).replace(":", "/")] = manifest + b" "
    with pytest.raises(UserError, match="damaged"):
        read_images(write(tmp_path / "one.tar", files))


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one.tar").write_bytes(b"hello")
    for path in (
        tmp_path / "one.tar",
        tmp_path / "none.tar",
        write(tmp_path / "two.tar", {"a": b""}),
    ):
        with pytest.raises(UserError, match="no archive of images"):
            read_images(path)
