"""What stands in the way of a site is told with its host and what to do, and nothing is changed.

On real hosts, but for what they cannot have here: swap, little memory, an address of a router
before them, a wrong clock. For those the facts of a real host are changed and given to the
preflight.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.machines import given
from tests.machines.lab.host import Host
from tests.machines.lab.lab import Lab
from tests.machines.lab.snapshot import difference
from tests.machines.site_door import PASSPHRASE, SiteDoor, until
from tests.machines.test_install import STAYS

from mlstead.cli.main import main
from mlstead.errors import SpecError
from mlstead.plan import HostFacts
from mlstead.platform import Platform
from mlstead.site import bundle as bundles
from mlstead.site.preflight import preflight
from mlstead.site.session import Session
from mlstead.spec.load import load_site

IMAGES = ("local/kindnet:1", "registry.k8s.io/kube-apiserver:v1.36.0")
INDEX = {
    "manifests": [{"annotations": {"io.containerd.image.name": name}} for name in IMAGES],
}
PROGRAMS = ("containerd", "containerd-shim-runc-v2", "ctr", "runc", "kubeadm", "kubelet", "kubectl")
CANARY = "mlstead-canary"
TOUCH = f"touch {CANARY}"
EVIL = f"; {TOUCH} $({TOUCH}) `{TOUCH}` {{{{ lookup('pipe', '{TOUCH}') }}}} --flag"
LISTEN = (
    "import socket, sys, time; it = socket.create_server(('', int(sys.argv[1]))); time.sleep(600)"
)


class Place:
    """One bare host, site files with it, and a bundle of small files that is whole."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.host = lab.up(1)[0]
        self.folder = folder
        self.bundle = made_bundle(folder / "files")
        self.known = ""
        # An sshd that shuts out who failed to log in would hide the next error.
        quiet = "sshd -T | grep -qi ^persourcepenalties && echo PerSourcePenalties no"
        script = f"{quiet} >/etc/ssh/sshd_config.d/calm.conf; systemctl restart 'ssh*'"
        self.host.run(["sh", "-c", script], check=False)
        first = self.door("first", trusted=False)
        first.call("site", "trust", "--yes")
        self.known = (first.home / "sites/lab/known_hosts").read_text(encoding="utf-8")

    def door(self, name: str, *, trusted: bool = True, role: str = "control-plane") -> SiteDoor:
        """Give a site of the host in a home of its own; its host key is known, or not."""
        folder = self.folder / name
        folder.mkdir()
        made = SiteDoor(folder, self.lab.folder, {"h1": (self.host, role)})
        edit(made, f"bundle: {given.bundle()}", f"bundle: {json.dumps(str(self.bundle))}")
        if trusted:
            kept = made.home / "sites/lab/known_hosts"
            kept.parent.mkdir(parents=True, mode=0o700)
            kept.write_text(self.known, encoding="utf-8")
        return made

    @property
    def key(self) -> Path:
        return self.lab.folder / "id"


