"""An image made of a base and code: what is kept of the base, what is sent, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.unit.clients.registry_in_memory import Shelf

from mlstead.artifacts.code import CodeStore
from mlstead.clients.registry import DOCKER_MANIFEST, OCI_MANIFEST, Login, Registry, sha256
from mlstead.engines.base import Code, Environment
from mlstead.engines.kubernetes.image import Wanted, build
from mlstead.errors import NotFoundError, UserError

HERE, ELSEWHERE = "here:5000", "elsewhere:5000"
LAYER = b"the base's layer"
TYPE = "application/vnd.docker.image.rootfs.diff.tar.gzip"


class Place:
    """Two registries, a project and a cache."""

    def __init__(self, folder: Path) -> None:
        self.shelves = {HERE: Shelf(), ELSEWHERE: Shelf()}
        self.cache = folder / "cache"
        self._code = folder / "code"
        self._code.mkdir()
        (self._code / "main.py").write_text("print()\n")
        self._store = CodeStore(folder / "code.git", folder / "home")
        self.lines: list[str] = []

    def code(self) -> Code:
        return Code(str(self._store.git_dir), self._store.snapshot(self._code).tree)

    def connect(self, login: Login) -> Registry:
        assert bool(login.password) == (login.address == HERE), "passwords stay where they belong"
        return Registry(login, transport=httpx.MockTransport(self.shelves[login.address]))

    def base(self, address: str = HERE, kind: str = OCI_MANIFEST, **more: Any) -> str:
        shelf = self.shelves[address]
        own = {"Env": ["PATH=/bin", "A=1"], "User": "65532", "Entrypoint": ["/init"]}
        about = {
            "architecture": "amd64", "os": "linux", "created": "2025-01-02T03:04:05Z",
            "config": own, "rootfs": {"type": "layers", "diff_ids": [sha256(b"inner")]},
            "history": [{"created_by": "them"}], **more,
        }  # fmt: skip
        config = json.dumps(about).encode()
        rows = [
            {"mediaType": TYPE, "digest": sha256(it), "size": len(it)} for it in (config, LAYER)
        ]
        for content in (config, LAYER):
            shelf.blobs["team/base", sha256(content)] = content
        manifest = {"schemaVersion": 2, "mediaType": kind, "config": rows[0], "layers": rows[1:]}
        shelf.keep("team/base", "v1", kind, json.dumps(manifest).encode())
        return f"{address}/team/base:v1"

    def build(self, base: str, environment: Environment | None = None, **more: Any) -> str:
        wanted = Wanted(base, f"{HERE}/mine/app", self.code(), environment)
        login = Login(HERE, "me", "pw")
        return build(wanted, login, self.cache, self.lines.append, connect=self.connect, **more)

    def made(self, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Give the manifest and the configuration of an image."""
        digest = name.partition("@")[2]
        shelf = self.shelves[HERE]
        kind, content = shelf.manifests["mine/app", digest]
        manifest = json.loads(content)
        assert kind == manifest["mediaType"] == OCI_MANIFEST
        return manifest, json.loads(shelf.blobs["mine/app", manifest["config"]["digest"]])


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize("kind", [OCI_MANIFEST, DOCKER_MANIFEST])
def test_what_the_base_says_is_kept_and_our_layer_comes_on_top(place: Place, kind: str) -> None:
    manifest, config = place.made(place.build(place.base(kind=kind)))
    assert config["config"] == {
        "Env": ["PATH=/bin", "A=1"], "User": "65532", "Entrypoint": ["/init"],
    }  # fmt: skip
    assert [row["created_by"] for row in config["history"]] == ["them", "mlstead: code"]
    assert config["rootfs"]["diff_ids"][0] == sha256(b"inner")
    assert len(config["rootfs"]["diff_ids"]) == len(manifest["layers"]) == 2
    assert {row["mediaType"] for row in manifest["layers"]} == {
        "application/vnd.oci.image.layer.v1.tar+gzip"
    }
    assert manifest["layers"][0]["digest"] == sha256(LAYER)


def test_the_same_again_asks_twice_and_with_a_digest_once(place: Place) -> None:
    base = place.base()
    first = place.build(base)
    requests = place.shelves[HERE].requests
    requests.clear()
    assert place.build(base) == first
    assert requests == ["HEAD", "HEAD"]
    _, content = place.shelves[HERE].manifests["team/base", "v1"]
    exact = f"{HERE}/team/base@{sha256(content)}"
    requests.clear()
    assert place.build(exact) == first
    assert requests == ["HEAD"]


def test_a_base_of_the_same_registry_is_not_sent(place: Place) -> None:
    place.build(place.base())
    assert place.shelves[HERE].uploads == 2, "our layer and the configuration"
    assert place.shelves[HERE].blobs["mine/app", sha256(LAYER)] == LAYER


def test_a_base_of_another_registry_is_copied_without_our_password(place: Place) -> None:
    base = place.base(ELSEWHERE)
    name = place.build(base)
    assert name.startswith(f"{HERE}/mine/app@sha256:")
    assert place.shelves[HERE].blobs["mine/app", sha256(LAYER)] == LAYER
    assert place.shelves[ELSEWHERE].uploads == 0


def test_a_tag_that_moved_makes_another_image(place: Place) -> None:
    first = place.build(place.base())
    assert place.build(place.base(created="2025-02-03T00:00:00Z")) != first


def test_a_registry_that_lost_everything_gets_it_again(place: Place) -> None:
    base = place.base(ELSEWHERE)
    first = place.build(base)
    shelf = place.shelves[HERE]
    shelf.blobs.clear()
    shelf.manifests.clear()
    assert place.build(base) == first
    assert place.made(first)[0]["layers"][0]["digest"] == sha256(LAYER)


def damaged(content: dict[str, Any]) -> Callable[[Place], str]:
    def make(place: Place) -> str:
        return place.base(**content)

    return make


@pytest.mark.parametrize(
    ("base", "words"),
    [
        (damaged({"architecture": "arm64"}), "is for linux/arm64"),
        (damaged({"os": "windows"}), "is for windows/amd64"),
        (damaged({"rootfs": {"diff_ids": []}}), "not an image that programs run in"),
        (damaged({"rootfs": None}), "not an image that programs run in"),
        (lambda place: place.base(kind="application/vnd.oci.artifact"), "no image we can read"),
    ],
)
def test_a_base_that_cannot_be_one_is_refused(
    place: Place, base: Callable[[Place], str], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        place.build(base(place))


def test_a_base_that_is_not_there_is_not_found(place: Place) -> None:
    with pytest.raises(NotFoundError, match="team/none:v1: there is no such image"):
        place.build(f"{HERE}/team/none:v1")


def test_the_python_of_the_image_is_the_one_that_counts(place: Place) -> None:
    base = place.base(config={"Env": ["PYTHON_VERSION=3.12.4"]})
    with pytest.raises(UserError, match=r"3\.11, but the image has Python 3\.12\.4"):
        place.build(base, Environment("k", "a==1\n", "3.11"))


def test_a_repository_of_another_registry_than_the_login_is_refused(place: Place) -> None:
    wanted = Wanted(place.base(), f"{ELSEWHERE}/mine/app")
    with pytest.raises(UserError, match="not in the registry"):
        build(wanted, Login(HERE, "me", "pw"), place.cache, connect=place.connect)
