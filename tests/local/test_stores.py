"""The same work with the records in PostgreSQL, and with the artifacts in S3."""

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from tests.contract import postgres_server
from tests.contract.s3_server import KEY, SECRET, S3Server, s3_server
from tests.local.front_door import Door, wait, work

SMALL = "resources: {cpu: 0.5, memory: 256Mi}\n"
JOB = "mlstead: 1\nkind: job\nname: job\n" + SMALL
PIPELINE = (
    "mlstead: 1\nkind: pipeline\nname: pipe\ndefaults: {resources: {cpu: 0.5, memory: 256Mi}}\n"
    "steps:\n"
    "  make:\n"
    "    command: mkdir $MLSTEAD_OUTPUTS/out; echo hello > $MLSTEAD_OUTPUTS/out/word\n"
    "    outputs: {out: {kind: data, name: words}}\n"
    "  train:\n"
    "    foreach: [1, 3, 2]\n"
    "    params: {i: '${{ item }}'}\n"
    "    data: {in: {step: make, output: out}}\n"
    "    command: |\n"
    "      cat $MLSTEAD_INPUTS/in/word\n"
    '      echo "{\\"acc\\": $MLSTEAD_PARAM_I}" > $MLSTEAD_OUTPUTS/values.json\n'
    "      echo model $MLSTEAD_PARAM_I > $MLSTEAD_OUTPUTS/model\n"
    "    outputs: {model: {kind: data}, acc: {kind: value}}\n"
    "  best:\n"
    "    data: {one: {step: train, output: model, pick: {by: acc, goal: max}}}\n"
    "    command: cat $MLSTEAD_INPUTS/one; cp $MLSTEAD_INPUTS/one $MLSTEAD_OUTPUTS/net\n"
    "    outputs: {net: {kind: model, name: net}}\n"
)
SWEEP = (
    "mlstead: 1\nkind: sweep\nname: sweep\nparallel: 2\n"
    "metric: {name: loss, goal: min}\n"
    "search: {points: [{x: 1.0}, {x: 3.0}, {x: 2.0}]}\n"
    "trial:\n"
    "  command: python trial.py\n"
    "  params: {x: 0.0}\n"
    "  outputs: {model: {kind: model, name: swept}}\n"
    "  resources: {cpu: 0.5, memory: 256Mi}\n"
)
TRIAL = (
    "import os, mlstead\n"
    "x = float(os.environ['MLSTEAD_PARAM_X'])\n"
    "mlstead.log(loss=abs(x - 3))\n"
    "open(os.environ['MLSTEAD_OUTPUTS'] + '/model', 'w').write(str(x))\n"
)


