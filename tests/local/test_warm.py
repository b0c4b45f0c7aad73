"""The warm process: a verb that it runs cannot be told from one that started anew."""

import contextlib
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.local.front_door import Door, wait, work

from mlstead.cli._warm import wire

SOURCE = Path(__file__).parents[2] / "src"
START = "import sys; from mlstead.cli._warm import call; sys.exit(call.main())"
# A verb that the warm process does not run fails here.
ONLY_WARM = (
    "import sys; from mlstead.cli._warm import call; call._here = None; sys.exit(call.main())"
)
JOB = "mlstead: 1\nkind: job\nname: one\ncommand: [{command}]\n"


class Warm:
    """A home and a runtime folder with a warm process of their own."""

    def __init__(self, door: Door, source: Path = SOURCE) -> None:
        self.door = door
        self.env = {k: v for k, v in door.env.items() if k != "MLSTEAD_WARM"}
        self.env["PYTHONPATH"] = str(source)
        self.runtime = Path(self.env["XDG_RUNTIME_DIR"])
        self.callers: list[subprocess.Popen[bytes]] = []

    def argv(self, *words: object, program: str = ONLY_WARM) -> list[str]:
        return [sys.executable, "-c", program, *map(str, words)]

    def run(
        self, *words: object, program: str = ONLY_WARM, **options: Any
    ) -> "subprocess.CompletedProcess[str]":
        options = {"env": self.env, "stdin": subprocess.DEVNULL, "timeout": 60, **options}
        return subprocess.run(
            self.argv(*words, program=program), capture_output=True, text=True, **options
        )

    def popen(self, *words: object, **options: Any) -> "subprocess.Popen[bytes]":
        options = {"env": self.env, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        caller = subprocess.Popen(self.argv(*words), stdin=subprocess.DEVNULL, **options)
        self.callers.append(caller)
        return caller

    def ready(self) -> psutil.Process:
        """Run a verb the ordinary way, and wait for the process that it leaves behind."""
        done = self.run("ps", program=START)
        assert done.returncode == 0, done.stderr
        wait(lambda: bool(self.sockets()), 30, lambda: "no warm process came")
        return self.process()

    def sockets(self) -> list[Path]:
        found = self.runtime.glob("mlstead-warm-*")
        return [path for path in found if not path.suffix]

    def process(self) -> psutil.Process:
        (found,) = self.processes()
        return found

    def processes(self) -> list[psutil.Process]:
        """Find those that wait for calls; a verb is a child of one of them."""
        told = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                words = process.cmdline()
                mine = process.environ().get("XDG_RUNTIME_DIR") == str(self.runtime)
                if mine and any("_warm.serve" in word for word in words):
                    told.append(process)
        return [one for one in told if one.ppid() not in {other.pid for other in told}]

    def verb(self) -> psutil.Process:
        """Give the only verb that runs."""
        process = self.process()
        wait(lambda: len(process.children()) == 1)
        return process.children()[0]


@pytest.fixture
def warm(door: Door) -> Iterator[Warm]:
    made = Warm(door)
    yield made
    end(made)


def end(warm: Warm) -> None:
    for caller in warm.callers:
        caller.kill()
        caller.communicate()
    for process in warm.processes():
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
            process.wait(10)


def job(folder: Path, *command: str) -> Path:
    return work(folder, JOB.format(command=json.dumps(list(command))[1:-1]))


def sleeping(folder: Path) -> Path:
    return job(folder, "sh", "-c", "echo begun; exec sleep 60")


def read_until(stream: Any, text: bytes) -> bytes:
    data = b""
    while text not in data:
        ready, _, _ = select.select([stream], [], [], 30)
        assert ready, data
        part = os.read(stream.fileno() if hasattr(stream, "fileno") else stream, 65536)
        assert part, data
        data += part
    return data


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["ps", "--json"], 0),
        (["show", "nothing"], 2),
        (["ps", "--no-such-option"], 2),
        (["schema"], 0),
        (["--help"], 0),
        (["run", "no-such-file.yaml"], 2),
    ],
)
def test_a_verb_says_and_gives_back_the_same(warm: Warm, words: Sequence[str], code: int) -> None:
    warm.ready()
    here = warm.run(*words, env={**warm.env, "MLSTEAD_WARM": "off"}, program=START)
    there = warm.run(*words)
    assert here.returncode == there.returncode == code
    assert (here.stdout, here.stderr) == (there.stdout, there.stderr)


