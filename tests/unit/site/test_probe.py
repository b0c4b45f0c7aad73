"""The program that looks at a machine, run as there: what it says of parts, whatever their stamps.

Its folder of stamps is another one here, and systemctl, dpkg-query, ctr are what a test wants.
"""

from __future__ import annotations

import ast
import base64
import grp
import hashlib
import json
import os
import pwd
import subprocess
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

import mlstead.site
from mlstead.site import _probe

MARK = "0123456789abcdef"
PROGRAM = files(mlstead.site).joinpath("_probe.py").read_text(encoding="utf-8")
OWNER = f"{pwd.getpwuid(os.geteuid()).pw_name}:{grp.getgrgid(os.getegid()).gr_name}"
GARBAGE = [
    "", "{", "null", "[]", "3", '"text"', "{}", '{"inputs": 3}', '{"inputs": null}', "\x00\xff",
    '{"inputs": "i", "files": []}', '{"inputs": "i", "files": {"/etc/passwd": "x"}}',
    '{"inputs": "i", "files": {"/etc/passwd": {"mode": "zz"}}}',
    '{"inputs": "i", "files": {"/etc/passwd": {}}}', '{"inputs": "i", "files": {"/a\\u0000": {}}}',
    '{"inputs": "i", "lines": [1]}', '{"inputs": "i", "lines": {"/etc/passwd": [[1]]}}',
    '{"inputs": "i", "units": 3}', '{"inputs": "i", "units": [3]}',
    '{"inputs": "i", "units": null}',
    '{"inputs": "i", "packages": ["a"]}', '{"inputs": "i", "settings": []}',
    '{"inputs": "i", "paths": [null]}', "[" * 100_000,
    '{"inputs": "i", "settings": {"kernel.hostname": "a", "x": 3}, "paths": 7}',
]  # fmt: skip


class Machine:
    """A folder that the program takes for a machine's stamps and programs."""

    def __init__(self, folder: Path) -> None:
        self.stamps = folder / "parts"
        self.bin = folder / "bin"
        self.stamps.mkdir()
        self.bin.mkdir()

    def stamp(self, name: str, **owned: Any) -> None:
        (self.stamps / f"{name}.json").write_text(json.dumps({"inputs": "i", **owned}))

    def program(self, name: str, script: str) -> Path:
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    def look(self, **probes: list[str]) -> dict[str, Any]:
        asked = json.dumps({"mark": MARK, "probes": probes}).encode()
        text = PROGRAM.replace('"/etc/mlstead/parts"', repr(str(self.stamps)))
        assert text != PROGRAM
        text += f"\nmain({base64.b64encode(asked).decode()!r})\n"
        done = subprocess.run(
            [sys.executable, "-I", "-"],
            input=text.encode(),
            capture_output=True,
            check=False,
            env={"PATH": f"{self.bin}:/usr/bin:/bin"},
        )
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout.startswith(MARK.encode())
        assert done.stdout.count(b"\n") == 1
        found: dict[str, Any] = json.loads(done.stdout.removeprefix(MARK.encode()))
        return found

    def drift(self, name: str = "x") -> list[str]:
        found = self.look()["parts"][name]
        assert found["inputs"] == "i"
        return list(found["drift"])


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_text("content\n")
    path.chmod(0o640)
    return path


def right(path: Path, **other: str) -> dict[str, dict[str, str]]:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {str(path): {"sha256": digest, "mode": "0640", "owner": OWNER, **other}}


# ---- the machine


def test_it_says_what_a_machine_is_and_what_its_programs_answer(machine: Machine) -> None:
    machine.program("loud", 'echo "$1 $LC_ALL"; echo no >&2; exit 3')
    found = machine.look(one=["loud", "a b"], two=["not-there"], three=["false"])
    assert found["answers"] == {"one": [3, "a b C\n"], "two": [127, ""], "three": [1, ""]}
    assert found["parts"] == {}
    system = found["system"]
    assert system["python"] == ".".join(map(str, sys.version_info[:3]))
    assert system["memory"]["total"] > system["memory"]["available"] > 0
    assert system["disks"]["/"]["size"] > 0
    assert system["cgroups"] in (1, 2)
    assert {"cpus", "arch", "kernel", "hostname", "boot_id", "swap", "foreign", "apt"} <= set(
        system
    )


