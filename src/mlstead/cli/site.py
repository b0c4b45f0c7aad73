"""The verb ``site``: machines become a cluster, change, and are given back."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from mlstead.cli import _site_print as shown
from mlstead.cli._asking import passphrase
from mlstead.cli._group import Group
from mlstead.cli._options import Json
from mlstead.cli._print import as_json as print_json
from mlstead.cli._print import console
from mlstead.errors import ConflictError, UserError
from mlstead.platform import Platform
from mlstead.platform.sites import Session, Sites

app = typer.Typer(cls=Group, no_args_is_help=True)
machine = typer.Typer(cls=Group, no_args_is_help=True, help="Add, drain or remove one machine.")
app.add_typer(machine, name="machine")

File = Annotated[Path, typer.Option("-f", "--file", help="The site file.")]
Bundle = Annotated[
    str, typer.Option("--bundle", help="The folder with all that is installed.", metavar="FOLDER")
]
Named = Annotated[str, typer.Argument(help="The machine's name.", metavar="MACHINE")]
Dead = Annotated[bool, typer.Option("--dead", help="It is gone and will not answer.")]
SITE = Path("site.yaml")


def _open(sites: Sites, file: Path, bundle: str = "") -> Session:
    """Open a site; ask about machines that were never seen."""
    session = sites.open(sites.load(file), bundle=bundle, ask=passphrase())
    for stranger in sites.strangers(session):
        words = " or ".join(stranger.fingerprints)
        if not sys.stdin.isatty():
            raise UserError(
                f"{stranger.name}: its host key is not known: {words}",
                hint=f"mlstead site trust -f {file}, or machines.{stranger.name}.host_key",
            )
        console().print(f"{stranger.name} is not known yet. Its host key: {words}")
        if not typer.confirm("Is that right? (on it: ssh-keygen -l -f /etc/ssh/ssh_host_…pub)"):
            raise UserError(f"{stranger.name} is not trusted: nothing was done")
        session.trust(stranger.name, stranger.fingerprints)
    return session


@app.command()
def init(
    addresses: Annotated[
        list[str] | None, typer.Argument(help="IPv4 addresses; the first becomes the head.")
    ] = None,
    name: Annotated[str, typer.Option("--name", help="What the site is called.")] = "lab",
    user: Annotated[str, typer.Option("--user", help="The login; it may use sudo.")] = "",
    key: Annotated[str, typer.Option("--key", help="The private key for ssh.")] = "",
    file: File = SITE,
) -> None:
    """Write a first site file; asks for what is not given."""
    found = addresses or []
    if not found:
        if not sys.stdin.isatty():
            raise UserError("no addresses are given", hint="mlstead site init 192.168.10.50 …")
        found = str(typer.prompt("Addresses of the machines, the head first")).split()
        user = user or str(typer.prompt("Login with sudo", default=""))
    machines = Platform().sites.write(file, name, found, user, key)
    console().print(f"{file}: {', '.join(machines)}")
    console().print("now: mlstead site trust, mlstead site plan, mlstead site apply")


@app.command()
def trust(
    names: Annotated[list[str] | None, typer.Argument(help="Machines; all if none.")] = None,
    file: File = SITE,
    key: Annotated[
        list[str] | None,
        typer.Option("--key", help="A fingerprint that must be shown.", metavar="SHA256:…"),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="In place of the keys known so far.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Know machines by the SSH host keys they show now; compare the fingerprints first."""
    sites = Platform().sites
    with sites.open(sites.load(file)) as session:
        for stranger in session.shown(names or list(session.site.machines)):
            wanted = [it for it in stranger.fingerprints if not key or it in key]
            if key and not wanted:
                shown_keys = ", ".join(stranger.fingerprints) or "it does not answer"
                raise UserError(f"{stranger.name} does not show that key", hint=shown_keys)
            if stranger.known and not (replace and wanted):
                console().print(f"{stranger.name} is known already")
                continue
            console().print(f"{stranger.name}  {'  '.join(wanted)}")
            if not yes and not key and not typer.confirm("Is that right?"):
                continue
            session.trust(stranger.name, wanted, replace=replace)