def test_a_job_runs_in_the_callers_folder_with_the_callers_environment(
    warm: Warm, tmp_path: Path
) -> None:
    warm.ready()
    file = job(tmp_path, "cat", "note")
    (tmp_path / "note").write_text("from here\n")
    done = warm.run("run", file.name, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "from here\n"), done.stderr
    other = {**warm.env, "MLSTEAD_HOME": str(warm.door.home.parent / "other")}
    assert warm.run("ps", "--json", env=other).stdout == "[]\n"


def test_a_failing_job_is_exit_code_1(warm: Warm, tmp_path: Path) -> None:
    warm.ready()
    done = warm.run("run", job(tmp_path, "sh", "-c", "exit 7"))
    assert done.returncode == 1
    assert "failed" in done.stderr


def test_umask_and_limits_are_the_callers(warm: Warm, tmp_path: Path) -> None:
    warm.ready()
    script = 'umask 027; ulimit -n 800; exec "$0" "$@"'
    done = subprocess.run(
        ["sh", "-c", script, *warm.argv("init", tmp_path / "new")], env=warm.env, check=False
    )
    assert done.returncode == 0
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o750


def test_descriptors_of_the_caller_can_be_named(warm: Warm, tmp_path: Path) -> None:
    warm.ready()
    with job(tmp_path, "true").open() as file:
        done = warm.run("plan", f"/dev/fd/{file.fileno()}", pass_fds=[file.fileno()])
    assert done.returncode == 0, done.stderr


def test_a_closed_stdout_and_a_reader_that_leaves_are_survived(warm: Warm) -> None:
    warm.ready()
    for script in ('"$0" "$@" >&-', '"$0" "$@" | head -c 1 >/dev/null', '"$0" "$@" <&- 2>&-'):
        done = subprocess.run(
            ["sh", "-c", script, *warm.argv("schema")],
            env=warm.env,
            capture_output=True,
            check=False,
        )
        assert b"Traceback" not in done.stderr, script
        assert done.returncode in (0, 120), script


def test_an_interrupt_leaves_the_job_running(warm: Warm, tmp_path: Path) -> None:
    warm.ready()
    caller = warm.popen("run", sleeping(tmp_path))
    read_until(caller.stdout, b"begun")
    caller.send_signal(signal.SIGINT)
    _, told = caller.communicate(timeout=30)
    assert caller.returncode == 130
    (run,) = re.findall(r"one-\w+", told.decode())[:1]
    assert warm.door.state(run) == "running"
    warm.door.good("stop", run)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_verb_and_its_caller_alike(
    warm: Warm, tmp_path: Path, number: signal.Signals
) -> None:
    warm.ready()
    run = warm.run("run", "-d", sleeping(tmp_path)).stdout.strip()
    caller = warm.popen("logs", "-f", run)
    read_until(caller.stdout, b"begun")
    verb = warm.verb()
    caller.send_signal(number)
    assert caller.wait(30) == -number
    assert not verb.is_running() or verb.status() == psutil.STATUS_ZOMBIE


def test_nohup_is_passed_on(warm: Warm, tmp_path: Path) -> None:
    warm.ready()
    caller = warm.popen(
        "run", sleeping(tmp_path), preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)
    )
    read_until(caller.stdout, b"begun")
    verb = warm.verb()
    caller.send_signal(signal.SIGHUP)
    verb.send_signal(signal.SIGHUP)
    caller.send_signal(signal.SIGINT)
    assert caller.wait(30) == 130


def test_a_killed_caller_takes_its_verb_along(warm: Warm, tmp_path: Path) -> None:
    warm.ready()
    caller = warm.popen("run", sleeping(tmp_path))
    read_until(caller.stdout, b"begun")
    verb = warm.verb()
    caller.kill()
    caller.wait()
    verb.wait(30)
    assert warm.run("ps").returncode == 0


