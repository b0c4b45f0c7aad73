"""What prepare needs to know of this machine and of the process that asks; reads only."""

import os
import platform
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import uv

from mlstead.engines.base import Facts
from mlstead.engines.local.capacity import of_home
from mlstead.engines.local.disk import Home

_KEPT = (
    "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ",
    "LD_LIBRARY_PATH", "CUDA_HOME", "JAVA_HOME", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
    "http_proxy", "https_proxy", "all_proxy", "no_proxy",
)  # fmt: skip
_BUILDING = ("UV_", "PIP_", "NETRC")
"""Variables that begin so are for building environments only; they may hold passwords."""


def facts(home: Home, environ: Mapping[str, str]) -> Facts:
    """Say what this machine has, and what of the caller's environment a program gets."""
    capacity = of_home(home)
    return Facts(
        cpu=capacity.cpu,
        memory=capacity.memory,
        gpus=tuple(gpu.kind for gpu in capacity.gpus),
        details={
            "interpreter": sys.executable,
            "python": platform.python_version(),
            "platform": f"{sys.platform}-{platform.machine()}",
            "uv": uv.find_uv_bin(),
            "git": shutil.which("git") or "",
            "environment": base_environment(environ),
            "private": private_names(environ),
            "disk": _free(home.home),
            "shm": _free(Path("/dev/shm")),
        },
    )


def base_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Give the clean environment a program begins with: no more of the caller's than it needs."""
    kept = (name for name in _KEPT if name in environ)
    env = {name: environ[name] for name in kept if not _has_password(environ[name])}
    own = str(Path(sys.executable).parent)
    folders = [folder for folder in environ.get("PATH", os.defpath).split(":") if folder != own]
    env["PATH"] = ":".join([own, *folders])
    env.setdefault("LANG", "C.UTF-8")
    return env


def private_names(environ: Mapping[str, str]) -> list[str]:
    """Name the variables that pass to the program but whose values are not written down."""
    return [name for name in _KEPT if _has_password(environ.get(name, ""))]


def private_values(names: list[str], environ: Mapping[str, str], building: bool) -> dict[str, str]:
    """Give the values that only the task may read."""
    values = {name: environ[name] for name in names if name in environ}
    if building:
        values |= {name: value for name, value in environ.items() if name.startswith(_BUILDING)}
    return values


def _has_password(value: str) -> bool:
    return "://" in value and "@" in value


def _free(path: Path) -> int:
    """Give the bytes that can be written below a path, which need not exist yet."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free