@app.command()
def plan(
    file: File = SITE,
    bundle: Bundle = "",
    ports: Annotated[bool, typer.Option("--ports", help="Also what will listen where.")] = False,
    as_json: Json = False,
) -> None:
    """Look at all machines and say what an apply would change; change nothing."""
    sites = Platform().sites
    with _open(sites, file, bundle) as session:
        planned = sites.plan(session)
    if as_json:
        print_json(shown.as_data(planned))
    else:
        shown.plan(planned, ports=ports)
    if planned.stop is not None:
        raise typer.Exit(planned.stop.exit_code)


@app.command()
def apply(file: File = SITE, bundle: Bundle = "", as_json: Json = False) -> None:
    """Make the site as it is described; killed or failed, call it again and it goes on."""
    sites = Platform().sites
    with _open(sites, file, bundle) as session, shown.Watch() as watch:
        run = sites.apply(session, watch.take)
    if as_json:
        print_json({"changed": run is not None, "run": run.id if run else None})
    elif run is None:
        console().print("everything is as described: nothing to do")
    else:
        console().print(f"everything is as described now ({run.id})")


@app.command()
def status(file: File = SITE, as_json: Json = False) -> None:
    """Say how machines and cluster are: versions, certificates, disk, pressure, drift."""
    sites = Platform().sites
    with _open(sites, file) as session:
        found = sites.status(session)
    if as_json:
        print_json(found)
    else:
        shown.status(found)


@app.command()
def remove(
    file: File = SITE,
    keep_data: Annotated[
        bool, typer.Option("--keep-data", help="Leave the images of the registry.")
    ] = False,
    dead: Annotated[
        bool, typer.Option("--dead", help="Pass over machines that do not answer.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Take everything of ours off all machines: the cluster, its data, programs, settings.

    A cluster that was there stays, without what is marked as this site's.
    """
    sites = Platform().sites
    loaded = sites.load(file)
    name = loaded.site.name
    if not yes and (
        not sys.stdin.isatty() or typer.prompt(f"This destroys {name}. Its name") != name
    ):
        raise ConflictError(f"{name} was not removed", hint="--yes does it without asking")
    with _open(sites, file) as session, shown.Watch() as watch:
        sites.remove(session, watch.take, keep_data=keep_data, dead=dead)
    console().print(f"site {name} is removed")


@machine.command()
def add(
    name: Named,
    address: Annotated[str, typer.Argument(help="Its IPv4 address.")],
    role: Annotated[
        list[str] | None, typer.Option("--role", help="control-plane, worker or registry.")
    ] = None,
    file: File = SITE,
) -> None:
    """Write a machine into the site file; apply makes it part of the site."""
    Platform().sites.add_to(file, name, address, role or ["worker"])
    console().print(f"{name} stands in {file}; now: mlstead site trust, mlstead site apply")


@machine.command()
def drain(name: Named, file: File = SITE) -> None:
    """Move what runs on a worker elsewhere, and keep new work away from it."""
    sites = Platform().sites
    with _open(sites, file) as session, shown.Watch() as watch:
        sites.drain(session, name, watch.take)
    console().print(f"{name} is drained; mlstead site machine remove {name} takes it out")


@machine.command("remove")
def remove_machine(name: Named, file: File = SITE, dead: Dead = False) -> None:
    """Take a worker out of the cluster and our programs off it, and its lines out of the file."""
    sites = Platform().sites
    with _open(sites, file) as session, shown.Watch() as watch:
        sites.remove_machine(session, name, watch.take, dead=dead)
    sites.take_out(file, name)
    console().print(f"{name} is removed from the site and from {file}")
    console().print("mlstead site apply lets the others forget its name")