@pytest.fixture(autouse=True)
def _no_tracking(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare these tests the copy to MLflow, which is not what they are about."""
    monkeypatch.setenv("MLSTEAD_TRACKING", "off")


def states(door: Door, run: str, *args: str) -> dict[str, str]:
    details = door.good("show", run, "--json", *args).json["details"]
    return {child["key"]: child["state"] for child in details["children"]}


# ---- records in PostgreSQL


@pytest.fixture(scope="module")
def postgres() -> Iterator[postgres_server.Server]:
    server = postgres_server.start()
    yield server
    server.stop()


@pytest.fixture
def records(
    postgres: postgres_server.Server, home: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """Give the URL of an empty database; every verb and driver of the test uses it."""
    name = f"t{os.urandom(4).hex()}"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    url = postgres.url.replace("/postgres?", f"/{name}?")
    monkeypatch.setenv("MLSTEAD_RECORDS", url)
    yield url


def test_a_job_and_its_versions_are_recorded_in_postgresql(
    door: Door, tmp_path: Path, records: str
) -> None:
    text = JOB + (
        "params: {lr: 0.5}\n"
        "command: echo trained > $MLSTEAD_OUTPUTS/model; echo done\n"
        "outputs: {model: {kind: model, name: net}}\n"
    )
    assert door.good("run", work(tmp_path, text)).out == "done\n"
    assert not (door.home / "records.db").exists()
    with psycopg.connect(records) as connection:
        rows = connection.execute("SELECT name, state FROM runs").fetchall()
    assert rows == [("job", "succeeded")]
    [run] = door.good("ps", "--json").json
    shown = door.good("model", "show", "net@1", "--json").json
    assert shown["version"]["run_id"] == run["id"]
    assert shown["run"]["params"] == {"lr": 0.5}
    assert "job" in door.good("ps").out
    assert door("run", work(tmp_path / "bad", JOB + "command: exit 3\n")).code == 1


def test_a_detached_job_is_ended_by_the_driver_through_postgresql(
    door: Door, tmp_path: Path, records: str
) -> None:
    text = JOB + (
        "command: sleep 0.3; echo x > $MLSTEAD_OUTPUTS/out\noutputs: {out: {name: made}}\n"
    )
    run = door.good("run", "-d", work(tmp_path, text)).out.strip()
    door.until(run, "succeeded")
    assert [v["name"] for v in door.good("data", "list", "--json").json] == ["made"]


def test_the_password_of_the_records_reaches_no_program_and_no_open_file(
    door: Door, tmp_path: Path, records: str
) -> None:
    password = urlsplit(records).password
    assert password
    text = JOB + "command: env; echo x > $MLSTEAD_OUTPUTS/out\n"
    assert password not in door.good("run", work(tmp_path, text)).out
    run = door.good("run", "-d", work(tmp_path, text)).out.strip()
    door.until(run, "succeeded")
    assert password not in door.good("logs", run).out
    for path in door.home.rglob("*"):
        if path.is_file() and password.encode() in path.read_bytes():
            # the background driver needs it; gone with the end of that task
            assert (path.name, path.stat().st_mode & 0o077) == ("private.json", 0), path


def test_a_pipeline_runs_with_its_records_in_postgresql(
    door: Door, tmp_path: Path, records: str
) -> None:
    door.good("run", work(tmp_path, PIPELINE))
    assert set(states(door, "pipe").values()) == {"succeeded"}
    logs = door.good("logs", "pipe").out
    assert logs.count("hello\n") == 3
    assert logs.endswith("model 3\n")
    listed = door.good("ps", "-a", "--json").json
    assert sorted(run["key"] for run in listed) == [
        "", "best", "make", "train[0]", "train[1]", "train[2]",
    ]  # fmt: skip
    [top] = door.good("ps", "--json").json
    assert top["children"] == {"succeeded": 5}


def test_a_sweep_runs_with_its_records_in_postgresql(
    door: Door, tmp_path: Path, records: str
) -> None:
    door.good("run", work(tmp_path, SWEEP, trial_py=TRIAL))
    details = door.show("sweep")
    assert [trial["state"] for trial in details["children"]] == ["succeeded"] * 3
    assert details["run"]["values"]["best_params"] == {"x": 3.0}
    assert details["run"]["values"]["best"] == 0.0


def test_records_that_stop_answering_hold_nothing_up_and_are_told(
    door: Door, tmp_path: Path, records: str, postgres: postgres_server.Server
) -> None:
    text = JOB + (
        "command: sleep 0.3; echo x > $MLSTEAD_OUTPUTS/out\noutputs: {out: {name: made}}\n"
    )
    run = door.good("run", "-d", work(tmp_path, text)).out.strip()
    postgres.halt()
    try:
        result = door("ps")
    finally:
        postgres.resume()
    assert result.code == 3
    assert "Traceback" not in result.err
    assert len(result.err.splitlines()) == 2
    door.until(run, "succeeded", seconds=90)
    assert [v["name"] for v in door.good("data", "list", "--json").json] == ["made"]


# ---- artifacts in S3


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server() as running:
        yield running


@pytest.fixture
def bucket(door: Door, server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make a bucket and the context ``s3`` that keeps artifacts in it; give the bucket's name."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    name = server.bucket()
    place = f"s3://{name}/team/a"
    door.good("context", "add", "s3", "--artifacts", place, "--endpoint", server.endpoint)
    return name


def keys(server: S3Server, bucket: str) -> list[str]:
    found = server.client().list_objects_v2(Bucket=bucket).get("Contents", [])
    return [item["Key"] for item in found]


def test_a_job_leaves_its_outputs_in_s3_and_get_brings_them_back(
    door: Door, tmp_path: Path, server: S3Server, bucket: str
) -> None:
    (tmp_path / "raw").write_text("raw\n")
    door.good("data", "add", "raw", tmp_path / "raw", "--on", "s3")
    text = JOB + (
        "data: {x: raw@1}\n"
        "command: |\n"
        "  mkdir $MLSTEAD_OUTPUTS/model\n"
        "  cat $MLSTEAD_INPUTS/x > $MLSTEAD_OUTPUTS/model/w\n"
        "  echo extra > $MLSTEAD_OUTPUTS/notes.txt\n"
        "outputs: {model: {kind: model, name: net}}\n"
    )
    door.good("run", work(tmp_path / "code", text), "--on", "s3")
    assert not (door.home / "store").exists()
    held = keys(server, bucket)
    assert held
    assert all(key.startswith("team/a/") for key in held)
    door.good("get", "job", "--to", tmp_path / "got", "--on", "s3")
    assert (tmp_path / "got" / "model" / "w").read_text() == "raw\n"
    assert (tmp_path / "got" / "files" / "notes.txt").read_text() == "extra\n"
    door.good("model", "get", "net@1", tmp_path / "net", "--on", "s3")
    assert (tmp_path / "net" / "w").read_text() == "raw\n"
    door.good("model", "verify", "--on", "s3")


def test_a_pipeline_hands_data_on_through_s3(
    door: Door, tmp_path: Path, server: S3Server, bucket: str
) -> None:
    door.good("run", work(tmp_path, PIPELINE), "--on", "s3")
    assert set(states(door, "pipe", "--on", "s3").values()) == {"succeeded"}
    assert door.good("logs", "pipe", "--on", "s3").out.endswith("model 3\n")
    door.good("model", "get", "net@1", tmp_path / "net", "--on", "s3")
    assert (tmp_path / "net").read_text() == "model 3\n"


def test_a_detached_job_s_outputs_reach_the_store_of_its_context_whoever_looks(
    door: Door, tmp_path: Path, server: S3Server, bucket: str
) -> None:
    text = JOB + (
        "command: sleep 0.3; echo late > $MLSTEAD_OUTPUTS/out\noutputs: {out: {name: made}}\n"
    )
    run = door.good("run", "-d", work(tmp_path, text), "--on", "s3").out.strip()

    def ended() -> bool:
        door.good("ps")  # of the other context: its driver must leave the run alone
        details = door.good("show", run, "--on", "s3", "--json").json["details"]
        return bool(details["run"]["state"] == "succeeded")

    wait(ended, 60)
    door.good("data", "get", "made@1", tmp_path / "back", "--on", "s3")
    assert (tmp_path / "back").read_text() == "late\n"
    door.good("data", "verify")  # nothing of the other store is missed in this one


def test_the_driver_finds_s3_where_the_person_s_environment_says(
    door: Door, tmp_path: Path, server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    door.good("context", "add", "plain", "--artifacts", f"s3://{bucket}/plain")
    text = JOB + (
        "command: sleep 0.3; echo late > $MLSTEAD_OUTPUTS/out\noutputs: {out: {name: made}}\n"
    )
    run = door.good("run", "-d", work(tmp_path, text), "--on", "plain").out.strip()

    def ended() -> bool:
        details = door.good("show", run, "--on", "plain", "--json").json["details"]
        return bool(details["run"]["state"] == "succeeded")

    wait(ended, 30)
    assert any(key.startswith("plain/") for key in keys(server, bucket))


def test_a_damaged_object_in_s3_is_named(
    door: Door, tmp_path: Path, server: S3Server, bucket: str
) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.csv").write_text("good\n")
    door.good("data", "add", "raw", tmp_path / "raw", "--on", "s3")
    shown = door.good("data", "show", "raw@1", "--on", "s3", "--json").json
    md5 = shown["manifest"]["entries"][0]["md5"]
    key = f"team/a/files/md5/{md5[:2]}/{md5[2:]}"
    server.client().put_object(Bucket=bucket, Key=key, Body=b"evil\n")
    result = door("data", "verify", "--on", "s3")
    assert result.code == 2
    assert "raw@1" in result.err
    assert "a.csv" in result.err
    text = JOB + "data: {x: raw@1}\ncommand: cat $MLSTEAD_INPUTS/x/a.csv\n"
    result = door("run", work(tmp_path / "code", text), "--on", "s3")
    assert result.code in (1, 2)
    assert "a.csv" in result.err
    assert result.out == ""


def test_gc_in_s3_keeps_what_is_needed(
    door: Door, tmp_path: Path, server: S3Server, bucket: str
) -> None:
    (tmp_path / "raw").write_text("raw\n")
    door.good("data", "add", "raw", tmp_path / "raw", "--on", "s3")
    assert door.good("data", "gc", "--on", "s3", "--json").json["objects"] == 0
    door.good("data", "verify", "--on", "s3")


@pytest.mark.parametrize("wrong", ["no-bucket", "no-server", "no-credentials"])
def test_artifacts_that_cannot_be_reached_are_told_in_one_line(
    door: Door,
    tmp_path: Path,
    server: S3Server,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    wrong: str,
) -> None:
    (tmp_path / "raw").write_text("raw\n")
    place, endpoint, code = f"s3://{bucket}/x", server.endpoint, 2
    if wrong == "no-bucket":
        place = "s3://nobody-has-this/x"
    elif wrong == "no-server":
        endpoint, code = "http://127.0.0.1:9", 3
    else:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    door.good("context", "add", "far", "--artifacts", place, "--endpoint", endpoint)
    result = door("data", "add", "raw", tmp_path / "raw", "--on", "far")
    assert result.code == code, result.err
    assert "Traceback" not in result.err
    assert len(result.err.splitlines()) <= 2, result.err
    assert door.good("data", "list", "--on", "far", "--json").json == []


def test_the_context_in_use_is_the_default_of_every_verb(
    door: Door, tmp_path: Path, server: S3Server, bucket: str
) -> None:
    door.good("context", "use", "s3")
    (tmp_path / "raw").write_text("raw\n")
    door.good("data", "add", "raw", tmp_path / "raw")
    assert keys(server, bucket)
    assert not (door.home / "store").exists()
    listed = door.good("context", "list", "--json").json
    assert listed["current"] == "s3"
    assert listed["contexts"]["s3"]["artifacts"] == f"s3://{bucket}/team/a"
    door.good("context", "remove", "s3")
    assert door.good("context", "list", "--json").json["current"] == "local"
