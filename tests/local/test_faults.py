"""What goes wrong while work runs: kills, full disks, floods; nothing is lost or done twice."""

import contextlib
import hashlib
import json
import os
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.local.front_door import Door, Result, wait, work

from mlstead.engines.local.attempt import Progress
from mlstead.engines.local.disk import Home

JOB = "mlstead: 1\nkind: job\nname: {}\nresources: {{cpu: 0.5, memory: 128Mi}}\n"
MIB = 1 << 20
LONG = 120.0


@dataclass(frozen=True)
class Book:
    """Where programs write a line each, and the gate they wait at until it is opened."""

    folder: Path

    @property
    def gate(self) -> Path:
        return self.folder / "gate"

    def wait_at(self, line: str) -> str:
        """Give the command that writes its line and waits at the gate."""
        return f"echo {line} >> {self.folder}/lines; until test -e {self.gate}; do sleep 0.05; done"

    def lines(self) -> list[str]:
        path = self.folder / "lines"
        return path.read_text().splitlines() if path.exists() else []

    def open(self) -> None:
        self.gate.touch()

    def reaches(self, count: int) -> None:
        wait(lambda: len(self.lines()) >= count, LONG, lambda: f"only {self.lines()}")


@pytest.fixture
def book(tmp_path: Path) -> Book:
    (tmp_path / "book").mkdir()
    return Book(tmp_path / "book")


@contextlib.contextmanager
def started(door: Door, *args: object) -> Iterator["subprocess.Popen[bytes]"]:
    """Start a verb as a process, which is gone afterwards whatever happens."""
    process = door.start(*args)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def limited(door: Door, size: int, *args: object) -> Result:
    """Run a verb that can make no file larger than this; stands for a full disk without root."""
    program = (
        "import os, resource, sys\n"
        "size = int(sys.argv[1])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'mlstead', *sys.argv[2:]])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(size), *map(str, args)],
        capture_output=True, text=True, env=door.env, timeout=LONG, check=False,
    )  # fmt: skip
    return Result(done.returncode, done.stdout, done.stderr)


def keeper(door: Door) -> psutil.Process:
    """Find the keeper of this home."""
    return psutil.Process(int((door.home / "local" / "keeper.lock").read_text()))


def supervisor(door: Door, task: str, attempt: int = 1) -> psutil.Process:
    """Find the process that supervises an attempt; it must have said so by now."""
    found = Progress(Home(door.home).task(task) / str(attempt)).started
    assert found is not None, f"{task} has not started"
    return psutil.Process(found["pid"])


def driver(door: Door) -> psutil.Process:
    """Find the background driver's supervisor; the driver itself is below it."""
    found: list[psutil.Process] = []

    def there() -> bool:
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                mine = process.environ().get("MLSTEAD_HOME") == str(door.home)
                if mine and process.cmdline()[-3:] == ["drive", "--role", "drive"]:
                    found.append(process)
        return bool(found)

    wait(there, LONG, lambda: "no driver started")
    above = found[0].parent()
    assert above is not None
    return above


def kill(*processes: psutil.Process) -> None:
    for process in processes:
        process.send_signal(signal.SIGKILL)
    # not ours to reap: gone is also what nobody has reaped yet
    wait(lambda: all(_gone(process) for process in processes), LONG)


