"""What a kill at the wrong moment leaves half done is taken up again by the next verb."""

import contextlib
import dataclasses
import json
import re
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import psutil
import pytest
from tests.local.front_door import Door, wait, work

from mlstead.artifacts.base import Manifest
from mlstead.engines.base import Phase
from mlstead.engines.local.engine import LocalEngine
from mlstead.platform import Platform, driver
from mlstead.records.base import Lease, Run, State
from mlstead.spec.load import load
from mlstead.work import drive, outputs, submit, sync
from mlstead.work.base import Backends

SLIM = "code: null\nresources: {cpu: 0.1, memory: 64Mi}\n"
JOB = "mlstead: 1\nkind: job\nname: one\n" + SLIM


def recorded(door: Door, file: Path, token: str = "") -> Run:
    """Do what ``run`` does up to the moment before the engine hears of it."""
    backends = Platform(door.home).backends
    loaded = load(file)
    run = submit.draft(backends, loaded.work, loaded.folder, "default")
    run = type(run)(**{**{k: getattr(run, k) for k in run.__slots__}, "token": token})
    submit.record(backends, run)
    return run


@pytest.mark.parametrize("verb", [("ps",), ("show", "one"), ("run", "again")])
def test_a_job_that_was_recorded_but_not_sent_is_sent_by_the_next_verb(
    door: Door, tmp_path: Path, verb: tuple[str, ...]
) -> None:
    file = work(tmp_path, JOB + f"command: echo ran >> {tmp_path}/ran\n")
    run = recorded(door, file, token="once")
    words = ("run", "-d", "--token", "once", file) if verb[0] == "run" else verb
    door.good(*words)
    assert door.until(run.id, "succeeded")
    assert len(door.good("ps", "--json").json) == 1
    assert (tmp_path / "ran").read_text() == "ran\n"


def test_a_job_that_was_recorded_but_not_sent_can_be_stopped(door: Door, tmp_path: Path) -> None:
    first = work(tmp_path, JOB + f"command: touch {tmp_path}/ran; sleep 60\n")
    run = recorded(door, first)
    door.good("stop", run.id)
    assert door.until(run.id, "cancelled")


def test_a_pipeline_that_was_recorded_and_not_driven_is_driven(door: Door, tmp_path: Path) -> None:
    text = "mlstead: 1\nkind: pipeline\nname: one\nsteps:\n  a:\n    command: 'true'\n"
    text += "".join(f"    {line}\n" for line in SLIM.splitlines())
    run = recorded(door, work(tmp_path, text))
    door.good("ps")
    assert door.until(run.id, "succeeded")


def finishing(door: Door, file: Path) -> Run:
    """Run a job until its program has ended and nobody has kept what it wrote."""
    platform = Platform(door.home)
    run = platform.runs.submit(load(file), attended=True)

    def there() -> bool:
        sync.sync(platform.backends)
        return platform.backends.store.run(run.id).state is State.FINISHING

    wait(there)
    return platform.backends.store.run(run.id)


def test_outputs_that_were_kept_and_not_committed_are_kept_again(
    door: Door, tmp_path: Path
) -> None:
    text = JOB + "outputs: {m: {kind: model, name: m}}\ncommand: |\n"
    text += "  cd $MLSTEAD_OUTPUTS; echo model > first; ln -s first m; ln -s m latest\n"
    text += "  echo more > undeclared\n"
    run = finishing(door, work(tmp_path, text))
    backends = Platform(door.home).backends
    folder = Path(backends.engine.outputs(run.id))
    first = outputs.keep(backends, run, folder, partial=False, now=0.0)
    assert outputs.keep(backends, run, folder, partial=False, now=0.0) == first
    assert door.until(run.id, "succeeded")
    door.good("get", run.id, "--to", tmp_path / "got")
    assert (tmp_path / "got" / "m").read_text() == "model\n"
    assert (tmp_path / "got" / "files" / "latest").read_text() == "model\n"
    assert (tmp_path / "got" / "files" / "undeclared").read_text() == "more\n"


def test_runs_that_take_each_others_version_number_lose_nothing(door: Door, tmp_path: Path) -> None:
    text = JOB + "outputs: {m: {kind: model, name: m}}\ncommand: |\n"
    text += "  echo ${{ run.id }} | tee $MLSTEAD_OUTPUTS/m > $MLSTEAD_OUTPUTS/undeclared\n"
    callers = [door.start("run", work(tmp_path / str(n), text)) for n in range(6)]
    for caller in callers:
        _, told = caller.communicate(timeout=120)
        assert caller.returncode == 0, told
    for run in door.good("ps", "--json").json:
        slots = {link["slot"]: link["ref"] for link in door.show(run["id"])["links"]}
        assert set(slots) == {"m", "files"}
    numbers = [one["number"] for one in door.good("model", "list", "m", "--json").json]
    assert sorted(numbers) == [1, 2, 3, 4, 5, 6]


