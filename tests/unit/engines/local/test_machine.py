"""What is read of this machine, and what of the caller's environment a program gets."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mlstead.engines.local import capacity, gpu, machine
from mlstead.engines.local.disk import Home
from mlstead.engines.local.filesystem import kind_of, refuse_network
from mlstead.errors import UserError

MOUNTS = (
    "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"
    "30 22 0:40 / /home rw - nfs4 server:/home rw\n"
    "31 30 0:41 / /home/me/with\\040space rw - ext4 /dev/vdb rw\n"
)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/x", "ext4"),
        ("/home", "nfs4"),
        ("/home/me/x", "nfs4"),
        ("/homes", "ext4"),
        ("/home/me/with space/x", "ext4"),
    ],
)
def test_the_file_system_of_a_path_is_that_of_the_nearest_mount(path: str, kind: str) -> None:
    assert kind_of(Path(path), MOUNTS) == kind


def test_a_home_on_a_network_is_refused_with_a_hint() -> None:
    with pytest.raises(UserError, match="nfs4") as caught:
        refuse_network(Path("/home/me/mlstead"), MOUNTS)
    assert "MLSTEAD_HOME" in caught.value.hint


def test_capacity_is_what_the_variable_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLSTEAD_CAPACITY", "cpu=2.5, memory=4Gi,gpu=2")
    found = capacity.measure()
    assert (found.cpu, found.memory, [one.number for one in found.gpus]) == (2.5, 4 << 30, [0, 1])


def test_capacity_of_this_machine_is_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLSTEAD_CAPACITY", raising=False)
    found = capacity.measure()
    assert found.cpu > 0 and found.memory > 64 << 20


def test_gpus_are_read_from_what_the_driver_prints() -> None:
    text = "0, NVIDIA H200, GPU-aa, 143771\n1, NVIDIA A100-SXM4, GPU-bb, [N/A]\nno devices\n"
    assert gpu.parse(text) == (
        gpu.Gpu(0, "NVIDIA H200", "GPU-aa", 143771 << 20),
        gpu.Gpu(1, "NVIDIA A100-SXM4", "GPU-bb", 0),
    )


def test_a_program_gets_a_clean_environment() -> None:
    environ = {
        "HOME": "/root",
        "PATH": "/usr/bin",
        "AWS_SECRET_ACCESS_KEY": "x",
        "SSL_CERT_FILE": "/ca.pem",
        "HTTPS_PROXY": "http://me:secret@proxy:1",
        "HTTP_PROXY": "http://proxy:1",
    }
    env = machine.base_environment(environ)
    own = str(Path(sys.executable).parent)
    assert env == {
        "HOME": "/root",
        "PATH": f"{own}:/usr/bin",
        "SSL_CERT_FILE": "/ca.pem",
        "HTTP_PROXY": "http://proxy:1",
        "LANG": "C.UTF-8",
    }
    assert machine.private_names(environ) == ["HTTPS_PROXY"]


def test_only_builds_get_the_settings_of_the_installer() -> None:
    environ = {"UV_INDEX_URL": "https://u:p@index", "HTTPS_PROXY": "http://u:p@proxy", "X": "1"}
    assert machine.private_values(["HTTPS_PROXY"], environ, building=False) == {
        "HTTPS_PROXY": "http://u:p@proxy"
    }
    assert set(machine.private_values([], environ, building=True)) == {"UV_INDEX_URL"}


def test_inside_a_task_the_machine_is_that_of_the_keeper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path)
    home.create()
    home.capacity.write_text('[3.0, 1000, [[0, "NVIDIA L4", "u", 0]]]')
    monkeypatch.setenv("MLSTEAD_ATTEMPT_FOLDER", f"{home.root}/tasks/00/t/1")
    found = capacity.of_home(home)
    assert (found.cpu, found.memory, found.gpus[0].kind) == (3.0, 1000, "NVIDIA L4")
