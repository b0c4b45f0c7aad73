"""The peers: an environment each, pinned, built once in the user's cache folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks._measure import progress

PINS = Path(__file__).with_name("peers.txt")
PROGRAMS = Path(__file__).with_name("peers")
# No peer may spend its time on telling its makers about us, or on looking for newer versions.
QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "WARNING",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "METAFLOW_USER": "bench",
    "PYTHONWARNINGS": "ignore",
}


def pins() -> dict[str, list[str]]:
    """Give what each peer's environment holds: a peer a line, its own pin first."""
    lines = (line.split("#")[0].split() for line in PINS.read_text().splitlines())
    return {words[0].split("==")[0]: words for words in lines if words}


def binaries(peer: str) -> Path:
    """Give the folder of a peer's programs, its environment built where it is not yet."""
    packages = pins()[peer]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    python = f"py{sys.version_info.major}.{sys.version_info.minor}"
    folder = cache / "mlstead-bench" / f"{packages[0].replace('==', '-')}-{python}"
    complete = folder / "complete"
    if not complete.exists() or complete.read_text() != " ".join(packages):
        progress(f"building the environment of {peer}")
        shutil.rmtree(folder, ignore_errors=True)
        uv = [sys.executable, "-m", "uv"]
        where = ["--python", str(folder / "bin" / "python")]
        subprocess.run([*uv, "venv", "-q", "--python", sys.executable, str(folder)], check=True)
        install = [*uv, "pip", "install", "-q", "--compile-bytecode", *where]
        subprocess.run([*install, *packages], check=True)
        complete.write_text(" ".join(packages))
    return folder / "bin"


def version(peer: str) -> str:
    """Give the pinned version of a peer."""
    return pins()[peer][0].split("==")[1]
