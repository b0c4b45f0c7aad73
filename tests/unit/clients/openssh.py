"""A stand-in for OpenSSH's programs: runs commands here, fails in the words of the real one."""

from __future__ import annotations

import base64
import json
import os
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

# Parts of it run as ssh, as its own process; what it is to say lies beside it.
_SSH = """
import json, pathlib, subprocess, sys
here = pathlib.Path(__file__).parent
args = sys.argv[1:]
options = dict(word.split("=", 1) for flag, word in zip(args, args[1:]) if flag == "-o")
address = args[args.index("--") + 1]
asked = "-G" if "-G" in args else "-O" if "-O" in args else "run"
with (here / "calls").open("a") as calls:
    env = {name: text for name, text in __import__("os").environ.items()}
    calls.write(json.dumps({"asked": asked, "argv": args, "env": env}) + "\\n")
told = here / f"{address}.json"
told = json.loads(told.read_text()) if told.exists() else {}
if asked == "-O":
    sys.exit(0)
if asked == "-G":
    said = {"hostname": address.lower(), "port": options.get("Port", "22")}
    said.update(told.get("config", {}))
    print("\\n".join(f"{name} {value}" for name, value in said.items()))
    sys.exit(0)
log = pathlib.Path(args[args.index("-E") + 1])
log.write_text(told.get("log", ""))
sys.stderr.write(told.get("before", ""))
sys.stderr.flush()
if options["StrictHostKeyChecking"] == "accept-new" and "line" in told:
    pathlib.Path(options["UserKnownHostsFile"].strip('"')).write_text(told["line"] + "\\n")
sys.stdout.write(told.get("out", ""))
sys.stdout.flush()
if "code" in told:
    sys.exit(told["code"])
code = subprocess.call(["/bin/sh", "-c", args[-1]])
sys.exit(255 if code < 0 else code)
"""
_KEYSCAN = """
import json, pathlib, sys
told = pathlib.Path(__file__).parent / f"{sys.argv[-1]}.json"
told = json.loads(told.read_text()) if told.exists() else {}
port = sys.argv[sys.argv.index("-p") + 1]
name = sys.argv[-1] if port == "22" else f"[{sys.argv[-1]}]:{port}"
for key in told.get("keys", []):
    print(f"# {name} SSH-2.0-OpenSSH_9.2", file=sys.stderr)
    print(f"{name} {key}")
sys.exit(0 if "keys" in told else 1)
"""


@dataclass(frozen=True, slots=True)
class OpenSsh:
    """The programs on PATH: how they answer, and what they were asked."""

    folder: Path

    @staticmethod
    def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> OpenSsh:
        """Put them first on PATH."""
        folder.mkdir()
        for name, text in (("ssh", _SSH), ("ssh-keyscan", _KEYSCAN)):
            program = folder / name
            program.write_text(f"#!{sys.executable} -IS\n{text}")
            program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        return OpenSsh(folder)

    def answer(self, address: str, **told: Any) -> None:
        """Tell how a host answers: log, before, out, code, config, keys, line."""
        (self.folder / f"{address}.json").write_text(json.dumps(told))

    def calls(self, asked: str = "run") -> list[dict[str, Any]]:
        """Give what ssh was asked: its arguments and its environment."""
        file = self.folder / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        return [call for line in lines if (call := json.loads(line))["asked"] == asked]


def make_key(seed: str, kind: str = "ssh-ed25519") -> tuple[str, str]:
    """Make the public half of a key that nobody has: kind and text."""
    data = len(kind).to_bytes(4, "big") + kind.encode() + seed.encode().ljust(36, b".")
    return kind, base64.b64encode(data).decode()
