"""The local engine when what supervises is killed, and how it shares the machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.contract.local_home import (
    is_alive,
    keeper_pid,
    kill,
    kill_keeper,
    number_in,
    open_engine,
    shim_pid,
)

from mlstead.engines.base import Phase, Reason, Resources, Retry, Secret, TaskEvent, Workers
from mlstead.engines.local import disk, journal
from mlstead.engines.local.disk import Home
from mlstead.engines.local.engine import LocalEngine
from mlstead.errors import ConflictError, UserError
from mlstead.testing.engine_programs import EAT
from mlstead.testing.engine_values import (
    events_of,
    output,
    run,
    submit,
    task,
    wait_final,
    wait_phase,
    wait_until,
)

WAITS = 'while [ ! -e "$MLSTEAD_STOP" ]; do sleep 0.02; done'


@pytest.fixture
def engine(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalEngine]:
    with open_engine(home, monkeypatch) as engine:
        yield engine


@pytest.fixture(params=["groups", "watching"])
def any_engine(
    request: pytest.FixtureRequest, home: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LocalEngine]:
    """The engine with control groups where they can be made, and without."""
    monkeypatch.setenv("MLSTEAD_MEMORY_BY", request.param)
    with open_engine(home, monkeypatch) as engine:
        yield engine


# ---- the keeper is killed


def test_tasks_go_on_without_the_keeper(engine: LocalEngine, home: Path) -> None:
    submit(engine, task("t", f"echo begin; {WAITS}; echo end"))
    wait_until(lambda: "begin" in output(engine, "t"), "the program")
    kill_keeper(home)
    engine.signal_stop("t")
    assert wait_final(engine, "t").phase is Phase.SUCCEEDED
    assert output(engine, "t") == "begin\nend\n"
    phases = [event.phase for event in events_of(engine, "t")]
    assert phases == [Phase.QUEUED, Phase.STARTING, Phase.RUNNING, Phase.SUCCEEDED]


def test_a_killed_keeper_is_replaced_while_a_task_runs(engine: LocalEngine, home: Path) -> None:
    submit(engine, task("t", WAITS))
    wait_phase(engine, "t", Phase.RUNNING)
    before = keeper_pid(home)
    kill(before)
    wait_until(lambda: keeper_pid(home) not in (0, before), "another keeper")
    assert engine.status("t").phase is Phase.RUNNING
    engine.cancel("t")
    assert wait_final(engine, "t").phase is Phase.CANCELLED


def test_the_queue_goes_on_with_the_next_verb(engine: LocalEngine, home: Path) -> None:
    one = Resources(cpu=3, memory=32 << 20)
    submit(engine, *(task(f"t{n}", "sleep 0.1; echo x", resources=one) for n in range(4)))
    wait_phase(engine, "t1", Phase.RUNNING)
    kill_keeper(home)
    submit(engine, task("u", "true"))
    for name in ("t0", "t1", "t2", "t3", "u"):
        assert wait_final(engine, name).phase is Phase.SUCCEEDED
    assert [output(engine, f"t{n}") for n in range(4)] == ["x\n"] * 4


def test_a_keeper_killed_again_and_again_loses_and_doubles_nothing(
    engine: LocalEngine, home: Path
) -> None:
    names = [f"t{number}" for number in range(30)]
    submit(engine, *(task(name, f"echo {name}") for name in names))
    for _ in range(5):
        wait_until(lambda: keeper_pid(home), "a keeper")
        kill_keeper(home)
        engine.ensure()
    for name in names:
        assert wait_final(engine, name).phase is Phase.SUCCEEDED
        phases = [event.phase for event in events_of(engine, name)]
        assert phases == [Phase.QUEUED, Phase.STARTING, Phase.RUNNING, Phase.SUCCEEDED]
        assert output(engine, name) == f"{name}\n"


def test_events_a_crash_kept_from_the_journal_are_told_later(
    engine: LocalEngine, home: Path
) -> None:
    submit(engine, task("t", WAITS))
    wait_phase(engine, "t", Phase.RUNNING)
    place = Home(home).journal / "000001"
    wait_until(lambda: b'"running"' in place.read_bytes(), "the journal")
    os.kill(shim_pid(home, "t"), 19)  # it must not start another keeper now
    kill_keeper(home)
    data = place.read_bytes()
    place.write_bytes(data[: data.index(b"\n") + 20])
    os.kill(shim_pid(home, "t"), 18)
    engine.signal_stop("t")
    wait_final(engine, "t")
    phases = [event.phase for event in events_of(engine, "t")]
    assert phases == [Phase.QUEUED, Phase.STARTING, Phase.RUNNING, Phase.SUCCEEDED]


def test_the_keeper_goes_when_there_is_nothing_to_do(home: Path) -> None:
    Home(home).create()
    code = (
        "from mlstead.engines.local import keeper; import sys; "
        "keeper._IDLE = 0.2; keeper.main(sys.argv[1])"
    )
    with Home(home).log.open("ab") as log:
        subprocess.run([sys.executable, "-c", code, str(home)], stderr=log, check=True)
    wait_until(lambda: not disk.is_locked(Home(home).lock), "the keeper to go")
    assert not Home(home).socket.exists()


def test_a_clock_that_runs_backwards_changes_no_duration(engine: LocalEngine, home: Path) -> None:
    Home(home).create()
    code = (
        "import sys, time; real, begin = time.time, time.time(); "
        "time.time = lambda: begin - 100 * (real() - begin); "
        "from mlstead.engines.local import keeper; keeper.main(sys.argv[1])"
    )
    with Home(home).log.open("ab") as log:
        subprocess.run([sys.executable, "-c", code, str(home)], stderr=log, check=True)
    status = run(engine, task("t", "sleep", "600", timeout=0.3))
    assert status.reason is Reason.TIMEOUT
    assert status.started is not None and status.ended is not None
    assert 0.3 <= status.ended - status.started < 60
    status = run(engine, task("u", "exit 1", retry=Retry(1, backoff=0.1)))
    assert status.attempt == 2


def test_tasks_outlive_the_session_that_submitted_them(engine: LocalEngine, home: Path) -> None:
    code = (
        "import sys, os, signal; from pathlib import Path; "
        "from mlstead.engines.local.engine import LocalEngine as create; "
        "from mlstead.testing.engine_values import *; "
        f"submit(create(Path(sys.argv[1])), task('t', {WAITS!r})); os.killpg(0, signal.SIGHUP)"
    )
    subprocess.run([sys.executable, "-c", code, str(home)], start_new_session=True, check=False)
    wait_phase(engine, "t", Phase.RUNNING)
    engine.signal_stop("t")
    assert wait_final(engine, "t").phase is Phase.SUCCEEDED


# ---- the supervisor of an attempt is killed


def _stray(path: Path) -> str:
    return f"sleep 600 & echo $! > {path}; sleep 600"


def test_a_task_whose_supervisor_is_killed_is_lost(
    any_engine: LocalEngine, home: Path, tmp_path: Path
) -> None:
    submit(any_engine, task("t", _stray(tmp_path / "pid")))
    wait_until(lambda: number_in(tmp_path / "pid"), "the program")
    kill(shim_pid(home, "t"))
    status = wait_final(any_engine, "t")
    assert (status.phase, status.reason) == (Phase.LOST, Reason.LOST)
    assert events_of(any_engine, "t")[-1].phase is Phase.LOST
    assert not is_alive(number_in(tmp_path / "pid"))


def test_a_lost_task_is_tried_again_when_asked(
    any_engine: LocalEngine, home: Path, tmp_path: Path
) -> None:
    script = f"if [ $MLSTEAD_ATTEMPT = 2 ]; then echo again; exit 0; fi; {_stray(tmp_path / 'pid')}"
    submit(any_engine, task("t", script, retry=Retry(1, (Reason.LOST,))))
    wait_until(lambda: number_in(tmp_path / "pid"), "the program")
    kill(shim_pid(home, "t"))
    status = wait_final(any_engine, "t")
    assert (status.phase, status.attempt) == (Phase.SUCCEEDED, 2)
    assert not is_alive(number_in(tmp_path / "pid"))
    lost = [event for event in events_of(any_engine, "t") if event.phase is Phase.LOST]
    assert [(event.attempt, event.retried) for event in lost] == [(1, True)]


def test_everything_that_supervises_is_killed_at_once(
    any_engine: LocalEngine, home: Path, tmp_path: Path
) -> None:
    submit(any_engine, task("t", _stray(tmp_path / "pid")))
    wait_until(lambda: number_in(tmp_path / "pid"), "the program")
    os.kill(keeper_pid(home), 19)
    kill(shim_pid(home, "t"))
    kill_keeper(home)
    assert any_engine.status("t").phase is Phase.LOST
    any_engine.ensure()
    wait_until(lambda: not is_alive(number_in(tmp_path / "pid")), "the leftovers to go")
    assert events_of(any_engine, "t")[-1].phase is Phase.LOST


def _told(engine: LocalEngine, name: str, phase: Phase) -> bool:
    return any((event.task_id, event.phase) == (name, phase) for event in engine.events())


def test_after_a_reboot_what_ran_is_lost_and_what_waited_runs(
    engine: LocalEngine, home: Path
) -> None:
    big = Resources(cpu=4, memory=32 << 20)
    submit(engine, task("ran", WAITS, resources=big), task("waited", "echo x", resources=big))
    wait_until(lambda: _told(engine, "ran", Phase.RUNNING), "the event")
    cursor = list(engine.events())[-1].cursor
    os.kill(keeper_pid(home), 19)
    kill(shim_pid(home, "ran"))
    kill_keeper(home)
    (Home(home).journal / "boot").write_text("an earlier boot")
    alive = Home(home).task("ran") / "1" / "alive"
    alive.write_text(alive.read_text().replace(disk.boot_id(), "an earlier boot"))
    engine.ensure()
    assert wait_final(engine, "waited").phase is Phase.SUCCEEDED
    assert engine.status("ran").phase is Phase.LOST
    assert events_of(engine, "waited")[-1].phase is Phase.SUCCEEDED
    assert journal.tail(Home(home).journal)[0] == 2
    assert {event.task_id for event in engine.events(cursor)} == {"ran", "waited"}


def test_a_keeper_needed_inside_a_task_does_not_die_with_it(
    engine: LocalEngine, home: Path
) -> None:
    code = (
        "import sys; from pathlib import Path; "
        "from mlstead.engines.local.engine import LocalEngine as create; "
        "from mlstead.testing.engine_values import *; "
        "import time; print('up', flush=True)\n"
        f"while not Path('{home}/go').exists(): time.sleep(.01)\n"
        f"submit(create(Path('{home}')), task('u', {WAITS!r}))"
    )
    submit(engine, task("t", sys.executable, "-c", code))
    wait_until(lambda: "up" in output(engine, "t"), "the program")
    kill_keeper(home)
    (home / "go").touch()
    assert wait_final(engine, "t").phase is Phase.SUCCEEDED, output(engine, "t")
    wait_phase(engine, "u", Phase.RUNNING)
    assert keeper_pid(home)
    engine.signal_stop("u")
    assert wait_final(engine, "u").phase is Phase.SUCCEEDED


# ---- sharing the machine


def _most_held(events: list[TaskEvent], cpu: dict[str, float]) -> float:
    """Add up what runs at each moment that the events tell of."""
    held: dict[str, float] = {}
    most = 0.0
    for event in events:
        if event.phase is Phase.STARTING:
            held[event.task_id] = cpu[event.task_id]
        elif event.phase.final:
            held.pop(event.task_id, None)
        most = max(most, sum(held.values()))
    return most


def test_fifty_tasks_never_exceed_the_machine(engine: LocalEngine) -> None:
    cpu = {f"t{number}": (1.0, 1.5, 3.0)[number % 3] for number in range(50)}
    submit(
        engine,
        *(task(name, "true", resources=Resources(c, 32 << 20)) for name, c in cpu.items()),
    )
    for name in cpu:
        assert wait_final(engine, name).phase is Phase.SUCCEEDED
    events_of(engine, "t49")
    assert 3.0 <= _most_held(list(engine.events()), cpu) <= 4.0


def test_what_can_never_fit_is_refused_with_the_numbers(engine: LocalEngine) -> None:
    for asked, words in (
        (Resources(cpu=5), "cpu 5 .* has 4"),
        (Resources(memory=9 << 30), "memory 9216 MiB .* 8192 MiB"),
        (Resources(gpu=1), "gpu 1 .* has 0"),
    ):
        with pytest.raises(UserError, match=words):
            engine.prepare(task("t", "true", resources=asked), engine.facts())


def test_who_has_priority_goes_first(engine: LocalEngine) -> None:
    whole = Resources(cpu=4, memory=32 << 20)
    submit(engine, task("first", WAITS, resources=whole))
    wait_phase(engine, "first", Phase.RUNNING)
    for name, priority in (("low", 0), ("high", 5), ("later", 0)):
        submit(engine, task(name, "true", resources=whole, priority=priority))
    engine.signal_stop("first")
    for name in ("low", "high", "later"):
        wait_final(engine, name)
    events_of(engine, "later")
    started = [e.task_id for e in engine.events() if e.phase is Phase.STARTING]
    assert started == ["first", "high", "low", "later"]


def test_a_task_that_waits_too_long_for_its_place_fails(engine: LocalEngine) -> None:
    whole = Resources(cpu=4, memory=32 << 20)
    submit(engine, task("first", WAITS, resources=whole))
    submit(engine, task("t", "true", resources=whole, max_queue_time=0.2))
    status = wait_final(engine, "t")
    assert (status.phase, status.reason) == (Phase.FAILED, Reason.UNSCHEDULABLE)
    assert "cpu 4" in status.detail
    engine.cancel("first", 0.0)
    wait_final(engine, "first")


def test_a_waiting_task_can_be_cancelled(engine: LocalEngine) -> None:
    whole = Resources(cpu=4, memory=32 << 20)
    submit(engine, task("first", WAITS, resources=whole), task("t", "true", resources=whole))
    wait_phase(engine, "first", Phase.RUNNING)
    assert engine.status("t").phase is Phase.QUEUED
    engine.cancel("t")
    assert wait_final(engine, "t").phase is Phase.CANCELLED
    assert output(engine, "t") == ""


def test_a_task_can_be_cancelled_between_its_attempts(engine: LocalEngine) -> None:
    submit(engine, task("t", "exit 1", retry=Retry(5, backoff=600.0)))
    wait_until(lambda: engine.status("t").attempt == 2, "the first end")
    engine.cancel("t")
    status = wait_final(engine, "t")
    assert (status.phase, status.attempt) == (Phase.CANCELLED, 2)


def test_gpus_are_given_to_one_task_at_a_time(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_engine(home, monkeypatch, "cpu=8,memory=8Gi,gpu=3") as engine:
        one, two = (Resources(0.1, 32 << 20, gpu=count) for count in (1, 2))
        script = f"echo $CUDA_VISIBLE_DEVICES; {WAITS}"
        submit(engine, task("a", script, resources=two), task("b", script, resources=one))
        wait_until(lambda: output(engine, "a") and output(engine, "b"), "both")
        assert (output(engine, "a"), output(engine, "b")) == ("0,1\n", "2\n")
        submit(engine, task("c", script, resources=one))
        assert engine.status("c").phase is Phase.QUEUED
        engine.signal_stop("a")
        # whose lock is let go first is a matter of luck
        wait_until(lambda: output(engine, "c") in ("0\n", "1\n"), "the third")


def test_ports_of_twenty_groups_never_collide(engine: LocalEngine) -> None:
    pair = Workers(count=2, framework="tensorflow")
    script = f'echo "$MASTER_PORT $TF_CONFIG"; {WAITS}'
    names = [f"t{number}" for number in range(20)]
    submit(
        engine,
        *(task(n, script, workers=pair, resources=Resources(0.1, 32 << 20)) for n in names),
    )
    seen: list[str] = []
    for name in names:
        _wait_output(engine, name)
        said = output(engine, name, rank=0)
        seen += [said.split()[0], *(part.split('"')[0] for part in said.split("127.0.0.1:")[1:])]
    assert len(seen) == 60 and len(set(seen)) == 60
    for name in names:
        engine.cancel(name, 0.0)


def test_two_processes_submitting_the_same_at_once_run_it_once(
    engine: LocalEngine, home: Path
) -> None:
    code = (
        "import sys; from pathlib import Path; "
        "from mlstead.engines.local.engine import LocalEngine as create; "
        "from mlstead.testing.engine_values import *; "
        "submit(create(Path(sys.argv[1])), *(task(f't{n}', 'echo x; exit 0') for n in range(10)))"
    )
    both = [subprocess.Popen([sys.executable, "-c", code, str(home)]) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    for number in range(10):
        assert wait_final(engine, f"t{number}").phase is Phase.SUCCEEDED
        assert output(engine, f"t{number}") == "x\n"


def _wait_output(engine: LocalEngine, name: str) -> None:
    wait_until(lambda: output(engine, name, rank=0).endswith("\n"), f"a line of {name}")


# ---- memory


def test_a_neighbour_of_one_that_eats_memory_lives(any_engine: LocalEngine) -> None:
    submit(any_engine, task("neighbour", WAITS))
    wait_phase(any_engine, "neighbour", Phase.RUNNING)
    limit = 128 << 20
    eater = task("t", sys.executable, "-c", EAT, resources=Resources(0.1, limit), grace=60.0)
    status = run(any_engine, eater)
    assert (status.phase, status.reason) == (Phase.FAILED, Reason.OOM)
    assert "128 MiB" in status.detail
    assert any_engine.status("neighbour").phase is Phase.RUNNING


def test_memory_counts_for_the_whole_tree(any_engine: LocalEngine) -> None:
    child = (
        f"{sys.executable} -c \"x = bytearray(b'x' * (48 << 20)); import time; time.sleep(600)\""
    )
    one = task("t", f"{child} & {child} & {child} & wait", resources=Resources(0.1, 100 << 20))
    status = run(any_engine, one)
    assert (status.phase, status.reason) == (Phase.FAILED, Reason.OOM)


def test_the_limit_is_for_each_worker(any_engine: LocalEngine) -> None:
    code = "import os\nif os.environ['RANK'] == '1':\n    " + EAT.replace("\n", "\n    ")
    code += "\nimport time; time.sleep(600)"
    pair = Workers(count=2, framework="torch")
    one = task("t", sys.executable, "-c", code, workers=pair, resources=Resources(0.1, 96 << 20))
    status = run(any_engine, one)
    assert (status.reason, status.rank) == (Reason.OOM, 1)


# ---- homes that cannot be used, requests that differ


def test_a_home_that_cannot_be_written_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = LocalEngine(Path("/proc/mlstead"))
    with pytest.raises(UserError, match="cannot write to") as caught:
        submit(engine, task("t", "true"))
    assert "MLSTEAD_HOME" in caught.value.hint and "\n" not in str(caught.value)


def test_a_full_disk_leaves_nothing_half_written(engine: LocalEngine, home: Path) -> None:
    engine.ensure()
    code = (
        "import resource, signal, sys; from pathlib import Path; "
        "from mlstead.engines.local.engine import LocalEngine as create; "
        "from mlstead.testing.engine_values import *; "
        "from mlstead.errors import UserError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "try:\n    submit(create(Path(sys.argv[1])), task('t', 'true'))\n"
        "except UserError as error:\n    print(error, '|', error.hint)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(home)], capture_output=True, text=True, check=True
    )
    assert "cannot write to" in done.stdout
    folder = Home(home).task("t")
    assert not folder.exists() or list(folder.iterdir()) == []
    assert run(engine, task("t", "true")).phase is Phase.SUCCEEDED


def test_a_secret_is_nowhere_on_disk_after_the_end(engine: LocalEngine, home: Path) -> None:
    asked = (Secret("a", env="A"), Secret("b", env="B", file="token"))
    submit(engine, task("t", WAITS, secrets=asked), secrets={"a": "canary-1", "b": "canary-2"})
    wait_phase(engine, "t", Phase.RUNNING)
    held = [path for path in home.rglob("*") if path.is_file() and _holds(path, b"canary")]
    assert held and all(path.stat().st_mode & 0o077 == 0 for path in held)
    engine.signal_stop("t")
    wait_final(engine, "t")
    events_of(engine, "t")
    wait_until(
        lambda: not [p for p in home.rglob("*") if p.is_file() and _holds(p, b"canary")],
        "the secrets to be removed",
    )


def _holds(path: Path, text: bytes) -> bool:
    try:
        return text in path.read_bytes()
    except OSError:
        return False


def test_another_request_is_refused_after_the_end_too(engine: LocalEngine) -> None:
    run(engine, task("t", "true"))
    with pytest.raises(ConflictError):
        submit(engine, task("t", "false"))


def test_old_attempts_of_a_service_are_dropped(engine: LocalEngine, home: Path) -> None:
    status = run(engine, task("t", "exit 1", retry=Retry(30)))
    assert status.attempt == 31
    folder = Home(home).task("t")
    assert len([path for path in folder.iterdir() if path.name.isdigit()]) <= 21


def test_a_home_with_a_long_name_works(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_engine(home / ("x" * 120), monkeypatch) as engine:
        assert run(engine, task("t", "true")).phase is Phase.SUCCEEDED
    shutil.rmtree(home / ("x" * 120))
