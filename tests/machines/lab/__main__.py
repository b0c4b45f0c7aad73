"""The command line of the lab: python -m tests.machines.lab up 2."""

from __future__ import annotations

import argparse
import json
import os
import sys

from tests.machines.lab.errors import LabError
from tests.machines.lab.lab import FOLDER, ROOTFS, SUBNET, Lab, default_folder


def main() -> int:
    """Do what the command line says."""
    said = _parser().parse_args()
    lab = Lab(default_folder())
    try:
        return _do(lab, said)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1


def _do(lab: Lab, said: argparse.Namespace) -> int:
    match said.verb:
        case "base":
            print(lab.base())
        case "up":
            lab.up(said.count)
            _print_status(lab)
        case "add":
            lab.add(said.host)
            _print_status(lab)
        case "down":
            lab.down(keep=said.keep)
        case "status":
            _print_status(lab)
        case "reboot":
            lab.reboot(lab.host(said.host))
        case "kill":
            lab.kill(lab.host(said.host))
        case "exec":
            command = lab.host(said.host).command(said.command or ["bash"])
            os.execvp(command[0], command)
        case "snapshot":
            print(json.dumps(lab.host(said.host).snapshot(), indent=1, sort_keys=True))
    return 0


def _print_status(lab: Lab) -> None:
    for host in lab.hosts():
        print(f"{host.name:12} {host.address:14} {host.state()}")
    if lab.ssh_config.exists():
        print(f"ssh -F {lab.ssh_config} HOST")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.machines.lab",
        description=f"{__doc__} Steered by {FOLDER}, {ROOTFS}, {SUBNET}.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("base", help="make the root folder that hosts share; print it")
    verbs.add_parser("up", help="h1 to hN, started").add_argument("count", type=int)
    down = verbs.add_parser("down", help="end everything, remove the hosts")
    down.add_argument("--keep", action="store_true", help="shut down, keep the hosts' files")
    verbs.add_parser("status", help="the hosts and the state of their systemd")
    for verb, told in (
        ("add", "one more host, or one that is off"),
        ("reboot", "from inside, and wait"),
        ("kill", "pull the plug"),
        ("exec", "run a program as root"),
        ("snapshot", "all that an install may change, as JSON"),
    ):
        one = verbs.add_parser(verb, help=told)
        one.add_argument("host")
        if verb == "exec":
            one.add_argument("command", nargs=argparse.REMAINDER)
    return parser


if __name__ == "__main__":
    sys.exit(main())
