"""An apply that is killed at any point is called again, and goes on to the same end."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from functools import partial

import pytest
from tests.machines.lab.lab import Lab
from tests.machines.site_door import SiteDoor, kill, ready, until

pytestmark = pytest.mark.timeout(2400)  # the first test waits for the whole install
KILLED_IN = (
    ("network", "Name the machines of the site"),
    ("containerd", "Copy the programs of the bundle"),
    ("kubelet", "Give the images to the runtime"),
    ("kubeadm", "Start the control plane"),
    ("kubeadm", "Join"),
)
"""The tasks during which everything dies on the laptop: component, task."""


@pytest.fixture(scope="module")
def door(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SiteDoor]:
    head, worker = lab.up(2)
    machines = {"h1": (head, "control-plane, worker, registry"), "h2": (worker, "worker")}
    found = SiteDoor(tmp_path_factory.mktemp("site"), lab.folder, machines)
    found.call("site", "trust", "--yes")
    yield found


def test_killed_at_five_tasks_it_goes_on_and_ends_as_described(door: SiteDoor, lab: Lab) -> None:
    for component, task in KILLED_IN:
        process = door.start("site", "apply")
        until(
            f"{component}: {task} has begun", 400, partial(_begun, door, process, component, task)
        )
        kill(process)
    assert door.left() != []
    door.call("site", "apply")
    assert door.left() == []
    assert ready(lab.host("h1"), ("h1", "h2"))
    states = [it["state"] for it in door.data("ps")]
    assert states == ["succeeded", *["lost"] * len(KILLED_IN)]


def _begun(door: SiteDoor, process: subprocess.Popen[str], component: str, task: str) -> bool:
    lines = door.log_of_now().splitlines()
    assert process.poll() is None, process.communicate()
    return any(f" {component} " in line and f": {task}: began" in line for line in lines)


def test_two_applies_at_once_are_refused(door: SiteDoor, lab: Lab) -> None:
    lab.host("h2").run(["systemctl", "stop", "containerd"])
    first = door.start("site", "apply")
    until("it has begun", 60, lambda: "containerd" in door.log_of_now())
    assert "is being changed" in door.call("site", "apply", code=2)
    out, err = first.communicate(timeout=300)
    assert first.returncode == 0, out + err


def test_stop_ends_an_apply_after_the_task_and_leaves_nothing_half_done(
    door: SiteDoor, lab: Lab
) -> None:
    lab.host("h2").run(["rm", "/usr/local/bin/containerd-shim-runc-v2"])
    before = door.log_of_now()
    process = door.start("site", "apply")
    until("it has begun", 60, lambda: door.log_of_now() != before and door.log_of_now() != "")
    run = door.data("ps")[0]["id"]
    door.call("stop", run)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 2, out + err
    assert {it["id"]: it["state"] for it in door.data("ps")}[run] == "cancelled"
    door.call("site", "apply")
    assert door.left() == []


def test_a_service_that_is_older_than_its_settings_is_started_again(
    door: SiteDoor, lab: Lab
) -> None:
    """As when everything died between writing a file and the restart."""
    host = lab.host("h2")
    words = ["systemctl", "show", "containerd", "-P", "ActiveEnterTimestampMonotonic"]
    before = int(host.run(words).stdout)
    host.run(["touch", "/etc/containerd/config.toml"])
    host.run(["rm", "/etc/mlstead/parts/containerd.json"])
    door.call("site", "apply")
    assert int(host.run(words).stdout) > before
    assert door.left() == []
