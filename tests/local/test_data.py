"""Data and model versions through the front door: add, read in a job, lineage, verify, gc."""

import hashlib
import json
import os
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.contract.s3_server import KEY, SECRET, s3_server
from tests.local.front_door import Door, Result, wait, work

JOB = "mlstead: 1\nkind: job\nname: job\nresources: {cpu: 0.5, memory: 256Mi}\n"
PIPELINE = (
    "mlstead: 1\nkind: pipeline\nname: pipe\ndefaults: {resources: {cpu: 0.5, memory: 256Mi}}\n"
)
CSV = b"1,2\r\n3,4\r\n"
OLD = time.time() - 7 * 86400


@pytest.fixture(autouse=True)
def _no_tracking(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare these tests the copy to MLflow, which is not what they are about."""
    monkeypatch.setenv("MLSTEAD_TRACKING", "off")


def refusal(result: Result, code: int = 2) -> str:
    assert result.code == code, f"{result.code}\n{result.out}\n{result.err}"
    assert "Traceback" not in result.err
    assert len(result.err.splitlines()) <= 2, result.err
    return result.err


def folder(place: Path, **files: str) -> Path:
    """Make a folder with files; ``a_csv`` becomes ``sub/a.csv``."""
    (place / "sub").mkdir(parents=True)
    for name, content in files.items():
        (place / "sub" / name.replace("_", ".")).write_text(content)
    return place


def add(door: Door, name: str, source: object, *args: object, kind: str = "data") -> Any:
    return door.good(kind, "add", name, source, *args, "--json").json


def versions(door: Door, kind: str = "data") -> list[str]:
    return [f"{v['name']}@{v['number']}" for v in door.good(kind, "list", "--json").json]


def blobs(door: Door) -> list[Path]:
    return list((door.home / "store" / "files" / "md5").glob("??/*"))


def age(door: Door) -> None:
    """Make everything in the test's own store and caches a week old."""
    for top in (door.home / "store", door.home / "cache"):
        for path in [top, *top.rglob("*")] if top.exists() else []:
            os.utime(path, (OLD, OLD), follow_symlinks=False)


def collect(door: Door, *args: str) -> Any:
    age(door)
    return door.good("data", "gc", "--json", *args).json


# ---- where data comes from


def test_a_folder_and_a_file_become_numbered_versions_that_come_back_unchanged(
    door: Door, tmp_path: Path
) -> None:
    source = folder(tmp_path / "raw", a_csv="1,2\n", b_csv="3,4\n")
    (source / "run.sh").write_text("#!/bin/sh\n")
    (source / "run.sh").chmod(0o755)
    one = add(door, "raw", source)
    (source / "sub" / "a.csv").write_text("5,6\n")
    two = add(door, "raw", source)
    (tmp_path / "one.csv").write_bytes(CSV)
    single = add(door, "single", tmp_path / "one.csv")
    assert (one["number"], two["number"], one["files"], one["size"]) == (1, 2, 3, 18)
    assert one["digest"] != two["digest"]
    assert versions(door) == ["raw@1", "raw@2", "single@1"]
    door.good("data", "get", "raw@1", tmp_path / "back")
    assert (tmp_path / "back" / "sub" / "a.csv").read_text() == "1,2\n"
    assert os.access(tmp_path / "back" / "run.sh", os.X_OK)
    assert (tmp_path / "back" / "sub" / "b.csv").stat().st_mode & 0o200  # mine to change
    door.good("data", "get", "raw", tmp_path / "newest")
    assert (tmp_path / "newest" / "sub" / "a.csv").read_text() == "5,6\n"
    door.good("data", "get", "single@1", tmp_path / "back.csv")
    assert (tmp_path / "back.csv").read_bytes() == CSV
    shown = door.good("data", "show", "single@1", "--json").json
    assert shown["version"]["digest"] == single["digest"]
    [entry] = shown["manifest"]["entries"]
    assert (entry["path"], entry["sha256"]) == ("one.csv", hashlib.sha256(CSV).hexdigest())


def test_equal_bytes_are_kept_once(door: Door, tmp_path: Path) -> None:
    first = add(door, "a", folder(tmp_path / "a", x_csv="same\n"))
    count = len(blobs(door))
    second = add(door, "b", folder(tmp_path / "b", x_csv="same\n"))
    assert first["digest"] == second["digest"]
    assert len(blobs(door)) == count


def test_the_place_to_copy_to_is_an_argument_or_an_option(door: Door, tmp_path: Path) -> None:
    add(door, "raw", folder(tmp_path / "raw", a_csv="1\n"))
    door.good("data", "get", "raw", "--to", tmp_path / "one")
    door.good("data", "get", "raw", tmp_path / "two")
    assert (tmp_path / "one" / "sub" / "a.csv").read_text() == "1\n"
    assert (tmp_path / "two" / "sub" / "a.csv").read_text() == "1\n"
    text = JOB + "command: echo 5 > $MLSTEAD_OUTPUTS/five\ncode: null\n"
    door.good("run", work(tmp_path, text))
    for number, words in enumerate((["--to"], ["files"], ["files", "--to"], [])):
        place = tmp_path / f"back{number}"
        door.good("get", "job", *words, place)
        assert (place / "files" / "five").read_text() == "5\n"
    said = refusal(door("get", "job", "files", tmp_path / "x", "--to", tmp_path / "y"))
    assert "give the place once" in said


def test_get_never_overwrites(door: Door, tmp_path: Path) -> None:
    add(door, "raw", folder(tmp_path / "raw", a_csv="1\n"))
    mine = folder(tmp_path / "mine", a_csv="mine\n")
    assert "exists already" in refusal(door("data", "get", "raw@1", mine))
    assert "exists already" in refusal(door("data", "get", "raw@1", mine / "sub" / "a.csv"))
    assert (mine / "sub" / "a.csv").read_text() == "mine\n"
    assert list(mine.iterdir()) == [mine / "sub"]


class Handler(BaseHTTPRequestHandler):
    """Gives CSV under every path but a few."""

    def do_GET(self) -> None:
        status = {"/gone": 404, "/busy": 503, "/secret": 403}.get(self.path, 200)
        self.send_response(status)
        self.send_header("Content-Length", str(len(CSV)))
        self.end_headers()
        self.wfile.write(CSV)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def web() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


RIGHT = hashlib.sha256(CSV).hexdigest()


def test_a_web_server_s_file_is_kept_when_its_sha256_is_right(
    door: Door, tmp_path: Path, web: str
) -> None:
    made = add(door, "raw", f"{web}/data/one.csv", "--sha256", RIGHT)
    assert (made["files"], made["size"], made["source"]) == (1, len(CSV), f"{web}/data/one.csv")
    door.good("data", "get", "raw@1", tmp_path / "back.csv")
    assert (tmp_path / "back.csv").read_bytes() == CSV
    assert door.good("data", "show", "raw@1", "--json").json["manifest"]["entries"][0]["path"] == (
        "one.csv"
    )


def test_a_wrong_or_missing_sha256_keeps_nothing(door: Door, web: str) -> None:
    said = refusal(door("data", "add", "raw", f"{web}/one.csv", "--sha256", "0" * 64))
    assert RIGHT in said
    assert "a sha256 is needed" in refusal(door("data", "add", "raw", f"{web}/one.csv"))
    said = refusal(door("data", "add", "raw", f"{web}/one.csv", "--sha256", "abc"))
    assert "not a sha256" in said
    assert versions(door) == []
    assert blobs(door) == []
    assert [path.name for path in door.home.iterdir() if path.name.startswith(".fetch")] == []


@pytest.mark.parametrize(
    ("path", "code"), [("/gone", 2), ("/secret", 2), ("/busy", 3)], ids=["404", "403", "503"]
)
def test_a_web_server_that_refuses_is_told(door: Door, web: str, path: str, code: int) -> None:
    said = refusal(door("data", "add", "raw", web + path, "--sha256", RIGHT), code)
    assert web + path in said


def test_a_web_server_that_does_not_answer_is_exit_code_3(door: Door) -> None:
    args = ("data", "add", "raw", "http://127.0.0.1:9/x", "--sha256", RIGHT)
    assert "127.0.0.1:9" in refusal(door(*args), 3)


@pytest.mark.parametrize("path", ["/..", "/a/%2e%2e", "/x?name=../../evil", "/", "/a%2fb", "/.%00"])
def test_the_name_of_a_web_address_never_becomes_a_path(
    door: Door, tmp_path: Path, web: str, path: str
) -> None:
    add(door, "raw", web + path, "--sha256", RIGHT)
    [entry] = door.good("data", "show", "raw@1", "--json").json["manifest"]["entries"]
    assert "/" not in entry["path"]
    assert entry["path"] not in ("", ".", "..")
    door.good("data", "get", "raw@1", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == CSV


def test_data_of_a_job_may_be_a_web_address(door: Door, tmp_path: Path, web: str) -> None:
    text = JOB + f"data: {{x: {{url: '{web}/one.csv', sha256: {RIGHT}}}}}\n"
    text += "command: cat $MLSTEAD_INPUTS/x\n"
    result = door.good("run", work(tmp_path, text))
    assert result.out.encode().split() == CSV.split()
    wrong = text.replace(RIGHT, "f" * 64)
    assert RIGHT in refusal(door("run", work(tmp_path, wrong)))


def dvc_repository(place: Path, path: str = "data") -> Path:
    """Make a DVC repository by hand that holds one folder; give its .dvc file."""

    def put(content: bytes, suffix: str = "") -> str:
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest() + suffix
        blob = place / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        return md5

    rows = [{"md5": put(CSV), "relpath": f"{path}.csv"}]
    address = put(json.dumps(rows).encode(), ".dir")
    file = place / "deep" / "data.dvc"
    file.parent.mkdir(parents=True)
    file.write_text(f"outs:\n- md5: {address}\n  size: {len(CSV)}\n  nfiles: 1\n  path: data\n")
    return file


def test_a_dvc_file_names_the_data_of_its_repository(door: Door, tmp_path: Path) -> None:
    add(door, "raw", dvc_repository(tmp_path / "repo"))
    door.good("data", "get", "raw@1", tmp_path / "back")
    assert (tmp_path / "back" / "data.csv").read_bytes() == CSV


def test_a_dvc_file_whose_data_is_not_here_or_outside_is_refused(
    door: Door, tmp_path: Path
) -> None:
    file = dvc_repository(tmp_path / "repo")
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "data.dvc").write_text(file.read_text())
    assert "no DVC repository" in refusal(door("data", "add", "raw", tmp_path / "alone/data.dvc"))
    md5 = hashlib.md5(CSV, usedforsecurity=False).hexdigest()
    (tmp_path / "repo" / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]).unlink()
    assert "dvc fetch" in refusal(door("data", "add", "raw", file))
    climbing = dvc_repository(tmp_path / "evil", path="../../evil")
    assert "evil" in refusal(door("data", "add", "raw", climbing))
    file.write_text(file.read_text().replace("path: data", "path: ../../evil"))
    assert "leaves the folder" in refusal(door("data", "add", "raw", file))
    assert versions(door) == []


