"""Data comes from paths and web servers, checked; nothing is left of what was refused."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mlstead.artifacts.sources import fetch, suggested_name
from mlstead.errors import ConflictError, NotFoundError, UnavailableError, UserError

CONTENT = b"data" * 100_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves one file and everything that may go wrong with it."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/to/"):
            self.send_response(302)
            self.send_header("location", self.path.removeprefix("/to/"))
            self.send_header("content-length", "0")
            self.end_headers()
        elif path.startswith("/status/"):
            self.send_response(int(path.rpartition("/")[2]))
            self.send_header("retry-after", "7")
            self.send_header("content-length", "0")
            self.end_headers()
        else:
            self.send_response(200)
            length = len(CONTENT) + (10 if path == "/cut" else 0)
            self.send_header("content-length", str(length))
            self.end_headers()
            self.wfile.write(CONTENT)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{running.server_address[1]}"
    finally:
        running.shutdown()
        thread.join()
        running.server_close()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)


def refused(
    url: str, sha256: str, folder: Path, error: type[Exception] = UserError, match: str = "."
) -> Exception:
    """Make sure that it is refused, in one line, and leaves nothing."""
    with pytest.raises(error, match=match) as caught:
        fetch(url, sha256, folder / "file")
    assert "\n" not in str(caught.value)
    assert list(folder.iterdir()) == []
    return caught.value


def test_a_file_comes_from_the_web_and_is_checked(server: str, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    fetch(
        f"{server}/file", SHA256, tmp_path / "new" / "file",
        progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert (tmp_path / "new" / "file").read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))


def test_redirects_are_followed_and_not_for_ever(server: str, tmp_path: Path) -> None:
    fetch(f"{server}/to//to//file", "sha256:" + SHA256.upper(), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    (tmp_path / "file").unlink()
    refused(f"{server}{'/to/' * 7}/file", SHA256, tmp_path, match="more than 5 redirects")


def test_another_sha256_is_refused(server: str, tmp_path: Path) -> None:
    refused(f"{server}/file", "0" * 64, tmp_path, match=f"its sha256 is {SHA256}")


@pytest.mark.parametrize("sha256", ["", "abc", "x" * 64])
def test_the_web_needs_a_sha256(server: str, tmp_path: Path, sha256: str) -> None:
    refused(f"{server}/file", sha256, tmp_path, match="sha256")


def test_what_is_too_large_is_refused(server: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="larger than 1000 bytes"):
        fetch(f"{server}/file", SHA256, tmp_path / "file", limit=1000)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/status/404", NotFoundError), ("/status/403", UserError), ("/status/304", UserError),
        ("/status/503", UnavailableError), ("/status/429", UnavailableError),
        ("/cut", UnavailableError),
    ],
)  # fmt: skip
def test_what_the_server_says_becomes_one_error(
    server: str, tmp_path: Path, path: str, error: type[Exception]
) -> None:
    caught = refused(server + path, SHA256, tmp_path, error)
    if path == "/status/503":
        assert isinstance(caught, UnavailableError)
        assert caught.delay == 7.0


def test_a_server_that_does_not_answer_is_unavailable(tmp_path: Path) -> None:
    refused("http://127.0.0.1:9/x", SHA256, tmp_path, UnavailableError)


@pytest.mark.parametrize(
    "address",
    [
        "http://169.254.169.254/latest/meta-data", "http://2852039166/", "http://0xa9fea9fe/",
        "http://[::ffff:169.254.169.254]/", "http://[fd00:ec2::254]/", "http://169.254.1.1:80/",
    ],
)  # fmt: skip
def test_metadata_servers_are_refused_also_behind_redirects(
    server: str, tmp_path: Path, address: str
) -> None:
    refused(address, SHA256, tmp_path, match="not allowed")
    refused(f"{server}/to/{address}", SHA256, tmp_path, match="not allowed")


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1"])
def test_redirects_leave_the_web_nowhere(server: str, tmp_path: Path, to: str) -> None:
    refused(f"{server}/to/{to}", SHA256, tmp_path)


@pytest.mark.parametrize(
    "url", ["ftp://h/x", "http://", "https:///x", "s3://", "s3://bucket", "gs://b/k"]
)
def test_addresses_that_are_none_are_refused(tmp_path: Path, url: str) -> None:
    refused(url, SHA256, tmp_path)


def test_names_and_passwords_are_never_shown(server: str, tmp_path: Path) -> None:
    secret = server.replace("http://", "http://user:canary1@")
    error = refused(f"{secret}/status/403?token=canary2", SHA256, tmp_path)
    assert "canary" not in str(error)
    assert "canary" not in str(refused(f"{secret}/f?token=canary2", "", tmp_path))
    for part in ("/", "#", "?"):
        error = refused(f"http://user:a{part}canary@127.0.0.1/f", SHA256, tmp_path)
        assert "canary" not in str(error)
        assert error.__suppress_context__ or "canary" not in str(error.__context__)


def test_a_path_is_copied_and_checked(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x").write_bytes(CONTENT)
    (tmp_path / "out").mkdir()
    fetch(str(tmp_path / "in" / "x"), SHA256, tmp_path / "out" / "a")
    fetch(f"file://{tmp_path}/in/x", "", tmp_path / "out" / "b")
    assert (tmp_path / "out" / "a").read_bytes() == (tmp_path / "out" / "b").read_bytes()
    with pytest.raises(ConflictError):
        fetch(str(tmp_path / "in" / "x"), "", tmp_path / "out" / "a")
    (tmp_path / "none").mkdir()
    refused(str(tmp_path / "in" / "x"), "0" * 64, tmp_path / "none")
    refused(str(tmp_path / "nothing"), "", tmp_path / "none", NotFoundError)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://h/a/train.csv.gz?sig=1#x", "train.csv.gz"), ("https://h/a/..", "0" * 16),
        ("https://h/%2e%2e%2fx", "_2e_2e_2fx"), ("s3://b/.env", "env"),
        ("http://bob:pw@host", "0" * 16),
    ],
)  # fmt: skip
def test_suggested_names_hold_no_folder(url: str, name: str) -> None:
    assert "pw" not in suggested_name(url)
    assert suggested_name(url) == name or (set(name) == {"0"} and len(suggested_name(url)) == 16)
