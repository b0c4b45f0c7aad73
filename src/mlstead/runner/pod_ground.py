"""What a pod was given and where it works: its task, its folders, its programs' environment."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mlstead.runner.pod_ship import unpack
from mlstead.runner.pod_transfer import Transfer, TransferError

TASK, SECRET, RUN = Path("/mlstead/task"), Path("/mlstead/secret"), Path("/mlstead/run")
CODE, PACKAGES = Path("/mlstead/code"), Path("/mlstead/environment")
PATIENCE = 300.0  # seconds that a store may be away before an attempt is given up
_NAMES_SECONDS = 300.0  # until the first worker's name is known everywhere
_HIDDEN = ("KUBERNETES_", "MLSTEAD_POD_")


class PrepareError(Exception):
    """Something before the program itself failed."""

    def __init__(self, detail: str, reason: str = "error") -> None:
        super().__init__(detail)
        self.detail = detail
        self.reason = reason


class Place(NamedTuple):
    """Where one process stands in its group."""

    rank: int
    worker: int
    local: int


class Ground:
    """The task of this pod and its folders."""

    def __init__(self) -> None:
        self.task: dict[str, Any] = json.loads((TASK / "task.json").read_bytes())
        self.uploads: dict[str, Any] = json.loads((SECRET / "uploads.json").read_bytes())
        self.worker = int(os.environ.get("JOB_COMPLETION_INDEX") or 0)
        failures = os.environ.get("MLSTEAD_POD_FAILURES") or "0"
        self.attempt = int(failures) + 1
        workers = self.task["workers"]
        each = 1 if workers["launcher"] == "own" else workers["processes"]
        self.places = [Place(self.worker * each + n, self.worker, n) for n in range(each)]
        self.ranks = workers["count"] * each
        self.work = RUN / "work"

    @property
    def prefix(self) -> str:
        """Give the first part of the names of this attempt's objects."""
        return f"{self.attempt}/"

    def outputs(self, rank: int) -> Path:
        """Give the outputs folder of one rank."""
        return RUN / ("outputs" if rank == 0 else f"outputs.{rank}")

    def metrics(self, rank: int) -> Path:
        """Give the metrics file of one rank."""
        return RUN / f"metrics-{rank}.jsonl"

    def log(self, rank: int) -> Path:
        """Give the log file of one rank."""
        return RUN / f"log.{rank}"

    # ---- before the program

    def fill(self, transfer: Transfer) -> None:
        """Make all folders and bring code, inputs and checkpoints.

        Raises:
            PrepareError: something is not there, or cannot be brought.
        """
        for name in ("work", "inputs", "checkpoints", "tmp", "home"):
            (RUN / name).mkdir(exist_ok=True)
        for place in self.places:
            self.outputs(place.rank).mkdir(exist_ok=True)
        # last of all places: where an image has python3 only, as Debian's, `python` is that
        (RUN / "bin").mkdir(exist_ok=True)
        if not (RUN / "bin" / "python").is_symlink():
            (RUN / "bin" / "python").symlink_to(sys.executable)
        try:
            if self.task["code"]:
                shutil.copytree(CODE, self.work, symlinks=True, dirs_exist_ok=True)
                _writable(self.work)
            for wanted in self.task["inputs"]:
                self._bring(transfer, wanted)
            self._bring_checkpoints(transfer)
        except OSError as error:
            raise PrepareError(f"cannot prepare the attempt: {error}", "volume") from error
        cwd = self.work / self.task["working_dir"]
        if not cwd.is_dir():
            raise PrepareError(f"working_dir: there is no folder {self.task['working_dir']!r}")

    def _bring(self, transfer: Transfer, wanted: Mapping[str, Any]) -> None:
        name, target = wanted["name"], RUN / "inputs" / wanted["name"]
        archive = RUN / "input.tar"
        try:
            with archive.open("w+b") as file:
                if not transfer.fetch(self.uploads["inputs"][name], file, PATIENCE):
                    raise PrepareError(f"input {name!r}: the store does not have it", "volume")
                aside = RUN / "input"
                aside.mkdir()
                unpack(file, aside)
                if not os.path.lexists(aside / "input"):  # a file or a folder of that name
                    raise PrepareError(f"input {name!r}: the store has none in it", "volume")
                (aside / "input").rename(target)
                aside.rmdir()
        except (TransferError, tarfile.TarError, EOFError) as error:
            raise PrepareError(f"input {name!r}: {error}", "volume") from error
        finally:
            archive.unlink()
        if wanted["mode"] == "copy":
            _writable(target)

    def _bring_checkpoints(self, transfer: Transfer) -> None:
        if self.attempt == 1:
            return
        aside = RUN / "checkpoints.tar"
        try:
            with aside.open("w+b") as file:
                if transfer.fetch(self.uploads["checkpoints"][self.worker], file, PATIENCE):
                    unpack(file, RUN / "checkpoints")
        except (TransferError, tarfile.TarError, EOFError) as error:
            raise PrepareError(f"checkpoints: {error}", "volume") from error
        finally:
            aside.unlink()

    def meet(self) -> None:
        """Wait until the name of the first worker is known, which takes its pod a moment."""
        host, end = self.task["master"], time.monotonic() + _NAMES_SECONDS
        while host and self.worker:
            try:
                socket.getaddrinfo(host, None)
                return
            except OSError as error:
                if time.monotonic() > end:
                    raise PrepareError(f"the first worker, {host}, is not there") from error
                time.sleep(0.2)

    # ---- what the program finds

    def environment(self, place: Place) -> dict[str, str]:
        """Make the variables of one process."""
        task = self.task
        env = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(_HIDDEN) and name != "JOB_COMPLETION_INDEX"
        }
        env |= {
            "HOME": str(RUN / "home"),
            "TMPDIR": str(RUN / "tmp"),
            "USER": "mlstead",
            "LOGNAME": "mlstead",
            "MLSTEAD_TASK_ID": task["id"],
            "MLSTEAD_ATTEMPT": str(self.attempt),
            "MLSTEAD_PARAMS": str(TASK / "params.json"),
            "MLSTEAD_INPUTS": str(RUN / "inputs"),
            "MLSTEAD_CHECKPOINTS": str(RUN / "checkpoints"),
            "MLSTEAD_STOP": str(RUN / "stop"),
            "MLSTEAD_OUTPUTS": str(self.outputs(place.rank)),
            "MLSTEAD_METRICS": str(self.metrics(place.rank)),
        }
        params = json.loads((TASK / "params.json").read_bytes())
        for name, value in params.items():
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            env[f"MLSTEAD_PARAM_{_variable(name)}"] = text
        for name, port in task["ports"].items():
            env[f"MLSTEAD_PORT_{_variable(name)}"] = str(port)
        env |= task["env"]
        env.setdefault("PYTHONUNBUFFERED", "1")
        if not task["gpu"]:
            env["CUDA_VISIBLE_DEVICES"] = ""
        usual = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
        env["PATH"] = f"{task['env'].get('PATH', usual)}:{RUN / 'bin'}"
        _search(env)
        return env | self._secrets() | self._group(place)

    def _secrets(self) -> dict[str, str]:
        env: dict[str, str] = {}
        for secret in self.task["secrets"]:
            value = (SECRET / f"secret.{secret['name']}").read_text(encoding="utf-8")
            if secret["file"]:
                folder = RUN / "secrets"
                folder.mkdir(mode=0o700, exist_ok=True)
                path = folder / secret["file"]
                path.touch(mode=0o600)
                path.write_text(value, encoding="utf-8")
                value = str(path)
            if secret["env"]:
                env[secret["env"]] = value
        return env

    def _group(self, place: Place) -> dict[str, str]:
        """Make the variables that tell a process its place among the others."""
        workers = self.task["workers"]
        count, each = workers["count"], workers["processes"]
        own = workers["launcher"] == "own"
        if count == each == 1 and workers["framework"] == "none" and not own:
            return {}
        host, port = self.task["master"] or "127.0.0.1", str(self.task["port"])
        env = {"MASTER_ADDR": host, "MASTER_PORT": port, "NODE_RANK": str(place.worker)}
        if own:
            return env | {
                "NNODES": str(count),
                "PET_NNODES": str(count),
                "PET_NODE_RANK": str(place.worker),
                "PET_NPROC_PER_NODE": str(each),
                "PET_MASTER_ADDR": host,
                "PET_MASTER_PORT": port,
            }
        env |= {
            "RANK": str(place.rank),
            "WORLD_SIZE": str(self.ranks),
            "LOCAL_RANK": str(place.local),
            "LOCAL_WORLD_SIZE": str(each),
        }
        if workers["framework"] == "tensorflow":
            hosts = self.task["hosts"] or ["127.0.0.1"]
            first = self.task["port"] + 1
            addresses = [f"{name}:{first + local}" for name in hosts for local in range(each)]
            task = {"type": "worker", "index": place.rank}
            env["TF_CONFIG"] = json.dumps({"cluster": {"worker": addresses}, "task": task})
        return env


def _search(env: dict[str, str]) -> None:
    """Let programs find what the image was given for them, and what we give them, last of all."""
    places = [env.get("PYTHONPATH", "")]
    if PACKAGES.is_dir():
        env["PATH"] = f"{PACKAGES / 'bin'}:{env['PATH']}"
        places.insert(0, str(PACKAGES))
    places.append(str(RUN / "bundle"))
    env["PYTHONPATH"] = ":".join(it for it in places if it)


def _variable(name: str) -> str:
    return name.upper().replace("-", "_")


def _writable(tree: Path) -> None:
    """Let the owner change what an image has as read-only."""
    for path in [tree, *tree.rglob("*")]:
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | 0o200 | (0o100 if path.is_dir() else 0))
