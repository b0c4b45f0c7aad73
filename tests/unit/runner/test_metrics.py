"""Metrics: what a program writes is what the platform reads, whatever happens to the program."""

import json
import math
import os
import signal
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.runner.conftest import Program

from mlstead.runner.metrics import LONGEST_NAME, Point, parse

LOG = "from mlstead.runner.metrics import log\n"


def points(path: Path) -> list[Point]:
    found = [parse(line) for line in path.read_bytes().splitlines()]
    assert None not in found
    return [point for point in found if point is not None]


def test_a_value_arrives_with_name_step_rank_and_time(program: Program, tmp_path: Path) -> None:
    file = tmp_path / "metrics"
    done = program(LOG + "log(accuracy=0.1, loss=2, step=3)", MLSTEAD_METRICS=str(file), RANK="5")
    assert (done.returncode, done.stderr) == (0, "")
    first, second = points(file)
    assert first == Point("accuracy", 0.1, 3, first.time, 5)
    assert second == Point("loss", 2.0, 3, first.time, 5)
    assert abs(first.time - file.stat().st_mtime) < 60


def test_a_step_not_given_follows_the_last_of_that_name(program: Program, tmp_path: Path) -> None:
    file = tmp_path / "metrics"
    program(
        LOG + "log(a=1); log(a=1); log(b=1); log(a=1, step=10); log(a=1); log(b=1)",
        MLSTEAD_METRICS=str(file),
    )
    assert [(p.name, p.step) for p in points(file)] == [
        ("a", 0), ("a", 1), ("b", 0), ("a", 10), ("a", 11), ("b", 1),
    ]  # fmt: skip


def test_nan_and_infinities_survive_as_plain_json(program: Program, tmp_path: Path) -> None:
    file = tmp_path / "metrics"
    program(
        LOG + "log(a=float('nan'), b=float('inf'), c=float('-inf'), d=1e-320)",
        MLSTEAD_METRICS=str(file),
    )
    lines = [json.loads(line) for line in file.read_bytes().splitlines()]
    assert [line["v"] for line in lines] == ["nan", "inf", "-inf", 1e-320]
    values = [point.value for point in points(file)]
    assert math.isnan(values[0]) and values[1:3] == [math.inf, -math.inf]


def test_names_that_are_no_identifiers_come_as_a_mapping(program: Program, tmp_path: Path) -> None:
    file = tmp_path / "metrics"
    program(LOG + "log({'val/ä \"q\"': 1, 'step': 2}, step=7)", MLSTEAD_METRICS=str(file))
    assert [(p.name, p.value, p.step) for p in points(file)] == [
        ('val/ä "q"', 1.0, 7),
        ("step", 2.0, 7),
    ]


def test_a_killed_program_loses_nothing_it_logged(program: Program, tmp_path: Path) -> None:
    file = tmp_path / "metrics"
    done = program(
        LOG + "import os\nfor i in range(1000): log(a=i)\nos.kill(os.getpid(), 9)",
        MLSTEAD_METRICS=str(file),
    )
    assert done.returncode == -signal.SIGKILL
    assert [point.step for point in points(file)] == list(range(1000))


@pytest.mark.parametrize(
    "bad",
    ["'much'", "None", "[1]", "10**400", "object()"],
    ids=["text", "none", "list", "huge", "object"],
)
def test_a_bad_value_is_told_once_and_its_neighbour_is_kept(
    program: Program, tmp_path: Path, bad: str
) -> None:
    file = tmp_path / "metrics"
    done = program(
        LOG + f"for i in range(3): log(bad={bad}, good=1)\nprint('done')", MLSTEAD_METRICS=str(file)
    )
    assert (done.returncode, done.stdout) == (0, "done\n")
    assert done.stderr.count("\n") == 1 and "'bad'" in done.stderr
    assert [point.name for point in points(file)] == ["good"] * 3


@pytest.mark.parametrize("call", ["log({'': 1})", f"log({{'x' * {LONGEST_NAME + 1}: 1}})",
                                  "log({'a\\nb': 1})", "log({'\\ud800': 1})", "log({3: 1})",
                                  "log(a=1, step='x')", "log(5)"])  # fmt: skip
def test_what_cannot_be_written_never_raises(program: Program, tmp_path: Path, call: str) -> None:
    file = tmp_path / "metrics"
    done = program(LOG + f"{call}\n{call}\nlog(fine=1)", MLSTEAD_METRICS=str(file))
    assert done.returncode == 0
    assert done.stderr.startswith("mlstead: ") and done.stderr.count("\n") == 1
    assert [point.name for point in points(file)] == ["fine"]


def test_outside_a_run_it_does_nothing_and_says_nothing(program: Program, tmp_path: Path) -> None:
    done = program(LOG + "log(a=1); log(a='x')")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["/dev/full", "/nowhere/at/all", "/"])
