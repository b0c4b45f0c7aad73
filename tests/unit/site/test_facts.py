"""How what machines print becomes facts: noise, cut answers, sudo, Python, and the real program."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from mlstead.clients.ssh import Answer, Ssh, Target
from mlstead.errors import PlatformError, UnavailableError, UserError
from mlstead.plan import Answer as ProbeAnswer
from mlstead.plan import HostFacts, PartFacts
from mlstead.site import facts
from mlstead.site.facts import gather, target
from mlstead.spec.site import Site
from mlstead.spec.site import Ssh as Login
from mlstead.testing.site_values import a_site

MARK = "5f" * 16
SITE = a_site(
    "s", {"h": ["control-plane"], "w": ["worker"]}, ssh=Login(user="ann", key="~/k", port=2222)
)
DATA: dict[str, Any] = {
    "system": {"python": "3.11.2", "clock": 5.0},
    "parts": {"network": {"inputs": "i", "drift": ["a is gone"]}},
    "answers": {"nodes": [1, "no"]},
}
FOUND = HostFacts(
    DATA["system"],
    {"network": PartFacts("i", ("a is gone",))},
    {"nodes": ProbeAnswer(1, "no")},
)


class Here:
    """Runs what would run on machines by this machine's own shell, as root is asked there."""

    def __init__(self, folder: Path, gone: Sequence[str] = ()) -> None:
        self.path = folder
        self.gone = gone
        self.asked: list[tuple[Target, str]] = []

    def run_all(
        self, calls: Sequence[tuple[Target, str, bytes]], *, timeout: float
    ) -> list[Answer | PlatformError]:
        return [self._run(*call) for call in calls]

    def _run(self, at: Target, command: str, script: bytes) -> Answer | PlatformError:
        self.asked.append((at, command))
        if at.name in self.gone:
            return UnavailableError(f"{at.name}: does not answer")
        done = subprocess.run(
            ["/bin/sh", "-s"],
            input=script,
            capture_output=True,
            check=False,
            env={"PATH": str(self.path)},
        )
        return Answer(done.returncode, b"Welcome!\n" + done.stdout + b"bye\n", done.stderr.decode())


def programs(folder: Path, *names: str) -> Path:
    """Make a folder in which some of this machine's programs are found."""
    folder.mkdir()
    for name in names:
        (folder / name).symlink_to(f"/usr/bin/{name}")
    return folder


def read(out: str, err: str = "", code: int = 0, site: Site = SITE) -> HostFacts | PlatformError:
    return facts._read(site, "h", Answer(code, out.encode(), err), MARK)


def told(err: str, code: int = 1, site: Site = SITE) -> PlatformError:
    found = read("", err, code, site)
    assert isinstance(found, PlatformError)
    return found


# ---- one answer


@pytest.mark.parametrize(
    "shape",
    [
        "{mark}{data}\n",
        "Welcome to h!\nLast login: never\n{mark}{data}\n",
        "no end of line {mark}{data}\n",
        "{mark}{data}\nlogout\n{{}}\n",
        "{{]\n{mark}{data}\n\n\n",
        "{mark}{data}",
    ],
)
def test_words_of_a_login_shell_before_and_after_are_passed_over(shape: str) -> None:
    assert read(shape.format(mark=MARK, data=json.dumps(DATA))) == FOUND


def test_bytes_that_are_no_text_are_passed_over() -> None:
    out = b"\xff\xfe\x00" + MARK.encode() + json.dumps(DATA).encode() + b"\n\xff"
    assert facts._read(SITE, "h", Answer(0, out, ""), MARK) == FOUND


@pytest.mark.parametrize("kept", [0, 1, 20, 60, len(json.dumps(DATA)) - 1])
def test_an_answer_that_was_cut_off_is_no_answer(kept: int) -> None:
    found = read(f"hello\n{MARK}{json.dumps(DATA)[:kept]}")
    assert isinstance(found, UnavailableError)
    assert str(found) == "h: its answer was cut off"


@pytest.mark.parametrize(
    "data",
    [
        "[]", "3", "null", "{}", '{"system": {}, "parts": [], "answers": {}}',
        '{"system": 3, "parts": {}, "answers": {}}',
        '{"system": {}, "parts": {"a": {}}, "answers": {}}',
        '{"system": {}, "parts": {"a": []}, "answers": {}}',
        '{"system": {}, "parts": {}, "answers": {"a": []}}',
        '{"system": {}, "parts": {}, "answers": {"a": ["x", "y"]}}',
    ],
)  # fmt: skip
def test_an_answer_of_another_shape_is_no_answer(data: str) -> None:
    assert isinstance(read(f"{MARK}{data}\n"), UnavailableError)


# ---- no answer