def test_a_program_that_cannot_be_started_is_an_answer_too(machine: Machine) -> None:
    machine.program("other", "").write_bytes(b"\x7fELF of another machine")
    closed = machine.program("closed", "true")
    closed.chmod(0o644)
    found = machine.look(one=["other"], two=[str(closed)], three=[str(machine.bin)])
    assert found["answers"] == {"one": [126, ""], "two": [126, ""], "three": [126, ""]}


def test_what_a_program_prints_is_cut_and_never_breaks_the_answer(machine: Machine) -> None:
    machine.program("long", "head -c 5000000 /dev/zero | tr '\\0' a")
    machine.program("bytes", "printf '\\377\\n" + MARK + "{}\\n'")
    answers = machine.look(one=["long"], two=["bytes"])["answers"]
    assert len(answers["one"][1]) == 4 << 20
    assert answers["two"] == [0, f"\ufffd\n{MARK}{{}}\n"]


def test_programs_that_print_what_nobody_expects_leave_the_facts_empty(machine: Machine) -> None:
    for name in ("ip", "ss", "timedatectl"):
        machine.program(name, "echo '[{'; echo 'tcp LISTEN'; echo 'tcp x y z :::port more'")
    system = machine.look()["system"]
    assert (system["addresses"], system["listening"], system["synchronised"]) == ([], [], False)


def test_addresses_and_what_listens_are_read(machine: Machine) -> None:
    machine.program("ip", """echo '[{"addr_info": [{"local": "10.0.0.1"}, {}]}, {}]'""")
    machine.program(
        "ss",
        """echo 'tcp LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:(("sshd",pid=1,fd=3))'
        echo 'udp UNCONN 0 0 [::1]:323 [::]:*'
        echo 'tcp LISTEN 0 5 127.0.0.53%lo:53 0.0.0.0:*'""",
    )
    system = machine.look()["system"]
    assert system["addresses"] == ["10.0.0.1"]
    assert system["listening"] == [
        ["tcp", "0.0.0.0", 22, "sshd"], ["udp", "::1", 323, ""], ["tcp", "127.0.0.53", 53, ""]
    ]  # fmt: skip


# ---- parts


@pytest.mark.parametrize("text", GARBAGE)
def test_a_damaged_stamp_counts_as_not_installed(machine: Machine, text: str) -> None:
    (machine.stamps / "bad.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    machine.stamp("good")
    parts = machine.look()["parts"]
    assert parts == {
        "bad": {"inputs": "", "drift": []},
        "good": {"inputs": "i", "drift": []},
    }


def test_only_stamps_are_taken_for_parts(machine: Machine) -> None:
    (machine.stamps / ".stamp-1").write_text('{"inputs": "half"}')
    (machine.stamps / "folder.json").mkdir()
    machine.stamp("x")
    parts = machine.look()["parts"]
    assert parts["x"] == {"inputs": "i", "drift": []}
    assert parts["folder"]["inputs"] == ""
    assert set(parts) == {"x", "folder"}


def _append(path: Path) -> None:
    path.write_text("content\nmore\n")


def _replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _replace_by_link(path: Path) -> None:
    path.rename(path.with_name("other"))
    path.symlink_to("other")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda path: None, []),
        (_append, ["was changed"]),
        (Path.unlink, ["is gone"]),
        (lambda path: path.chmod(0o644), ["has other permissions"]),
        (_replace_by_folder, ["was changed"]),
        (_replace_by_link, ["was changed"]),
    ],
    ids=["nothing", "content", "gone", "mode", "folder", "link"],
)
def test_a_file_is_compared_by_content_mode_and_kind(
    machine: Machine, file: Path, change: Callable[[Path], object], words: list[str]
) -> None:
    machine.stamp("x", files=right(file))
    change(file)
    assert machine.drift() == [f"{file} {word}" for word in words]


