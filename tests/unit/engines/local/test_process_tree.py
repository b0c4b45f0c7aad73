"""The tree of processes below another one is found, and ended to the last."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from mlstead.engines.local import process_tree
from mlstead.engines.local.ports import is_free, reserve


def start(script: str, **env: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, env=os.environ | env)


def test_children_and_their_children_are_found_and_killed() -> None:
    with start("sh -c 'sh -c \"echo up; exec sleep 600\" & wait' & wait") as process:
        assert process.stdout is not None and process.stdout.readline() == b"up\n"
        end = time.monotonic() + 30
        while True:  # one that is just changing into sleep holds nothing for a moment
            found = process_tree.below(process.pid)
            if len(found) == 2 and all(one.resident > 0 for one in found):
                break
            assert time.monotonic() < end, found
        assert process_tree.proportional([one.pid for one in found]) > 0
        assert process_tree.kill_all([process.pid])
        assert process_tree.kill_all([one.pid for one in found], seconds=0.0)


def test_processes_are_found_by_what_they_were_started_with() -> None:
    with start("echo up; sleep 600", MARK="one two") as process:
        assert process.stdout is not None and process.stdout.readline() == b"up\n"
        assert process.pid in process_tree.with_variable("MARK=one two")
        assert process.pid not in process_tree.with_variable("MARK=one")
        process_tree.kill_all([process.pid])


def test_a_name_with_brackets_confuses_nobody() -> None:
    code = "open('/proc/self/comm', 'w').write('a) R (b'); print('up', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == b"up\n"
        found = process_tree.look(process.pid)
        assert found is not None and found.parent == os.getpid()
        process_tree.kill_all([process.pid])


def test_a_process_that_is_gone_is_none() -> None:
    with start("exit 0") as process:
        process.wait()
    assert process_tree.look(process.pid) is None


def test_reserved_ports_are_free_and_given_once() -> None:
    first, locks = reserve(20)
    second, more = reserve(20)
    assert len({*first, *second}) == 40 and all(is_free(port) for port in first)
    for lock in (*locks, *more):
        os.close(lock)
