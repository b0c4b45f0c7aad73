"""What a task left in S3: its outputs, brought to this laptop, and how its pods said they ended."""

import re
import shutil
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from mlstead.clients.objects import Objects
from mlstead.engines.base import Phase, Reason, Status
from mlstead.engines.kubernetes import reading
from mlstead.errors import NotFoundError, UserError

_OUTPUTS: Final = re.compile(r"(\d+)/(\d+)\.tar")
_END: Final = re.compile(r"(\d+)/(\d+)\.json")


def place(folder: Path, task_id: str) -> Path:
    """Give where the outputs of a task are put."""
    return folder / "outputs" / task_id[-2:] / task_id


def bring(objects: Objects, prefix: str, folder: Path, task_id: str, attempt: int) -> Path:
    """Give the outputs folder of an attempt, brought here the first time.

    Of several ranks, those of rank 0 are kept; what every rank had to write is ``name/<rank>``.

    Raises:
        UserError: what lies there is not what a pod leaves, or cannot be written here.
    """
    target = place(folder, task_id)
    if target.is_dir():
        return target
    ranks: dict[int, str] = {}
    for stat in objects.list(f"{prefix}outputs/{attempt}/"):
        if match := _OUTPUTS.fullmatch(stat.key.removeprefix(f"{prefix}outputs/")):
            ranks[int(match[2])] = stat.key
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=".new-", dir=target.parent))
    try:
        for rank, key in sorted(ranks.items()):
            (aside / str(rank)).mkdir()
            _unpack(objects, key, aside / str(rank))
        (aside / "0").mkdir(exist_ok=True)
        _join(aside, sorted(ranks))
        (aside / "0").rename(target)
    except OSError as error:
        if not target.is_dir():  # else another process was first
            raise UserError(f"{target}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return target


def _join(aside: Path, ranks: list[int]) -> None:
    """Put what other ranks left beside what rank 0 did: pods keep of theirs what all must write."""
    for rank in ranks:
        for entry in (aside / str(rank)).iterdir() if rank else ():
            whole = aside / "0" / entry.name
            if not whole.is_symlink():
                whole.mkdir(exist_ok=True)
            if entry.is_symlink() or whole.is_symlink():  # whatever lies behind it is not ours
                raise UserError(f"outputs: {entry.name!r} of rank {rank} is a link")
            (entry / str(rank)).rename(whole / str(rank))


def _unpack(objects: Objects, key: str, target: Path) -> None:
    with tempfile.TemporaryFile(dir=target.parent) as file:
        objects.fetch(key, file)
        file.seek(0)
        try:
            with tarfile.open(fileobj=file, mode="r:") as archive:
                items = archive.getmembers()
                _check_hard_links(items, target)
                links = [item for item in items if item.issym()]
                # no link is there yet that the files or each other could be led astray by
                others = [item for item in items if not item.issym()]
                archive.extractall(target, others, filter="data")
                for item in links:
                    _link(archive, item, target)
        except (tarfile.TarError, EOFError) as error:
            raise UserError(f"outputs: cannot be unpacked: {error}") from error


def _check_hard_links(items: Sequence[tarfile.TarInfo], target: Path) -> None:
    """Let hard links be of files before them: of others, tarfile makes what it does not look at."""
    files: set[str] = set()
    for item in items:
        if item.islnk() and item.linkname not in files:
            raise tarfile.LinkOutsideDestinationError(item, str(target))
        if item.isreg() or item.islnk():
            files.add(item.name)


def _link(archive: tarfile.TarFile, item: tarfile.TarInfo, target: Path) -> None:
    """Write a link as it is: where it leads is judged when it is kept."""
    name = Path(item.name)
    folders = [target / it for it in name.parents]
    if name.is_absolute() or ".." in name.parts or any(it.is_symlink() for it in folders):
        raise tarfile.OutsideDestinationError(item, str(target))
    archive.extract(item, target, filter="fully_trusted")


def drop(folder: Path, task_id: str) -> None:
    """Remove the outputs of a task from this laptop."""
    shutil.rmtree(place(folder, task_id), ignore_errors=True)


def end_of(objects: Objects, prefix: str, attempt: int, worker: int) -> Mapping[str, Any] | None:
    """Give how a worker wrote that it ended; None if it did not."""
    try:
        text = objects.get(f"{prefix}end/{attempt}/{worker}.json")
    except NotFoundError:
        return None
    return reading.words(text) or None


def written_end(objects: Objects, prefix: str) -> Status | None:
    """Give how a task of one worker ended by what it wrote, where the cluster knows no more.

    An end that was to be tried again is none; nor is that of a group, which one worker cannot tell.
    """
    found = []
    for stat in objects.list(f"{prefix}end/"):
        if match := _END.fullmatch(stat.key.removeprefix(f"{prefix}end/")):
            found.append((int(match[1]), int(match[2])))
    if not found or any(worker for _, worker in found):
        return None
    attempt, worker = max(found)
    end = end_of(objects, prefix, attempt, worker)
    if end is None or end["phase"] not in ("succeeded", "failed"):
        return None
    code = end.get("code")
    return Status(
        Phase(end["phase"]),
        Reason(end["reason"]) if end.get("reason") else None,
        exit_code=0 if code is None and end["phase"] == "succeeded" else code,
        signal=end.get("signal"),
        attempt=attempt,
        peak_memory=end.get("peak"),
        started=end.get("started"),
        ended=end["time"],
        detail=str(end.get("detail") or ""),
    )