def test_a_file_of_another_owner_is_told(machine: Machine, file: Path) -> None:
    machine.stamp("x", files=right(file, owner="nobody-here:none"))
    assert machine.drift() == [f"{file} has another owner"]


def test_an_owner_without_a_name_is_told_by_number() -> None:
    found = os.stat_result((0o100644, 1, 1, 1, 54321, 54322, 0, 0, 0, 0))
    assert _probe.owner(found) == "54321:54322"


def test_a_link_is_compared_by_where_it_points(machine: Machine, file: Path) -> None:
    link = file.with_name("link")
    link.symlink_to("file")
    machine.stamp("x", files={str(link): {"link": "file"}})
    machine.stamp("y", files={str(link): {"link": "other"}})
    machine.stamp("z", files={str(file): {"link": "file"}})
    found = machine.look()["parts"]
    assert [found[name]["drift"] for name in "xyz"] == [
        [], [f"{link} was changed"], [f"{file} was changed"]
    ]  # fmt: skip


def test_lines_are_looked_for_whole(machine: Machine, file: Path) -> None:
    file.write_text("10.0.0.1 a\n10.0.0.2 bb\n")
    lines = ["10.0.0.1 a", "10.0.0.2 b"]
    machine.stamp("x", lines={str(file): lines, "/not/there": ["x"]})
    assert machine.drift() == [
        f"{file} lacks the line '10.0.0.2 b'",
        "/not/there lacks the line 'x'",
    ]


def test_units_must_run_and_start_at_boot(machine: Machine) -> None:
    machine.program(
        "systemctl",
        """case $2 in
        good) echo ActiveState=active; echo UnitFileState=enabled;;
        stopped) echo ActiveState=inactive; echo UnitFileState=enabled;;
        off) echo ActiveState=active; echo UnitFileState=disabled;;
        both) echo ActiveState=failed; echo UnitFileState=masked;;
        gone) echo ActiveState=inactive; echo UnitFileState=;;
        *) exit 1;;
        esac""",
    )
    machine.stamp("x", units=["good", "stopped", "off", "both", "gone", "unknown"])
    assert machine.drift() == [
        "stopped is inactive",
        "off is not started at boot",
        "both is failed",
        "both is not started at boot",
        "gone is inactive",
        "gone is not started at boot",
        "unknown is unknown",
        "unknown is not started at boot",
    ]


def test_packages_must_be_there_in_their_version(machine: Machine) -> None:
    machine.program(
        "dpkg-query",
        "echo 'a 1.0 installed'; echo 'b 2.0 installed'; echo 'c 1.0 config-files'; exit 1",
    )
    machine.stamp("x", packages={"a": "1.0", "b": "1.0", "c": "1.0", "d": ""})
    assert machine.drift() == [
        "package b is 2.0, not 1.0",
        "package c is gone",
        "package d is gone",
    ]


def test_settings_are_read_from_the_kernel(machine: Machine) -> None:
    kind = Path("/proc/sys/kernel/ostype").read_text().strip()
    machine.stamp("x", settings={"kernel.ostype": kind})
    machine.stamp("y", settings={"kernel.ostype": "other", "no.such.setting": "1"})
    parts = machine.look()["parts"]
    assert parts["x"]["drift"] == []
    assert parts["y"]["drift"] == [
        f"kernel.ostype is {kind}, not other",
        "no.such.setting is unknown, not 1",
    ]


def test_images_must_be_in_the_runtime(machine: Machine) -> None:
    machine.stamp("x", images=["a:1", "b:1"])
    machine.program("ctr", "echo a:1; echo a:2")
    assert machine.drift() == ["image b:1 is gone"]
    machine.program("ctr", "exit 1")
    assert machine.drift() == ["the container runtime does not answer"]


def test_paths_must_exist(machine: Machine, file: Path) -> None:
    machine.stamp("x", paths=[str(file), "/not/there"])
    assert machine.drift() == ["/not/there is gone"]


def test_its_grammar_is_that_of_python_3_8() -> None:
    ast.parse(PROGRAM, feature_version=(3, 8))