def made_bundle(folder: Path) -> Path:
    """Make a bundle of programs that are none: enough for a plan, and for what is copied."""
    for path in (*(f"bin/{name}" for name in PROGRAMS), "cni/bridge", "cni/cni-kindnet"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(f"program {path}\n", encoding="utf-8")
    (folder / "images").mkdir()
    with tarfile.open(folder / "images/kindnet.tar", "w") as tar:
        text = json.dumps(INDEX).encode()
        member = tarfile.TarInfo("index.json")
        member.size = len(text)
        tar.addfile(member, io.BytesIO(text))
    bundles.create(folder)
    return folder


def edit(door: SiteDoor, old: str, new: str) -> None:
    text = door.file.read_text(encoding="utf-8")
    assert old in text
    door.file.write_text(text.replace(old, new), encoding="utf-8")


def refused(door: SiteDoor, *words: str, code: int, said: tuple[str, ...]) -> str:
    """Call, and see that it fails by this code with all of these words."""
    text = door.call(*words, code=code)
    flat = " ".join(text.split())
    for one in said:
        assert one in flat, text
    assert "Traceback" not in text
    return text


@contextmanager
def untouched(host: Host) -> Iterator[None]:
    """See that nothing on a host is changed by what is done inside."""
    before = host.snapshot()
    yield
    assert difference(before, host.snapshot(), STAYS) == []


@pytest.fixture(scope="module")
def place(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(lab, tmp_path_factory.mktemp("site"))


def plans(door: SiteDoor) -> None:
    """See that a plan is made: what stood in the way is away."""
    planned = door.data("site", "plan")
    assert planned["unreachable"] == {}, planned
    assert [it for it in planned["findings"] if it["stops"]] == [], planned
    assert "containerd:h1" in [it["step"] for it in planned["steps"]]


# ---- who we are, and who the host is


def test_a_wrong_key_and_one_that_others_may_read(place: Place, tmp_path: Path) -> None:
    door = place.door("key")
    wrong = tmp_path / "wrong"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", wrong], check=True)
    with untouched(place.host):
        edit(door, str(place.key), str(wrong))
        said = ("h1 (", "may not log in with the key", "authorized_keys")
        for verb in ("plan", "apply"):
            refused(door, "site", verb, code=2, said=said)
        wrong.chmod(0o644)
        said = ("h1 (", "can be read by others", f"chmod 600 {wrong}")
        refused(door, "site", "plan", code=2, said=said)
        edit(door, str(wrong), str(tmp_path / "none"))
        refused(door, "site", "plan", code=2, said=("h1 (", "No such file"))
        edit(door, str(tmp_path / "none"), str(place.key))
        plans(door)


def test_an_unknown_host_key_is_refused_until_it_is_trusted(place: Place) -> None:
    door = place.door("stranger", trusted=False)
    with untouched(place.host):
        text = refused(
            door, "site", "apply", code=2,
            said=("h1", "host key is not known", "SHA256:", "mlstead site trust"),
        )  # fmt: skip
        right = re.findall(r"SHA256:[A-Za-z0-9+/]{43}", text)[0]
        false = f"SHA256:{'A' * 43}"
        refused(door, "site", "trust", "--key", false, code=2, said=("h1", "not show that key"))
        refused(door, "site", "plan", code=2, said=("host key is not known",))
        door.call("site", "trust", "--key", right)
        plans(door)
        refused(door, "site", "trust", "--key", false, code=2, said=("h1", "not show that key"))
        assert "h1" in door.call("site", "trust", "--yes")


def test_a_host_key_in_the_site_file_is_held_to(place: Place) -> None:
    door = place.door("named", trusted=False)
    file = (place.lab.folder / "known_hosts").read_text(encoding="utf-8")
    right = fingerprint(file)
    false = f"SHA256:{'A' * 43}"
    with untouched(place.host):
        edit(door, "roles:", f'host_key: "{false}", roles:')
        refused(door, "site", "plan", code=2, said=("machines.h1.host_key", false, right))
        edit(door, false, right)
        plans(door)


def fingerprint(line: str) -> str:
    told = subprocess.run(
        ["ssh-keygen", "-l", "-f", "-"], input=line, capture_output=True, text=True, check=True
    )
    return told.stdout.split()[1]


def test_a_changed_host_key_is_refused_until_it_is_replaced(place: Place, tmp_path: Path) -> None:
    door = place.door("changed")
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other], check=True)
    key = " ".join(other.with_suffix(".pub").read_text().split()[:2])
    known = door.home / "sites/lab/known_hosts"
    known.write_text(f"{place.host.address} {key}\n", encoding="utf-8")
    with untouched(place.host):
        said = ("h1 (", "host key has CHANGED", "may be an attack", "--replace")
        refused(door, "site", "plan", code=2, said=said)
        refused(door, "site", "trust", "--yes", code=2, said=("h1 (", "is known by", "--replace"))
        door.call("site", "trust", "--replace", "--yes")
        plans(door)


def test_a_login_without_sudo_rights_and_a_host_without_sudo(place: Place) -> None:
    host = place.host
    door = place.door("sudo")
    key = place.key.with_suffix(".pub").read_text()
    host.run(["useradd", "-m", "-p", "*", "-s", "/bin/sh", "guest"])
    try:
        host.write("/home/guest/.ssh/authorized_keys", key)
        host.run(["chown", "-R", "guest", "/home/guest/.ssh"])
        with untouched(host):
            edit(door, f"user: {host.user}", "user: guest")
            said = ("h1", "guest may not use sudo without a password", "NOPASSWD")
            refused(door, "site", "plan", code=2, said=said)
            refused(door, "site", "apply", code=2, said=said)
        sudo = host.run(["sh", "-c", "command -v sudo"]).stdout.strip()
        host.run(["mv", sudo, f"{sudo}.away"])
        try:
            with untouched(host):
                said = ("h1", "guest is not root, and sudo is not there", "install sudo on h1")
                refused(door, "site", "plan", code=2, said=said)
        finally:
            host.run(["mv", f"{sudo}.away", sudo])
    finally:
        host.run(["userdel", "-r", "guest"], check=False)
    edit(door, "user: guest", f"user: {host.user}")
    plans(door)