def test_a_killed_verb_is_told_to_its_caller(warm: Warm, tmp_path: Path) -> None:
    warm.ready()
    caller = warm.popen("run", sleeping(tmp_path))
    read_until(caller.stdout, b"begun")
    warm.verb().kill()
    assert caller.wait(30) == -signal.SIGKILL


def test_a_killed_warm_process_does_not_end_its_verbs(warm: Warm, tmp_path: Path) -> None:
    process = warm.ready()
    caller = warm.popen("run", job(tmp_path, "sh", "-c", "echo begun; sleep 1; echo done; exit 3"))
    read_until(caller.stdout, b"begun")
    process.kill()
    out, _ = caller.communicate(timeout=30)
    assert (caller.returncode, out) == (1, b"done\n")
    assert warm.run("ps", program=START).returncode == 0  # nobody listens: runs by itself


def test_a_process_that_does_not_answer_is_not_waited_for(warm: Warm) -> None:
    process = warm.ready()
    process.suspend()
    done = warm.run("ps", program=START)
    process.resume()
    assert done.returncode == 0, done.stderr


def test_on_a_terminal_it_has_colours_stops_and_is_interrupted(warm: Warm, tmp_path: Path) -> None:
    warm.ready()
    warm.run("run", job(tmp_path / "a", "true"))
    file = sleeping(tmp_path / "b")
    env = {**warm.env, "TERM": "xterm-256color"}
    pid, master = pty.fork()
    if pid == 0:
        script = f'"$0" "$@" ps; exec "$0" "$@" run {file}'
        os.execvpe("sh", ["sh", "-c", script, *warm.argv()], env)
    told = read_until(master, b"begun")
    assert b"\x1b[" in told  # the table has colours
    os.write(master, b"\x1a")  # Ctrl-Z
    wait(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    assert warm.verb().status() == psutil.STATUS_STOPPED
    os.kill(pid, signal.SIGCONT)
    wait(lambda: warm.verb().status() != psutil.STATUS_STOPPED)
    os.write(master, b"\x03")  # Ctrl-C
    read_until(master, b"goes on")
    _, status = os.waitpid(pid, 0)
    os.close(master)
    assert os.waitstatus_to_exitcode(status) == 130


def test_edited_code_is_what_runs(door: Door, tmp_path: Path) -> None:
    shutil.copytree(SOURCE, tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    warm = Warm(door, tmp_path / "src")
    warm.env["PYTHONDONTWRITEBYTECODE"] = "1"
    try:
        old = warm.ready()
        file = tmp_path / "src" / "mlstead" / "cli" / "ps.py"
        file.write_text(file.read_text().replace('"WHAT"', '"NEWLY"'))
        assert "NEWLY" in warm.run("ps", program=START).stdout
        old.wait(30)
        wait(lambda: bool(warm.sockets()))
        assert "NEWLY" in warm.run("ps").stdout
    finally:
        end(warm)


def test_it_keeps_no_secret_of_its_first_caller(warm: Warm) -> None:
    warm.env["SOME_TOKEN"] = "canary-4711"
    process = warm.ready()
    assert "canary-4711" not in str(process.environ())


def test_it_leaves_when_nobody_calls(warm: Warm) -> None:
    idle = "from mlstead.cli._warm import serve; serve.IDLE_SECONDS = 0.05; serve.main()"
    done = subprocess.run(
        [sys.executable, "-c", idle], env=warm.env, timeout=60, check=False, capture_output=True
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert not warm.sockets()


def test_only_one_waits(warm: Warm) -> None:
    process = warm.ready()
    second = "from mlstead.cli._warm import serve; serve.main()"
    subprocess.run([sys.executable, "-c", second], env=warm.env, timeout=60, check=True)
    assert warm.process() == process


def test_a_folder_that_others_can_enter_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    tmp_path.chmod(0o755)
    assert wire.path(b"x") is None
    tmp_path.chmod(0o700)
    assert wire.path(b"x") is not None


def test_parallel_calls_do_not_mix(warm: Warm, tmp_path: Path) -> None:
    warm.ready()
    callers = [
        warm.popen("run", job(tmp_path / str(number), "echo", f"word-{number}"))
        for number in range(6)
    ]
    for number, caller in enumerate(callers):
        out, err = caller.communicate(timeout=60)
        assert (caller.returncode, out) == (0, b"word-%d\n" % number), err


def test_rubbish_on_the_socket_harms_nobody(warm: Warm) -> None:
    warm.ready()
    (path,) = warm.sockets()
    for rubbish in (b"", b"x" * 12, b"%12d" % (1 << 40), b"%12d" % 5 + b"a\0b\0c"):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            connection.sendall(rubbish)
    end_ = time.monotonic() + 30
    while warm.process().children():
        assert time.monotonic() < end_
        time.sleep(0.05)
    assert warm.run("ps").returncode == 0


def test_another_set_of_cores_or_rights_is_not_borrowed(warm: Warm) -> None:
    process = warm.ready()
    script = "import os, sys; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
    alone = subprocess.run(
        [sys.executable, "-c", script + START.removeprefix("import sys; "), "ps"],
        env=warm.env, capture_output=True, check=False,
    )  # fmt: skip
    assert alone.returncode == 0, alone.stderr
    told = "from mlstead.cli._warm import wire; print(wire.circumstances().hex())"
    here = subprocess.run([sys.executable, "-c", told], env=warm.env, capture_output=True).stdout
    there = subprocess.run(
        [sys.executable, "-c", script + told], env=warm.env, capture_output=True
    ).stdout
    assert here != there
    wait(lambda: len(warm.processes()) == 2)
    assert process in warm.processes()


def test_verbs_that_run_are_looked_after_when_the_code_has_changed(
    door: Door, tmp_path: Path
) -> None:
    shutil.copytree(SOURCE, tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    warm = Warm(door, tmp_path / "src")
    try:
        old = warm.ready()
        run = warm.run("run", "-d", sleeping(tmp_path / "job")).stdout.strip()
        callers = [warm.popen("logs", "-f", run) for _ in range(2)]
        for caller in callers:
            read_until(caller.stdout, b"begun")
        verbs = old.children()
        (tmp_path / "src" / "mlstead" / "cli" / "ps.py").touch()
        assert warm.run("ps", program=START).returncode == 0
        wait(lambda: bool(warm.sockets()))
        callers[0].send_signal(signal.SIGTERM)
        assert callers[0].wait(30) == -signal.SIGTERM
        callers[1].kill()
        for verb in verbs:
            verb.wait(30)
        old.wait(30)
    finally:
        end(warm)


@pytest.mark.parametrize("verb", [["ps"], ["schema"], ["show", "one"]])
def test_a_reader_that_never_reads_and_a_full_disk_are_told_apart(
    door: Door, tmp_path: Path, verb: list[str]
) -> None:
    door.good("run", job(tmp_path, "true"))
    words = [sys.executable, "-c", START, *verb]
    shell = ["bash", "-c", '"$0" "$@" | true; echo ${PIPESTATUS[0]}', *words]
    done = subprocess.run(shell, env=door.env, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("0\n", "")
    full = subprocess.run(
        ["sh", "-c", '"$0" "$@" > /dev/full', *words], env=door.env, capture_output=True, text=True
    )
    assert full.returncode == 3
    assert full.stderr == "error: the output cannot be written: No space left on device\n"


def test_run_into_a_reader_that_leaves_hands_the_job_over(door: Door, tmp_path: Path) -> None:
    file = job(tmp_path, "sh", "-c", "for i in 1 2 3 4 5 6; do echo $i; sleep 0.3; done")
    words = [sys.executable, "-c", START, "run", str(file)]
    shell = ["bash", "-c", '"$0" "$@" | head -1; echo ${PIPESTATUS[0]}', *words]
    done = subprocess.run(shell, env=door.env, capture_output=True, text=True, check=False)
    assert done.stdout == "1\n0\n"
    assert "Traceback" not in done.stderr
    (run,) = door.good("ps", "--json").json
    assert door.until(run["id"], "succeeded")
