"""Objects are written and read; others may do so only where a signature says, for a while."""

from __future__ import annotations

import base64
import datetime
import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from tests.contract.s3_server import KEY, SECRET, S3Server, s3_server
from tests.unit.clients.conftest import Loopback

from mlstead.clients import objects as subject
from mlstead.clients.objects import Objects
from mlstead.errors import NotFoundError, PlatformError, UnavailableError, UserError

OURS = "AKIAOURS", "wJalr-our-own-s3cret", "our-s3ssion-token"
ODD = "a b+c'()*!~ünter&=%25;@,.tar"


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server() as running:
        yield running


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let pauses take no time, and everybody have the same credentials."""
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_CA_BUNDLE", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    waited: list[float] = []
    monkeypatch.setattr(subject.time, "sleep", waited.append)  # type: ignore[attr-defined]
    return waited


@pytest.fixture
def objects(server: S3Server) -> Iterator[Objects]:
    found = Objects(f"s3://{server.bucket()}/the/prefix/", server.endpoint)
    yield found
    found.close()


# ---- for ourselves


@pytest.mark.parametrize("key", ["a", "tasks/x/t/log/1/0/000000000000000", ODD, "a//b"])
def test_an_object_is_written_and_read_under_any_name(objects: Objects, key: str) -> None:
    assert not objects.has(key)
    objects.put(key, b"\0content")
    assert objects.has(key)
    assert objects.get(key) == b"\0content"
    assert [it.key for it in objects.list("")] == [key]


def test_a_stretch_is_read(objects: Objects) -> None:
    objects.put("a", b"0123456789")
    assert objects.get("a", 3) == b"3456789"
    assert objects.get("a", 3, 4) == b"3456"
    assert objects.get("a", 0, 1) == b"0"
    assert objects.get("a", 8, 100) == b"89"


def test_what_is_not_there_is_told(objects: Objects) -> None:
    for ask in (objects.get, lambda key: objects.fetch(key, io.BytesIO())):
        with pytest.raises(NotFoundError, match="there is no a/b"):
            ask("a/b")


def test_a_file_is_sent_and_fetched_piece_by_piece(
    objects: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "_PIECE", 1000)
    content = bytes(range(256)) * 99
    asked: list[int] = []

    class File(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            asked.append(size or 0)
            return super().read(size)

    file = File(content)
    file.seek(7)  # it is sent whole, wherever it was read last
    objects.put_file("a", file)
    assert set(asked) == {1000}
    assert objects.get("a") == content
    with (tmp_path / "target").open("w+b") as target:
        objects.fetch("a", target)
    assert (tmp_path / "target").read_bytes() == content
    objects.put_file("empty", io.BytesIO())
    assert objects.get("empty") == b""


def test_a_long_list_is_read_to_its_end(loopback: Loopback) -> None:
    space = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'

    def answer(asked: Any) -> tuple[int, bytes]:
        query = parse_qs(urlsplit(asked.path).query)
        page = int(query.get("continuation-token", ["0/+ ="])[0].partition("/")[0])
        items = "".join(
            f"<Contents><Key>the/prefix/k{page * 3 + n}</Key><Size>{n}</Size></Contents>"
            for n in range(3)
        )
        more = f"<NextContinuationToken>{page + 1}/+ =</NextContinuationToken>" if page < 3 else ""
        return 200, f"<ListBucketResult {space}>{items}{more}</ListBucketResult>".encode()

    loopback.answer = answer
    one = Objects("s3://b/the/prefix", f"http://{loopback.host}")
    assert [it.key for it in one.list("")] == [f"k{number}" for number in range(12)]
    assert [it.size for it in one.list("")][:4] == [0, 1, 2, 0]
    assert all("prefix=the%2Fprefix%2F" in it.path for it in loopback.asked)
    one.close()


def test_only_what_is_below_a_prefix_is_removed(objects: Objects) -> None:
    for key in ("t/1/a", "t/1/b", "t/10/a", "t/1"):
        objects.put(key, b"x")
    objects.delete_all("t/1/")
    objects.delete_all("t/1/")
    assert [it.key for it in objects.list("t")] == ["t/1", "t/10/a"]


def test_closed_objects_open_again(objects: Objects) -> None:
    objects.put("a", b"x")
    objects.close()
    objects.close()
    assert objects.get("a") == b"x"


# ---- for others


def test_a_signed_address_reads_one_object_only(objects: Objects, server: S3Server) -> None:
    objects.put(ODD, b"content")
    outside = Objects(f"s3://{objects._bucket}/the/prefix", "http://inside", server.endpoint)
    address = outside.address(ODD)
    assert address.startswith(server.endpoint)
    assert httpx.get(address).content == b"content"
    query = parse_qs(urlsplit(address).query)
    assert query["X-Amz-Expires"] == [str(7 * 86400)]
    assert query["X-Amz-SignedHeaders"] == ["host"]
    assert SECRET not in address.replace(KEY, "", 1)
    assert outside.address("a", 60, inside=True).startswith("http://inside/")
    assert outside.address("a") != outside.address("b")
    outside.close()


def test_a_form_writes_below_its_prefix(objects: Objects) -> None:
    form = objects.form("tasks/x/t/")
    fields = {**form["fields"], "key": form["prefix"] + "log/1/0/0"}
    answer = httpx.post(form["url"], data=fields, files={"file": b"a line\n"})
    assert answer.is_success
    assert objects.get("tasks/x/t/log/1/0/0") == b"a line\n"


def test_a_form_allows_nothing_but_its_prefix_and_bucket_for_a_while(objects: Objects) -> None:
    form = objects.form("tasks/x/t/", 3600)
    policy = json.loads(base64.b64decode(form["fields"]["policy"]))
    conditions = policy["conditions"]
    assert {"bucket": objects._bucket} in conditions
    assert [it for it in conditions if isinstance(it, list)] == [
        ["starts-with", "$key", "the/prefix/tasks/x/t/"]
    ]
    # whatever else stands there is what the signature needs, with its one value
    rest = {name for it in conditions if isinstance(it, dict) for name in it}
    assert rest == {"bucket", "x-amz-algorithm", "x-amz-credential", "x-amz-date"}
    assert form["prefix"] == "the/prefix/tasks/x/t/"
    end = datetime.datetime.fromisoformat(policy["expiration"])
    left = end - datetime.datetime.now(datetime.UTC)
    assert 3590 <= left.total_seconds() <= 3600
    assert "key" not in form["fields"]


def test_a_session_s_token_is_part_of_what_is_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", OURS[2])
    one = Objects("s3://b/p", "http://127.0.0.1:1")
    assert one.form("x/")["fields"]["x-amz-security-token"] == OURS[2]
    assert parse_qs(urlsplit(one.address("a")).query)["X-Amz-Security-Token"] == [OURS[2]]
    one.close()


# ---- what goes wrong


@pytest.mark.parametrize("location", ["", "/folder", "s3:/b", "s3://", "gs://b/p", "https://b"])
def test_what_is_no_place_is_refused(location: str) -> None:
    with pytest.raises(UserError, match="is no place for objects"):
        Objects(location, "http://127.0.0.1:1")


def test_without_credentials_nothing_is_tried(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    with pytest.raises(UserError, match="S3: no credentials"):
        Objects("s3://b/p", "http://127.0.0.1:1")


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_authorities_that_cannot_be_read_are_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(path))
    with pytest.raises(UserError, match="AWS_CA_BUNDLE: cannot read"):
        Objects("s3://b/p", "https://127.0.0.1:1")


@pytest.fixture
def ours(monkeypatch: pytest.MonkeyPatch, loopback: Loopback) -> Iterator[Objects]:
    """Give objects of a server that answers what a test tells it, as somebody with secrets."""
    names = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"
    for name, value in zip(names, OURS, strict=True):
        monkeypatch.setenv(name, value)
    found = Objects("s3://b/p", f"http://{loopback.host}")
    yield found
    found.close()


def refusal(code: str) -> bytes:
    """Give what Amazon says, which repeats a token that is none."""
    return (
        f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>It is so.</Message>"
        f"<Token-0>{OURS[2]}</Token-0><AWSAccessKeyId>{OURS[0]}</AWSAccessKeyId></Error>"
    ).encode()


@pytest.mark.parametrize(
    ("status", "kind", "asked"),
    [
        (301, UserError, 1), (400, UserError, 1), (401, UserError, 1), (403, UserError, 1),
        (404, NotFoundError, 1), (408, UnavailableError, 4), (412, UserError, 1),
        (429, UnavailableError, 4), (500, UnavailableError, 4), (503, UnavailableError, 4),
    ],
)  # fmt: skip
def test_a_refusal_is_told_as_what_it_is_and_says_no_secret(
    ours: Objects, loopback: Loopback, status: int, kind: type[PlatformError], asked: int
) -> None:
    loopback.answer = lambda _asked: (status, refusal("ExpiredToken"))
    for ask in (
        lambda: ours.get("a"), lambda: ours.put("a", b"x"), lambda: ours.list(""),
        lambda: ours.put_file("a", io.BytesIO(b"x")), lambda: ours.fetch("a", io.BytesIO()),
    ):  # fmt: skip
        loopback.asked.clear()
        with pytest.raises(kind) as error:
            ask()
        assert type(error.value) is kind
        said = f"{error.value} {error.value.hint} {error.value.__cause__}"
        assert not any(secret in said for secret in (*OURS, "Signature"))
        assert len(loopback.asked) in (asked, 1)
    if status in (400, 500):
        assert "ExpiredToken: It is so." in said


def test_what_may_pass_is_tried_again_with_all_of_its_content(
    ours: Objects, loopback: Loopback, pauses: list[float]
) -> None:
    left = [500, 503, 429]
    loopback.answer = lambda _asked: (left.pop(0) if left else 200, b"")
    ours.put_file("a", io.BytesIO(b"content"))
    assert [it.body for it in loopback.asked] == [b"content"] * 4
    assert pauses == [0.1, 0.4, 1.0]


@pytest.mark.parametrize("content", [b"<html><p>log in</html>", b"", b"{}"])
def test_a_server_that_is_none_of_s3_is_told(
    ours: Objects, loopback: Loopback, content: bytes
) -> None:
    loopback.answer = lambda _asked: (200, content)
    with pytest.raises(UserError, match="does not answer as an S3 server does"):
        ours.list("")
    loopback.answer = lambda _asked: (400, content)
    with pytest.raises(UserError, match=r"^S3: a: 400"):
        ours.get("a")


def test_a_server_that_is_away_is_told(closed_port: int) -> None:
    one = Objects("s3://b/p", f"http://127.0.0.1:{closed_port}")
    for ask in (lambda: one.get("a"), lambda: one.fetch("a", io.BytesIO())):
        with pytest.raises(UnavailableError, match="does not answer") as error:
            ask()
        assert "Signature" not in str(error.value)
    one.close()


@pytest.mark.parametrize(
    "address", ["127.0.0.1:9000", "http://[x", "ftp://127.0.0.1", "http://", "http://a:99999999"]
)
def test_an_endpoint_that_is_none_is_refused(address: str) -> None:
    for endpoint, outside in ((address, ""), ("http://127.0.0.1:1", address)):
        with pytest.raises(UserError, match="is no address of an S3 server"):
            Objects("s3://b/p", endpoint, outside)


def test_many_threads_share_one_pool(objects: Objects) -> None:
    threads = [
        threading.Thread(target=objects.put, args=(f"k{number}", b"x")) for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(objects.list("")) == 8