def test_hosts_that_do_not_answer_are_all_named(place: Place) -> None:
    door = place.door("silent")
    subnet = place.host.address.rpartition(".")[0]
    unit = ["systemd-run", "--unit=silent", "--collect", "-q"]
    place.host.run([*unit, "python3", "-c", LISTEN, "2222"])
    names = (f"[{place.host.address}]:2222", f"{subnet}.77")
    with (door.home / "sites/lab/known_hosts").open("a", encoding="utf-8") as known:
        known.writelines(line.replace(place.host.address, name) + "\n"
                         for name in names for line in place.known.splitlines())  # fmt: skip
    edit(
        door,
        "machines:\n",
        f"machines:\n  n1: {{address: {subnet}.77, roles: [worker]}}\n",
    )
    edit(door, f"address: {place.host.address}", f"port: 2222, address: {place.host.address}")
    with untouched(place.host):
        said = (
            f"n1 ({subnet}.77): does not answer on port 22",
            f"h1 ({place.host.address}): does not answer on port 2222",
            "says nothing",
            "is it on",
        )
        refused(door, "site", "apply", code=3, said=said)
    place.host.run(["systemctl", "stop", "silent"])
    edit(door, "port: 2222, ", "")
    planned = door.call("site", "plan", code=3)
    assert "n1 (" in planned and "containerd" in planned
    edit(door, f"  n1: {{address: {subnet}.77, roles: [worker]}}\n", "")
    plans(door)


# ---- what a host is


def test_a_dirty_host_is_told_all_at_once(place: Place) -> None:
    host = place.host
    door = place.door("dirty")
    host.run(["mount", "-t", "tmpfs", "-o", "size=50m", "none", "/var/lib"])
    host.run(["mkdir", "-p", "/var/lib/docker", "/var/lib/rancher/k3s", "/etc/kubernetes"])
    host.run(["touch", "/etc/kubernetes/admin.conf"])
    unit = ["systemd-run", "--unit=taken", "--collect", "-q"]
    host.run([*unit, "python3", "-c", LISTEN, "6443"])
    try:
        with untouched(host):
            began = time.monotonic()
            text = refused(
                door, "site", "apply", code=2,
                said=(
                    "h1: docker is or was installed here (remove docker and its data)",
                    "h1: k3s is or was installed here",
                    "h1: belongs to a Kubernetes cluster that mlstead did not make (kubeadm reset",
                    "h1: tcp port 6443 is taken by python3 (kube-apiserver needs it)",
                    "h1: /var/lib has 0.0 GiB free (",
                ),
            )  # fmt: skip
            assert time.monotonic() - began < 30, text
    finally:
        host.run(["systemctl", "stop", "taken"])
        host.run(["rm", "-r", "/etc/kubernetes"])
        host.run(["umount", "/var/lib"])
    plans(door)


def test_a_package_that_is_half_installed_is_told(place: Place) -> None:
    status = "/var/lib/dpkg/status"
    place.host.run(["cp", "-p", status, "/root/status"])
    half = "0,/^Status: install ok installed/s//Status: install ok half-configured/"
    place.host.run(["sed", "-i", half, status])
    door = place.door("half")
    with untouched(place.host):
        assert "h1: its package database is not whole" in door.call("site", "plan")
    place.host.run(["mv", "/root/status", status])


Change = Callable[[dict[str, Any]], Any]


