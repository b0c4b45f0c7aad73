"""Looks at a machine and prints what it found as JSON; sent over SSH, run there by its Python.

Standard library only, Python 3.8 or newer. It changes nothing. What each part installed is known
from its stamp, but judged by the real thing: contents of files, units, packages, images.
"""

from __future__ import annotations

import base64
import grp
import hashlib
import json
import os
import platform
import pwd
import shutil
import stat
import subprocess
import sys
import time
from typing import Any

STAMPS = "/etc/mlstead/parts"
LIMIT = 4 << 20  # bytes kept of what a probe's program prints
PATIENCE = 20  # seconds for one program
FOREIGN = {
    "docker": "/var/lib/docker",
    "k3s": "/var/lib/rancher/k3s",
    "microk8s": "/var/snap/microk8s",
    "rke2": "/var/lib/rancher/rke2",
    "k0s": "/var/lib/k0s",
}


def run(argv: list[str]) -> tuple[int, str]:
    """Run a program; give its exit code and its output.

    127: it is not there; 126: it cannot be started; 124: it was too slow.
    """
    environment = dict(os.environ, LC_ALL="C")
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=PATIENCE,
            env=environment,
            check=False,
        )
    except FileNotFoundError:
        return 127, ""
    except OSError:
        return 126, ""
    except subprocess.TimeoutExpired:
        return 124, ""
    return done.returncode, done.stdout[:LIMIT].decode("utf-8", "replace")