def test_an_object_in_s3_is_kept(
    door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    with s3_server() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        bucket = server.bucket()
        server.client().put_object(Bucket=bucket, Key="deep/one.csv", Body=CSV)
        add(door, "raw", f"s3://{bucket}/deep/one.csv")
        add(door, "raw", f"s3://{bucket}/deep/one.csv", "--sha256", RIGHT)
        wrong = door("data", "add", "raw", f"s3://{bucket}/deep/one.csv", "--sha256", "0" * 64)
        assert RIGHT in refusal(wrong)
        refusal(door("data", "add", "raw", f"s3://{bucket}/nothing"))
        refusal(door("data", "add", "raw", "s3://nobody/nothing"))
        refusal(door("data", "add", "raw", f"s3://{bucket}"))
    assert versions(door) == ["raw@1", "raw@2"]
    door.good("data", "get", "raw@2", tmp_path / "back.csv")
    assert (tmp_path / "back.csv").read_bytes() == CSV


@pytest.mark.parametrize("source", ["ftp://127.0.0.1/x", "gopher://x", "nothing-here", "file://"])
def test_a_source_that_is_none_is_refused(door: Door, source: str) -> None:
    refusal(door("data", "add", "raw", source))
    assert versions(door) == []


# ---- what is refused, whole


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/b", "", ".hidden", "Data", "3", "a b"])
def test_names_that_climb_or_are_none_are_refused(door: Door, tmp_path: Path, name: str) -> None:
    (tmp_path / "x").write_text("x")
    refusal(door("data", "add", name, tmp_path / "x"))
    add(door, "good", tmp_path / "x")
    refusal(door("data", "alias", "good@1", name))
    assert versions(door) == ["good@1"]


def test_links_that_lead_outside_pipes_and_odd_names_are_refused_whole(
    door: Door, tmp_path: Path
) -> None:
    (tmp_path / "mine").write_text("mine\n")
    makers: dict[str, Callable[[Path], object]] = {
        "absolute": lambda place: (place / "link").symlink_to(tmp_path / "mine"),
        "climbing": lambda place: (place / "link").symlink_to("../mine"),
        "nothing": lambda place: (place / "link").symlink_to("nowhere"),
        "loop": lambda place: (place / "link").symlink_to("."),
        "pipe": lambda place: os.mkfifo(place / "pipe"),
        "newline": lambda place: (place / "a\nb").write_text("x"),
        "backslash": lambda place: (place / "..\\b").write_text("x"),
        "bytes": lambda place: Path(os.fsdecode(os.fsencode(place) + b"/\xff")).write_text("x"),
    }
    for name, make in makers.items():
        make(folder(tmp_path / name, a_csv="1\n"))
        said = refusal(door("data", "add", "raw", tmp_path / name))
        assert said.splitlines()[0].isprintable(), said
    assert versions(door) == []
    assert blobs(door) == []


def test_a_link_that_stays_inside_is_kept_as_a_copy(door: Door, tmp_path: Path) -> None:
    source = folder(tmp_path / "raw", a_csv="1\n")
    (source / "link.csv").symlink_to("sub/a.csv")
    add(door, "raw", source)
    door.good("data", "get", "raw@1", tmp_path / "back")
    assert (tmp_path / "back" / "link.csv").read_text() == "1\n"
    assert not (tmp_path / "back" / "link.csv").is_symlink()


def test_an_archive_with_names_that_climb_is_never_unpacked(door: Door, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("evil\n")
    with tarfile.open(tmp_path / "evil.tar", "w") as archive:
        archive.add(tmp_path / "x", "../../evil")
        archive.add(tmp_path / "x", str(tmp_path / "absolute"))
    made = add(door, "raw", tmp_path / "evil.tar")
    assert made["files"] == 1
    text = JOB + "data: {x: raw@1}\ncommand: ls -l $MLSTEAD_INPUTS/x; wc -c < $MLSTEAD_INPUTS/x\n"
    result = door.good("run", work(tmp_path / "code", text))
    assert result.out.split()[-1] == str((tmp_path / "evil.tar").stat().st_size)
    assert not (tmp_path / "absolute").exists()
    assert list(door.home.rglob("evil")) == []


# ---- aliases, removal


def test_an_alias_moves_and_a_number_never_does(door: Door, tmp_path: Path) -> None:
    for content in ("one", "two"):
        (tmp_path / "net").write_text(content)
        add(door, "net", tmp_path / "net", kind="model")
    door.good("model", "alias", "net@1", "production")
    assert door.good("model", "show", "net@production", "--json").json["version"]["number"] == 1
    door.good("model", "alias", "net@2", "production")
    shown = door.good("model", "show", "net@production", "--json").json["version"]
    assert (shown["number"], shown["aliases"]) == (2, ["production"])
    assert door.good("model", "show", "net@1", "--json").json["version"]["aliases"] == []
    assert "net@2" in refusal(door("model", "remove", "net@2"))
    assert versions(door, "model") == ["net@1", "net@2"]


def test_an_alias_can_be_taken_away_so_that_a_sole_version_can_go(
    door: Door, tmp_path: Path
) -> None:
    (tmp_path / "net").write_text("one")
    add(door, "net", tmp_path / "net", kind="model")
    door.good("model", "alias", "net@1", "production")
    said = refusal(door("model", "remove", "net@1"))
    assert "mlstead model alias net --drop production" in said
    assert "it has: production" in refusal(door("model", "alias", "net", "--drop", "prod"))
    assert "no longer production" in door.good("model", "alias", "net", "--drop", "production").out
    refusal(door("model", "alias", "net@1", "--drop", "production"))
    refusal(door("model", "alias", "other", "--drop", "production"))
    refusal(door("model", "alias", "net"))
    refusal(door("model", "show", "net@production"))
    door.good("model", "remove", "net@1")


def test_an_alias_is_resolved_at_submission_and_recorded(door: Door, tmp_path: Path) -> None:
    for content in ("one", "two"):
        (tmp_path / "raw").write_text(content)
        add(door, "raw", tmp_path / "raw")
    door.good("data", "alias", "raw@1", "golden")
    text = JOB + "data: {x: raw@golden}\ncommand: cat $MLSTEAD_INPUTS/x\n"
    assert door.good("run", work(tmp_path / "code", text)).out == "one"
    [link] = door.show("job")["links"]
    assert (link["direction"], link["slot"], link["ref"]) == ("input", "x", "raw@1")


def test_a_removed_number_never_returns(door: Door, tmp_path: Path) -> None:
    (tmp_path / "raw").write_text("x")
    add(door, "raw", tmp_path / "raw")
    add(door, "raw", tmp_path / "raw")
    door.good("data", "remove", "raw@2")
    assert add(door, "raw", tmp_path / "raw")["number"] == 3
    for ref in ("raw@1", "raw@3"):
        door.good("data", "remove", ref)
    assert versions(door) == []
    refusal(door("data", "show", "raw"))
    assert add(door, "raw", tmp_path / "raw")["number"] == 4
    text = JOB + (
        "command: echo x > $MLSTEAD_OUTPUTS/raw\noutputs: {raw: {kind: data, name: raw}}\n"
    )
    door.good("data", "remove", "raw@4")
    door.good("run", work(tmp_path / "code", text))
    assert versions(door) == ["raw@5"]


def test_a_version_without_a_name_is_none(door: Door, tmp_path: Path) -> None:
    (tmp_path / "raw").write_text("x")
    add(door, "raw", tmp_path / "raw")
    for ref in ("@1", "@", "raw@", ""):
        refusal(door("data", "remove", ref))
    for ref in ("@1", ""):
        refusal(door("data", "show", ref))
        refusal(door("data", "get", ref, tmp_path / "back"))
    assert versions(door) == ["raw@1"]


def test_data_and_models_and_projects_do_not_share_names(door: Door, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x")
    add(door, "same", tmp_path / "x")
    add(door, "same", tmp_path / "x", kind="model")
    add(door, "same", tmp_path / "x", "--project", "other")
    assert versions(door) == versions(door, "model") == ["same@1"]
    door.good("data", "remove", "same@1")
    refusal(door("data", "show", "same@1"))
    door.good("model", "show", "same@1")
    door.good("data", "show", "same@1", "--project", "other")


# ---- gc


def test_gc_frees_what_nothing_refers_to_and_only_once_it_is_old(
    door: Door, tmp_path: Path
) -> None:
    add(door, "kept", folder(tmp_path / "kept", a_csv="kept\n", b_csv="shared\n"))
    add(door, "gone", folder(tmp_path / "gone", a_csv="gone\n", b_csv="shared\n"))
    door.good("data", "remove", "gone@1")
    assert door.good("data", "gc", "--json").json["objects"] == 0  # still young
    planned = collect(door, "--dry-run")
    before = len(blobs(door))
    assert planned["objects"] == 3  # the file, the folder's listing, the manifest
    assert len(blobs(door)) == before
    assert collect(door) == planned
    assert collect(door)["objects"] == 0
    assert door.good("data", "verify").out == "all bytes are as they were added\n"
    door.good("data", "get", "kept@1", tmp_path / "back")
    assert (tmp_path / "back" / "sub" / "b.csv").read_text() == "shared\n"


def test_gc_keeps_what_an_ended_run_read_and_left(door: Door, tmp_path: Path) -> None:
    add(door, "raw", folder(tmp_path / "raw", a_csv="read\n"))
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "extra").mkdir()
    (tmp_path / "code" / "extra" / "x").write_text("by path\n")
    text = JOB + (
        "data: {x: raw@1, y: {path: extra}}\n"
        "command: |\n"
        "  cp -rL $MLSTEAD_INPUTS/x $MLSTEAD_OUTPUTS/model\n"
        "  echo notes > $MLSTEAD_OUTPUTS/notes\n"
        "outputs: {model: {kind: model, name: net}}\n"
    )
    door.good("run", work(tmp_path / "code", text))
    failing = text.replace("name: job", "name: bad").replace(
        "  cp", "  echo half > $MLSTEAD_OUTPUTS/h; exit 1\n  cp"
    )
    assert door("run", work(tmp_path / "code", failing)).code == 1
    door.good("data", "remove", "raw@1")
    door.good("model", "remove", "net@1")
    assert collect(door)["objects"] == 0
    door.good("get", "job", "--to", tmp_path / "back")
    assert (tmp_path / "back" / "files" / "notes").read_text() == "notes\n"
    assert (tmp_path / "back" / "model" / "sub" / "a.csv").read_text() == "read\n"
    door.good("get", "bad", "--to", tmp_path / "half")
    assert (tmp_path / "half" / "files" / "h").read_text() == "half\n"


def test_gc_keeps_what_an_open_pipeline_and_its_later_steps_need(
    door: Door, tmp_path: Path
) -> None:
    add(door, "raw", folder(tmp_path / "raw", a_csv="late\n"))
    flag = tmp_path / "flag"
    folder(tmp_path / "code" / "extra", x_txt="by path\n")
    text = PIPELINE + (
        "steps:\n"
        "  first:\n"
        f"    command: while ! test -e {flag}; do sleep 0.05; done\n"
        "  job:\n"
        "    needs: [first]\n"
        "    data: {x: raw@1, y: {path: extra}}\n"
        "    command: cat $MLSTEAD_INPUTS/x/sub/a.csv $MLSTEAD_INPUTS/y/sub/x.txt\n"
        "  tries:\n"
        "    kind: sweep\n"
        "    needs: [first]\n"
        "    trial: {params: {n: 0}, data: {x: raw@1}, command: cat $MLSTEAD_INPUTS/x/sub/a.csv,"
        " resources: {cpu: 0.5, memory: 256Mi}}\n"
        "    search: {points: [{n: 1}]}\n"
    )
    run = door.good("run", "-d", work(tmp_path / "code", text)).out.strip()
    wait(lambda: any(c["state"] == "running" for c in door.show(run)["children"]), 30)
    door.good("data", "remove", "raw@1")
    assert collect(door)["objects"] == 0
    flag.touch()
    details = door.until(run, "succeeded", "failed")
    assert {c["key"]: c["state"] for c in details["children"]} == {
        "first": "succeeded", "job": "succeeded", "tries": "succeeded",
    }  # fmt: skip
    assert "late\nby path\n" in door.good("logs", run).out


def test_gc_keeps_what_a_queued_job_waits_for(door: Door, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    folder(tmp_path / "code" / "extra", x_txt="by path\n")
    text = JOB + (
        "data: {x: {path: extra}}\n"
        f"command: while ! test -e {flag}; do sleep 0.05; done; cat $MLSTEAD_INPUTS/x/sub/x.txt\n"
    )
    run = door.good("run", "-d", work(tmp_path / "code", text)).out.strip()
    assert collect(door)["objects"] == 0
    flag.touch()
    door.until(run, "succeeded", "failed")
    assert door.good("logs", run).out == "by path\n"


# ---- verify, and what is damaged


def flip(path: Path) -> None:
    """Change one byte of an object in the test's own store."""
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)


def blob_of(door: Door, ref: str, path: str) -> Path:
    entries = door.good("data", "show", ref, "--json").json["manifest"]["entries"]
    [md5] = [str(entry["md5"]) for entry in entries if entry["path"] == path]
    return door.home / "store" / "files" / "md5" / md5[:2] / md5[2:]


@pytest.mark.parametrize("damage", ["flipped", "removed"])
def test_a_damaged_object_is_named_and_a_job_that_reads_it_fails_clearly(
    door: Door, tmp_path: Path, damage: str
) -> None:
    add(door, "raw", folder(tmp_path / "raw", a_csv="good\n", b_csv="bad\n"))
    add(door, "fine", folder(tmp_path / "fine", c_csv="fine\n"))
    blob = blob_of(door, "raw@1", "sub/b.csv")
    flip(blob) if damage == "flipped" else blob.unlink()
    said = refusal(door("data", "verify"))
    assert "raw@1" in said
    assert "sub/b.csv" in said
    assert "sub/a.csv" not in said
    assert door("data", "verify", "--json").json == {"raw@1": ["sub/b.csv"]}
    door.good("data", "verify", "fine@1")
    text = JOB + "data: {x: raw@1}\ncommand: cat $MLSTEAD_INPUTS/x/sub/b.csv\n"
    result = door("run", work(tmp_path / "code", text))
    assert result.code in (1, 2)
    assert "sub/b.csv" in result.err
    assert "store" in result.err
    assert "Traceback" not in result.err
    assert result.out == ""
    assert "sub/b.csv" in refusal(door("data", "get", "raw@1", tmp_path / "back"))
    assert not (tmp_path / "back").exists()


def test_a_step_and_a_trial_whose_data_is_damaged_fail_and_end(door: Door, tmp_path: Path) -> None:
    add(door, "raw", folder(tmp_path / "raw", a_csv="good\n"))
    flip(blob_of(door, "raw@1", "sub/a.csv"))
    text = PIPELINE + (
        "steps:\n"
        "  job: {command: cat $MLSTEAD_INPUTS/x/sub/a.csv, data: {x: raw@1}}\n"
        "  tries:\n"
        "    kind: sweep\n"
        "    trial: {params: {n: 0}, data: {x: raw@1}, command: cat $MLSTEAD_INPUTS/x/sub/a.csv}\n"
        "    search: {points: [{n: 1}]}\n"
    )
    result = door("run", work(tmp_path / "code", text))
    assert result.code in (1, 2)
    assert "Traceback" not in result.err
    if result.code == 1:
        details = {child["key"]: child for child in door.show("pipe")["children"]}
        assert {child["state"] for child in details.values()} == {"failed"}
        assert "sub/a.csv" in details["job"]["detail"]


def test_adding_the_same_bytes_again_heals_a_damaged_object(door: Door, tmp_path: Path) -> None:
    source = folder(tmp_path / "raw", a_csv="good\n")
    add(door, "raw", source)
    for look in (True, False):
        flip(blob_of(door, "raw@1", "sub/a.csv"))
        if look:
            refusal(door("data", "verify"))
            assert "damaged" in refusal(door("data", "get", "raw@1", tmp_path / "back"))
        add(door, "raw", source)
        door.good("data", "verify")
    door.good("data", "get", "raw@1", tmp_path / "back")


def test_a_damaged_manifest_is_told(door: Door, tmp_path: Path) -> None:
    made = add(door, "raw", folder(tmp_path / "raw", a_csv="good\n"))
    digest = made["digest"]
    path = door.home / "store" / "manifests" / digest[:2] / f"{digest[2:]}.json"
    path.chmod(0o644)
    path.write_text(path.read_text().replace("sub/a.csv", "sub/b.csv"))
    for verb in ("verify", "show"):
        said = refusal(door("data", verb, "raw@1"))
        assert digest[:12] in said or "raw@1" in said
    text = JOB + "data: {x: raw@1}\ncommand: ls\n"
    refusal(door("run", work(tmp_path / "code", text)))


# ---- what a job sees of its data


def test_data_is_read_only_for_the_program(door: Door, tmp_path: Path) -> None:
    add(door, "raw", folder(tmp_path / "raw", a_csv="one\n"))
    add(door, "raw", folder(tmp_path / "raw2", a_csv="two\n"))
    text = JOB + (
        "data: {x: raw@2}\n"
        "command: |\n"
        "  cat $MLSTEAD_INPUTS/x/sub/a.csv\n"
        "  stat -Lc %a $MLSTEAD_INPUTS/x $MLSTEAD_INPUTS/x/sub $MLSTEAD_INPUTS/x/sub/a.csv\n"
    )
    result = door.good("run", work(tmp_path / "code", text))
    first, *modes = result.out.splitlines()
    assert first == "two"
    assert [int(mode, 8) & 0o222 for mode in modes] == [0, 0, 0], modes


def test_what_a_program_does_to_its_data_reaches_neither_the_store_nor_the_next_run(
    door: Door, tmp_path: Path
) -> None:
    add(door, "raw", folder(tmp_path / "raw", a_csv="one\n"))
    spoil = JOB + (
        "data: {x: raw@1, y: {version: raw@1, mode: copy}}\n"
        "command: |\n"
        "  chmod -R u+w $MLSTEAD_INPUTS/y/\n"
        "  echo changed > $MLSTEAD_INPUTS/y/sub/a.csv\n"
        "  echo new > $MLSTEAD_INPUTS/y/new\n"
        "  chmod -R u+w $MLSTEAD_INPUTS/x/\n"
        "  echo changed > $MLSTEAD_INPUTS/x/sub/a.csv\n"
        "  echo new > $MLSTEAD_INPUTS/x/new\n"
        "  rm -f $MLSTEAD_INPUTS/x\n"
    )
    assert door.process("run", work(tmp_path / "spoil", spoil)).code == 0
    door.good("data", "verify")
    text = (
        JOB + "data: {x: raw@1}\ncommand: cat $MLSTEAD_INPUTS/x/sub/a.csv; ls $MLSTEAD_INPUTS/x\n"
    )
    done = door.process("run", work(tmp_path / "code", text))
    assert done.out == "one\nsub\n", done.err


SOURCE = JOB + (
    "params: {source: extra}\n"
    "data: {x: {path: '${{ params.source }}'}}\n"
    "command: cat $MLSTEAD_INPUTS/x/sub/x.txt\n"
)


def test_a_path_in_the_file_starts_at_the_file_and_one_of_p_where_the_person_stands(
    door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder(tmp_path / "code" / "extra", x_txt="beside the file\n")
    folder(tmp_path / "here" / "mine", x_txt="where I stand\n")
    file = work(tmp_path / "code", SOURCE)
    monkeypatch.chdir(tmp_path / "here")
    assert door.good("run", file).out == "beside the file\n"
    assert door.good("run", file, "-p", "source=mine").out == "where I stand\n"
    assert door.good("run", file, "-p", f"source={tmp_path}/here/mine").out == "where I stand\n"
    assert "mine" in refusal(door("run", file, "-p", "source=not-mine"))


def test_data_by_path_is_what_it_was_at_submission(door: Door, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    extra = folder(tmp_path / "code" / "extra", x_txt="then\n")
    text = SOURCE.replace("command: ", f"command: while ! test -e {flag}; do sleep 0.05; done; ")
    run = door.good("run", "-d", work(tmp_path / "code", text)).out.strip()
    (extra / "sub" / "x.txt").write_text("now\n")
    flag.touch()
    door.until(run, "succeeded", "failed")
    assert door.good("logs", run).out == "then\n"


def test_data_by_path_with_a_link_outside_is_refused(door: Door, tmp_path: Path) -> None:
    extra = folder(tmp_path / "code" / "extra", x_txt="x\n")
    (tmp_path / "outside").write_text("not yours\n")
    (extra / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "code" / ".mlsteadignore").write_text("extra/\n")
    said = refusal(door("run", work(tmp_path / "code", SOURCE)))
    assert "points outside" in said


# ---- lineage


def test_a_model_version_leads_back_to_run_code_and_data_and_on_to_who_used_it(
    door: Door, tmp_path: Path
) -> None:
    raw = add(door, "raw", folder(tmp_path / "raw", a_csv="1\n"))
    text = JOB + (
        "data: {x: raw@1}\nparams: {lr: 0.5}\n"
        "command: python train.py\n"
        "outputs: {model: {kind: model, name: net, alias: [latest]}}\n"
    )
    program = (
        "import os, shutil\n"
        "shutil.copytree(os.environ['MLSTEAD_INPUTS'] + '/x',"
        " os.environ['MLSTEAD_OUTPUTS'] + '/model')\n"
        "open(os.environ['MLSTEAD_OUTPUTS'] + '/model/w', 'w').write('weights')\n"
    )
    door.good("run", work(tmp_path / "code", text, train_py=program), "-p", "lr=0.25")
    run = door.show("job")["run"]
    text = JOB.replace("name: job", "name: use") + "data: {m: net@latest}\ncommand: ls\n"
    door.good("run", work(tmp_path / "use", text))
    shown = door.good("model", "show", "net@latest", "--json").json
    assert shown["version"]["run_id"] == run["id"]
    assert shown["version"]["output"] == "model"
    assert shown["run"]["code"] == run["code"] != ""
    assert shown["run"]["params"] == {"lr": 0.25}
    assert shown["version"]["meta"]["code"] == run["code"]
    [link] = shown["inputs"]
    assert (link["slot"], link["ref"], link["digest"]) == ("x", "raw@1", raw["digest"])
    assert shown["used_by"] == [door.show("use")["run"]["id"]]
    data = door.good("data", "show", "raw@1", "--json").json
    assert data["used_by"] == [run["id"]]
    assert data["version"]["source"] == str(tmp_path / "raw")
    text_shown = door.good("model", "show", "net@1").out
    for words in (run["id"], run["code"], "raw@1", "lr=0.25", "latest"):
        assert words in text_shown


def test_the_model_of_a_service_may_come_from_a_parameter(door: Door, tmp_path: Path) -> None:
    (tmp_path / "net").write_text("weights")
    add(door, "net", tmp_path / "net", kind="model")
    text = "mlstead: 1\nkind: service\nname: calc\nparams: {m: net@1}\nmodel: ${{ params.m }}\n"
    file = work(tmp_path / "s", text)
    door.good("plan", file)
    assert "net@2" in refusal(door("plan", file, "-p", "m=net@2"))


def test_lineage_goes_through_the_steps_of_a_pipeline(door: Door, tmp_path: Path) -> None:
    text = PIPELINE + (
        "steps:\n"
        "  make:\n"
        "    command: echo 1 > $MLSTEAD_OUTPUTS/out\n"
        "    outputs: {out: {kind: data, name: made}}\n"
        "  train:\n"
        "    data: {x: {step: make, output: out}}\n"
        "    command: cp $MLSTEAD_INPUTS/x $MLSTEAD_OUTPUTS/model\n"
        "    outputs: {model: {kind: model, name: net}}\n"
    )
    door.good("run", work(tmp_path, text))
    shown = door.good("model", "show", "net@1", "--json").json
    steps = {child["key"]: child["id"] for child in door.show("pipe")["children"]}
    assert shown["version"]["run_id"] == steps["train"]
    assert shown["run"]["parent"] == door.show("pipe")["run"]["id"]
    [link] = shown["inputs"]
    assert link["ref"] == "made@1"
    made = door.good("data", "show", link["ref"], "--json").json
    assert made["version"]["run_id"] == steps["make"]
