"""Which files of a folder belong to its code: ignore files, what is always left out, secrets."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlstead.clients.git import quote_pattern
from mlstead.errors import UserError

LARGEST = 50 << 20
"""Bytes that one file of code may have."""

TOTAL = 200 << 20
"""Bytes that all code together may have."""

_SECRETS = (
    ".env", ".env.*", "*.pem", "*.key", "*.p12", "*.pfx", "*.ppk", "*.jks", "*.keystore",
    "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", ".netrc", ".pgpass", ".htpasswd",
    "kubeconfig", "*.kubeconfig", "credentials.json", ".pypirc", ".git-credentials",
)  # fmt: skip
_NOT_SECRET = (".env.example", ".env.sample", ".env.template", "*.pub")


def _any_of(patterns: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(fnmatch.translate(pattern) for pattern in patterns))


_SECRET = _any_of(_SECRETS)
_HARMLESS = _any_of(_NOT_SECRET)


@dataclass(frozen=True, slots=True)
class Rules:
    """What to tell git about a folder.

    Attributes:
        folder: the folder.
        top: the folder whose ``.gitignore`` counts first: the folder, or the repository around it.
        include: names and patterns that the person listed.
        args: options for ``git ls-files``.
        mark: a hash of everything that these rules come from.
    """

    folder: Path
    top: Path
    include: tuple[str, ...]
    args: tuple[str, ...]
    mark: str

    @property
    def prefix(self) -> str:
        """Where the folder stands below the top; empty or ending in a slash."""
        return "" if self.top == self.folder else f"{self.folder.relative_to(self.top)}/"

    def listed(self, path: str) -> bool:
        """Whether the person asked for this file by name or pattern."""
        name = path.rpartition("/")[2]
        return any(
            fnmatch.fnmatchcase(path, want)
            or fnmatch.fnmatchcase(name, want)
            or path.startswith(want.rstrip("/") + "/")
            for want in self.include
        )


def rules_of(folder: Path, include: Sequence[str], out: Iterable[Path], *, alone: bool) -> Rules:
    """Read the rules of a folder.

    Args:
        folder: the folder, with links resolved.
        include: what the person listed.
        out: folders to leave out.
        alone: do not look at a repository around the folder.
    """
    top = folder if alone else _top(folder)
    own = _read(folder / ".mlsteadignore")
    exclude = top / ".git" / "info" / "exclude"
    prefix = "" if top == folder else f"{quote_pattern(str(folder.relative_to(top)))}/"
    patterns = [_under(prefix, "__pycache__/")]
    patterns += [_under(prefix, line) for line in _lines(own)]
    patterns += [_under(prefix, "!/" + want.lstrip("/")) for want in include]
    for place in out:
        if place != folder and place.is_relative_to(folder):
            patterns.append(_under(prefix, f"/{quote_pattern(str(place.relative_to(folder)))}/"))
    args = ["--exclude-standard"]
    if exclude.is_file():
        args.append(f"--exclude-from={exclude}")
    args += [f"--exclude={pattern}" for pattern in patterns]
    above = [_read(place / ".gitignore") for place in _between(top, folder)]
    seen = json.dumps([str(top), args, above, _read(exclude)])
    mark = hashlib.sha256(seen.encode(errors="surrogateescape")).hexdigest()
    return Rules(folder, top, tuple(include), tuple(args), mark)


def _top(folder: Path) -> Path:
    for place in (folder, *folder.parents):
        if os.path.lexists(place / ".git"):
            return place
    return folder


def _between(top: Path, folder: Path) -> list[Path]:
    if top == folder:
        return []
    return [place for place in folder.parents if place == top or place.is_relative_to(top)]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


def _lines(text: str) -> list[str]:
    lines = [line.rstrip("\r") for line in text.splitlines()]
    lines = [line if line.endswith("\\ ") else line.rstrip() for line in lines]
    return [line for line in lines if line and not line.startswith("#")]


def _under(prefix: str, pattern: str) -> str:
    """Write a pattern of the folder as one of the top."""
    if not prefix:
        return pattern
    no, body = ("!", pattern[1:]) if pattern.startswith("!") else ("", pattern)
    anchored = "/" in body.rstrip("/")
    return f"{no}/{prefix}{body.lstrip('/')}" if anchored else f"{no}/{prefix}**/{body}"


def check_names(rules: Rules, paths: Iterable[str]) -> None:
    """Refuse files that look like secrets and were not listed.

    Raises:
        UserError: there are some.
    """
    bad = [path for path in paths if _secret(path.rpartition("/")[2]) and not rules.listed(path)]
    if bad:
        shown = ", ".join(sorted(bad)[:10])
        raise UserError(
            f"{rules.folder}: looks like secrets: {shown}",
            hint="leave them out in .gitignore or .mlsteadignore, or list them in code.include",
        )


def _secret(name: str) -> bool:
    return _SECRET.match(name) is not None and _HARMLESS.match(name) is None


def check_sizes(rules: Rules, sizes: Mapping[str, int]) -> None:
    """Refuse a folder that is too large to be code.

    Raises:
        UserError: a file, or all together, is over the limit; it names the ten largest.
    """
    total = sum(sizes.values())
    largest = sorted(sizes, key=lambda path: (-sizes[path], path))[:10]
    if total <= TOTAL and (not largest or sizes[largest[0]] <= LARGEST):
        return
    shown = ", ".join(f"{path} ({sizes[path] / 2**20:.1f} MiB)" for path in largest)
    raise UserError(
        f"{rules.folder}: too large for code ({total / 2**20:.0f} MiB;"
        f" {LARGEST >> 20} MiB a file and {TOTAL >> 20} MiB in all may be). Largest: {shown}",
        hint="leave data out in .gitignore or .mlsteadignore, and name it under data:",
    )


def check_link(rules: Rules, path: str) -> None:
    """Refuse a link that points outside the folder.

    Raises:
        UserError: it does.
    """
    place = rules.folder / path
    target = os.readlink(place)  # noqa: PTH115 a Path would tidy the text up
    plain = os.path.normpath(os.path.join(os.path.dirname(path), target))  # noqa: PTH118, PTH120
    real = os.path.realpath(place)
    inside = real == str(rules.folder) or real.startswith(f"{rules.folder}/")
    if target.startswith("/") or plain.startswith("..") or not inside:
        raise UserError(
            f"{place}: the link points outside the folder",
            hint="leave it out in .mlsteadignore, or copy what it points to",
        )


def size_of(rules: Rules, path: str) -> int | None:
    """Give the size of a file or link of the folder; None if there is no such file.

    Raises:
        UserError: it is a link that points outside.
    """
    try:
        status = os.lstat(f"{rules.folder}/{path}")
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISLNK(status.st_mode):
        check_link(rules, path)
        return status.st_size
    return status.st_size if stat.S_ISREG(status.st_mode) else None
