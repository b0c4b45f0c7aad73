"""Passwords and tokens in addresses: used to fetch, and nowhere kept or shown."""

import hashlib
import threading
from base64 import b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.local.front_door import Door, work

CONTENT = b"1,2\n"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
HEAD = "mlstead: 1\nkind: {}\nname: {}\n"
NEEDS = "resources: {cpu: 0.1, memory: 64Mi}\n"
JOB = HEAD.format("job", "reader") + NEEDS + "code: null\ncommand: cat $MLSTEAD_INPUTS/x\n"


class Handler(BaseHTTPRequestHandler):
    """Gives its file only to who has the password and the token."""

    def do_GET(self) -> None:
        login = "Basic " + b64encode(b"bob:canary1").decode()
        good = self.headers["authorization"] == login and self.path == "/f.csv?token=canary2"
        self.send_response(200 if good else 403)
        self.send_header("content-length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLSTEAD_TRACKING", "off")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://bob:canary1@127.0.0.1:{server.server_port}/f.csv?token=canary2"
    server.shutdown()
    thread.join()
    server.server_close()


def kept(door: Door) -> list[str]:
    """Name the files of a home in which the password or the token stands."""
    files = [path for path in door.home.rglob("*") if path.is_file()]
    return [str(path) for path in files if b"canary" in path.read_bytes()]


def test_an_address_of_data_is_kept_and_shown_without_its_password(
    door: Door, address: str
) -> None:
    door.good("data", "add", "d", address, "--sha256", SHA256)
    for verb in (("data", "list"), ("data", "show", "d"), ("data", "list", "--json")):
        out = door.good(*verb).out
        assert "canary" not in out
        assert "/f.csv?token=***" in out
    refused = door("data", "add", "d", address)
    assert refused.code == 2
    assert "canary" not in refused.err
    assert "token=***: a sha256 is needed" in refused.err
    assert kept(door) == []


def test_an_address_in_a_work_file_is_used_whole_and_recorded_without_its_password(
    door: Door, tmp_path: Path, address: str
) -> None:
    file = work(tmp_path, JOB + f"data: {{x: {{url: '{address}', sha256: {SHA256}}}}}\n")
    assert "canary" not in door.good("plan", "--json", file).out
    assert door.good("run", file).out.encode() == CONTENT
    for verb in (("show", "reader"), ("show", "reader", "--json"), ("run", "--json", file)):
        assert "canary" not in door.good(*verb).out
    assert kept(door) == []


def test_a_sweep_of_such_data_fetches_it_once_and_records_no_password(
    door: Door, tmp_path: Path, address: str
) -> None:
    text = (
        HEAD.format("sweep", "tries") + "search: {method: grid, space: {a: {choice: [1, 2]}}}\n"
        "trial:\n  params: {a: 0}\n  code: null\n  command: cat $MLSTEAD_INPUTS/x\n"
        f"  {NEEDS}  data: {{x: {{url: '{address}', sha256: {SHA256}}}}}\n"
    )
    door.good("run", work(tmp_path, text))
    assert kept(door) == []


@pytest.mark.parametrize("given", ["late", "param"])
def test_an_address_whose_password_would_have_to_be_recorded_is_refused(
    door: Door, tmp_path: Path, address: str, given: str
) -> None:
    if given == "late":
        late = address.replace("f.csv", "${{ item }}")
        text = (
            HEAD.format("pipeline", "pipe") + "steps:\n  read:\n    foreach: [f.csv]\n"
            f"    {NEEDS}    code: null\n    command: 'true'\n"
            f"    data: {{x: {{url: '{late}', sha256: {SHA256}}}}}\n"
        )
    else:
        text = JOB + f"params: {{from: '{address}'}}\n"
        text += f"data: {{x: {{url: '${{{{ params.from }}}}', sha256: {SHA256}}}}}\n"
    refused = door("run", work(tmp_path, text))
    assert refused.code == 2, refused
    assert "data.x.url" in refused.err
    assert "mlstead data add" in refused.err
    assert "canary" not in refused.err
    assert kept(door) == []


def test_a_login_in_an_s3_address_is_refused_and_not_repeated(door: Door) -> None:
    refused = door("data", "add", "x", "s3://AKIA4711:canary4711@bucket/x")
    assert refused.code == 2
    assert "AWS_ACCESS_KEY_ID" in refused.err
    assert "canary4711" not in refused.out + refused.err
