"""What is away for a while: the laptop, the store, the registry, a login; work goes on without."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from moto.server import ThreadedMotoServer
from tests.cluster import bed
from tests.cluster.book import Book
from tests.cluster.conftest import Ground
from tests.cluster.trouble import LONG, Space, once, program, told
from tests.contract.s3_server import S3Server
from tests.local.front_door import Door, wait, work

from mlstead.engines.base import Engine, Phase, Place
from mlstead.engines.kubernetes import create
from mlstead.engines.local.engine import LocalEngine
from mlstead.testing.engine_values import output, submit, wait_final

pytestmark = pytest.mark.timeout(600)
SLIM = "code: null\nresources: {cpu: 0.1, memory: 64Mi}\n"
OUTAGE = 20.0


@pytest.fixture
def space(ground: Ground) -> Space:
    return Space(ground)


@pytest.fixture
def t() -> str:
    """Give a name of this test's own."""
    return f"t-{uuid.uuid4().hex[:8]}"


def indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())


def python(text: str) -> str:
    """Give the command of a work file that runs a program."""
    quoted = text.replace("'", "'\\''")
    return "command: |\n" + indented(f"python3 -c '{quoted}'")


def tasks_of(ground: Ground, run: str) -> list[str]:
    """Name the objects that pods of a run have left."""
    pages = ground.s3.client().get_paginator("list_objects_v2").paginate(Bucket=ground.bucket)
    keys = [it["Key"] for page in pages for it in page.get("Contents", ())]
    return [key for key in keys if f"/{run}/" in key]


# ---- the laptop


@pytest.mark.parametrize("deleted", [False, True], ids=["there", "gone"])
def test_a_laptop_that_was_off_finds_everything_when_it_is_back(
    door: Door, tmp_path: Path, ground: Ground, space: Space, deleted: bool
) -> None:
    text = (
        "mlstead: 1\nkind: job\nname: away\ncommand: |\n"
        "  for i in 1 2 3; do echo line $i; done\n"
        '  echo {\\"k\\": \\"loss\\", \\"v\\": 0.5} >> $MLSTEAD_METRICS\n'
        "  echo 42 > $MLSTEAD_OUTPUTS/result\n"
        "outputs: {result: {kind: data, name: away}}\n" + SLIM
    )
    run = door.good("run", "-d", work(tmp_path, text)).out.strip()
    LocalEngine(door.home).shutdown()  # nothing of ours runs on the laptop now
    wait(lambda: any("/end/" in key for key in tasks_of(ground, run)), LONG)
    if deleted:
        space.delete_job(run)
    found = door.good("ps", "--json").json
    assert [it["id"] for it in found] == [run]
    details = door.until(run, "succeeded", seconds=LONG)
    assert details["metrics"]["loss"]["value"] == 0.5
    assert details["run"]["attempt"] == 1
    assert door.good("logs", run).out == "line 1\nline 2\nline 3\n"
    door.good("get", run, "--to", tmp_path / "got")
    assert (tmp_path / "got" / "result").read_text() == "42\n"
    assert not space.jobs(run) or not space.pods(run, live=True)


def driver(door: Door) -> psutil.Process:
    """Find the background driver's supervisor."""
    found: list[psutil.Process] = []

    def there() -> bool:
        found.clear()
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                mine = process.environ().get("MLSTEAD_HOME") == str(door.home)
                if mine and process.cmdline()[-3:] == ["drive", "--role", "drive"]:
                    found.append(process)
        return bool(found)

    wait(there, LONG, lambda: "no driver started")
    return found[0]


def test_a_sweep_and_a_pipeline_go_on_when_their_driver_is_killed(
    door: Door, tmp_path: Path, book: Book
) -> None:
    said = 'say(os.environ["MLSTEAD_TASK_ID"])\nwait_at_gate()\n'
    sweep = (
        "mlstead: 1\nkind: sweep\nname: many\nparallel: 2\nmetric: {name: loss, goal: min}\n"
        "search: {method: grid, space: {x: {choice: [1, 2, 3, 4]}}}\n"
        "trial:\n  code: null\n  params: {x: 0}\n  resources: {cpu: 0.1, memory: 64Mi}\n"
    )
    loss = 'import json\nfile = open(os.environ["MLSTEAD_METRICS"], "a")\n'
    loss += 'print(json.dumps({"k": "loss", "v": 1}), file=file)\n'
    sweep += indent(python(book.program(said + loss)))
    steps = "".join(
        f"  {name}:\n" + indent(indent(python(book.program(said)))) + more
        for name, more in (("first", ""), ("second", "    needs: [first]\n"))
    )
    pipeline = (
        "mlstead: 1\nkind: pipeline\nname: line\n"
        "defaults: {code: null, resources: {cpu: 0.1, memory: 64Mi}}\nsteps:\n" + steps
    )
    door.good("run", "-d", work(tmp_path / "a", sweep))
    door.good("run", "-d", work(tmp_path / "b", pipeline))
    book.reaches(3)
    driver(door).send_signal(signal.SIGKILL)
    book.open()
    door.until("many", "succeeded", seconds=LONG)
    door.until("line", "succeeded", seconds=LONG)
    children = [*door.show("many")["children"], *door.show("line")["children"]]
    assert sorted(it["id"] for it in children) == sorted(book.lines)
    assert [it["attempt"] for it in children] == [1] * 6