def test_facts_that_no_host_has_here(place: Place) -> None:
    """Those of the real host, one changed; the clock is what the look measured."""
    door = place.door("facts")
    with Session(door.home, load_site(door.file)) as session:
        found = session.look()
        site = session.site
    real = found.facts.hosts["h1"]
    assert [it for it in preflight(site, found.facts, found.skew) if it.stops] == []

    def told(change: Change, skew: float = 0.0) -> list[tuple[str, str, str, bool]]:
        system = json.loads(json.dumps(dict(real.system)))
        change(system)
        facts = replace(found.facts, hosts={"h1": HostFacts(system, real.parts, real.answers)})
        normal = preflight(site, found.facts, found.skew)
        return [
            (it.target, it.message, it.hint, it.stops)
            for it in preflight(site, facts, {"h1": skew})
            if it not in normal
        ]

    swap = ("h1", "uses swap (/dev/vdb)", "it will be turned off", False)
    assert told(lambda it: it.update(swap=["/dev/vdb"])) == [swap]
    little = ("h1", "has 1.0 GiB of memory", "its roles need 1.7 GiB", True)
    assert told(lambda it: it["memory"].update(total=1 << 30)) == [little]
    ((target, message, hint, stops),) = told(
        lambda it: it.update(addresses=["127.0.0.1", "1.2.3.4"])
    )
    assert (target, stops, "network interface" in hint) == ("h1", True, True)
    assert message == f"does not have the address {place.host.address} itself; it has 1.2.3.4"
    for skew, way in ((600.0, "ahead of"), (-600.0, "behind")):
        (clock,) = told(lambda it: None, skew)
        assert clock[1:] == (f"its clock is 600 s {way} this machine's",
                             "set it, and let it follow a time server", True)  # fmt: skip
    full = told(lambda it: it["disks"].update({"/": {"size": 1 << 40, "free": 1 << 20}}))
    assert [it[:2] for it in full] == [("h1", "/ has 0.0 GiB free")]


# ---- what it is installed from, and with


def test_a_bundle_that_is_not_whole(place: Place) -> None:
    door = place.door("bundle", role="control-plane, registry")
    folder = place.folder / "not-whole"
    shutil.copytree(place.bundle, folder)
    edit(door, str(place.bundle), str(folder))
    with untouched(place.host):
        refused(
            door, "site", "apply", code=2, said=("the bundle has no bin/registry", "bundle create")
        )
        edit(door, "control-plane, registry", "control-plane")
        plans(door)
        (folder / "bin/runc").write_text("more than it was")
        refused(
            door, "site", "plan", code=2, said=("bin/runc: missing, or not as the manifest says",)
        )
        for text in ("{", '{"mlstead_bundle": 1}'):
            (folder / "bundle.json").write_text(text)
            said = (f"{folder}/bundle.json: damaged", f"mlstead bundle create {folder}")
            refused(door, "site", "plan", code=2, said=said)
        (folder / "bundle.json").unlink()
        refused(door, "site", "plan", code=2, said=(f"{folder}: no bundle there",))
        door.call("bundle", "create", str(folder))
        plans(door)


def test_a_wrong_passphrase_is_told_before_anything_is_done(place: Place) -> None:
    door = place.door("word", role="control-plane, registry")
    (place.folder / "with-registry/bin").mkdir(parents=True)
    shutil.copytree(place.bundle, place.folder / "with-registry", dirs_exist_ok=True)
    (place.folder / "with-registry/bin/registry").write_text("program")
    bundles.create(place.folder / "with-registry")
    edit(door, str(place.bundle), str(place.folder / "with-registry"))
    loaded = load_site(door.file)
    os.environ["MLSTEAD_PASSPHRASE"] = "another one"
    try:
        with Session(door.home, loaded, passphrase=lambda: "another one") as session:
            session.secrets.value("registry.password")
    finally:
        del os.environ["MLSTEAD_PASSPHRASE"]
    with untouched(place.host):
        refused(door, "site", "apply", code=2, said=("passphrase",))
        assert door.data("ps") == []


def test_two_sites_of_one_name_do_not_share_what_is_kept_of_them(place: Place) -> None:
    door = place.door("twice")
    with Session(door.home, load_site(door.file)) as session:
        session.settle()
    edit(door, place.host.address, f"{place.host.address.rpartition('.')[0]}.99")
    with untouched(place.host):
        for words in (("apply",), ("remove", "--yes")):
            said = ("another site is called lab", place.host.address, "name")
            refused(door, "site", *words, code=2, said=said)
    edit(door, "name: lab", "name: second")
    refused(door, "site", "plan", code=3, said=("h1", "does not answer"))


# ---- names and values are data