@pytest.mark.parametrize(
    "err",
    [
        "sudo: a password is required\n",
        "sudo: a terminal is required to read the password; either use the -S option to read from "
        "standard input or configure an askpass helper\nsudo: a password is required\n",
        "ann is not in the sudoers file.\n",
        "ann is not in the sudoers file.  This incident will be reported.\n",
        "Sorry, user ann is not allowed to execute '/bin/sh -s' as root on h.\n",
        "ann is not allowed to run sudo on h.\n",
        "sudo: sorry, you must have a tty to run sudo\n",
        "sudo: unable to resolve host h: Name or service not known\nsudo: a password is required\n",
    ],
)
def test_sudo_that_is_refused_is_told_with_what_to_write_where(err: str) -> None:
    found = told(err)
    assert isinstance(found, UserError)
    assert str(found).startswith("h: ann may not use sudo without a password: ")
    assert "\n" not in str(found)
    assert found.hint == "as root on h: echo 'ann ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/mlstead"


def test_a_login_that_ssh_chose_is_left_open_in_the_hint() -> None:
    found = told("sudo: a password is required\n", site=a_site("s", {"h": ["control-plane"]}))
    assert str(found).startswith("h: the login may not use sudo")
    assert "echo '<login> ALL" in found.hint


@pytest.mark.parametrize(
    "err", ["sh: 1: exec: sudo: not found\n", "bash: line 1: exec: sudo: command not found\n"]
)
def test_a_machine_without_sudo_is_not_told_to_allow_it(err: str) -> None:
    found = told(err, 127)
    assert isinstance(found, UserError)
    assert str(found) == "h: ann is not root, and sudo is not there"
    assert found.hint == "install sudo on h, or log in as root"


def test_a_failure_under_sudo_is_not_taken_for_a_refusal() -> None:
    err = "sudo: unable to resolve host h\nTraceback (most recent call last):\nMemoryError\n"
    found = told(err)
    assert isinstance(found, UnavailableError)
    assert str(found) == "h: could not look at it: MemoryError"
    assert str(told("", 137)) == "h: could not look at it: exit code 137"


# ---- the whole way


def test_machines_are_looked_at_by_one_script_each(tmp_path: Path) -> None:
    here = Here(programs(tmp_path / "bin", "sh", "uname", "python3", "cat"))
    found = gather(SITE, cast(Ssh, here), None)
    assert found.problems == {}
    assert [at for at, _ in here.asked] == [target(SITE, "h"), target(SITE, "w")]
    assert here.asked[0][0] == Target("h", "192.168.10.50", 2222, "ann", "~/k")
    head, worker = found.facts.hosts["h"], found.facts.hosts["w"]
    assert head.system["python"].startswith("3.")
    assert {"objects", "nodes"} <= set(head.answers)
    assert head.answers["objects"] == ProbeAnswer(127, "")
    assert worker.answers == {}
    assert found.facts.objects is None
    assert set(found.facts.roles) >= {"network", "kubeadm"}


def test_a_machine_without_python_says_so(tmp_path: Path) -> None:
    here = Here(programs(tmp_path / "bin", "sh", "uname"))
    found = gather(SITE, cast(Ssh, here), None, ["w"])
    assert list(found.facts.hosts) == ["w"]
    system = found.facts.hosts["w"].system
    assert system["python"] == ""
    assert system["arch"]


def test_a_machine_that_does_not_answer_is_a_problem_and_stops_no_other(tmp_path: Path) -> None:
    here = Here(programs(tmp_path / "bin", "sh", "uname"), gone=["h"])
    found = gather(SITE, cast(Ssh, here), None)
    assert list(found.facts.hosts) == ["w"]
    assert str(found.problems["h"]) == "h: does not answer"


def test_what_is_asked_cannot_end_the_script_or_be_a_command(tmp_path: Path) -> None:
    site = a_site("s", {"h": ["control-plane"]})
    text = facts._script(site, "h", MARK).decode()
    assert text.count(f"END-{MARK}") == 2
    assert "kubectl" not in text.splitlines()[-2]  # what is asked goes as data


def objects(out: str, code: int = 0) -> Any:
    host = HostFacts(answers={"objects": ProbeAnswer(code, out)})
    return facts._objects({"w": HostFacts(), "h": host})[0]


def test_objects_of_the_cluster_are_known_by_name() -> None:
    one = {"kind": "ConfigMap", "metadata": {"name": "c", "namespace": "n"}, "data": {"a": "1"}}
    assert objects(json.dumps({"items": [one]})) == {"ConfigMap/n/c": one}
    assert objects('{"items": []}') == {}


@pytest.mark.parametrize(
    "out", ["", '{"items": [{"kind"', "[]", "{}", '{"items": [{}]}', '{"items": null}']
)
def test_objects_that_cannot_be_read_are_not_known(out: str) -> None:
    assert objects(out) is None


def test_objects_of_a_control_plane_that_fails_are_not_known() -> None:
    assert objects('{"items": []}', 1) is None
    assert facts._objects({}) == (None, {})


@pytest.mark.parametrize(
    ("clock", "skew"), [(99.0, -1.0), (100.0, 0.0), (104.0, 0.0), (105.0, 0.0), (3705.0, 3600.0)]
)
def test_a_clock_is_wrong_by_how_far_it_is_outside_the_look(clock: float, skew: float) -> None:
    assert facts._skew(HostFacts({"clock": clock}), 100.0, 105.0) == skew
    assert facts._skew(HostFacts(), 100.0, 105.0) == 0.0
