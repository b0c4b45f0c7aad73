"""The verbs that data and models share: list, show, get, verify, remove, gc."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

from mlstead.cli._group import Group
from mlstead.cli._options import Json, On, Project, one_place
from mlstead.cli._print import age, as_json, console, size, table
from mlstead.errors import UserError
from mlstead.platform import Platform
from mlstead.platform.versions import Versions
from mlstead.records.base import Version

Kind = Literal["data", "model"]
Ref = Annotated[str, typer.Argument(help="NAME, NAME@NUMBER or NAME@ALIAS.")]
Door = Callable[[str, str], Versions]
FILES = 40


def verbs(kind: Kind) -> typer.Typer:
    """Make the group of a kind, with the verbs both kinds have."""
    app = typer.Typer(cls=Group, no_args_is_help=True)

    def door(on: str, project: str) -> Versions:
        platform = Platform(on=on, project=project)
        return platform.data if kind == "data" else platform.models

    for register in (_list, _show, _get, _verify, _alias, _remove, _gc):
        register(app, door)
    return app


def _list(app: typer.Typer, door: Door) -> None:
    @app.command("list")
    def list_(
        name: Annotated[str, typer.Argument(help="Only this name.")] = "",
        on: On = "",
        project: Project = "",
        json: Json = False,
    ) -> None:
        """List versions."""
        versions = door(on, project).list(name)
        if json:
            as_json(versions)
            return
        table(("VERSION", "ALIASES", "SIZE", "FILES", "AGE", "FROM"), [_row(v) for v in versions])


def _show(app: typer.Typer, door: Door) -> None:
    @app.command()
    def show(ref: Ref, on: On = "", project: Project = "", json: Json = False) -> None:
        """Show a version: files, the run, code and data it comes from, and who used it."""
        lineage = door(on, project).show(ref)
        if json:
            as_json(lineage)
            return
        version, run = lineage.version, lineage.run
        rows: list[tuple[str, object]] = [
            ("version", f"{version.name}@{version.number}"),
            ("digest", version.digest),
            ("size", f"{size(version.size)} in {version.files} files"),
            ("aliases", ", ".join(version.aliases)),
        ]
        if version.source:
            rows.append(("source", version.source))
        if run is not None:
            rows += [("run", run.id), ("code", run.code), ("environment", run.environment)]
            rows += [("params", ", ".join(f"{k}={v}" for k, v in run.params.items()))]
        rows += [
            (f"input {link.slot}", f"{link.ref} {link.digest[:16]}") for link in lineage.inputs
        ]
        rows += [("used by", run_id) for run_id in lineage.used_by]
        table(("", ""), rows)
        entries = lineage.manifest.entries
        table(
            ("FILE", "SIZE", "SHA256"),
            [(entry.path, size(entry.size), entry.sha256[:16]) for entry in entries[:FILES]],
        )
        if len(entries) > FILES:
            console().print(f"and {len(entries) - FILES} more files")


def _get(app: typer.Typer, door: Door) -> None:
    @app.command()
    def get(
        ref: Ref,
        place: Annotated[
            str, typer.Argument(metavar="to", help="The new file or folder; the same as --to.")
        ] = "",
        to: Annotated[
            str, typer.Option("--to", help="The new file or folder (default: the name).")
        ] = "",
        on: On = "",
        project: Project = "",
        json: Json = False,
    ) -> None:
        """Copy a version to a new file or folder."""
        to = one_place(place, to) or ref.partition("@")[0]
        version = door(on, project).get(ref, Path(to).expanduser())
        if json:
            as_json(version)
        else:
            print(f"{version.name}@{version.number} is at {to}")


def _verify(app: typer.Typer, door: Door) -> None:
    @app.command()
    def verify(
        ref: Annotated[str, typer.Argument(help="One version; all if left out.")] = "",
        on: On = "",
        project: Project = "",
        json: Json = False,
    ) -> None:
        """Read every byte again and compare it with the hashes."""
        bad = door(on, project).verify(ref)
        if json:
            as_json(bad)
        if bad:
            first = next(iter(bad))
            raise UserError(
                f"{first}: damaged: {', '.join(bad[first][:5])}"
                + (f"; and {len(bad) - 1} more versions" if len(bad) > 1 else ""),
                hint="add the same bytes again, or take the store back from a backup",
            )
        if not json:
            print("all bytes are as they were added")


def _alias(app: typer.Typer, door: Door) -> None:
    @app.command()
    def alias(
        ref: Ref,
        name: Annotated[str, typer.Argument(help="The alias, such as production.")] = "",
        drop: Annotated[
            str, typer.Option("--drop", metavar="ALIAS", help="Take this alias away instead.")
        ] = "",
        on: On = "",
        project: Project = "",
        json: Json = False,
    ) -> None:
        """Let an alias point at a version, or take it away."""
        if bool(name) == bool(drop):
            raise UserError("one alias, please", hint="alias REF ALIAS, or alias REF --drop ALIAS")
        versions = door(on, project)
        version = versions.drop_alias(ref, drop) if drop else versions.alias(ref, name)
        if json:
            as_json(version)
        elif drop:
            print(f"{version.name}@{version.number} is no longer {drop}")
        else:
            print(f"{version.name}@{name} is {version.name}@{version.number}")


def _remove(app: typer.Typer, door: Door) -> None:
    @app.command()
    def remove(ref: Ref, on: On = "", project: Project = "", json: Json = False) -> None:
        """Forget a version; its number never returns."""
        version = door(on, project).remove(ref)
        if json:
            as_json(version)
        else:
            print(f"{version.name}@{version.number} is forgotten; `gc` frees its bytes")


def _gc(app: typer.Typer, door: Door) -> None:
    @app.command()
    def gc(
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
        on: On = "",
        project: Project = "",
        json: Json = False,
    ) -> None:
        """Free what no version and no run refers to, once it is a day old."""
        freed = door(on, project).gc(dry_run=dry_run)
        if json:
            as_json(freed)
        else:
            verb = "would free" if dry_run else "freed"
            print(f"{verb} {size(freed.bytes)} in {freed.objects} objects")


def _row(version: Version) -> tuple[object, ...]:
    where = version.run_id or version.source
    return (
        f"{version.name}@{version.number}",
        ", ".join(version.aliases),
        size(version.size),
        version.files,
        age(version.created),
        where,
    )


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """Show a bar while bytes are kept, where somebody looks."""
    columns = (BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        bar.disable = not bar.console.is_terminal

        def told(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total or None)

        yield told


def add_verb(app: typer.Typer, kind: Kind) -> None:
    """Give a group its verb ``add``."""

    @app.command()
    def add(
        name: Annotated[str, typer.Argument(help="The name; the number follows by itself.")],
        source: Annotated[
            str, typer.Argument(help="A folder, a file, a .dvc file, http(s):// or s3://.")
        ],
        sha256: Annotated[
            str, typer.Option("--sha256", help="The hash an http(s) source must have.")
        ] = "",
        unpack: Annotated[
            bool, typer.Option("--unpack", help="Keep what a tar or zip archive holds.")
        ] = False,
        on: On = "",
        project: Project = "",
        json: Json = False,
    ) -> None:
        """Keep a folder or file as the next version of a name."""
        platform = Platform(on=on, project=project)
        door = platform.data if kind == "data" else platform.models
        with _progress() as told:
            version = door.add(name, source, sha256=sha256, unpack=unpack, progress=told)
        if json:
            as_json(version)
        else:
            print(f"{version.name}@{version.number}  {size(version.size)}, {version.files} files")