def fields() -> Iterator[tuple[str, dict[str, Any]]]:
    """Give a site with something evil in one field after the other."""
    machine = {"address": "10.1.1.1", "roles": ["control-plane"]}
    site = {"mlstead": 1, "kind": "site", "name": "lab", "machines": {"h1": machine}}
    for name in ("name", "bundle"):
        yield name, {**site, name: EVIL}
    for name in ("user", "key"):
        yield f"ssh.{name}", {**site, "ssh": {name: EVIL}}
    for name in ("address", "user", "key", "host_key"):
        yield f"machine.{name}", {**site, "machines": {"h1": {**machine, name: EVIL}}}
    yield "machine.roles", {**site, "machines": {"h1": {**machine, "roles": [EVIL]}}}
    yield "machine", {**site, "machines": {EVIL: machine}}
    for name in ("version", "pods", "services", "distribution"):
        yield f"kubernetes.{name}", {**site, "kubernetes": {name: EVIL}}
    for name in ("kubeconfig", "context"):
        existing = {"distribution": "existing", "kubeconfig": "x", name: EVIL}
        yield f"kubernetes.{name}", {**site, "machines": {}, "kubernetes": existing}
    yield "kubelet", {**site, "kubernetes": {"kubelet": {EVIL: EVIL}}}
    yield "registry.path", {**site, "registry": {"path": f"/{EVIL}"}}
    yield "apps", {**site, "apps": {EVIL: {}}}
    yield "apps.options", {**site, "apps": {"metallb": {"addresses": [EVIL]}}}


def test_what_looks_like_a_command_is_refused_in_a_name_and_kept_in_a_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    taken = set()
    for name, site in fields():
        file = tmp_path / "site.yaml"
        file.write_text(json.dumps(site), encoding="utf-8")
        try:
            Platform().sites.load(file)
            taken.add(name)
        except SpecError as error:
            assert str(file) in str(error)
    given = {"kubernetes.kubeconfig", "kubernetes.context"}  # a path, and a name of the user's own
    assert taken == {"bundle", "ssh.key", "machine.key", "kubelet", *given}
    assert list(tmp_path.glob(f"{CANARY}*")) == []


