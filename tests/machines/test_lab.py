"""The lab itself: hosts come up, meet, reboot, are killed, and leave nothing behind."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from tests.machines.lab import trees
from tests.machines.lab.errors import LabError
from tests.machines.lab.host import Host
from tests.machines.lab.lab import Lab
from tests.machines.lab.processes import Process, wait_for
from tests.machines.lab.snapshot import difference

SETTINGS_OF_THE_MACHINE = ("kernel/panic", "vm/overcommit_memory", "vm/max_map_count")


def ssh(
    lab: Lab, host: Host, command: str, *options: str, user: str = ""
) -> subprocess.CompletedProcess[str]:
    goal = f"{user or host.user}@{host.name}"
    argv = ["ssh", "-F", str(lab.ssh_config), "-o", "BatchMode=yes", *options, goal, command]
    return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)


def test_every_host_runs_its_systemd_without_a_failed_unit(hosts: list[Host]) -> None:
    assert [host.state() for host in hosts] == ["running", "running"]
    assert [host.run(["cat", "/proc/1/comm"]).stdout for host in hosts] == ["systemd\n"] * 2


def test_hosts_know_each_other_by_name_and_reach_each_other(hosts: list[Host]) -> None:
    for host, other in (hosts, hosts[::-1]):
        assert host.run(["hostname"]).stdout.strip() == host.name
        assert other.address in host.run(["getent", "hosts", other.name]).stdout
        assert "1 packets received" in host.run(["ping", "-c", "1", other.name]).stdout


def test_the_user_of_the_lab_enters_by_key_and_may_become_root(lab: Lab, hosts: list[Host]) -> None:
    done = ssh(lab, hosts[0], "hostname; sudo -n id -u; cat")
    assert (done.stdout.split(), done.stderr) == ([hosts[0].name, "0"], "")


def test_nobody_enters_with_a_wrong_key_or_as_root(
    lab: Lab, hosts: list[Host], tmp_path: Path
) -> None:
    wrong = tmp_path / "id"
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(wrong)]
    subprocess.run(command, check=True)
    # The file's own key would be tried, too: name all of the configuration again, but the key.
    options = ["-F", "none", "-o", f"UserKnownHostsFile={lab.folder}/known_hosts", "-i", str(wrong)]
    options += ["-o", f"HostKeyAlias={hosts[0].name}", "-o", f"HostName={hosts[0].address}"]
    assert "Permission denied" in ssh(lab, hosts[0], "true", *options).stderr
    if hosts[0].user != "root":
        assert "Permission denied" in ssh(lab, hosts[0], "true", user="root").stderr


def test_every_host_has_a_key_and_a_number_of_its_own(hosts: list[Host]) -> None:
    for path in ("/etc/ssh/ssh_host_ed25519_key.pub", "/etc/machine-id"):
        assert hosts[0].read(path) != hosts[1].read(path)


def test_a_command_in_a_host_gets_its_input_and_tells_how_it_ended(hosts: list[Host]) -> None:
    assert hosts[0].run(["tr", "a-z", "A-Z"], "quiet").stdout == "QUIET"
    assert hosts[0].run(["sh", "-c", "echo no >&2; exit 3"], check=False).returncode == 3
    with pytest.raises(LabError, match="ended with 3: no"):
        hosts[0].run(["sh", "-c", "echo no >&2; exit 3"])


def test_files_are_written_and_read_inside_the_host(hosts: list[Host]) -> None:
    hosts[0].run(["ln", "-sfn", "/etc", "/srv/way-out"])
    hosts[0].write("/srv/way-out/of-the-lab", "hosts only\n", mode="600")
    assert hosts[0].read("/etc/of-the-lab") == "hosts only\n"
    assert not Path("/etc/of-the-lab").exists()
    hosts[0].run(["rm", "/etc/of-the-lab", "/srv/way-out"])


def test_a_command_in_a_host_is_in_the_hosts_cgroup(hosts: list[Host]) -> None:
    groups = hosts[0].run(["cat", "/proc/self/cgroup"]).stdout.splitlines()
    assert {line.split(":")[2] for line in groups} == {"/"}


def test_a_host_reboots_with_the_same_files_and_a_fresh_network(hosts: list[Host]) -> None:
    host = hosts[1]
    host.write("/root/kept", "kept\n")
    host.run(["ip", "route", "add", "10.99.0.0/24", "via", hosts[0].address])
    before = host.read("/proc/sys/kernel/random/boot_id")
    host.reboot()
    assert host.read("/root/kept") == "kept\n"
    assert host.read("/proc/sys/kernel/random/boot_id") != before
    assert "10.99.0.0" not in host.run(["ip", "route"]).stdout
    assert "1 packets received" in host.run(["ping", "-c", "1", hosts[0].name]).stdout


def test_a_host_that_lost_its_power_comes_back(lab: Lab, hosts: list[Host]) -> None:
    lab.kill(hosts[1])
    assert hosts[1].state() == "off"
    with pytest.raises(LabError, match="is not up"):
        hosts[1].run(["true"])
    assert lab.add(hosts[1].name).state() == "running"


def test_a_host_that_was_shut_down_stays_off_until_it_is_started(
    lab: Lab, hosts: list[Host]
) -> None:
    hosts[1].power_off()
    assert lab.host(hosts[1].name).state() == "off"
    assert lab.up(2)[1].state() == "running"


def test_settings_of_the_whole_machine_are_a_hosts_own(hosts: list[Host]) -> None:
    names = [Path("/proc/sys", name) for name in SETTINGS_OF_THE_MACHINE]
    before = [path.read_text() for path in names]
    for path in names:
        hosts[0].run(["tee", str(path)], "7\n")
    assert [hosts[0].read(str(path)) for path in names] == ["7\n"] * len(names)
    assert [path.read_text() for path in names] == before
    assert [hosts[1].read(str(path)) for path in names] == before


def test_network_settings_of_a_host_are_real_and_its_own(hosts: list[Host]) -> None:
    setting = "net.ipv4.ip_forward"
    before = [hosts[1].run(["sysctl", "-n", setting]).stdout, _forwarding()]
    hosts[0].run(["sysctl", "-w", f"{setting}=1"])
    assert hosts[0].run(["sysctl", "-n", setting]).stdout == "1\n"
    assert [hosts[1].run(["sysctl", "-n", setting]).stdout, _forwarding()] == before


def _forwarding() -> str:
    return Path("/proc/sys/net/ipv4/ip_forward").read_text()


def test_a_host_can_change_neither_modules_nor_clock_nor_the_machines_part_of_sys(
    hosts: list[Host],
) -> None:
    for process in ("1", "self"):
        status = hosts[0].read(f"/proc/{process}/status")
        bound = int(status.split("CapBnd:")[1].split()[0], 16)
        assert not bound & (1 << 16 | 1 << 25)
    assert hosts[0].run(["touch", "/sys/module/x"], check=False).returncode
    assert hosts[0].run(["sh", "-c", "wc -l </proc/swaps"]).stdout.strip() == "1"


def test_pods_find_what_they_need(hosts: list[Host]) -> None:
    host = hosts[0]
    assert "shared" in host.run(["findmnt", "-no", "PROPAGATION", "/"]).stdout
    for path in ("/var/lib/containerd", "/var/lib/kubelet", "/var/lib/etcd", "/srv"):
        assert host.run(["findmnt", "-no", "FSTYPE", path]).stdout.strip() != "overlay"
    for name in ("null", "zero", "full", "random", "urandom", "tty", "ptmx", "kmsg", "fuse"):
        host.run(["test", "-c", f"/dev/{name}"])
    for hierarchy in host.order.hierarchies:
        place = f"/sys/fs/cgroup/{Path(hierarchy.top).name}"
        host.run(["sh", "-c", f"mkdir {place}/probe && rmdir {place}/probe"])
    host.run(["sh", "-c", "mount -t tmpfs none /mnt && umount /mnt"])


def test_two_snapshots_of_an_untouched_host_do_not_differ(hosts: list[Host]) -> None:
    before = hosts[0].snapshot()
    assert json.loads(json.dumps(before)) == before
    assert min(len(before[part]) for part in ("files", "users", "packages", "units")) > 10
    assert difference(before, hosts[0].snapshot()) == []


def test_a_login_and_a_reboot_do_not_change_a_snapshot(lab: Lab) -> None:
    host = lab.add("fresh")
    before = host.snapshot()
    assert ssh(lab, host, "sudo -n python3 -c 'import apt, json, ssl'").stderr == ""
    host.reboot()
    assert difference(before, host.snapshot()) == []


def test_a_snapshot_shows_what_was_changed_unless_it_is_allowed(hosts: list[Host]) -> None:
    host = hosts[0]
    before = host.snapshot()
    host.write("/etc/new.conf", "a\n")
    host.write("/etc/issue.net", "changed\n")
    host.run(["useradd", "--system", "guest"])
    host.run(["ip", "link", "add", "cni0", "type", "bridge"])
    host.run(["systemd-run", "--unit=left", "sleep", "1000"])
    host.run(["sysctl", "-w", "vm.overcommit_memory=1"])
    host.run(["iptables", "-t", "nat", "-A", "POSTROUTING", "-j", "MASQUERADE"])
    found = difference(before, host.snapshot())
    for part in (
        *("files /etc/new.conf: new", "files /etc/issue.net: -rw", "users guest: new"),
        *("groups guest: new", "network link cni0: new", "units unit left.service: new"),
        *("settings vm/overcommit_memory: 1, was", "firewall iptables-save *nat -A POSTROUTING"),
    ):
        assert any(line.startswith(part) for line in found), (part, found)
    allow = ["files /etc/*", "users *", "groups *", "network *", "units *", "settings *"]
    assert all(line.startswith("firewall") for line in difference(before, host.snapshot(), allow))


def test_down_leaves_no_process_mount_link_cgroup_or_folder(lab: Lab, hosts: list[Host]) -> None:
    hosts[0].run(["systemd-run", "sh", "-c", "setsid sleep 1000 & sleep 1000"])
    groups = hosts[0].order.groups
    running = [found for pid in groups.processes() if (found := Process.find(pid))]
    assert len(running) > 10
    lab.down()
    wait_for("the processes' end", lambda: not any(Process.find(p.pid) == p for p in running))
    assert lab.left() == []
    assert not any("lab" in found.name for found in lab.folder.glob("hosts*"))
    assert [path.name for path in lab.folder.iterdir()] == [trees.MARK]
    links = {path.name for path in Path("/sys/class/net").iterdir()}
    assert not links & {"labbr0", lab.network.link, "h1", "h2"}


def test_down_can_keep_the_hosts_files(lab: Lab) -> None:
    host = lab.up(1)[0]
    host.write("/root/kept", "kept\n")
    host.write("/srv/kept", "kept\n")
    lab.down(keep=True)
    assert host.state() == "off"
    again = lab.up(1)[0]
    assert again.read("/root/kept") == again.read("/srv/kept") == "kept\n"


def test_a_second_lab_on_the_same_addresses_is_refused(lab: Lab, tmp_path: Path) -> None:
    lab.up(1)
    second = Lab(tmp_path, lab.base(), lab.network.subnet)
    with pytest.raises(LabError, match="another lab is up"):
        second.up(1)
    second.down()
    assert second.left() == []


@pytest.mark.parametrize("name", ["", "H1", "../h1", "h1/x", "a" * 15, "-x"])
def test_a_name_that_is_no_hosts_is_refused(lab: Lab, name: str) -> None:
    with pytest.raises(LabError, match="no name for a host"):
        lab.add(name)