def test_a_full_or_missing_disk_is_told_once_and_the_program_goes_on(
    program: Program, place: str
) -> None:
    done = program(LOG + "for i in range(5): log(a=i)\nprint('done')", MLSTEAD_METRICS=place)
    assert (done.returncode, done.stdout) == (0, "done\n")
    assert done.stderr.count("\n") == 1 and "a metric could not be kept" in done.stderr


def test_after_a_line_cut_off_by_a_full_disk_later_ones_are_whole(
    program: Program, tmp_path: Path
) -> None:
    file = tmp_path / "metrics"
    program(
        "import resource, signal\n" + LOG + "log(first=1, step=0)\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"import os; size = os.path.getsize({str(file)!r})\n"
        "hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, hard))\n"
        "log(cut=1); log(lost=1)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))\n"
        "log(last=1)",
        MLSTEAD_METRICS=str(file),
    )
    read = [parse(line) for line in file.read_bytes().splitlines()]
    assert [point and point.name for point in read] == ["first", None, "last"]


def test_a_pipe_that_nobody_reads_does_not_block(program: Program, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    done = program(LOG + "log(a=1); print('done')", MLSTEAD_METRICS=str(pipe))
    assert done.stdout == "done\n"


def test_threads_write_whole_lines_and_no_step_twice(program: Program, tmp_path: Path) -> None:
    file = tmp_path / "metrics"
    program(
        LOG + "import threading\n"
        "def work():\n"
        "    for _ in range(500): log(a=1)\n"
        "threads = [threading.Thread(target=work) for _ in range(8)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]",
        MLSTEAD_METRICS=str(file),
    )
    assert Counter(point.step for point in points(file)) == Counter(range(4000))


def test_forked_children_write_beside_their_parent(program: Program, tmp_path: Path) -> None:
    file = tmp_path / "metrics"
    done = program(
        LOG + "import os\nlog(parent=1)\n"
        "children = []\n"
        "for rank in range(4):\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        os.environ['RANK'] = str(rank)\n"
        "        for i in range(200): log(child=i, step=i)\n"
        "        os._exit(0)\n"
        "    children.append(child)\n"
        "for child in children: assert os.waitpid(child, 0)[1] == 0\n"
        "log(parent=2)",
        MLSTEAD_METRICS=str(file),
    )
    assert done.returncode == 0, done.stderr
    found = Counter((point.name, point.rank) for point in points(file))
    assert found == {("parent", 0): 2, **{("child", rank): 200 for rank in range(4)}}


def test_a_child_that_closed_all_files_writes_into_none_of_its_own(
    program: Program, tmp_path: Path
) -> None:
    file, own = tmp_path / "metrics", tmp_path / "own"
    program(
        LOG + "import os\nlog(a=1)\n"
        "if os.fork(): os.wait()\n"
        "else:\n"
        "    os.closerange(3, 256)\n"
        f"    mine = [os.open({str(own)!r}, os.O_CREAT | os.O_RDWR) for _ in range(9)]\n"
        "    log(a=2); os._exit(0)",
        MLSTEAD_METRICS=str(file),
    )
    assert own.read_bytes() == b""
    assert [point.value for point in points(file)] == [1.0, 2.0]


@pytest.mark.parametrize(
    ("line", "point"),
    [
        (b'{"k": "a", "v": 1}', Point("a", 1.0)),
        (b'{"k": "a", "v": "nan", "s": 2, "t": 5, "r": 1, "more": []}', None),
        (b'{"k":"a","v":0.5,"s":2,"t":5.5,"r":1}\n', Point("a", 0.5, 2, 5.5, 1)),
    ],
    ids=["short", "nan", "full"],
)
def test_lines_of_other_languages_are_read(line: bytes, point: Point | None) -> None:
    read = parse(line)
    assert read is not None
    if point is None:
        assert math.isnan(read.value) and read[2:] == (2, 5.0, 1)
    else:
        assert read == point


@pytest.mark.parametrize(
    "line",
    [
        b"", b"\n", b"{}", b"[]", b"3", b"null", b'{"k":"a","v":0.', b'{"k":"a"}', b'{"v":1}',
        b'{"k":"a","v":true}', b'{"k":"a","v":"x"}', b'{"k":"a","v":[1]}', b'{"k":1,"v":1}',
        b'{"k":"","v":1}', b'{"k":"a\\u0000b","v":1}', b'{"k":"\\ud800","v":1}',
        b'{"k":"a","v":1,"s":1.5}', b'{"k":"a","v":1,"s":99999999999999999999}',
        b'{"k":"a","v":1,"r":"x"}', b'{"k":"a","v":1,"t":"x"}', b"\xff\xfe{}", b"[" * 100_000,
        b'{"k":"a","v":1' + b"0" * 400 + b"}",
    ],
)  # fmt: skip
def test_what_is_no_metric_is_passed_over(line: bytes) -> None:
    assert parse(line) is None


@given(st.binary())
def test_no_bytes_at_all_make_the_reader_fail(line: bytes) -> None:
    read = parse(line)
    assert read is None or isinstance(read, Point)
