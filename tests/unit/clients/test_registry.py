"""The client of image registries, against answers that a registry may give."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from mlstead.clients.registry import (
    DOCKER_MANIFEST,
    INDEXES,
    OCI_MANIFEST,
    Blob,
    Login,
    Registry,
    sha256,
)
from mlstead.errors import NotFoundError, PlatformError, UnavailableError, UserError

LOGIN = Login("reg.example:5000", "me", "pa:ss-wörd")
BASIC = "Basic " + base64.b64encode("me:pa:ss-wörd".encode()).decode()
Answer = Callable[[httpx.Request], httpx.Response]


def registry(answer: Answer, login: Login = LOGIN, pauses: list[float] | None = None) -> Registry:
    pause = (lambda seconds: None) if pauses is None else pauses.append

    def streamed(request: httpx.Request) -> httpx.Response:
        """Give the answer as the network does: not read yet."""
        made = answer(request)
        if not made.is_stream_consumed:
            return made
        return httpx.Response(made.status_code, headers=made.headers, content=iter([made.content]))

    return Registry(login, pause=pause, transport=httpx.MockTransport(streamed))


def manifest(kind: str = OCI_MANIFEST, **more: Any) -> tuple[bytes, str]:
    content = json.dumps({"schemaVersion": 2, "mediaType": kind, **more}).encode()
    return content, sha256(content)


def given(content: bytes, kind: str = OCI_MANIFEST, digest: str = "") -> httpx.Response:
    headers = {"content-type": kind, "docker-content-digest": digest or sha256(content)}
    return httpx.Response(200, headers=headers, content=content)


def test_a_password_goes_to_the_registry_at_once_and_is_not_shown() -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["authorization"])
        return given(b"{}")

    registry(answer).manifest("a/b", "v1")
    assert seen == [BASIC]
    assert "pa:ss" not in repr(LOGIN)


class Tokens:
    """A registry that sells tokens; each is for one scope."""

    def __init__(self) -> None:
        self.sold: list[tuple[str, str, str]] = []
        self.valid: set[str] = set()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.host == "login.example":
            scope = request.url.params["scope"]
            self.sold.append(
                (request.url.params["service"], scope, request.headers["authorization"])
            )
            self.valid.add(f"Bearer {len(self.sold)}-{scope}")
            return httpx.Response(200, json={"token": f"{len(self.sold)}-{scope}"})
        if request.headers.get("authorization") in self.valid:
            return self.answer(request)
        rights = "pull" if request.method in ("GET", "HEAD") else "pull,push"
        scope = f"repository:{request.url.path.split('/')[2]}:{rights}"
        asks = f'Bearer realm="https://login.example/token?x=1",service="reg",scope="{scope}"'
        return httpx.Response(401, headers={"www-authenticate": asks})

    def answer(self, request: httpx.Request) -> httpx.Response:
        assert request.read() in (b"", b"some bytes")
        if request.method == "POST":
            return httpx.Response(202, headers={"location": "/v2/a/blobs/uploads/1?state=2"})
        return httpx.Response(201)


def test_a_token_is_bought_once_for_a_repository_and_a_right() -> None:
    shop = Tokens()
    one = registry(shop)
    assert one.has("a", sha256(b"x")) and one.has("a", sha256(b"y"))
    one.upload("a", Blob.of_bytes(b"some bytes"))
    one.has("b", sha256(b"x"))
    scopes = ["repository:a:pull", "repository:a:pull,push", "repository:b:pull"]
    assert shop.sold == [("reg", scope, BASIC) for scope in scopes]


def test_a_token_that_has_ended_in_the_middle_is_bought_again() -> None:
    shop = Tokens()
    one = registry(shop)
    one.upload("a", Blob.of_bytes(b"some bytes"))
    shop.valid.clear()
    one.upload("a", Blob.of_bytes(b"some bytes"))
    assert len(shop.sold) == 2


def test_somebody_without_a_name_gets_a_token_without_a_password() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host == "login.example":
            assert "authorization" not in request.headers
            return httpx.Response(200, json={"access_token": "t"})
        if request.headers.get("authorization") == "Bearer t":
            return given(b"{}")
        asks = 'Bearer realm="https://login.example/",service="s"'
        return httpx.Response(401, headers={"www-authenticate": asks})

    registry(answer, Login("reg.example")).manifest("a", "v1")


@pytest.mark.parametrize(
    ("status", "kind"), [(401, UserError), (403, UserError), (503, UnavailableError)]
)
def test_a_login_server_that_refuses_or_fails_is_told_without_the_password(
    status: int, kind: type[PlatformError]
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host == "login.example":
            return httpx.Response(status, json={"details": "no"})
        asks = 'Bearer realm="https://login.example/",service="s",scope="x"'
        return httpx.Response(401, headers={"www-authenticate": asks})

    with pytest.raises(kind, match=r"login server login\.example") as caught:
        registry(answer).has("a", sha256(b"x"))
    assert "pa:ss" not in str(caught.value)


def test_a_password_never_goes_to_a_login_server_without_https() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.host == "reg.example"
        return httpx.Response(401, headers={"www-authenticate": 'Bearer realm="http://evil/"'})

    with pytest.raises(UserError, match="without https"):
        registry(answer).has("a", sha256(b"x"))


def test_where_a_blob_is_redirected_to_gets_no_password() -> None:
    content = b"layer"

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host == "store.example":
            assert "authorization" not in request.headers
            return httpx.Response(200, content=content)
        return httpx.Response(307, headers={"location": "https://store.example/x?sign=1"})

    assert b"".join(registry(answer).stream("a", sha256(content))) == content


def test_where_an_upload_is_sent_to_gets_no_password_if_it_is_another_server() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host == "other.example":
            assert "authorization" not in request.headers
            return httpx.Response(201)
        return httpx.Response(202, headers={"location": "https://other.example/up"})

    registry(answer).upload("a", Blob.of_bytes(b"x"))


def test_a_redirect_to_plain_http_is_refused() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.scheme == "https"
        return httpx.Response(307, headers={"location": "http://store.example/x"})

    with pytest.raises(UserError, match="without https"):
        list(registry(answer).stream("a", sha256(b"x")))


def test_a_manifest_with_other_bytes_than_its_digest_is_refused() -> None:
    content, digest = manifest()
    other = sha256(b"other")
    for reference, said in ((other, digest), ("v1", other)):
        with pytest.raises(UserError, match="gives bytes of"):
            registry(lambda _, said=said: given(content, digest=said)).manifest("a", reference)  # type: ignore[misc]


def test_a_head_that_names_another_digest_than_the_one_asked_for_is_refused() -> None:
    with pytest.raises(UserError, match="gives bytes of"):
        registry(lambda _: given(b"", digest=sha256(b"other"))).digest("a", sha256(b"this"))


def test_a_blob_with_other_bytes_is_refused_before_its_last_piece() -> None:
    found: list[bytes] = []
    with pytest.raises(UserError, match="gives bytes of"):
        found.extend(
            registry(lambda _: httpx.Response(200, content=b"that")).stream("a", sha256(b"this"))
        )
    assert found == []


@pytest.mark.parametrize("kind", INDEXES)
def test_of_a_list_the_image_for_the_platform_is_taken(kind: str) -> None:
    wanted, digest = manifest(DOCKER_MANIFEST, layers=[])
    rows = [
        {"digest": sha256(b"arm"), "platform": {"os": "linux", "architecture": "arm64"}},
        {"digest": digest, "platform": {"os": "linux", "architecture": "amd64"}},
        {"digest": sha256(b"later"), "platform": {"os": "linux", "architecture": "amd64"}},
        {"digest": sha256(b"proof"), "platform": {"os": "unknown", "architecture": "unknown"}},
        {"digest": sha256(b"none")},
    ]
    index, _ = manifest(kind, manifests=rows)

    def answer(request: httpx.Request) -> httpx.Response:
        listed = request.url.path.endswith("/v1")
        return given(index, kind) if listed else given(wanted, DOCKER_MANIFEST)

    found = registry(answer).resolve("a", "v1")
    assert (found.digest, found.media_type) == (digest, DOCKER_MANIFEST)
    with pytest.raises(NotFoundError, match=r"not for linux/riscv64") as caught:
        registry(answer).resolve("a", "v1", "linux/riscv64")
    assert "linux/arm64" in caught.value.hint


@pytest.mark.parametrize("content", [b"[]", b"not json", b"\xff", b'{"schemaVersion": 1}'])
def test_what_is_no_manifest_is_refused(content: bytes) -> None:
    with pytest.raises(UserError):
        registry(lambda _: given(content, "application/json")).resolve("a", "v1")


def test_a_manifest_without_end_is_refused() -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b" " * (1 << 20)

    with pytest.raises(UserError, match="over"):
        registry(lambda _: httpx.Response(200, content=endless())).manifest("a", "v1")


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (400, UserError, "DIGEST_INVALID wrong"),
        (401, UserError, "refuses 'me'"),
        (403, UserError, "does not allow this to 'me'"),
        (404, NotFoundError, "no such image"),
        (429, UnavailableError, "429"),
        (502, UnavailableError, "502"),
    ],
)
def test_a_refusal_is_told_in_words(status: int, kind: type[PlatformError], words: str) -> None:
    said = {"errors": [{"code": "DIGEST_INVALID", "message": "wrong"}]}
    with pytest.raises(kind, match=words) as caught:
        registry(lambda _: httpx.Response(status, json=said)).put("a", "v1", OCI_MANIFEST, b"{}")
    assert type(caught.value) is kind


def test_a_manifest_whose_blobs_are_gone_is_not_found() -> None:
    said = {"errors": [{"code": "MANIFEST_BLOB_UNKNOWN", "message": "blob unknown to registry"}]}
    with pytest.raises(NotFoundError):
        registry(lambda _: httpx.Response(400, json=said)).put("a", "v1", OCI_MANIFEST, b"{}")


def test_an_upload_begins_anew_when_the_registry_fails() -> None:
    tries: list[bytes] = []
    pauses: list[float] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            return httpx.Response(
                202, headers={"location": f"/v2/a/blobs/uploads/{len(tries)}?s=1"}
            )
        assert request.url.params["digest"] == sha256(b"some bytes")
        assert request.url.params["s"] == "1"
        assert request.headers["content-length"] == "10"
        tries.append(request.read())
        if len(tries) == 1:
            raise httpx.ReadError("broken")
        return (
            httpx.Response(503, headers={"retry-after": "7"})
            if len(tries) == 2
            else httpx.Response(201)
        )

    registry(answer, pauses=pauses).upload("a", Blob.of_bytes(b"some bytes"))
    assert tries == [b"some bytes"] * 3
    assert pauses[1] == 7.0


def test_what_the_registry_refuses_is_not_tried_again() -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.method)
        return httpx.Response(403)

    with pytest.raises(UserError):
        registry(answer).upload("a", Blob.of_bytes(b"x"))
    assert seen == ["POST"]


def test_a_mount_that_the_registry_does_not_do_leaves_no_upload_behind() -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(f"{request.method} {request.url.raw_path.decode()}")
        if request.url.params.get("from") == "there":
            return httpx.Response(201)
        return httpx.Response(202, headers={"location": "/v2/a/blobs/uploads/9"})

    digest = sha256(b"x")
    assert registry(answer).mount("a", digest, "there")
    assert not registry(answer).mount("a", digest, "nowhere")
    assert seen[-1] == "DELETE /v2/a/blobs/uploads/9"


@pytest.mark.parametrize(
    ("repository", "reference"),
    [("../x", "v1"), ("a?b", "v1"), ("A", "v1"), ("a", "../x"), ("a", "v1?x"), ("a", "sha256:12")],
)
def test_a_name_that_would_change_the_address_is_refused(repository: str, reference: str) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise AssertionError(request.url)

    with pytest.raises(UserError):
        registry(answer).manifest(repository, reference)


def test_an_authority_that_is_no_certificate_is_told() -> None:
    with pytest.raises(UserError, match="no certificate in PEM"):
        Registry(Login("h:1", authority="hello"))


def test_plain_http_is_spoken_when_asked_for() -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url))
        return httpx.Response(404)

    assert registry(answer, Login("h:1", plain=True)).digest("a", "v1") == ""
    assert seen == ["http://h:1/v2/a/manifests/v1"]
