"""A bundle's manifest: what create writes, and what load takes and refuses."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlstead.errors import NotFoundError, UserError
from mlstead.site import bundle

DOCKER = [{"Config": "x", "RepoTags": ["registry.k8s.io/kube-apiserver:v1.36.3", "local/b:1"]}]
OCI = {
    "manifests": [
        {"digest": "sha256:1", "annotations": {"io.containerd.image.name": "docker.io/x/y:2"}},
        {"digest": "sha256:2", "annotations": {"other": "z"}},
        {"digest": "sha256:3"},
        {"digest": "sha256:4", "annotations": None},
    ]
}


def archive(path: Path, **members: Any) -> Path:
    """Write an archive; a member's name has _ for its point."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            text = content if isinstance(content, bytes) else json.dumps(content).encode()
            entry = tarfile.TarInfo(name.replace("_", "."))
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make the folder of a whole bundle, without a manifest."""
    made = tmp_path / "bundle"
    for path in ("bin/hyperkube", "bin/runc", "cni/bridge"):
        (made / path).parent.mkdir(parents=True, exist_ok=True)
        (made / path).write_text(f"program {path}")
    (made / "bin" / "kubelet").symlink_to("hyperkube")
    archive(made / "images" / "kube.tar", manifest_json=DOCKER)
    archive(made / "images" / "more.tar", index_json=OCI)
    return made


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "bundle.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def refused(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        bundle.load(folder)
    assert caught.value.hint
    return str(caught.value).replace(str(folder), "F")


def unmade(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        bundle.create(folder)
    assert not (folder / "bundle.json").exists()
    return str(caught.value).replace(str(folder), "F")


# ---- made


def test_what_was_made_is_what_is_loaded(folder: Path) -> None:
    made = bundle.create(folder)
    assert bundle.load(folder) == made
    assert made.folder == str(folder)
    assert [file.path for file in made.files] == [
        "bin/hyperkube", "bin/runc", "cni/bridge", "images/kube.tar", "images/more.tar"
    ]  # fmt: skip
    assert made.files[1].size == len("program bin/runc")
    assert made.files[1].sha256 == hashlib.sha256(b"program bin/runc").hexdigest()
    assert made.links == {"bin/kubelet": "hyperkube"}
    assert not list(folder.glob(".bundle-*"))


def test_images_are_named_by_both_forms_of_archives(folder: Path) -> None:
    made = bundle.create(folder)
    assert made.images == (
        "docker.io/x/y:2", "local/b:1", "registry.k8s.io/kube-apiserver:v1.36.3"
    )  # fmt: skip
    assert made.versions == {"kubernetes": "v1.36.3"}


def test_an_archive_of_both_forms_is_read_by_its_tags_and_may_be_packed(folder: Path) -> None:
    path = archive(folder / "images" / "more.tar", index_json=OCI, manifest_json=DOCKER[:0])
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert bundle.create(folder).images == ("local/b:1", "registry.k8s.io/kube-apiserver:v1.36.3")


def test_an_image_without_a_tag_has_no_name(folder: Path) -> None:
    archive(folder / "images" / "kube.tar", manifest_json=[{"RepoTags": None}])
    assert bundle.create(folder).images == ("docker.io/x/y:2",)


def test_the_port_of_a_registry_is_not_a_tag(folder: Path) -> None:
    names = [{"RepoTags": ["registry.k8s.io:5000/etcd", "registry.k8s.io/etcd:3.6"]}]
    archive(folder / "images" / "kube.tar", manifest_json=names)
    assert bundle.create(folder).versions == {"etcd": "3.6"}


def test_it_is_made_again_when_something_changed(folder: Path) -> None:
    bundle.create(folder)
    (folder / "bin" / "runc").write_text("another")
    (folder / "cni" / "bridge").unlink()
    made = bundle.create(folder)
    assert bundle.load(folder) == made
    assert len(made.files) == 4


def test_folders_but_bin_may_be_left_out(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    made = bundle.create(tmp_path)
    assert (made.files, made.images) == ((), ())


# ---- not made


def test_a_folder_without_programs_is_no_bundle(tmp_path: Path) -> None:
    assert unmade(tmp_path) == "F: no bundle"


def _folder(folder: Path) -> None:
    (folder / "cni" / "sub").mkdir()


def _pipe(folder: Path) -> None:
    os.mkfifo(folder / "bin" / "pipe")


def _dangling(folder: Path) -> None:
    (folder / "bin" / "x").symlink_to("nothing")


@pytest.mark.parametrize("spoil", [_folder, _pipe, _dangling])
def test_only_files_belong_in_a_bundle(folder: Path, spoil: Callable[[Path], None]) -> None:
    spoil(folder)
    assert unmade(folder).endswith(": only files belong here")


@pytest.mark.parametrize("to", ["/bin/sh", "../cni/bridge", "sub/../hyperkube"])
def test_a_link_leads_to_a_program_beside_it(folder: Path, to: str) -> None:
    (folder / "bin" / "sub").mkdir() if "sub" in to else None
    (folder / "bin" / "x").symlink_to(to)
    assert "x: links to" in unmade(folder) or "sub: only files" in unmade(folder)


@pytest.mark.parametrize(
    "name", ["-rf", "a b", "a;b", "$(id)", "a\nb", "ä", ".hidden", "'", "{{x}}"]
)
def test_a_name_that_a_shell_or_template_could_misread_is_refused(folder: Path, name: str) -> None:
    (folder / "bin" / name).write_text("x")
    assert unmade(folder) == f"F/bin: {name!r} cannot be a name in a bundle"


def _truncated(path: Path) -> None:
    archive(path, blob=os.urandom(1 << 16), manifest_json=DOCKER)
    packed = gzip.compress(path.read_bytes())
    path.write_bytes(packed[: len(packed) // 2])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"no archive"),
        lambda path: path.write_bytes(path.read_bytes()[:700]),
        _truncated,
        lambda path: archive(path, other=b"x"),
        lambda path: archive(path, manifest_json=b"{"),
        lambda path: archive(path, manifest_json=b"\xff\xfe"),
        lambda path: archive(path, manifest_json={"a": 1}),
        lambda path: archive(path, manifest_json=[{}]),
        lambda path: archive(path, manifest_json=3),
        lambda path: archive(path, index_json=[]),
        lambda path: archive(path, index_json={"manifests": [3]}),
    ],
)
def test_what_is_no_archive_of_images_is_named(folder: Path, spoil: Callable[[Path], None]) -> None:
    spoil(folder / "images" / "kube.tar")
    assert unmade(folder) == "F/images/kube.tar: no archive of images"


# ---- loaded


def test_a_folder_without_a_manifest_is_not_found(folder: Path) -> None:
    with pytest.raises(NotFoundError, match="no bundle there"):
        bundle.load(folder)
    with pytest.raises(NotFoundError, match="no bundle there"):
        bundle.load(folder / "gone")


def test_a_manifest_that_cannot_be_opened_is_told(folder: Path) -> None:
    (folder / "bundle.json").mkdir()
    with pytest.raises(UserError, match="Is a directory"):
        bundle.load(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "{}", '{"mlstead_bundle": 1}', "\udcff"])
def test_a_damaged_manifest_is_refused(folder: Path, text: str) -> None:
    (folder / "bundle.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert refused(folder) == "F/bundle.json: damaged"


def test_a_manifest_of_another_version_is_refused(folder: Path) -> None:
    bundle.create(folder)
    edit(folder, lambda data: data.update(mlstead_bundle=2))
    assert refused(folder) == "F: a bundle of another version"


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.pop("links"),
        lambda data: data.update(links=[1]),
        lambda data: data.update(links={"bin/kubelet": 3}),
        lambda data: data.update(links={"bin/kubelet": "../../../etc/passwd"}),
        lambda data: data.update(links={"bin/kubelet": "-x"}),
        lambda data: data.update(links={"../x": "runc"}),
        lambda data: data.update(links={"bin/runc": "hyperkube"}),
        lambda data: data.update(images=[3]),
        lambda data: data.update(images=None),
        lambda data: data.update(versions=3),
        lambda data: data.update(files={}, images=3),
        lambda data: data["files"][0].pop("sha256"),
        lambda data: data["files"][0].update(sha256="abc"),
        lambda data: data["files"][0].update(sha256=None),
        lambda data: data["files"].append(data["files"][0]),
    ],
)
def test_a_manifest_with_a_wrong_field_is_refused(
    folder: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    bundle.create(folder)
    edit(folder, change)
    assert refused(folder) == "F/bundle.json: damaged"


@pytest.mark.parametrize(
    "path",
    [
        "../bundle/bin/runc", "/etc/passwd", "cni/../../x", "images/..", "bin/", "bin", "bin/.",
        "bin/a b", "bin/$(id)", "bin//runc", "other/x", "bin/runc\n", "bin/-x", 3, None,
    ],
)  # fmt: skip
def test_a_path_that_leaves_the_folders_is_refused(folder: Path, path: Any) -> None:
    bundle.create(folder)
    edit(folder, lambda data: data["files"][1].update(path=path))
    assert refused(folder) == "F/bundle.json: damaged"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.unlink(),
        lambda path: path.write_text("short"),
        lambda path: path.write_text("x" * 1000),
        lambda path: (path.unlink(), path.mkdir()),
        lambda path: (path.rename(path.parent / "real"), path.symlink_to("real")),
    ],
)
def test_a_file_that_is_not_as_the_manifest_says_is_named(
    folder: Path, spoil: Callable[[Path], object]
) -> None:
    bundle.create(folder)
    spoil(folder / "bin" / "runc")
    assert refused(folder) == "F/bin/runc: missing, or not as the manifest says"
