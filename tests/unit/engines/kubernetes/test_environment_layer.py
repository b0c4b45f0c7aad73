"""Packages as a layer: for the image's Python, without a trace of this machine."""

from __future__ import annotations

import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from mlstead.engines.base import Environment
from mlstead.engines.kubernetes.environment_layer import environment_part
from mlstead.engines.kubernetes.layers import LayerCache
from mlstead.errors import UserError

PLATFORM = "linux/amd64"


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Give a requirement of a wheel with a program, in a folder that is the only index."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for tag in ("cp311-cp311-manylinux_2_17_x86_64", "cp312-cp312-manylinux_2_17_x86_64"):
        with zipfile.ZipFile(wheels / f"toy-1.0-{tag}.whl", "w") as archive:
            archive.writestr("toy/__init__.py", f"TAG = {tag!r}\ndef main(): print(TAG)\n")
            info = "toy-1.0.dist-info"
            archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
            archive.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nTag: {tag}\n")
            archive.writestr(f"{info}/entry_points.txt", "[console_scripts]\ntoy = toy:main\n")
            archive.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    return f"--no-index\n--find-links {wheels}\ntoy==1.0\n"


def made(cache: Path, wanted: Environment, image: str = "3.11.4") -> dict[str, bytes]:
    layers = LayerCache(cache)
    part = environment_part(wanted, image, PLATFORM, layers.making)
    assert part is not None
    (layer,) = layers.layers([part], lambda line: None)
    with tarfile.open(layer.path) as tar:
        found = {it.name: tar.extractfile(it) for it in tar if it.isreg()}
        assert list(layers.making.iterdir()) == []
        return {name: file.read() for name, file in found.items() if file}


@pytest.mark.parametrize("python", ["3.11", "3.12"])
def test_the_wheel_is_the_one_for_the_images_python(tmp_path: Path, toy: str, python: str) -> None:
    files = made(tmp_path / "cache", Environment("k", toy), f"{python}.9")
    tag = "cp" + python.replace(".", "")
    assert tag in files["mlstead/environment/toy/__init__.py"].decode()


def test_programs_take_the_python_on_the_path_and_nothing_names_this_machine(
    tmp_path: Path, toy: str
) -> None:
    files = made(tmp_path / "cache", Environment("k", toy))
    assert files["mlstead/environment/bin/toy"].startswith(b"#!/usr/bin/env python3\n")
    everything = b"".join(files.values())
    for place in (sys.executable, sys.prefix, str(tmp_path)):
        assert place.encode() not in everything
    assert b"bin/toy,,\n" in files["mlstead/environment/toy-1.0.dist-info/RECORD"]


def test_the_same_packages_give_the_same_bytes(tmp_path: Path, toy: str) -> None:
    assert made(tmp_path / "a", Environment("k", toy)) == made(
        tmp_path / "b", Environment("k", toy)
    )


def test_a_wrong_hash_is_refused_and_a_missing_one_when_hashes_are_wanted(
    tmp_path: Path, toy: str
) -> None:
    wrong = f"{toy.rstrip()} --hash=sha256:{'0' * 64}\n"
    for text, words in ((toy, "hash"), (wrong, "Computed: sha256:")):
        with pytest.raises(UserError, match=words):
            made(tmp_path / "cache", Environment("k", text, hashes=True))


def test_a_package_without_a_wheel_for_the_image_is_told(tmp_path: Path, toy: str) -> None:
    with pytest.raises(UserError, match=r"for Python 3\.13 on x86_64"):
        made(tmp_path / "cache", Environment("k", toy), "3.13.0")


def test_the_version_that_is_wanted_must_be_that_of_the_image(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"3\.12, but the image has Python 3\.11\.4"):
        environment_part(Environment("k", "a==1", "3.12"), "3.11.4", PLATFORM, tmp_path)
    assert environment_part(Environment("k", "a==1", "3.11.9"), "3.11.4", PLATFORM, tmp_path)
    assert environment_part(Environment("k", "a==1", "3.12"), "", PLATFORM, tmp_path)
    with pytest.raises(UserError, match="does not say which Python"):
        environment_part(Environment("k", "a==1"), "", PLATFORM, tmp_path)


def test_a_setup_command_cannot_be_run_in_an_image(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"python\.setup"):
        environment_part(Environment("k", "a==1", setup="make"), "3.11", PLATFORM, tmp_path)


def test_no_packages_are_no_layer(tmp_path: Path) -> None:
    assert environment_part(Environment("k", " \n"), "3.11", PLATFORM, tmp_path) is None
