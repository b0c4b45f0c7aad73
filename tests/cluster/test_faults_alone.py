"""What is away is the cluster itself, or half of it: run alone, for nobody else could work then."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.cluster import bed
from tests.cluster.book import Book
from tests.cluster.conftest import Ground
from tests.cluster.test_faults_away import driver, indent, python
from tests.cluster.trouble import LONG, Space, kubectl
from tests.local.front_door import Door, wait, work
from tests.machines.lab.host import Host

from mlstead.clients.kubernetes import Cluster
from mlstead.engines.local.engine import LocalEngine
from mlstead.platform import Platform
from mlstead.work import drive

pytestmark = [pytest.mark.timeout(900), pytest.mark.alone]
AWAY = 40.0
IDLE = 30.0
SLIM = "code: null\nresources: {cpu: 0.1, memory: 64Mi}\n"
MANIFEST = "/etc/kubernetes/manifests/kube-apiserver.yaml"
SAY = 'say(os.environ["MLSTEAD_TASK_ID"])\nwait_at_gate()\n'
LOSS = (
    'import json\nfile = open(os.environ["MLSTEAD_METRICS"], "a")\n'
    'print(json.dumps({"k": "loss", "v": 1}), file=file)\nprint("done")\n'
)


@pytest.fixture
def space(ground: Ground) -> Space:
    return Space(ground)


@pytest.fixture(scope="module")
def h1() -> Host:
    """Give the host of the control plane and the registry."""
    return bed.lab().host("h1")


def sweep(book: Book, more: str = "") -> str:
    """Give a sweep of four trials that all wait at the gate."""
    return (
        "mlstead: 1\nkind: sweep\nname: many\nparallel: 4\nmetric: {name: loss, goal: min}\n"
        "search: {method: grid, space: {x: {choice: [1, 2, 3, 4]}}}\n"
        "trial:\n  code: null\n  params: {x: 0}\n  resources: {cpu: 0.1, memory: 64Mi}\n"
        + more
        + indent(python(book.program(SAY + LOSS)))
    )


@contextlib.contextmanager
def stopped(h1: Host) -> Iterator[None]:
    """Let the API server take connections and answer nothing."""
    h1.run(["pkill", "-STOP", "-x", "kube-apiserver"])
    try:
        yield
    finally:
        h1.run(["pkill", "-CONT", "-x", "kube-apiserver"])


@contextlib.contextmanager
def ended(h1: Host) -> Iterator[None]:
    """End the API server, as an update of its static pod does; then start it again."""
    h1.run(["mv", MANIFEST, "/root/kube-apiserver.yaml"])
    try:
        gone = ["sh", "-c", "! pgrep -x kube-apiserver"]
        wait(lambda: h1.run(gone, check=False).returncode == 0, LONG)
        yield
    finally:
        h1.run(["mv", "/root/kube-apiserver.yaml", MANIFEST])


@pytest.mark.long
@pytest.mark.parametrize("away", [stopped, ended])
def test_work_goes_on_while_the_api_server_is_away(
    door: Door,
    tmp_path: Path,
    book: Book,
    h1: Host,
    space: Space,
    away: Callable[[Host], contextlib.AbstractContextManager[None]],
) -> None:
    job = "mlstead: 1\nkind: job\nname: one\n" + SLIM + python(book.program(SAY + LOSS))
    door.good("run", "-d", work(tmp_path / "a", sweep(book)))
    waiting = door.start("run", work(tmp_path / "b", job))
    book.reaches(5)
    one, many = door.show("one")["run"]["id"], door.show("many")["run"]["id"]
    door.until(one, "running", seconds=LONG)
    mine = psutil.Process(driver(door).pid)
    with away(h1):
        until = time.monotonic() + AWAY
        book.open()
        seen = door("ps", "--json")
        assert seen.code == 0, seen
        assert {it["id"]: it["state"] for it in seen.json} == {one: "running", many: "running"}
        assert seen.err.startswith("warning: as last known: https://"), seen.err
        assert "does not answer" in seen.err and len(seen.err.splitlines()) == 1
        assert door("show", one).code == 0
        wait(lambda: time.monotonic() > until, AWAY * 3)
    out, err = waiting.communicate(timeout=LONG)
    assert waiting.returncode == 0, err
    assert b"done" in out
    door.until("many", "succeeded", seconds=LONG)
    assert door.state(one) == "succeeded"
    assert mine.is_running(), "the driver has ended"
    children = door.show("many")["children"]
    assert sorted(book.lines) == sorted([one, *(it["id"] for it in children)])
    assert [it["attempt"] for it in children] == [1] * 4
    for task in book.lines:
        space.is_clean(task)


def test_a_drained_node_costs_no_trial(
    door: Door, tmp_path: Path, book: Book, ground: Ground
) -> None:
    retries = "  retries: {max: 2, for: [evicted, lost]}\n"
    door.good("run", "-d", work(tmp_path, sweep(book, retries)))
    book.reaches(4)
    try:
        ours = f"mlstead.io/task in ({','.join(book.lines)})"  # others work there, too
        words = ("--ignore-daemonsets", "--delete-emptydir-data", "--force")
        kubectl(ground, "drain", "h2", *words, f"--pod-selector={ours}")
        book.open()
        door.until("many", "succeeded", seconds=LONG)
    finally:
        kubectl(ground, "uncordon", "h2")
    children = door.show("many")["children"]
    assert [it["state"] for it in children] == ["succeeded"] * 4
    attempts = {it["id"]: it["attempt"] for it in children}
    assert max(attempts.values()) == 2, "h2 had no trial"
    assert sorted(book.lines) == sorted(id for id, count in attempts.items() for _ in range(count))


def test_a_registry_that_is_away_ends_with_words_and_sends_once_it_is_back(
    door: Door, tmp_path: Path, h1: Host, space: Space
) -> None:
    text = "mlstead: 1\nkind: job\nname: coded\ncommand: cat word\n"
    file = work(tmp_path / "code", text + "resources: {cpu: 0.1, memory: 64Mi}\n")
    file.with_name("word").write_text("hello\n")
    h1.run(["systemctl", "stop", "mlstead-registry"])
    try:
        result = door("run", "-d", file)
        assert result.code == 3, result
        assert "error: the registry 10.77.2.11:5000" in result.err
        assert "hint: what was recorded is sent once it does" in result.err
        LocalEngine(door.home).shutdown()
        contexts = door.home / "contexts" / "cluster" / "records.db"
        assert contexts.exists()
        (job,) = [it for it in door("ps", "--json").json if it["name"] == "coded"]
        assert not space.left(job["id"])
    finally:
        h1.run(["systemctl", "start", "mlstead-registry"])
    door.until("coded", "succeeded", seconds=LONG)
    assert door.good("logs", "coded").out == "hello\n"
    assert len(door.good("ps", "--json").json) == 1
    door.good("run", file)


@pytest.mark.long
def test_two_hundred_waiting_tasks_ask_the_cluster_next_to_nothing(
    door: Door, tmp_path: Path, space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = (
        "  native: {kubernetes: {spec: {template: {spec: {nodeSelector: {no: such}}}}}}\n"
        "  command: 'true'\n"
    )
    text = (
        "mlstead: 1\nkind: sweep\nname: many\nparallel: 200\nmetric: {name: loss, goal: min}\n"
        "search: {method: grid, space: {x: {choice: %s}}}\n"
        "trial:\n  code: null\n  params: {x: 0}\n  resources: {cpu: 0.1, memory: 64Mi}\n" + trial
    ) % list(range(200))
    door.good("run", "-d", work(tmp_path, text))
    jobs = f"{space.batch}/jobs"
    wait(lambda: len(space.cluster.get(jobs)["items"]) == 200, LONG * 2)
    mine = driver(door)
    held = max(it.memory_full_info().uss for it in [mine, *mine.children(recursive=True)])
    LocalEngine(door.home).shutdown()
    asked: list[str] = []
    plain, watch = Cluster._send_once, Cluster.watch

    def counted(self: Cluster, method: str, path: str, *more: Any) -> Any:
        asked.append(f"{method} {path}")
        return plain(self, method, path, *more)

    def counted_watch(self: Cluster, path: str, *more: Any, **query: Any) -> Any:
        asked.append(f"WATCH {path}")
        return watch(self, path, *more, **query)

    with monkeypatch.context() as patch:
        patch.setattr(Cluster, "_send_once", counted)
        patch.setattr(Cluster, "watch", counted_watch)
        loop = drive.Loop(Platform(door.home).backends)
        turned(loop, 20.0)  # it takes over what the driver has left
        assert loop.busy and asked
        asked.clear()
        turned(loop, IDLE)
        loop.close()
    print(f"requests in {IDLE:g} s: {len(asked)}; the driver held {held >> 20} MiB")
    assert len(asked) < IDLE, asked
    assert held < 150 << 20
    door.good("stop", "many")
    door.until("many", "cancelled", seconds=LONG)


def turned(loop: drive.Loop, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        loop.turn(1.0)
