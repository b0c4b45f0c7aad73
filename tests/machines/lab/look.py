"""A program that runs in a host and tells all that an install may change there, as JSON.

Debian's Python, standard library only: the lab sends this file's text through standard input.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

# They are other file systems of the kernel, or gone after a reboot.
NOT_FILES = ("/proc", "/sys", "/dev", "/run")
HASHED = ("/etc/", "/usr/local/", "/opt/", "/srv/", "/var/lib/")
# They change by themselves: that they are there is told, not what is in them.
RESTLESS = re.compile(
    r"/var/(log|cache|tmp)/|/tmp/|/var/lib/apt/lists/|/var/lib/systemd/(random-seed|timers/)"
    r"|/var/lib/dpkg/(lock|.*-old$)|/var/lib/sudo/|/root/\.bash_history|/etc/.*-$"
)
LEFT_OUT = re.compile(r"/__pycache__(/|$)|/tmp/systemd-private-|/var/tmp/systemd-private-")
# What logins make, and what systemd makes for a moment.
PASSING_UNITS = re.compile(
    r"^(session-|user@|user-|run-user-|run-credentials-|systemd-tmpfiles-clean|systemd-ask-password"
    r"|init\.scope|dev-|systemd-hostnamed|systemd-timedated|systemd-localed|sys-devices-)"
    r"|\.(device|scope|slice)$|^ssh@"
)
PASSING_MOUNTS = re.compile(r"^/run/(credentials|user)/")
# Counters and the like; boot_id is another after each boot.
RESTLESS_SETTINGS = re.compile(
    r"^kernel/(random|ns_last_pid|pty/nr)|^fs/(dentry-state|file-nr|inode-|quota/)|_count$|^net/ipv6/conf/.*/stable"
    r"|^net/netfilter/nf_conntrack_|^net/ipv4/tcp_fastopen_key|neigh/.*/gc_stale|^dev/|^user/"
)


def main() -> None:
    seen = {
        "files": files(),
        "users": lines_by_name("/etc/passwd"),
        "groups": lines_by_name("/etc/group"),
        "packages": packages(),
        "network": network(),
        "firewall": firewall(),
        "mounts": mounts(),
        "units": units(),
        "sockets": sockets(),
        "settings": settings(),
    }
    json.dump(seen, sys.stdout)


def said(*argv: str) -> str:
    """Give a program's output; nothing if it is not here or fails."""
    if shutil.which(argv[0]) is None:
        return ""
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout


def files() -> dict[str, str]:
    found: dict[str, str] = {}
    todo = ["/"]
    while todo:
        with os.scandir(todo.pop()) as entries:
            for entry in entries:
                if entry.path in NOT_FILES or LEFT_OUT.search(entry.path):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    todo.append(entry.path)
                found[entry.path] = told(entry)
    return found


def told(entry: os.DirEntry[str]) -> str:
    """Say type, mode, owner, and size and sum where they mean something."""
    status = entry.stat(follow_symlinks=False)
    what = f"{stat.filemode(status.st_mode)} {status.st_uid}:{status.st_gid}"
    if stat.S_ISLNK(status.st_mode):
        return f"{what} -> {Path(entry.path).readlink()}"
    if not stat.S_ISREG(status.st_mode) or RESTLESS.search(entry.path):
        return what
    if not entry.path.startswith(HASHED):
        return f"{what} {status.st_size}"
    with Path(entry.path).open("rb") as opened:
        return f"{what} {status.st_size} {hashlib.file_digest(opened, 'sha256').hexdigest()}"


def lines_by_name(path: str) -> dict[str, str]:
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    return {line.split(":")[0]: line for line in lines if ":" in line}


def packages() -> dict[str, str]:
    form = "${binary:Package}\t${Version} ${db:Status-Abbrev}\n"
    return dict(line.split("\t") for line in said("dpkg-query", "-W", "-f", form).splitlines())


def network() -> dict[str, str]:
    """Tell links, addresses and routes, without numbers that are drawn anew at each boot."""
    links = json.loads(said("ip", "-j", "-d", "link") or "[]")
    found = {}
    for link in links:
        kind = link.get("linkinfo", {}).get("info_kind", "")
        master = link.get("master", "")
        found[f"link {link['ifname']}"] = f"{kind} mtu {link['mtu']} {master}".strip()
    for link in json.loads(said("ip", "-j", "addr") or "[]"):
        for address in link["addr_info"]:
            if address["scope"] != "link":
                text = f"{address['local']}/{address['prefixlen']}"
                found[f"address {link['ifname']} {text}"] = address["scope"]
    for family in ("-4", "-6"):
        for route in said("ip", family, "route", "show", "table", "all").splitlines():
            if not re.search(r"fe80|linkdown|^(anycast|multicast|local|broadcast)", route):
                found[f"route {family} {re.sub(r' expires .*', '', route).strip()}"] = "there"
    for rule in said("ip", "rule").splitlines():
        found[f"rule {rule}"] = "there"
    return found


def firewall() -> dict[str, str]:
    """Tell the rules, without counters; an empty table says nothing."""
    found: dict[str, str] = {}
    for program in ("iptables-save", "ip6tables-save"):
        table = ""
        for line in said(program).splitlines():
            line = re.sub(r"^\[\d+:\d+\] | \[\d+:\d+\]$", "", line)
            if line.startswith("*"):
                table = line
            elif line.startswith("-A") or re.match(r":\S+ (?!ACCEPT)", line):
                key = f"{program} {table} {line}"
                found[key] = str(int(found.get(key, 0)) + 1)
    if rules := said("nft", "--stateless", "list", "ruleset"):
        found["nft"] = rules
    return found


def mounts() -> dict[str, str]:
    found = {}
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        before, after = line.split(" - ")
        place, kind = before.split()[4], after.split()[0]
        if not PASSING_MOUNTS.search(place):
            found[place] = kind
    return found


def units() -> dict[str, str]:
    found = {}
    for line in said("systemctl", "list-unit-files", "--no-legend", "--plain").splitlines():
        name, state = line.split()[:2]
        if state not in ("transient", "generated"):
            found[f"file {name}"] = state
    command = ("systemctl", "list-units", "--no-legend", "--plain", "--state=active,failed")
    for line in said(*command).splitlines():
        name, _, state = line.split()[:3]
        if not PASSING_UNITS.search(name):
            found[f"unit {name}"] = state
    return found


def sockets() -> dict[str, str]:
    """Tell who listens where; the name of a process, not its number."""
    found = {}
    for line in said("ss", "-H", "-lntup").splitlines():
        kind, _, _, _, local = line.split()[:5]
        who = sorted(set(re.findall(r'\("([^"]+)"', line)))
        found[f"{kind} {local}"] = " ".join(who)
    for line in said("ss", "-H", "-lx").splitlines():
        local = line.split()[4]
        if local.startswith("/") and not local.startswith("/run/user/"):
            found[f"unix {local}"] = ""
    return found


def settings() -> dict[str, str]:
    """Tell what /proc/sys says."""
    found = {}
    top = Path("/proc/sys")
    for path in top.rglob("*"):
        name = str(path.relative_to(top))
        if path.is_file() and not RESTLESS_SETTINGS.search(name):
            with contextlib.suppress(OSError):  # some can only be written
                found[name] = " ".join(path.read_text(errors="replace").split())
    return found


main()