@pytest.mark.parametrize(
    "words",
    [
        ("machine", "add", EVIL, "10.1.1.2"),
        ("machine", "add", "n2", EVIL),
        ("machine", "add", "n2", "10.1.1.2", "--role", EVIL),
        ("machine", "add", "n2", "10.1.1.2\n"),
        ("machine", "add", "n2\n", "10.1.1.2"),
        ("machine", "add", "--", "--flag", "10.1.1.2"),
        ("machine", "drain", EVIL),
        ("machine", "remove", EVIL),
        ("trust", EVIL),
        ("trust", "--", "--flag"),
        ("trust", "h1", "--yes", "--key", EVIL),
        ("init", "10.1.1.1", "--name", EVIL, "--file", "other.yaml"),
        ("init", "10.1.1.1", "--user", EVIL, "--file", "other.yaml"),
        ("init", EVIL, "--file", "other.yaml"),
        ("plan", "--bundle", EVIL),
        ("plan", "--file", EVIL),
    ],
)
def test_what_looks_like_a_command_is_a_word_to_the_command_line(
    words: tuple[str, ...],
    place: Place,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(place.folder / "first/site.yaml", "site.yaml")
    kept = Path(os.environ["MLSTEAD_HOME"], "sites/lab/known_hosts")
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(place.known, encoding="utf-8")
    before = Path("site.yaml").read_text(encoding="utf-8")
    code = main(["site", *words])
    said = capsys.readouterr()
    assert (code, said.out) == (2, ""), said
    assert said.err.startswith("error: ")
    assert Path("site.yaml").read_text(encoding="utf-8") == before
    assert [it.name for it in tmp_path.rglob("*") if it.name != "site.yaml"] == []


@pytest.fixture(scope="module")
def evil(place: Place) -> SiteDoor:
    """A site whose paths and values look like commands, and whose bundle was tampered with."""
    door = place.door("evil")
    bad = door.folder / EVIL
    bad.mkdir()
    shutil.copytree(place.bundle, bad / EVIL)
    shutil.copy(place.key, bad / "id")
    edit(door, json.dumps(str(place.bundle)), json.dumps(str(bad / EVIL)))
    edit(door, str(place.key), json.dumps(str(bad / "id"))[1:-1].join('""'))
    edit(door, "  kubelet:", f"  kubelet:\n    evil: {json.dumps(EVIL)}")
    shutil.move(door.home, bad / "home")
    door.home = bad / "home"
    return door


def no_canary(door: SiteDoor, host: Host) -> None:
    for top in (door.folder, Path.cwd(), Path.home()):
        assert [it for it in top.glob(f"**/{CANARY}*") if it.name == CANARY] == []
    assert host.run(["find", "/", "-xdev", "-name", f"{CANARY}*"]).stdout == ""


def test_a_file_that_was_tampered_with_is_refused_on_the_host(evil: SiteDoor, place: Place) -> None:
    plans(evil)
    runc = next(evil.folder.glob("*/*/bin/runc"))
    text = runc.read_text()
    runc.write_text(text.replace("program", "PROGRAM"))
    said = (
        "h1: Install the container runtime: Copy the programs of the bundle",
        "bin/runc: not what the bundle's manifest says",
        "apply again: it goes on from there",
    )
    refused(evil, "site", "apply", code=2, said=said)
    assert place.host.run(["test", "-e", "/usr/local/bin/runc"], check=False).returncode
    assert evil.data("ps")[0]["state"] == "failed"
    no_canary(evil, place.host)
    left = evil.left()
    assert "containerd:h1" in left and "network:h1" not in left


# ---- what happens during an apply


@pytest.fixture(scope="module")
def pair(place: Place) -> SiteDoor:
    """A site of two hosts with a bundle that takes a while to copy."""
    door = place.door("pair", role="control-plane, worker")
    other = place.lab.add("h2")
    edit(door, "machines:\n", f"machines:\n  h2: {{address: {other.address}, roles: [worker]}}\n")
    edit(door, json.dumps(str(place.bundle)), json.dumps(str(given.bundle())))
    door.call("site", "trust", "--yes")
    return door


COPYING = "Install the container runtime: Copy the programs of the bundle"


def copies(door: SiteDoor, process: subprocess.Popen[str]) -> bool:
    assert process.poll() is None, process.communicate()
    return "Copy the programs of the bundle: began" in door.log_of_now()


def test_a_host_that_dies_half_way_is_named_with_the_step(pair: SiteDoor, place: Place) -> None:
    process = pair.start("site", "apply")
    until("it copies", 100, lambda: copies(pair, process))
    place.lab.kill(place.lab.host("h2"))
    out, err = process.communicate(timeout=120)
    assert process.returncode == 3, out + err
    assert f"error: h2: {COPYING}" in err
    assert "hint: when it answers again, apply again: it goes on there" in err
    assert pair.data("ps")[0]["state"] == "failed"


def test_a_host_that_is_off_is_told_by_status_and_keeps_the_site(pair: SiteDoor) -> None:
    told = {it["name"]: it for it in pair.data("site", "status")["machines"]}
    assert told["h2"]["state"] == "unreachable"
    assert told["h1"]["state"] == "ok"
    assert "does not answer" in " ".join(told["h2"]["words"])
    refused(pair, "site", "remove", "--yes", code=3, said=("h2 (", "does not answer", "--dead"))


def ansible_of(door: SiteDoor) -> list[str]:
    """Name the processes of Ansible that have this door's home in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            ours = str(door.home).encode() in (process / "environ").read_bytes()
        except OSError:
            continue
        if ours and ("ansible" in words or "ssh" in words):
            found.append(words)
    return found


def test_ctrl_c_ends_an_apply_that_goes_on_where_it_was(pair: SiteDoor, place: Place) -> None:
    place.lab.add("h2")
    before = pair.log_of_now()
    process = pair.start("site", "apply")
    until("it begins", 60, lambda: pair.log_of_now() not in ("", before))
    until("it copies again", 100, lambda: copies(pair, process))
    assert ansible_of(pair) != []
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    assert "Traceback" not in err
    until("nothing of Ansible is left", 10, lambda: ansible_of(pair) == [])
    assert pair.data("ps")[0]["state"] == "cancelled"
    assert " network " not in pair.log_of_now()
    head = ["flock", "-n", "/run/lock/mlstead-site", "true"]
    until("the lock is free", 10, lambda: place.host.run(head, check=False).returncode == 0)
    assert "containerd:h2" in pair.left()


def test_a_site_is_removed_though_a_host_is_dead(pair: SiteDoor, place: Place) -> None:
    place.lab.kill(place.lab.host("h2"))
    pair.call("site", "remove", "--yes", "--dead")
    for path in ("/etc/mlstead", "/etc/containerd", "/usr/local/bin/runc", "/opt/cni"):
        assert place.host.run(["test", "-e", path], check=False).returncode, path
    assert PASSPHRASE not in pair.said