def read(path: str) -> str:
    """Give a small file's text, "" if it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def release() -> dict[str, str]:
    """Read /etc/os-release."""
    lines = [line.partition("=") for line in read("/etc/os-release").splitlines() if "=" in line]
    return {name.lower(): value.strip("\"'") for name, _, value in lines}


def memory() -> dict[str, int]:
    """Give total and available memory in bytes."""
    rows = [line.split() for line in read("/proc/meminfo").splitlines()]
    found = {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows if len(row) > 1}
    return {"total": found.get("MemTotal", 0), "available": found.get("MemAvailable", 0)}


def disks() -> dict[str, dict[str, int]]:
    """Give size and free bytes of the file systems that matter."""
    found = {}
    for path in ("/", "/var/lib", "/srv"):
        try:
            usage = shutil.disk_usage(path)
        except OSError:
            continue
        found[path] = {"size": usage.total, "free": usage.free}
    return found


def pressure() -> dict[str, float]:
    """Give the share of the last minute in which something waited, in per cent."""
    found = {}
    for kind in ("cpu", "memory", "io"):
        for word in read("/proc/pressure/" + kind).partition("\n")[0].split():
            if word.startswith("avg60="):
                found[kind] = float(word[6:])
    return found


def listening() -> list[list[Any]]:
    """List what listens: protocol, address, port, program."""
    found = []
    for line in run(["ss", "-H", "-lntup"])[1].splitlines():
        words = line.split()
        if len(words) < 5 or words[0] not in ("tcp", "udp"):
            continue
        address, _, port = words[4].rpartition(":")
        program = line.partition('users:(("')[2].partition('"')[0]
        if port.isdigit():
            found.append([words[0], address.partition("%")[0].strip("[]"), int(port), program])
    return found


def addresses() -> list[str]:
    """List the IPv4 addresses of this machine."""
    try:
        interfaces = json.loads(run(["ip", "-j", "-4", "addr"])[1] or "[]")
    except ValueError:
        return []
    return [one["local"] for it in interfaces for one in it.get("addr_info", []) if "local" in one]


def synchronised() -> bool | None:
    """Say whether the clock follows a time server; None if nothing can tell."""
    code, text = run(["timedatectl", "show", "-p", "NTPSynchronized", "--value"])
    return text.strip() == "yes" if code == 0 and text.strip() else None


def capabilities() -> int:
    """Give the capabilities of this process as a bit set."""
    words = read("/proc/self/status").split()
    return int(words[words.index("CapEff:") + 1], 16) if "CapEff:" in words else 0


def system() -> dict[str, Any]:
    """Gather what is true of the machine whatever is installed."""
    return {
        "python": platform.python_version(),
        "os": release(),
        "arch": platform.machine(),
        "kernel": platform.release(),
        "hostname": platform.node(),
        "boot_id": read("/proc/sys/kernel/random/boot_id").strip(),
        "clock": time.time(),
        "cpus": os.cpu_count() or 1,
        "memory": memory(),
        "disks": disks(),
        "pressure": pressure(),
        "nameservers": [
            line.split()[1]
            for line in read("/etc/resolv.conf").splitlines()
            if line.startswith("nameserver ") and len(line.split()) > 1
        ],
        "swap": [line.split()[0] for line in read("/proc/swaps").splitlines()[1:]],
        "synchronised": synchronised(),
        "addresses": addresses(),
        "listening": listening(),
        "foreign": [name for name, path in FOREIGN.items() if os.path.isdir(path)],
        "kubernetes": os.path.exists("/etc/kubernetes/kubelet.conf")
        or os.path.exists("/etc/kubernetes/admin.conf"),
        "fstab": os.path.exists("/etc/fstab"),
        "cgroups": 2 if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else 1,
        "resources": bool(capabilities() >> 24 & 1),  # CAP_SYS_RESOURCE
        "apt": run(["dpkg", "--audit"]) == (0, ""),
        "has": [name for name in ("nft", "iptables", "systemctl") if shutil.which(name)],
    }


def file_drift(path: str, wanted: dict[str, str]) -> str:
    """Say how a file differs from what was written."""
    try:
        found = os.lstat(path)
    except OSError:
        return path + " is gone"
    if "link" in wanted:
        same = stat.S_ISLNK(found.st_mode) and os.readlink(path) == wanted["link"]
        return "" if same else path + " was changed"
    if not stat.S_ISREG(found.st_mode):
        return path + " was changed"
    if wanted.get("mode") and stat.S_IMODE(found.st_mode) != int(wanted["mode"], 8):
        return path + " has other permissions"
    if wanted.get("owner") and owner(found) != wanted["owner"]:
        return path + " has another owner"
    hashed = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                hashed.update(block)
    except OSError:
        return path + " cannot be read"
    return "" if hashed.hexdigest() == wanted["sha256"] else path + " was changed"


def owner(found: os.stat_result) -> str:
    """Give ``user:group`` of a file."""
    try:
        return pwd.getpwuid(found.st_uid).pw_name + ":" + grp.getgrgid(found.st_gid).gr_name
    except KeyError:
        return "%d:%d" % (found.st_uid, found.st_gid)


def line_drift(wanted: dict[str, list[str]]) -> list[str]:
    """Say which lines a file no longer holds."""
    found = []
    for path, lines in wanted.items():
        there = set(read(path).splitlines())
        found += ["%s lacks the line %r" % (path, line) for line in lines if line not in there]
    return found


def unit_drift(units: list[str]) -> list[str]:
    """Say which units do not run or are not started at boot."""
    found = []
    for name in units:
        answer = run(["systemctl", "show", name, "-p", "ActiveState", "-p", "UnitFileState"])[1]
        state = dict(line.split("=", 1) for line in answer.splitlines() if "=" in line)
        if state.get("ActiveState") not in ("active", "activating", "reloading"):
            found.append("%s is %s" % (name, state.get("ActiveState", "unknown")))
        if state.get("UnitFileState") not in ("enabled", "static", "enabled-runtime"):
            found.append("%s is not started at boot" % name)
    return found


def package_drift(packages: dict[str, str]) -> list[str]:
    """Say which packages are gone or have another version."""
    if not packages:
        return []
    shape = "${Package} ${Version} ${db:Status-Status}\\n"
    rows = [
        line.split() for line in run(["dpkg-query", "-W", "-f", shape, *packages])[1].splitlines()
    ]
    there = {row[0]: row[1] for row in rows if len(row) == 3 and row[2] == "installed"}
    found = []
    for name, version in packages.items():
        if name not in there:
            found.append("package %s is gone" % name)
        elif version and there[name] != version:
            found.append("package %s is %s, not %s" % (name, there[name], version))
    return found


def setting_drift(settings: dict[str, str]) -> list[str]:
    """Say which kernel settings have another value."""
    found = []
    for name, wanted in settings.items():
        value = " ".join(read("/proc/sys/" + name.replace(".", "/")).split())
        if value != wanted:
            found.append("%s is %s, not %s" % (name, value or "unknown", wanted))
    return found


def image_drift(images: list[str]) -> list[str]:
    """Say which images the container runtime lacks."""
    if not images:
        return []
    code, text = run(["ctr", "-n", "k8s.io", "images", "ls", "-q"])
    if code:
        return ["the container runtime does not answer"]
    there = set(text.split())
    return ["image %s is gone" % name for name in images if name not in there]


def part(text: str) -> dict[str, Any]:
    """Compare a part with its stamp; one that is damaged in any way counts as not there."""
    try:
        stamp = json.loads(text)
        inputs = stamp["inputs"]
        drift = drifts(stamp)
    except Exception:
        return {"inputs": "", "drift": []}
    return {"inputs": inputs if isinstance(inputs, str) else "", "drift": drift}


def drifts(stamp: dict[str, Any]) -> list[str]:
    """Say everything that is no longer as a stamp says."""
    drift = [file_drift(path, wanted) for path, wanted in stamp.get("files", {}).items()]
    drift += line_drift(stamp.get("lines", {}))
    drift += unit_drift(stamp.get("units", []))
    drift += package_drift(stamp.get("packages", {}))
    drift += setting_drift(stamp.get("settings", {}))
    drift += image_drift(stamp.get("images", []))
    drift += ["%s is gone" % path for path in stamp.get("paths", []) if not os.path.exists(path)]
    return [line for line in drift if line]


def parts() -> dict[str, Any]:
    """Compare every part that has a stamp."""
    names = sorted(os.listdir(STAMPS)) if os.path.isdir(STAMPS) else []
    return {
        name[: -len(".json")]: part(read(os.path.join(STAMPS, name)))
        for name in names
        if name.endswith(".json")
    }


def main(request: str) -> None:
    """Print what was asked for, whole, on one line."""
    asked = json.loads(base64.b64decode(request))
    answers = {name: run(argv) for name, argv in asked["probes"].items()}
    found = {"system": system(), "parts": parts(), "answers": answers}
    sys.stdout.write(asked["mark"] + json.dumps(found) + "\n")
    sys.stdout.flush()
