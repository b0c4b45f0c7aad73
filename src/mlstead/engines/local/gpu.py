"""Which GPUs this machine has, and whose each one is now: a lock file per GPU, over all users."""

import contextlib
import fcntl
import functools
import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import NamedTuple

_LOCKS = Path("/tmp/mlstead-gpus")  # all users of the machine share it
_QUERY = "--query-gpu=index,name,uuid,memory.total"


class Gpu(NamedTuple):
    """One GPU: its number in PCI order, kind ("NVIDIA H200"), unique name, memory in bytes."""

    number: int
    kind: str
    uuid: str
    memory: int


@functools.cache
def find() -> tuple[Gpu, ...]:
    """Ask the driver which GPUs there are; none where there is no driver."""
    if not Path("/dev/nvidiactl").exists():
        return ()
    program = shutil.which("nvidia-smi", path=os.environ.get("PATH", "") + ":/usr/bin:/bin")
    if program is None:
        return _from_proc(Path("/proc/driver/nvidia/gpus"))
    command = [program, _QUERY, "--format=csv,noheader,nounits"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    return parse(result.stdout)


def parse(text: str) -> tuple[Gpu, ...]:
    """Read what nvidia-smi prints for index, name, uuid and memory in MiB."""
    gpus = []
    for line in text.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) == 4 and fields[0].isdigit():
            memory = int(fields[3]) << 20 if fields[3].isdigit() else 0
            gpus.append(Gpu(int(fields[0]), fields[1], fields[2], memory))
    return tuple(gpus)


def _from_proc(folder: Path) -> tuple[Gpu, ...]:
    gpus = []
    for index, path in enumerate(sorted(folder.glob("*/information"))):
        lines = dict(line.partition(":")[::2] for line in path.read_text().splitlines())
        gpus.append(Gpu(index, lines["Model"].strip(), lines["GPU UUID"].strip(), 0))
    return tuple(gpus)


def of_kind(gpu: Gpu, kinds: tuple[str, ...]) -> bool:
    """Say whether a GPU is one of the kinds asked for; "H200" matches "NVIDIA H200"."""
    name = gpu.kind.lower()
    return not kinds or any(kind.lower() in name for kind in kinds)


def lock(gpu: Gpu) -> int | None:
    """Take a GPU for whoever holds the descriptor; None when another user's task has it."""
    with contextlib.suppress(FileExistsError):
        _LOCKS.mkdir(mode=0o1777)
        _LOCKS.chmod(0o1777)
    path = _LOCKS / (gpu.uuid or str(gpu.number))
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        descriptor = os.open(path, flags | os.O_CREAT, 0o666)
        with contextlib.suppress(OSError):
            os.fchmod(descriptor, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
