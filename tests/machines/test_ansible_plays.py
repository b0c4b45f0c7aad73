"""Plays by the real Ansible on this machine's own Python: files of a bundle, values, secrets.

Needs ansible-core and ansible-runner (``pip install 'mlstead[site]'``).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from mlstead.clients.ansible_events import Event, Outcome
from mlstead.clients.ansible_play import Machine, Play
from mlstead.site.components import ansible_folder

CANARY = "canary-5up3rs3cret"
HOSTILE = "{{ lookup('pipe', 'id') }} $(id) `id` ; \n --flag {% if %} {# ü 😀 '\"\\"


class Ansible:
    """Runs tasks as the role of a play on this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "ansible"
        self.told: list[Event] = []
        for name in ("library", "action_plugins"):
            shutil.copytree(ansible_folder() / name, self.folder / name)

    def run(self, tasks: list[dict[str, Any]], *, check: bool = False, **values: Any) -> Outcome:
        place = self.folder / "roles" / "probe" / "tasks"
        place.mkdir(parents=True, exist_ok=True)
        (place / "main.yml").write_text(json.dumps(tasks))
        local = {
            "ansible_connection": "local",
            "ansible_become": False,
            "ansible_python_interpreter": sys.executable,
        }
        machine = Machine("all", "127.0.0.1", 22, "", "", (), {**local, **values})
        self.told.clear()
        play = Play("probe", (machine,), check=check)
        client = import_module("mlstead.clients.ansible")
        outcome: Outcome = client.run_play(self.folder, play, told=self.told.append)
        return outcome


@pytest.fixture
def ansible(tmp_path: Path) -> Ansible:
    return Ansible(tmp_path)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle {{ x }}"
    (folder / "bin").mkdir(parents=True)
    for name in ("one", "two"):
        (folder / "bin" / name).write_text(f"program {name}")
    return folder


def copying(bundle: Path, to: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Give the task that copies a bundle's programs, and its variables."""
    files = [
        {
            "src": f"bin/{path.name}",
            "dest": str(to / path.name),
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "mode": "0755",
        }
        for path in sorted((bundle / "bin").iterdir())
    ]
    words = {"base": "{{ given }}", "files": "{{ wanted }}", "links": "{{ linked }}"}
    links = [{"dest": str(to / "called"), "to": "one"}]
    return [{"name": "Copy", "mlstead_copy": words}], {
        "given": str(bundle), "wanted": files, "linked": links
    }  # fmt: skip


def test_files_of_a_bundle_are_copied_once_and_mended(
    ansible: Ansible, bundle: Path, tmp_path: Path
) -> None:
    to = tmp_path / "to"
    to.mkdir()
    tasks, values = copying(bundle, to)
    assert ansible.run(tasks, check=True, **values) == Outcome((), {"all": 1})
    assert list(to.iterdir()) == []
    assert ansible.run(tasks, **values) == Outcome((), {"all": 1})
    assert (to / "one").read_text() == "program one"
    assert (to / "two").stat().st_mode & 0o7777 == 0o755
    assert str((to / "called").readlink()) == "one"
    assert ansible.run(tasks, **values) == Outcome((), {})
    (to / "two").write_text("by hand")
    kept = (to / "one").stat().st_ino
    assert ansible.run(tasks, **values) == Outcome((), {"all": 1})
    assert (to / "two").read_text() == "program two"
    assert (to / "one").stat().st_ino == kept


def test_a_file_that_the_bundle_lost_or_changed_is_told(
    ansible: Ansible, bundle: Path, tmp_path: Path
) -> None:
    to = tmp_path / "to"
    to.mkdir()
    tasks, values = copying(bundle, to)
    (bundle / "bin" / "two").write_text("tampered with")
    (failure,) = ansible.run(tasks, **values).failures
    assert failure.detail == "bin/two: not what the bundle's manifest says; it was changed"
    (bundle / "bin" / "two").unlink()
    (failure,) = ansible.run(tasks, **values).failures
    assert failure.detail.endswith("bin/two: no such file in the bundle")
    assert not (to / "two").exists()


def test_values_arrive_as_data(ansible: Ansible, tmp_path: Path) -> None:
    out = tmp_path / "out"
    copy = {"dest": str(out), "content": "{{ {'a': value, 'b': tree} | to_json }}"}
    tasks = [{"name": "Write", "ansible.builtin.copy": copy}]
    tree = {HOSTILE: [HOSTILE, {"x": HOSTILE}], "n": None, "t": True, "f": 1.5, "s": "yes"}
    assert ansible.run(tasks, value=HOSTILE, tree=tree).failures == ()
    assert json.loads(out.read_text()) == {"a": HOSTILE, "b": tree}


def test_a_secret_is_in_nothing_that_a_failed_task_tells(ansible: Ansible) -> None:
    say = {"cmd": "echo {{ word }}; echo {{ word }} >&2; exit 1"}
    tasks = [{"name": "Fail", "ansible.builtin.shell": say, "no_log": True}]
    outcome = ansible.run(tasks, word=CANARY)
    assert [it.detail for it in outcome.failures] == ["(hidden: this task handles secrets)"]
    looped = [{**tasks[0], "loop": [1, 2]}]
    outcome = ansible.run(looped, word=CANARY)
    assert outcome.failures
    assert CANARY not in repr((outcome, ansible.told))


def test_nothing_of_a_play_is_left(ansible: Ansible, tmp_path: Path) -> None:
    before = set(Path(os.environ["XDG_RUNTIME_DIR"]).iterdir())
    ansible.run([{"name": "Do nothing", "ansible.builtin.meta": "noop"}], word=CANARY)
    assert set(Path(os.environ["XDG_RUNTIME_DIR"]).iterdir()) == before


def test_a_role_that_is_not_there_is_told(ansible: Ansible) -> None:
    tasks = [{"name": "Include", "ansible.builtin.include_role": {"name": "no-such-role"}}]
    (failure,) = ansible.run(tasks).failures
    assert "no-such-role" in failure.detail
