"""The verb ``bundle``: all that a site is installed from, with checksums."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from mlstead.cli._asking import passphrase
from mlstead.cli._group import Group
from mlstead.cli._options import Json
from mlstead.cli._print import as_json as print_json
from mlstead.cli._print import console, size
from mlstead.errors import UserError
from mlstead.platform import Platform

app = typer.Typer(cls=Group, no_args_is_help=True)


@app.callback()
def _about() -> None:
    """Make programs and images installable without internet; load the images."""


@app.command()
def create(
    folder: Annotated[Path, typer.Argument(help="A folder with bin/, cni/ and images/.")],
    as_json: Json = False,
) -> None:
    """Write bundle.json: the checksum of every file, the images and their versions.

    bin/ holds containerd, containerd-shim-runc-v2, ctr, runc, kubeadm, kubelet, kubectl and, for a
    registry, registry; cni/ the network plugins; images/ archives as docker save writes them.
    """
    bundle = Platform().sites.make_bundle(folder)
    if as_json:
        print_json(bundle)
        return
    total = sum(file.size for file in bundle.files)
    out = console()
    out.print(f"{folder}: {len(bundle.files)} files, {size(total)}, {len(bundle.images)} images")
    for name, version in sorted(bundle.versions.items()):
        out.print(f"  {name} {version}")


@app.command()
def load(
    folder: Annotated[Path, typer.Argument(help="A bundle, as bundle create leaves it.")],
    to: Annotated[str, typer.Option("--to", help="The registry.", metavar="HOST:PORT")],
    user: Annotated[str, typer.Option("--user", help="Who logs in.")] = "mlstead",
    authority: Annotated[
        Path | None, typer.Option("--authority", help="Certificates (PEM) that vouch for it.")
    ] = None,
    plain: Annotated[
        bool, typer.Option("--plain-http", help="Speak http, which others can read and change.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Bring the images of a bundle into a registry, named as before but for the host.

    The password is read from MLSTEAD_REGISTRY_PASSWORD; the registry of a site that was applied
    from here needs none. What the registry has is not sent again.
    """
    images = Platform().images
    password = os.environ.get("MLSTEAD_REGISTRY_PASSWORD", "")
    login = images.login(to, user if password else "", password, _read(authority), plain=plain)
    found = images.load(folder, login, passphrase(), lambda name: print(name, file=sys.stderr))
    if as_json:
        print_json(found)
        return
    total = sum(image.sent for image in found)
    console().print(f"{to}: {len(found)} images, {size(total)} sent")


def _read(authority: Path | None) -> str:
    try:
        return authority.read_text(encoding="utf-8") if authority else ""
    except (OSError, ValueError) as error:
        raise UserError(f"{authority}: cannot be read as certificates in PEM") from error