def _gone(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.status() == psutil.STATUS_ZOMBIE
    return True


def only(door: Door) -> str:
    """Give the id of the one run there is; wait for it to be recorded."""
    found: list[Any] = []

    def there() -> bool:
        found[:] = door.good("ps", "--json").json
        return bool(found)

    wait(there, LONG)
    assert len(found) == 1
    return str(found[0]["id"])


def one_line(result: Result, code: int) -> str:
    """Hold a failed verb to one line and a hint; give the line."""
    assert result.code == code, (result.code, result.out, result.err)
    lines = result.err.splitlines()
    assert lines[0].startswith("error: "), result.err
    assert all(line.startswith("hint: ") for line in lines[1:]), result.err
    assert len(lines) <= 2, result.err
    return lines[0]


# ---- kills


KEPT = "outputs: {result: {kind: data, name: result}}\n"


def test_killing_the_command_line_leaves_its_job_going_and_its_outputs_are_kept(
    door: Door, tmp_path: Path, book: Book
) -> None:
    command = f"command: {book.wait_at('once')}; echo done > $MLSTEAD_OUTPUTS/result\n"
    file = work(tmp_path / "code", JOB.format("job") + command + KEPT)
    with started(door, "run", file) as process:
        book.reaches(1)
        process.kill()
        process.wait(LONG)
        run = only(door)
        assert door.state(run) == "running"
        book.open()
        door.until(run, "succeeded", seconds=LONG)
    [version] = door.good("data", "list", "--json").json
    assert version["run_id"] == run
    assert book.lines() == ["once"]


def test_a_terminal_that_is_closed_leaves_its_job_going(
    door: Door, tmp_path: Path, book: Book
) -> None:
    command = f"command: {book.wait_at('once')}; echo done > $MLSTEAD_OUTPUTS/result\n"
    file = work(tmp_path / "code", JOB.format("job") + command + KEPT)
    program = (
        "import fcntl, os, sys, termios\n"
        "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'mlstead', *sys.argv[1:]])\n"
    )
    terminal, inside = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", program, "run", str(file)],
        stdin=inside, stdout=inside, stderr=inside, env=door.env, start_new_session=True,
    )  # fmt: skip
    os.close(inside)
    try:
        book.reaches(1)
    finally:
        os.close(terminal)  # the kernel hangs up on all that has this terminal
    assert process.wait(LONG) != 0
    run = only(door)
    assert door.state(run) == "running"
    book.open()
    door.until(run, "succeeded", seconds=LONG)
    assert len(door.good("data", "list", "--json").json) == 1
    assert book.lines() == ["once"]


