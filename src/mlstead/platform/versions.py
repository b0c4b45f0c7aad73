"""Data and models: add, list, show, get, verify, gc; numbered versions with aliases."""

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from mlstead import artifacts, discover
from mlstead.artifacts.base import Collected, Manifest, Progress
from mlstead.errors import ConflictError, NotFoundError, UserError
from mlstead.platform import driver
from mlstead.platform.context import Context
from mlstead.records.base import (
    AddVersion,
    Change,
    DropVersion,
    Link,
    Query,
    Run,
    SetAlias,
    Version,
)
from mlstead.spec.address import shown
from mlstead.spec.names import check_alias, check_versioned
from mlstead.work.base import Backends
from mlstead.work.pins import keep_path

TRIES = 20
GC_LEASE = "gc"


@dataclasses.dataclass(frozen=True, slots=True)
class Lineage:
    """Where a version comes from and who used it."""

    version: Version
    manifest: Manifest
    run: Run | None
    inputs: tuple[Link, ...]
    used_by: tuple[str, ...]


class Versions:
    """The data or the models of one project."""

    def __init__(
        self, backends: Backends, context: Context, project: str, kind: Literal["data", "model"]
    ) -> None:
        self._backends = backends
        self._context = context
        self._project = project
        self._kind: Literal["data", "model"] = kind

    def add(
        self,
        name: str,
        source: str | Path,
        *,
        sha256: str = "",
        unpack: bool = False,
        progress: Progress | None = None,
    ) -> Version:
        """Keep a folder, file, URL or ``.dvc`` file's data as the next version of a name.

        ``unpack`` keeps what a tar or zip archive holds instead of the archive itself.

        Raises:
            UserError: the source is missing, unsafe, or its hash differs.
        """
        check_versioned(name)
        source = str(source)
        manifest = self._take(source, sha256, progress, unpack)
        for _ in range(TRIES):
            number = self._backends.store.next_number(self._project, self._kind, name)
            version = Version(
                self._project,
                self._kind,
                name,
                number,
                manifest.digest,
                manifest.size,
                manifest.files,
                created=self._backends.clock(),
                source=shown(source),
            )
            try:
                self._backends.store.commit([AddVersion(version)])
            except ConflictError:
                continue  # another process took the number
            self._export()
            return version
        raise ConflictError(f"{name}: its versions change too fast")

    def _take(self, source: str, sha256: str, told: Progress | None, unpack: bool) -> Manifest:
        path = Path(source).expanduser().absolute()
        if "://" not in source and not path.exists():
            raise UserError(f"no file or folder {path}")
        if "://" not in source and not unpack:
            return keep_path(self._backends, path, told)
        with tempfile.TemporaryDirectory(dir=self._backends.home, prefix=".fetch-") as aside:
            if "://" in source:
                sources = discover.part(artifacts, "sources")
                path = Path(aside) / sources.suggested_name(source)
                sources.fetch(source, sha256, path)
            if unpack:
                whole = Path(aside) / "unpacked"
                discover.part(artifacts, "archives").unpack(path, whole)
                path = whole
            return self._backends.artifacts.add(path, progress=told)

    def list(self, name: str = "") -> Sequence[Version]:
        """List versions by name and number."""
        return self._backends.store.versions(self._project, self._kind, name)

    def find(self, text: str) -> Version:
        """Find ``name``, ``name@3`` or ``name@alias``."""
        name, _, at = text.partition("@")
        return self._backends.store.version(self._project, self._kind, name, at)

    def show(self, text: str) -> Lineage:
        """Say where a version comes from: run, code, data; and which runs read it."""
        version = self.find(text)
        store = self._backends.store
        run = None
        inputs: tuple[Link, ...] = ()
        if version.run_id:
            run = store.run(version.run_id)
            inputs = tuple(link for link in store.links([run.id]) if link.direction == "input")
        used_by = tuple(
            dict.fromkeys(
                link.run_id
                for link in store.links(digest=version.digest)
                if link.direction == "input"
            )
        )
        return Lineage(
            version, self._backends.artifacts.manifest(version.digest), run, inputs, used_by
        )

    def get(self, text: str, target: Path) -> Version:
        """Copy a version to a new file or folder."""
        version = self.find(text)
        self._backends.artifacts.checkout(version.digest, target)
        return version

    def verify(self, text: str = "") -> dict[str, tuple[str, ...]]:
        """Read every byte again; give the bad paths of each bad version by ``name@number``."""
        versions = [self.find(text)] if text else self.list()
        bad: dict[str, tuple[str, ...]] = {}
        for version in versions:
            paths = self._backends.artifacts.verify(version.digest)
            if paths:
                bad[f"{version.name}@{version.number}"] = paths
        return bad

    def alias(self, text: str, alias: str) -> Version:
        """Let an alias point at a version; it moves from where it was."""
        version = self.find(text)
        check_alias(alias)
        change = SetAlias(self._project, self._kind, version.name, alias, version.number)
        self._backends.store.commit([change])
        self._export()
        return self.find(f"{version.name}@{version.number}")

    def drop_alias(self, text: str, alias: str) -> Version:
        """Take an alias away; give the version it pointed at.

        Raises:
            NotFoundError: the name has no such alias.
            UserError: the text names a version that the alias does not point at.
        """
        name, _, at = text.partition("@")
        self.find(name)  # NotFoundError if there is none at all
        having = [one for one in self.list(name) if alias in one.aliases]
        if not having:
            aliases = sorted({known for one in self.list(name) for known in one.aliases})
            raise NotFoundError(
                f"{name} has no alias {alias!r}", hint=f"it has: {', '.join(aliases) or 'none'}"
            )
        if at and self.find(text).number != having[0].number:
            raise UserError(f"{text} is not {alias}", hint=f"{name}@{having[0].number} is")
        self._backends.store.commit([SetAlias(self._project, self._kind, name, alias, 0)])
        self._export()
        return self.find(f"{name}@{having[0].number}")

    def remove(self, text: str) -> Version:
        """Forget a version; its bytes go with the next ``gc`` if nothing else needs them.

        Raises:
            UserError: the text names no single version, or an alias points at it.
        """
        name, _, at = text.partition("@")
        if not at:
            raise UserError(f"{text}: say which version", hint=f"{name or 'NAME'}@NUMBER")
        version = self.find(text)
        if version.aliases:
            raise ConflictError(
                f"{version.name}@{version.number} is {', '.join(version.aliases)}",
                hint=f"mlstead {self._kind} alias {version.name} --drop {version.aliases[0]}, "
                f"or move it: mlstead {self._kind} alias {version.name}@N {version.aliases[0]}",
            )
        changes: list[Change] = [
            DropVersion(self._project, self._kind, version.name, version.number)
        ]
        self._backends.store.commit(changes)
        return version

    def gc(self, *, dry_run: bool = False, older_than: float = 86400.0) -> Collected:
        """Remove objects that no version and no run refers to, and that are older than a day.

        Raises:
            ConflictError: another gc runs.
        """
        store = self._backends.store
        lease = store.claim(GC_LEASE, f"gc:{id(self)}", 3600.0)
        if lease is None:
            raise ConflictError("another gc runs", hint="wait until it has ended")
        try:
            keep = set(store.digests()) | self._pinned()
            freed = self._backends.artifacts.collect(keep, older_than=older_than, dry_run=dry_run)
            if not dry_run:
                self._backends.code.collect()
            return freed
        finally:
            store.release(lease)

    def _pinned(self) -> set[str]:
        """Name what open runs have pinned and not yet written down as a link."""
        pinned: set[str] = set()
        for run in self._backends.store.runs(Query(parent="*", open=True, limit=1_000_000)):
            for pin in [run.extra.get("pin", {}), *run.extra.get("pins", {}).values()]:
                for data in pin.get("data", {}).values():
                    pinned.add(data["digest"])
        return pinned

    def _export(self) -> None:
        if self._kind == "model":
            driver.ensure_tracking(self._backends, self._context)
