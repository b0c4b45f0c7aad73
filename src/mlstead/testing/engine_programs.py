"""What an engine that runs real programs must do, as tests: subclass and give ``make``."""

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlstead.engines.base import (
    Engine,
    Input,
    Phase,
    Reason,
    Resources,
    Retry,
    Secret,
    Workers,
)
from mlstead.testing.engine_values import (
    output,
    run,
    submit,
    task,
    wait_final,
    wait_phase,
    wait_until,
)

Make = Callable[[], Engine]
EAT = "data = []\nwhile True:\n    data.append(bytearray(b'x' * (4 << 20)))\n"
PAIR = Workers(count=2, framework="torch")


class ProgramsContract:
    """What the user's program finds, and what becomes of what it does.

    A subclass gives the fixture ``make``, as for ``EngineContract``, and says where its programs
    find Python and, if not on this machine, how the first worker is called (a regular expression).
    """

    python = sys.executable
    master = r"127\.0\.0\.1"

    @pytest.fixture
    def make(self) -> Iterator[Make]:
        raise NotImplementedError

    @pytest.fixture
    def engine(self, make: Make) -> Engine:
        return make()

    # ---- what a program finds

    def test_parameters_arrive_intact_and_never_run(self, engine: Engine) -> None:
        nasty = "a'b\"c; echo $(id) `id`\nnext \\ $HOME ü"
        one = task("t", 'printf %s "$MLSTEAD_PARAM_TEXT"; cat "$MLSTEAD_PARAMS"', params={
            "text": nasty, "lr": 0.1, "flag": True, "many": [1, 2],
        })  # fmt: skip
        run(engine, one)
        said = output(engine, "t")
        assert said.startswith(nasty)
        assert json.loads(said.removeprefix(nasty)) == dict(one.params)

    def test_the_environment_holds_the_task_and_not_the_caller(
        self, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CANARY_OF_THE_CALLER", "x")
        run(engine, task("t", self.python, "-c", _PRINT_ENV, env={"MINE": "a=b c"}))
        env = json.loads(output(engine, "t"))
        assert env["MINE"] == "a=b c" and env["MLSTEAD_ATTEMPT"] == "1"
        assert env["MLSTEAD_TASK_ID"] == "t" and env["CUDA_VISIBLE_DEVICES"] == ""
        assert env["PATH"].split(":")[0] == str(Path(self.python).parent)
        assert "CANARY_OF_THE_CALLER" not in env and "RANK" not in env
        for name in ("PARAMS", "INPUTS", "OUTPUTS", "CHECKPOINTS", "METRICS", "STOP"):
            assert f"MLSTEAD_{name}" in env

    def test_inputs_can_be_read(self, engine: Engine, tmp_path: Path) -> None:
        (tmp_path / "tree").mkdir()
        (tmp_path / "tree" / "a.txt").write_text("hello")
        asked = tuple(Input(mode, str(tmp_path / "tree"), mode) for mode in ("link", "copy"))
        one = task("t", "cat $MLSTEAD_INPUTS/link/a.txt $MLSTEAD_INPUTS/copy/a.txt", inputs=asked)
        assert run(engine, one).phase is Phase.SUCCEEDED
        assert output(engine, "t") == "hellohello"
        assert (tmp_path / "tree" / "a.txt").read_text() == "hello"

    def test_an_input_that_is_not_there_fails_with_its_name(self, engine: Engine) -> None:
        status = run(engine, task("t", "true", inputs=(Input("data", "/no/such/place"),)))
        assert (status.phase, status.reason) == (Phase.FAILED, Reason.VOLUME)
        assert "data" in status.detail

    def test_outputs_are_kept(self, make: Make) -> None:
        script = "mkdir $MLSTEAD_OUTPUTS/model; echo weights > $MLSTEAD_OUTPUTS/model/w.bin"
        assert run(make(), task("t", script, outputs=("model",))).phase is Phase.SUCCEEDED
        assert (Path(make().outputs("t")) / "model" / "w.bin").read_text() == "weights\n"

    @pytest.mark.parametrize(
        ("text", "detail"),
        [
            ("{}", "'lr' is missing"), ("[1]", "object"), ("{", "not JSON"),
            ('{"lr": "%s"}' % ("x" * 40000), "bytes"),
        ],
    )  # fmt: skip
    def test_bad_values_fail_the_task(self, engine: Engine, text: str, detail: str) -> None:
        script = 'printf %s "$MLSTEAD_PARAM_TEXT" > $MLSTEAD_OUTPUTS/values.json'
        status = run(engine, task("t", script, params={"text": text}, values=("lr",)))
        assert (status.phase, status.reason) == (Phase.FAILED, Reason.ERROR)
        assert detail in status.detail

    def test_metrics_can_be_read_on_from_an_offset(self, engine: Engine) -> None:
        run(engine, task("t", 'echo one > "$MLSTEAD_METRICS"; echo two >> "$MLSTEAD_METRICS"'))
        assert engine.metrics("t", 1, 0, 0) == b"one\ntwo\n"
        assert engine.metrics("t", 1, 0, 4) == b"two\n"
        assert engine.metrics("t", 1, 0, 0, limit=5) == b"one\nt"
        assert engine.metrics("t", 1, 7, 0) == engine.metrics("t", 9, 0, 0) == b""

    def test_checkpoints_are_kept_for_the_next_attempt(self, engine: Engine) -> None:
        script = (
            "f=$MLSTEAD_CHECKPOINTS/n; if [ -e $f ]; then cat $f; exit 0; fi; "
            "echo step-7 > $f; exit 1"
        )
        status = run(engine, task("t", script, retry=Retry(1)))
        assert (status.phase, status.attempt) == (Phase.SUCCEEDED, 2)
        assert output(engine, "t").endswith("step-7\n")

    def test_secrets_reach_the_program_and_nothing_else(self, make: Make) -> None:
        engine = make()
        asked = (Secret("slack", env="SLACK_URL"), Secret("hf", env="HF", file="token"))
        one = task(
            "t", 'test "$SLACK_URL" = can"ary-1"; test "$(cat "$HF")" = can"ary-2"', secrets=asked
        )
        submission = engine.prepare(one, engine.facts())
        assert "canary" not in repr(submission)
        status = run(engine, one, {"slack": "canary-1", "hf": "canary-2"})
        assert status.phase is Phase.SUCCEEDED, output(engine, "t")

    # ---- how it ends

    def test_a_signal_is_named(self, engine: Engine) -> None:
        status = run(engine, task("t", "kill -SEGV $$ ; sleep 9"))
        assert (status.phase, status.signal, status.exit_code) == (Phase.FAILED, 11, None)
        assert "SIGSEGV" in status.detail

    def test_a_file_that_may_not_run_fails_with_126(self, engine: Engine) -> None:
        status = run(engine, task("t", "/etc/passwd"))
        assert (status.phase, status.exit_code) == (Phase.FAILED, 126)
        assert "permission denied" in status.detail

    def test_a_task_that_eats_memory_dies_alone(self, engine: Engine) -> None:
        submit(engine, task("neighbour", "sleep", "600"))
        wait_phase(engine, "neighbour", Phase.RUNNING)
        limit = 96 << 20
        eater = task("t", self.python, "-c", EAT, resources=Resources(0.1, limit))
        status = run(engine, eater)
        assert (status.phase, status.reason) == (Phase.FAILED, Reason.OOM)
        assert status.memory_limit == limit and status.peak_memory is not None
        assert status.peak_memory > limit // 2
        assert engine.status("neighbour").phase is Phase.RUNNING
        engine.cancel("neighbour", 0.0)
        wait_final(engine, "neighbour")

    def test_cancel_gives_the_program_its_grace(self, engine: Engine) -> None:
        script = "trap 'echo asked; exit 0' TERM; echo ready; while true; do sleep 0.05; done"
        submit(engine, task("t", script))
        wait_until(lambda: "ready" in output(engine, "t"), "the program to be ready")
        engine.cancel("t", 30.0)
        assert wait_final(engine, "t").phase is Phase.CANCELLED
        assert "asked" in output(engine, "t")

    def test_a_program_that_ignores_term_is_killed_with_its_children(
        self, engine: Engine, tmp_path: Path
    ) -> None:
        loop = "while true; do sleep 1; done"
        child = f"trap : TERM; echo $$ > {tmp_path}/pid; {loop}"
        script = f"trap : TERM; sh -c '{child}' & {loop}"
        submit(engine, task("t", script))
        wait_until(lambda: _pid(tmp_path / "pid"), "the grandchild")
        engine.cancel("t", 0.2)
        assert wait_final(engine, "t").phase is Phase.CANCELLED
        wait_until(lambda: not _alive(_pid(tmp_path / "pid")), "the grandchild to go")

    def test_what_a_program_leaves_behind_is_ended(self, engine: Engine, tmp_path: Path) -> None:
        assert run(engine, task("t", self.python, "-c", _DAEMON, str(tmp_path / "pid"))).phase is (
            Phase.SUCCEEDED
        )
        assert not _alive(_pid(tmp_path / "pid"))

    def test_signal_stop_lets_the_program_end_by_itself(self, engine: Engine) -> None:
        submit(engine, task("t", 'while [ ! -e "$MLSTEAD_STOP" ]; do sleep 0.02; done; echo bye'))
        wait_phase(engine, "t", Phase.RUNNING)
        engine.signal_stop("t")
        assert wait_final(engine, "t").phase is Phase.SUCCEEDED
        assert output(engine, "t") == "bye\n"

    # ---- what it says

    def test_a_line_of_100_mb_is_kept_whole(self, engine: Engine) -> None:
        run(engine, task("t", "head -c 100000000 /dev/zero | tr '\\0' x; echo end"))
        total, last = 0, b""
        for chunk in engine.logs("t"):
            total, last = total + len(chunk), chunk
        assert total == 100_000_004 and last.endswith(b"xend\n")

    def test_binary_output_is_kept_as_it_is(self, engine: Engine) -> None:
        run(engine, task("t", self.python, "-c", _BINARY))
        assert b"".join(engine.logs("t")) == bytes(range(256)) * 3

    def test_the_last_words_before_a_crash_are_kept(self, engine: Engine) -> None:
        run(engine, task("t", self.python, "-c", _CRASH))
        assert output(engine, "t") == "last words"

    def test_logs_can_be_followed_while_it_runs(self, make: Make) -> None:
        script = 'echo one; while [ ! -e "$MLSTEAD_STOP" ]; do sleep 0.02; done; echo two'
        submit(make(), task("t", script))
        chunks = make().logs("t", follow=True)
        assert next(chunks) == b"one\n"
        make().signal_stop("t")
        assert b"".join(chunks) == b"two\n"

    # ---- workers

    def test_workers_know_their_place(self, engine: Engine) -> None:
        words = "$RANK/$WORLD_SIZE $LOCAL_RANK/$LOCAL_WORLD_SIZE $NODE_RANK $MASTER_ADDR"
        group = Workers(count=2, processes=2, framework="torch")
        assert run(engine, task("t", f"echo {words}", workers=group)).phase is Phase.SUCCEEDED
        for rank in range(4):
            expected = f"{rank}/4 {rank % 2}/2 {rank // 2} {self.master}\n"
            assert re.fullmatch(expected, output(engine, "t", rank=rank))
        assert "[rank 3] 3/4" in output(engine, "t")

    def test_tensorflow_workers_get_their_cluster(self, engine: Engine) -> None:
        group = Workers(count=3, framework="tensorflow")
        run(engine, task("t", 'echo "$TF_CONFIG"', workers=group))
        configs = [json.loads(output(engine, "t", rank=rank)) for rank in range(3)]
        assert [config["task"]["index"] for config in configs] == [0, 1, 2]
        addresses = configs[0]["cluster"]["worker"]
        assert len(set(addresses)) == 3 and all(
            c["cluster"]["worker"] == addresses for c in configs
        )

    def test_a_launcher_of_its_own_gets_its_node(self, engine: Engine) -> None:
        group = Workers(count=2, processes=3, launcher="own")
        words = "$NODE_RANK/$NNODES $PET_NPROC_PER_NODE $PET_NODE_RANK [$RANK]"
        run(engine, task("t", f'echo "{words}"', workers=group))
        assert output(engine, "t", rank=1) == "1/2 3 1 []\n"

    def test_the_first_failure_ends_the_group_and_is_named(self, engine: Engine) -> None:
        script = 'if [ "$RANK" = 1 ]; then exit 5; fi; sleep 600'
        status = run(engine, task("t", script, workers=PAIR, grace=5.0))
        assert (status.phase, status.exit_code, status.rank) == (Phase.FAILED, 5, 1)

    def test_outputs_of_rank_0_are_kept_unless_all_are_asked(self, engine: Engine) -> None:
        script = "echo $RANK > $MLSTEAD_OUTPUTS/one; echo $RANK > $MLSTEAD_OUTPUTS/each"
        one = task("t", script, workers=PAIR, outputs=("one", "each"), ranks=("each",))
        assert run(engine, one).phase is Phase.SUCCEEDED
        kept = Path(engine.outputs("t"))
        assert (kept / "one").read_text() == "0\n"
        assert [(kept / "each" / rank).read_text() for rank in ("0", "1")] == ["0\n", "1\n"]


def _pid(path: Path) -> int:
    try:
        return int(path.read_text() or "0")
    except FileNotFoundError:
        return 0


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


_PRINT_ENV = "import json, os; print(json.dumps(dict(os.environ)))"
_BINARY = "import os; os.write(1, bytes(range(256)) * 3)"
_CRASH = "import os; os.write(1, b'last words'); os.kill(os.getpid(), 9)"
_DAEMON = """
import os, sys, time
read, write = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        with open(sys.argv[1], "w") as file:
            file.write(str(os.getpid()))
        os.write(write, b".")
        time.sleep(600)
    os._exit(0)
os.read(read, 1)
"""