def indent(text: str) -> str:
    return "".join(f"  {line}\n" for line in text.splitlines())


# ---- the store


class Store:
    """An S3 server that can go away and come back, with all that it holds."""

    def __init__(self) -> None:
        self._server = ThreadedMotoServer(bed.GATEWAY, port=0, verbose=False)
        self._server.start()
        _, self._port = self._server.get_host_and_port()
        self.s3 = S3Server(f"http://{bed.GATEWAY}:{self._port}")

    def stop(self) -> None:
        self._server.stop()
        self._server._server.server_close()

    def start(self) -> None:
        self._server = ThreadedMotoServer(bed.GATEWAY, port=self._port, verbose=False)
        self._server.start()


@pytest.fixture
def store() -> Iterator[Store]:
    made = Store()
    yield made
    made.stop()


@pytest.fixture
def engine(ground: Ground, store: Store, tmp_path: Path) -> Iterator[Engine]:
    """Give an engine whose tasks leave everything in a store of its own."""
    location = f"s3://{store.s3.bucket()}/work"
    place = Place(tmp_path, "cluster", ground.options(), location, store.s3.endpoint)
    made = create(place)
    yield made
    made.close()


def test_a_store_that_is_away_in_the_middle_and_at_the_end_gets_everything_once(
    engine: Engine, store: Store, book: Book, t: str
) -> None:
    text = """\
import os, sys
out = os.environ["MLSTEAD_OUTPUTS"]
def write(first):
    for number in range(first, first + 2000):
        print("line", number, "x" * 50)
        with open(os.environ["MLSTEAD_METRICS"], "a") as file:
            file.write('{"k": "n", "v": %d}\\n' % number)
    sys.stdout.flush()
write(0)
say("begun")
wait_at_gate()
write(2000)
open(out + "/result", "wb").write(bytes(range(256)) * 8192)
say("ending")
"""
    submit(engine, program(t, book.program(text), outputs=("result",)))
    book.reaches(1)
    store.stop()
    book.open()  # the rest is written, and the program ends, while the store is away
    book.reaches(2)
    wait_away()
    store.start()
    status = wait_final(engine, t)
    assert status.phase is Phase.SUCCEEDED, status
    lines = output(engine, t).splitlines()
    assert lines == [f"line {number} {'x' * 50}" for number in range(4000)]
    points = engine.metrics(t, 1, 0, 0).decode().splitlines()
    assert [json.loads(it)["v"] for it in points] == list(range(4000))
    content = (Path(engine.outputs(t)) / "result").read_bytes()
    assert hashlib.sha256(content).digest() == hashlib.sha256(bytes(range(256)) * 8192).digest()
    once(told(engine, t))


def wait_away() -> None:
    """Let an outage last: pods try again within it, which nobody outside can see."""
    end = os.times().elapsed + OUTAGE
    wait(lambda: os.times().elapsed > end, OUTAGE * 3)


# ---- who we are, and where images go


def kubeconfig_with(ground: Ground, folder: Path, **changes: Any) -> Path:
    known = ground.kubeconfig.read_text()
    cluster = {
        key: re.findall(rf"\b{key}: (\S+)", known)[0]
        for key in ("server", "certificate-authority-data")
    }
    content = {
        "apiVersion": "v1", "kind": "Config", "current-context": "one",
        "clusters": [{"name": "one", "cluster": cluster}],
        "users": [{"name": "one", "user": changes}],
        "contexts": [{"name": "one", "context": {"cluster": "one", "user": "one"}}],
    }  # fmt: skip
    path = folder / "kubeconfig"
    path.write_text(json.dumps(content))
    path.chmod(0o600)
    return path


def test_a_token_that_counts_no_more_ends_with_words(
    door: Door, tmp_path: Path, ground: Ground
) -> None:
    path = kubeconfig_with(ground, tmp_path, token="no-such-token")
    door.good(
        "context", "add", "stranger", "--engine=kubernetes", f"--kubeconfig={path}",
        f"--namespace={ground.namespace}", f"--image={ground.image}",
        f"--artifacts=s3://{ground.bucket}/stranger", f"--endpoint={ground.s3.endpoint}",
    )  # fmt: skip
    text = "mlstead: 1\nkind: job\nname: x\ncommand: 'true'\n" + SLIM
    for words in (("ps",), ("run", work(tmp_path, text))):
        result = door(*words, "--on", "stranger")
        assert result.code == 2, result
        assert "error: the cluster does not know who we are" in result.err
        assert "hint: log in to it again" in result.err
