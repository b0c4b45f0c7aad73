"""What a program must have left behind after it ended with 0, and how ranks' outputs are joined."""

import json
import shutil
from pathlib import Path
from typing import Any

VALUES = "values.json"
_LARGEST = 32 << 10


def problem(request: dict[str, Any], outputs: Path) -> str:
    """Say what is missing of what was declared; "" when all is there."""
    missing = [name for name in request["outputs"] if not _exists(outputs / name)]
    if missing:
        return f"output {missing[0]!r} is missing: nothing at $MLSTEAD_OUTPUTS/{missing[0]}"
    path = outputs / VALUES
    if not path.exists():
        names = ", ".join(request["values"])
        return f"value {names} is missing: there is no $MLSTEAD_OUTPUTS/{VALUES}" if names else ""
    return _values_problem(request, path)


def _values_problem(request: dict[str, Any], path: Path) -> str:
    if not path.is_file():
        return f"{VALUES} is not a file"
    size = path.stat().st_size
    if size > _LARGEST:
        return f"{VALUES} has {size} bytes, at most {_LARGEST} are allowed: use an output instead"
    try:
        values = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        return f"{VALUES} is not JSON: {str(error).splitlines()[0]}"
    if not isinstance(values, dict):
        return f"{VALUES} must hold an object, not {type(values).__name__}"
    missing = [name for name in request["values"] if name not in values]
    return f"value {missing[0]!r} is missing in $MLSTEAD_OUTPUTS/{VALUES}" if missing else ""


def _exists(path: Path) -> bool:
    return path.is_symlink() or path.exists()


def rank_folder(attempt: Path, rank: int) -> Path:
    """Give the outputs folder of one rank; that of rank 0 is the one kept."""
    return attempt / ("outputs" if rank == 0 else f"outputs.{rank}")


def join_ranks(attempt: Path, names: list[str], ranks: int) -> None:
    """Put the outputs that every rank writes side by side as ``name/rank``; drop the others.

    A folder that the program replaced by a link is left alone: what lies behind it is not ours
    to move.
    """
    kept = rank_folder(attempt, 0)
    if kept.is_symlink():
        return
    for name in names:
        whole = kept / f".{name}.ranks"
        if whole.is_symlink() or whole.is_file():
            whole.unlink()
        whole.mkdir(exist_ok=True)
        for rank in range(ranks):
            folder = rank_folder(attempt, rank)
            source = folder / name
            if not folder.is_symlink() and _exists(source):
                source.rename(whole / str(rank))
        if any(whole.iterdir()):
            whole.rename(kept / name)
        else:
            whole.rmdir()
    for rank in range(1, ranks):
        shutil.rmtree(rank_folder(attempt, rank), ignore_errors=True)


def missing_ranks(attempt: Path, names: list[str], ranks: int) -> str:
    """Say which rank did not write an output that all must write; "" when none."""
    for name in names:
        for rank in range(ranks):
            if not _exists(rank_folder(attempt, rank) / name):
                return f"output {name!r} is missing of rank {rank}"
    return ""