def test_killing_the_keeper_loses_no_job_and_starts_none_twice(
    door: Door, tmp_path: Path, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLSTEAD_CAPACITY", "cpu=1,memory=1Gi")
    file = work(
        tmp_path / "code",
        JOB.format("job") + f"command: {book.wait_at('$MLSTEAD_RUN_ID')}\n",
    )
    runs = [door.good("run", "-d", file).out.strip() for _ in range(4)]
    book.reaches(2)
    first = keeper(door)
    kill(first)
    states = [run["state"] for run in door.good("ps", "--json").json]
    assert sorted(states) == ["queued", "queued", "running", "running"]
    book.open()
    for run in runs:
        door.until(run, "succeeded", seconds=LONG)
    assert sorted(book.lines()) == sorted(runs)
    assert keeper(door).pid != first.pid


def test_killing_a_supervisor_ends_its_program_and_the_run_is_lost(
    door: Door, tmp_path: Path, book: Book
) -> None:
    other = Book(book.folder / "other")
    other.folder.mkdir()
    file = work(tmp_path / "a", JOB.format("job") + f"command: {book.wait_at('$$')}\n")
    next_to_it = work(tmp_path / "b", JOB.format("other") + f"command: {other.wait_at('x')}\n")
    run = door.good("run", "-d", file).out.strip()
    neighbour = door.good("run", "-d", next_to_it).out.strip()
    book.reaches(1)
    other.reaches(1)
    program = psutil.Process(int(book.lines()[0]))
    kill(supervisor(door, run))
    details = door.until(run, "lost", seconds=LONG)
    assert details["run"]["reason"] == "lost"
    assert details["run"]["detail"]
    assert _gone(program)
    other.open()
    door.until(neighbour, "succeeded", seconds=LONG)


def test_a_lost_attempt_is_tried_again_with_its_checkpoints(
    door: Door, tmp_path: Path, book: Book
) -> None:
    program = (
        "import os, pathlib, time, mlstead\n"
        "last = mlstead.latest_checkpoint('step')\n"
        "step = int(last.read_text()) if last else 0\n"
        f"book = pathlib.Path({str(book.folder)!r})\n"
        "with (book / 'lines').open('a') as file: file.write(f'{step}\\n')\n"
        "mlstead.save_checkpoint(str(step + 7).encode(), 'step')\n"
        "(book / f'saved{step}').touch()\n"
        "while not (book / 'gate').exists(): time.sleep(0.05)\n"
    )
    text = JOB.format("job") + "command: python main.py\nretries: {max: 2, for: [lost]}\n"
    run = door.good("run", "-d", work(tmp_path / "code", text, main_py=program)).out.strip()
    wait((book.folder / "saved0").exists, LONG)
    # as when the machine goes down: whoever supervises, and whoever would notice
    kill(keeper(door), supervisor(door, run))
    door.good("ps")
    wait((book.folder / "saved7").exists, LONG)
    book.open()
    details = door.until(run, "succeeded", seconds=LONG)
    assert book.lines() == ["0", "7"]
    assert details["run"]["attempt"] == 2
    assert [e["attempt"] for e in details["events"] if e["name"] == "lost"] == [1]


@pytest.mark.parametrize("victim", ["driver", "its supervisor", "all that supervises"])
def test_killing_the_driver_in_the_middle_of_a_sweep_and_a_pipeline_repeats_nothing(
    door: Door, tmp_path: Path, book: Book, victim: str
) -> None:
    sweep = (
        "mlstead: 1\nkind: sweep\nname: many\nparallel: 1\ntrial:\n"
        "  params: {n: 0}\n  resources: {cpu: 0.5, memory: 128Mi}\n"
        f"  command: {book.wait_at('t$MLSTEAD_PARAM_N')}\n"
        "search: {points: [{n: 0}, {n: 1}, {n: 2}]}\n"
    )
    pipeline = (
        "mlstead: 1\nkind: pipeline\nname: pipe\n"
        "defaults: {resources: {cpu: 0.5, memory: 128Mi}}\nsteps:\n"
        f"  a: {{command: 'echo a >> {book.folder}/lines'}}\n"
        f"  b: {{needs: [a], command: '{book.wait_at('b')}'}}\n"
        f"  c: {{needs: [b], command: 'echo c >> {book.folder}/lines'}}\n"
        f"finally:\n  d: {{command: 'echo d >> {book.folder}/lines'}}\n"
    )
    runs = [
        door.good("run", "-d", work(tmp_path / "s", sweep)).out.strip(),
        door.good("run", "-d", work(tmp_path / "p", pipeline)).out.strip(),
    ]
    book.reaches(3)
    above = driver(door)
    [below] = above.children()
    victims = {"driver": [below], "its supervisor": [above]}
    kill(*victims.get(victim, [keeper(door), above]))
    door.good("ps")
    book.open()
    for run in runs:
        door.until(run, "succeeded", seconds=LONG)
    assert sorted(book.lines()) == ["a", "b", "c", "d", "t0", "t1", "t2"]
    assert [child["state"] for run in runs for child in door.show(run)["children"]] == [
        "succeeded"
    ] * 7


PREDICTOR = """\
def load(folder, params):
    return 1

def predict(inputs, add):
    return {"y": inputs["x"] + add}
"""


def test_a_service_whose_supervisors_are_killed_comes_back_at_its_address(
    door: Door, tmp_path: Path
) -> None:
    (tmp_path / "m").mkdir()
    card = {"runtime": "python", "entry": "predictor:predict"}
    (tmp_path / "m" / "mlstead-model.json").write_text(json.dumps(card))
    door.good("model", "add", "plus", tmp_path / "m")
    text = "mlstead: 1\nkind: service\nname: calc\ncode: .\nmodel: plus@1\n"
    door.good("run", work(tmp_path / "s", text, predictor_py=PREDICTOR))
    ask = tmp_path / "ask.json"
    tensor = {"name": "x", "shape": [1], "datatype": "INT64", "data": [1]}
    ask.write_text(json.dumps({"inputs": [tensor]}))
    run = door.show("service/calc")["run"]
    kill(keeper(door), supervisor(door, run["id"]))
    door.good("ps")

    def answers() -> bool:
        result = door("predict", "calc", ask, "--json")
        return result.code == 0 and result.json["outputs"][0]["data"] == [2]

    wait(answers, LONG)
    assert door.show("service/calc")["run"]["extra"]["url"] == run["extra"]["url"]


# ---- the same submission, more than once


def test_two_processes_with_one_token_make_one_run(door: Door, tmp_path: Path, book: Book) -> None:
    file = work(tmp_path / "code", JOB.format("job") + f"command: echo x >> {book.folder}/lines\n")
    args = ("run", "-d", "--token", "one", file)
    with started(door, *args) as first, started(door, *args) as second:
        told = {process.communicate(timeout=LONG)[0] for process in (first, second)}
        assert (first.returncode, second.returncode) == (0, 0)
    assert told == {f"{only(door)}\n".encode()}
    door.until(only(door), "succeeded", seconds=LONG)
    assert book.lines() == ["x"]


def test_a_submission_killed_anywhere_and_sent_again_makes_one_run(
    door: Door, tmp_path: Path, book: Book
) -> None:
    file = work(tmp_path / "code", JOB.format("job") + f"command: echo x >> {book.folder}/lines\n")
    for tenths in range(8):
        args = ("run", "-d", "--token", "one", file)
        with started(door, *args) as process, contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.1 + 0.04 * tenths)
    door.good("run", "-d", "--token", "one", file)
    door.until(only(door), "succeeded", seconds=LONG)
    assert book.lines() == ["x"]