@contextlib.contextmanager
def began(door: Door, file: Path) -> Iterator[int]:
    """Run a job until it has written a line; then its command line is gone."""
    caller = door.start("run", file)
    assert caller.stdout is not None
    try:
        assert caller.stdout.readline() == b"begun\n"
        yield caller.pid
    finally:
        caller.kill()
        caller.communicate()


def test_a_closed_terminal_hands_the_run_over(door: Door, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    text = JOB + "command: |\n  echo begun\n"
    text += f"  until test -e {gate}; do sleep 0.05; done\n  echo x > $MLSTEAD_OUTPUTS/left\n"
    caller = door.start("run", work(tmp_path, text))
    assert caller.stdout is not None
    assert caller.stdout.readline() == b"begun\n"
    caller.send_signal(signal.SIGHUP)
    caller.communicate(timeout=30)
    assert caller.returncode == 128 + signal.SIGHUP
    gate.touch()

    def kept() -> bool:  # looked up without a verb, which would take it up itself
        with sqlite3.connect(door.home / "records.db") as database:
            found = database.execute("SELECT state FROM runs").fetchall()
        database.close()
        return found == [("succeeded",)]

    wait(kept, 60)


def test_the_last_lines_before_a_crash_are_in_the_log(
    door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    crash = "import os, signal\nprint('one')\nprint('two')\nos.kill(os.getpid(), signal.SIGSEGV)\n"
    text = "mlstead: 1\nkind: job\nname: one\ncommand: python crash.py\n"
    done = door("run", work(tmp_path, text, crash_py=crash))
    assert done.code == 1
    assert "SIGSEGV" in done.err
    assert done.out.startswith("one\ntwo\n")


def test_logs_of_a_pipeline_are_followed_to_its_end(door: Door, tmp_path: Path) -> None:
    step = "{command: 'echo %s', code: null, resources: {cpu: 0.1, memory: 64Mi}%s}"
    text = "mlstead: 1\nkind: pipeline\nname: line\nsteps:\n"
    text += "  a: " + step % ("A1; sleep 1; echo A2", "") + "\n"
    text += "  b: " + step % ("B", ", needs: [a]") + "\n"
    text += "  c: {kind: sweep, needs: [b], trials: 2, search: {method: random, seed: 1, space: "
    text += "{x: {int: [0, 9]}}}, trial: " + step % ("C", ", params: {x: 0}") + "}\n"
    run = door.good("run", "-d", work(tmp_path, text)).out.strip()
    told = door.process("logs", "-f", run)
    assert told.code == 0, told.err
    lines = [line for line in told.out.splitlines() if not line.startswith("---")]
    assert lines == ["A1", "A2", "B", "C", "C"]
    assert door.state(run) == "succeeded"


def test_a_job_that_waits_says_so(
    door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLSTEAD_CAPACITY", "cpu=1")
    long = JOB.replace("cpu: 0.1", "cpu: 1")
    first = door.good("run", "-d", work(tmp_path / "a", long + "command: sleep 60\n")).out.strip()
    second = door.start("run", work(tmp_path / "b", long + "command: echo ran\n"))
    assert second.stderr is not None
    told = second.stderr.readline().decode()
    assert re.search(r"waits for its turn: cpu 1, memory 64 MiB", told), told
    assert "waits for its turn" in door.good("ps").out
    assert "for its turn" in door.good("show", told.split()[0]).out
    door.good("stop", first)
    out, _ = second.communicate(timeout=60)
    assert (second.returncode, out) == (0, b"ran\n")


def test_what_cannot_be_kept_stays_where_it_is_and_the_run_says_where(
    door: Door, tmp_path: Path
) -> None:
    text = JOB + "command: mkfifo $MLSTEAD_OUTPUTS/pipe; echo x > $MLSTEAD_OUTPUTS/file\n"
    assert door("run", work(tmp_path, text)).code == 1
    (run,) = door.good("ps", "--json").json
    assert "pipe" in run["detail"]
    place = run["detail"].split("is still in ")[1]
    found = [path.name for path in Path(place).rglob("*") if path.is_file()]
    assert "file" in found


def test_records_of_one_home_are_refused_by_another(door: Door, tmp_path: Path) -> None:
    records = {"MLSTEAD_RECORDS": f"sqlite:///{tmp_path}/shared.db"}
    door.env.update(records)
    assert door.process("run", work(tmp_path, JOB + "command: 'true'\n")).code == 0
    door.env["MLSTEAD_HOME"] = str(door.home.parent / "second")
    refused = door.process("ps")
    assert refused.code == 2
    assert "these records belong to another home" in refused.err
    moved = door.home.rename(door.home.parent / "moved")
    (door.home.parent / "link").symlink_to(moved)
    for home in (moved, door.home.parent / "link"):
        door.env["MLSTEAD_HOME"] = str(home)  # the same one, wherever it lies
        assert len(json.loads(door.process("ps", "--json").out)) == 1
    LocalEngine(moved).shutdown()
    door.env["MLSTEAD_HOME"] = str(door.home.parent / "second")
    door.env["MLSTEAD_TAKE_RECORDS"] = "1"
    assert len(json.loads(door.process("ps", "--json").out)) == 1


class Slow:
    """An artifact store that takes longer than a lease, and meanwhile tries to steal it."""

    def __init__(self, backends: Backends, run: Run) -> None:
        self._backends = backends
        self._run = run
        self.stolen: list[Lease | None] = []

    def add(self, source: Path, **more: Any) -> Manifest:
        end = time.monotonic() + 5 * drive.LEASE_SECONDS
        while time.monotonic() < end:
            self.stolen.append(self._backends.store.claim(self._run.id, "thief", 1.0))
            time.sleep(drive.LEASE_SECONDS / 10)
        return self._backends.artifacts.add(source, **more)


def test_a_lease_is_kept_while_a_large_output_is_being_kept(
    door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = finishing(door, work(tmp_path, JOB + "command: echo x > $MLSTEAD_OUTPUTS/x\n"))
    monkeypatch.setattr(drive, "LEASE_SECONDS", 0.5)
    monkeypatch.setattr(drive, "RENEW_SECONDS", 0.1)
    backends = Platform(door.home).backends
    slow = Slow(backends, run)
    loop = drive.Loop(dataclasses.replace(backends, artifacts=cast(Any, slow)), only=run.id)
    loop.close()
    assert len(slow.stolen) > 10
    assert set(slow.stolen) == {None}
    assert door.state(run.id) == "succeeded"


def test_work_that_comes_while_a_driver_leaves_gets_another_one(
    door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform = Platform(door.home)
    backends = platform.backends
    file = work(tmp_path, JOB + "command: sleep 60\n")
    run = platform.runs.submit(load(file), attended=True)
    wait(lambda: backends.engine.status(run.id).phase is Phase.RUNNING)
    lock = door.home / f"drive-{platform.context.name}.lock"
    lock.write_text(run.id)  # a task that has not ended, as the last driver has not quite
    monkeypatch.setattr(driver, "_drive", lambda *_: None)
    driver.drive(backends, platform.context)
    driver.ensure(backends, platform.context)
    assert lock.read_text().startswith("drive-")


def test_a_driver_knows_where_packages_come_from_and_no_file_holds_the_password(
    door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = "https://me:canary-4711@127.0.0.1:9/simple"
    monkeypatch.setenv("UV_DEFAULT_INDEX", address)
    run = door.good("run", "-d", work(tmp_path, JOB + "command: sleep 60\n")).out.strip()
    found: list[psutil.Process] = []

    def there() -> bool:
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                mine = process.environ().get("MLSTEAD_HOME") == str(door.home)
                if mine and process.cmdline()[-3:] == ["drive", "--role", "drive"]:
                    found.append(process)
        return bool(found)

    wait(there)
    assert found[0].environ()["UV_DEFAULT_INDEX"] == address
    requests = list((door.home / "local").rglob("task.json"))
    assert len(requests) == 2
    assert not any("canary-4711" in path.read_text() for path in requests)
    door.good("stop", run)


def test_a_submission_that_is_interrupted_after_it_was_recorded_is_handed_over(
    door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise SystemExit(129)

    file = work(tmp_path, JOB + f"command: echo ran >> {tmp_path}/ran\n")
    platform = Platform(door.home)
    with monkeypatch.context() as patch:
        patch.setattr(submit, "send", interrupted)
        with pytest.raises(SystemExit):
            platform.runs.submit(load(file), attended=True)
    wait(lambda: (tmp_path / "ran").exists(), 60)  # no verb was needed
    (run,) = door.good("ps", "--json").json
    assert door.until(run["id"], "succeeded")
    assert (tmp_path / "ran").read_text() == "ran\n"


def test_options_that_would_do_nothing_are_refused(door: Door, tmp_path: Path) -> None:
    file = work(tmp_path, JOB + "command: 'true'\n")
    for words in (
        ("run", "--trials", "2", file),
        ("run", "--resume", "x", file),
        ("run", "--resume", "x", "-p", "a=1"),
    ):
        refused = door(*words)
        assert (refused.code, refused.out) == (2, "")
        assert "--resume" in refused.err
