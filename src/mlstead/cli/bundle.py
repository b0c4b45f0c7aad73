"""The verb ``bundle``: all that a site is installed from, with checksums."""

from pathlib import Path
from typing import Annotated

import typer

from mlstead.cli._group import Group
from mlstead.cli._options import Json
from mlstead.cli._print import as_json as print_json
from mlstead.cli._print import console, size
from mlstead.platform import Platform

app = typer.Typer(cls=Group, no_args_is_help=True)


@app.callback()
def _about() -> None:
    """Make a folder of programs and images installable without internet."""


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