# ---- disks and folders


def test_a_disk_that_is_full_for_the_records_is_one_line_and_they_open_afterwards(
    door: Door, tmp_path: Path
) -> None:
    file = work(tmp_path / "code", JOB.format("job") + "command: echo fine\n")
    door.good("run", file)
    size = (door.home / "records.db").stat().st_size
    said = [one_line(limited(door, limit, "run", file), 3) for limit in (0, 4096, size // 2)]
    assert all("records.db" in line for line in said)
    assert door.good("run", file).out == "fine\n"
    states = [run["state"] for run in door.good("ps", "--json").json]
    assert set(states) == {"succeeded"}


def test_records_that_cannot_grow_in_the_middle_of_a_run_are_one_line_and_the_run_goes_on(
    door: Door, tmp_path: Path
) -> None:
    program = "import mlstead\nfor step in range(100_000): mlstead.log(loss=step / 7)\n"
    text = JOB.format("job") + "command: python m.py\n"
    file = work(tmp_path / "code", text, m_py=program)
    door.good("run", work(tmp_path / "other", JOB.format("warm") + "command: 'true'\n"))
    assert "records.db" in one_line(limited(door, MIB, "run", file), 3)
    details = door.until("job", "succeeded", seconds=LONG)
    assert details["metrics"]["loss"]["step"] == 99_999


def test_a_disk_that_is_full_for_the_outputs_is_one_line_and_makes_no_version(
    door: Door, tmp_path: Path
) -> None:
    text = JOB.format("job") + "command: head -c 3000000 /dev/urandom > $MLSTEAD_OUTPUTS/result\n"
    file = work(tmp_path / "code", text + KEPT)
    door.good("run", work(tmp_path / "other", JOB.format("warm") + "command: 'true'\n"))
    assert "no space left" in one_line(limited(door, 2 * MIB, "run", file), 3)
    assert door.good("data", "list", "--json").json == []
    door.until("job", "succeeded", seconds=LONG)  # a driver without the limit keeps them
    [version] = door.good("data", "list", "--json").json
    assert (version["number"], version["size"]) == (1, 3_000_000)
    door.good("data", "verify", "result@1")


def test_a_program_whose_own_files_hit_the_limit_is_told_of_and_its_neighbour_lives(
    door: Door, tmp_path: Path
) -> None:
    text = JOB.format("job") + (
        "command: ulimit -f 8; exec head -c 3000000 /dev/zero > $MLSTEAD_OUTPUTS/result\n"
    )
    result = door("run", work(tmp_path / "code", text + KEPT))
    assert "killed by SIGXFSZ" in one_line(result, 1)
    details = door.show("job")
    assert details["run"]["status"]["signal"] == signal.SIGXFSZ
    assert [link["partial"] for link in details["links"]] == [True]


@pytest.mark.parametrize("verb", [("ps",), ("run", "work.yaml"), ("data", "list"), ("logs", "x")])
def test_a_home_that_cannot_be_is_one_line(
    door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: tuple[str, ...]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    work(tmp_path, JOB.format("job") + "command: 'true'\n")
    monkeypatch.setenv("MLSTEAD_HOME", str(tmp_path / "file" / "home"))
    assert str(tmp_path / "file") in one_line(door(*verb), 2)


# ---- programs that fail


def test_a_job_over_its_memory_dies_alone_with_peak_and_limit(
    door: Door, tmp_path: Path, book: Book
) -> None:
    other = work(tmp_path / "b", JOB.format("other") + f"command: {book.wait_at('x')}\n")
    neighbour = door.good("run", "-d", other).out.strip()
    book.reaches(1)
    text = JOB.format("eater") + "command: python main.py\n"
    program = "held = []\nwhile True: held.append(b'x' * (8 << 20))\n"
    result = door("run", work(tmp_path / "a", text, main_py=program))
    assert "out of memory" in one_line(result, 1)
    assert "128 MiB" in result.err
    run = door.show("eater")["run"]
    assert (run["state"], run["reason"]) == ("failed", "oom")
    assert run["status"]["memory_limit"] == 128 * MIB
    assert run["status"]["peak_memory"] > 64 * MIB
    assert door.state(neighbour) == "running"
    book.open()
    door.until(neighbour, "succeeded", seconds=LONG)


def test_a_job_over_its_time_is_ended_with_all_it_started(
    door: Door, tmp_path: Path, book: Book
) -> None:
    text = JOB.format("job") + (
        f"timeout: 1s\ngrace: 1s\ncommand: 'sleep 1000 & echo $! >> {book.folder}/lines; wait'\n"
    )
    assert "longer than 1 s" in one_line(door("run", work(tmp_path / "code", text)), 1)
    run = door.show("job")["run"]
    assert (run["state"], run["reason"]) == ("failed", "timeout")
    assert not psutil.pid_exists(int(book.lines()[0]))


def test_a_retry_has_the_checkpoints_and_passes_over_a_torn_one(door: Door, tmp_path: Path) -> None:
    program = (
        "import os, mlstead\n"
        "last = mlstead.latest_checkpoint('model')\n"
        "if last is None:\n"
        "    mlstead.save_checkpoint(b'good', 'model')\n"
        "    torn = mlstead.save_checkpoint(b'better ' * 1000, 'model')\n"
        "    os.truncate(torn, 500)\n"
        "    raise SystemExit(3)\n"
        "print(last.read_text(), sorted(os.listdir(os.environ['MLSTEAD_CHECKPOINTS']))[0][:8])\n"
    )
    text = JOB.format("job") + "command: python main.py\nretries: {max: 1, for: [error]}\n"
    result = door.good("run", work(tmp_path, text, main_py=program))
    assert result.out.splitlines() == ["--- attempt 2 ---", "good 00000001"]
    details = door.show("job")
    assert details["run"]["attempt"] == 2
    assert [e["attempt"] for e in details["events"] if e["name"] == "failed"] == [1]


@pytest.mark.parametrize("name", ["SEGV", "KILL", "TERM"])
def test_a_program_killed_by_a_signal_says_which(door: Door, tmp_path: Path, name: str) -> None:
    file = work(tmp_path, JOB.format("job") + f"command: echo last words; kill -{name} $$\n")
    result = door("run", file)
    assert f"killed by SIG{name}" in one_line(result, 1)
    assert result.out == "last words\n"
    run = door.show("job")["run"]
    assert run["status"]["signal"] == signal.Signals[f"SIG{name}"]
    assert run["status"]["exit_code"] is None
    assert run["detail"] == f"killed by SIG{name}"


def test_a_metric_that_is_no_number_is_kept_and_seen(door: Door, tmp_path: Path) -> None:
    program = (
        "import mlstead\n"
        "mlstead.log(loss=0.5, step=1)\n"
        "mlstead.log(loss=float('nan'), top=float('inf'), step=2)\n"
    )
    door.good("run", work(tmp_path, JOB.format("job") + "command: python m.py\n", m_py=program))
    metrics = door.show("job")["metrics"]
    assert (metrics["loss"]["value"], metrics["loss"]["step"]) == ("nan", 2)
    assert metrics["top"]["value"] == "inf"
    shown = [line.split() for line in door.good("show", "job").out.splitlines()]
    assert ["loss", "nan", "2"] in shown


def test_a_program_that_asks_may_end_by_itself_when_it_is_stopped(
    door: Door, tmp_path: Path, book: Book
) -> None:
    program = (
        "import pathlib, os, signal, time, mlstead\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"pathlib.Path({str(book.folder)!r}, 'lines').write_text('ready\\n')\n"
        "while not mlstead.should_stop(): time.sleep(0.02)\n"
        "pathlib.Path(os.environ['MLSTEAD_OUTPUTS'], 'model').write_text('half')\n"
        "print('saved')\n"
    )
    text = JOB.format("job") + (
        "command: python m.py\ngrace: 60s\noutputs: {model: {kind: model, name: net}}\n"
    )
    run = door.good("run", "-d", work(tmp_path / "code", text, m_py=program)).out.strip()
    book.reaches(1)
    door.good("stop", run, "--wait")
    assert door.state(run) == "cancelled"
    assert door.good("logs", run).out == "saved\n"
    assert [link["partial"] for link in door.show(run)["links"]] == [True]


# ---- output


FLOOD = """\
import os, random, sys

def blocks():
    random.seed(7)
    block = random.randbytes(1 << 20).replace(b"\\n", b" ")
    for number in range(100):
        yield number.to_bytes(4, "big").replace(b"\\n", b" ") + block
    yield bytes(range(256)) * 4096 + b"the end"

if __name__ == "__main__":
    for part in blocks():
        sys.stdout.buffer.write(part)
    sys.stdout.flush()
    os.kill(os.getpid(), 9)
"""


def test_a_line_of_100_mb_and_binary_output_arrive_complete_and_in_order(
    door: Door, tmp_path: Path
) -> None:
    text = JOB.format("flood").replace("128Mi", "256Mi") + 'command: ["python", "flood.py"]\n'
    file = work(tmp_path, text, flood_py=FLOOD)
    wanted = hashlib.sha256()
    for part in runpy.run_path(str(tmp_path / "flood.py"))["blocks"]():
        wanted.update(part)

    def read(*args: object) -> str:
        got = hashlib.sha256()
        with started(door, *args) as process:
            assert process.stdout is not None
            while chunk := process.stdout.read(MIB):
                got.update(chunk)
            process.wait(LONG)
        return got.hexdigest()

    assert read("run", file) == wanted.hexdigest()
    run = only(door)
    assert door.show(run)["run"]["status"]["signal"] == signal.SIGKILL
    assert read("logs", run) == wanted.hexdigest()
    assert read("logs", "-f", run) == wanted.hexdigest()


def test_the_output_of_a_detached_job_is_followed_from_another_process(
    door: Door, tmp_path: Path, book: Book
) -> None:
    command = f"command: echo first; {book.wait_at('x')}; printf last\n"
    run = door.good("run", "-d", work(tmp_path / "code", JOB.format("job") + command)).out.strip()
    with started(door, "logs", "-f", run) as process:
        assert process.stdout is not None
        timer = threading.Timer(LONG, process.kill)
        timer.start()
        first = process.stdout.readline()
        assert door.state(run) == "running"
        book.open()
        rest = process.stdout.read()
        timer.cancel()
        assert process.wait(LONG) == 0
    assert (first, rest) == (b"first\n", b"last")


# ---- many at once


def test_fifty_jobs_wait_for_their_turn_and_never_exceed_the_machine(
    door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLSTEAD_CAPACITY", "cpu=2,memory=8Gi")
    text = JOB.format("one").replace("cpu: 0.5", "cpu: 1") + "command: sleep 0.1\n"
    file = work(tmp_path, text)
    runs = [door.good("run", "-d", file).out.strip() for _ in range(50)]
    wait(lambda: door.good("ps", "-r", "--json").json == [], LONG)
    changes = []
    for run in runs:
        details = door.show(run)
        assert details["run"]["state"] == "succeeded"
        times = {event["name"]: event["time"] for event in details["events"] if event["attempt"]}
        # what ended makes room for what begins at the same moment
        changes += [(times["starting"], 1), (times["succeeded"], -1)]
    level, levels = 0, []
    for _, change in sorted(changes):
        level += change
        levels.append(level)
    assert max(levels) == 2
