"""The base image of the cluster's tests: a layer of the given root folder, with Python and a shell.

``python -m tests.cluster.base_image`` pushes it into the registry of the kept cluster.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

from tests.cluster import bed
from tests.machines import given
from tests.machines.site_door import PASSPHRASE

from mlstead.clients.registry import OCI_MANIFEST, Blob, Login, Registry, sha256
from mlstead.machines import registry as part
from mlstead.site.secrets import SiteSecrets
from mlstead.spec.load import load_site

REPOSITORY, TAG = "mlstead/python", "3.11"
PYTHON = "3.11"
_FOLDERS = ("usr/bin", "usr/lib", "usr/lib64", "etc")
_LINKS = ("bin", "lib", "lib64", "sbin")
_ETC = re.compile(
    r"etc(/(passwd|group|nsswitch\.conf|ld\.so\.(conf|cache|conf\.d.*)|ssl(/certs.*)?))?"
)
_LEFT_OUT = re.compile(
    r"usr/bin/(systemd|systemctl|journalctl|loginctl|networkctl|hostnamectl|localectl|timedatectl"
    r"|udevadm|busctl|ssh|scp|sftp|gpg|dirmngr|kbx|sudo|cvtsudo|apt|dpkg|deb|perl|strace|dbus|busybox"
    r"|wget|zstd|pzstd|openssl|su$|chsh|chfn|newgrp|mount$|umount$|passwd|gpasswd|chage|expiry)"
    r"|usr/lib/(?!(x86_64-linux-gnu|python3\.11|ssl|os-release|locale|terminfo)(/|$))"
    r"|usr/lib/x86_64-linux-gnu/(gconv|perl|systemd|security|krb5|sasl2|libapt|libperl|libcryptsetup)"
    r"|usr/lib/python3\.11/(test|idlelib|lib2to3|ensurepip|pydoc_data|distutils)(/|$)"
    r"|.*/__pycache__(/|$)"
)
_ENV = ["PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8", f"PYTHON_VERSION={PYTHON}.2"]


def layer() -> Path:
    """Give the layer, gzipped; made once for each root folder."""
    root = given.ROOT
    assert root is not None, "no root folder: MLSTEAD_LAB_ROOTFS (docs/decisions/0014-site.md)"
    paths = list(_paths(root))
    about = [
        (path, (root / path).lstat().st_size, int((root / path).lstat().st_mtime)) for path in paths
    ]
    key = hashlib.sha256(json.dumps([about, _ENV]).encode()).hexdigest()[:16]
    target = given.place("images") / f"python-{key}.tar.gz"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = target.with_suffix(f".{os.getpid()}")
        with (
            aside.open("wb") as file,
            gzip.GzipFile("", "wb", 6, file, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar,
        ):
            for path in paths:
                tar.add(root / path, path, recursive=False, filter=_plain)
            _add_folders(tar)
        aside.rename(target)
    return target


def push(login: Login) -> str:
    """Push the image; give its whole name with its digest."""
    path = layer()
    with path.open("rb") as file:
        digest = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    with gzip.open(path) as unpacked:
        inner = hashlib.sha256()
        while chunk := unpacked.read(1 << 20):
            inner.update(chunk)
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": _ENV, "Cmd": ["python3"], "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{inner.hexdigest()}"]},
            "history": [{"created_by": "the root folder of the tests"}],
        },
        sort_keys=True,
    ).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": sha256(config),
                "size": len(config),
            },
            "layers": [
                {
                    "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                    "digest": digest,
                    "size": path.stat().st_size,
                }
            ],
        },
        sort_keys=True,
    ).encode()
    with Registry(login) as registry:
        for blob in (Blob.of_file(path, digest), Blob.of_bytes(config)):
            if not registry.has(REPOSITORY, blob.digest):
                registry.upload(REPOSITORY, blob)
        registry.put(REPOSITORY, TAG, OCI_MANIFEST, manifest)
    return f"{login.address}/{REPOSITORY}@{sha256(manifest)}"


def login_of_bed() -> Login:
    """Give the login of the kept cluster's registry, from its site's vault."""
    place = bed.FOLDER / "site"
    site = load_site(place / "site.yaml").site
    secrets = SiteSecrets(place / "home" / "sites" / site.name, site, lambda: PASSPHRASE)
    password, authority = secrets.value("registry.password"), secrets.value("authority.crt")
    return Login(part.address(site), "mlstead", password, authority)


def _paths(root: Path) -> Iterator[str]:
    """Name what is in the image, folders before what they hold."""
    yield from sorted(name for name in _LINKS if (root / name).is_symlink())
    yield "usr"
    for top in _FOLDERS:
        if not (root / top).is_dir():
            continue
        for folder, names, files in os.walk(root / top):
            here = Path(folder).relative_to(root)
            if _out(str(here)):
                names.clear()
                continue
            yield str(here)
            names.sort()
            linked = [name for name in names if (root / here / name).is_symlink()]
            yield from (str(here / it) for it in sorted(files + linked) if not _out(str(here / it)))


def _out(path: str) -> bool:
    if path.startswith("etc"):
        return not _ETC.fullmatch(path)
    return bool(_LEFT_OUT.match(path))


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode &= 0o777
    return member


def _add_folders(tar: tarfile.TarFile) -> None:
    for name, mode in (("root", 0o700), ("tmp", 0o1777), ("var", 0o755), ("var/tmp", 0o1777)):
        member = tarfile.TarInfo(name)
        member.type, member.mode = tarfile.DIRTYPE, mode
        tar.addfile(member)


if __name__ == "__main__":
    print(push(login_of_bed()))
    sys.exit(0)
