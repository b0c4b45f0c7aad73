"""Pins by uv, from a package index of one package on loopback."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import uv as package

from mlstead.clients import uv
from mlstead.errors import NotFoundError, UnavailableError, UserError

if TYPE_CHECKING:
    from tests.unit.clients.conftest import Asked, Loopback


def wheel(name: str, version: str, needs: str = "") -> bytes:
    info = f"{name}-{version}.dist-info"
    about = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    about += f"Requires-Dist: {needs}\n" if needs else ""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr(f"{name}.py", "")
        archive.writestr(f"{info}/METADATA", about)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return made.getvalue()


WHEELS = {
    "toy-1.0-py3-none-any.whl": wheel("toy", "1.0", "part>=2"),
    "toy-1.1-py3-none-any.whl": wheel("toy", "1.1", "part>=2; sys_platform == 'win32'"),
    "part-2.0-py3-none-any.whl": wheel("part", "2.0"),
}


@pytest.fixture
def index(loopback: Loopback, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Loopback:
    def answer(asked: Asked) -> tuple[int, bytes]:
        place = asked.path.strip("/").split("/")
        if place[0] == "files" and place[1] in WHEELS:
            return 200, WHEELS[place[1]]
        links = [
            f'<a href="/files/{file}#sha256={hashlib.sha256(data).hexdigest()}">{file}</a>'
            for file, data in WHEELS.items()
            if place[0] == "simple" and file.startswith(f"{place[1]}-")
        ]
        return (200, "".join(links).encode()) if links else (404, b"")

    loopback.answer = answer
    loopback.headers["Content-Type"] = "text/html"
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://{loopback.host}/simple")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS", "never")
    return loopback


def test_requirements_are_pinned_for_every_platform_with_hashes(index: Loopback) -> None:
    pins = uv.resolve("toy\n", "3.11")
    sums = {file: hashlib.sha256(data).hexdigest() for file, data in WHEELS.items()}
    assert pins.split("\n") == [
        "part==2.0 ; sys_platform == 'win32' \\",
        f"    --hash=sha256:{sums['part-2.0-py3-none-any.whl']}",
        "toy==1.1 \\",
        f"    --hash=sha256:{sums['toy-1.1-py3-none-any.whl']}",
        "",
    ]


def test_pins_pinned_again_are_the_same(index: Loopback) -> None:
    pins = uv.resolve("toy<1.1", "3.11")
    assert "toy==1.0" in pins
    assert uv.resolve(pins, "3.11") == pins
    assert uv.resolve(pins, "") == pins


def test_index_options_of_the_requirements_are_kept_and_no_other(index: Loopback) -> None:
    pins = uv.resolve("--no-binary :none:\ntoy\n", "3.11")
    assert pins.startswith("--no-binary :none:\npart==2.0")
    assert "127.0.0.1" not in pins


@pytest.mark.parametrize(
    ("requirements", "words"),
    [
        ("toy==9", "no version of toy==9"),
        ("missing", "missing was not found"),
        ("toy=1", "no such comparison operator"),
        ("-r nosuch.txt", "nosuch.txt"),
    ],
)
def test_what_cannot_be_pinned_is_told_in_uvs_words(
    index: Loopback, requirements: str, words: str
) -> None:
    with pytest.raises(UserError, match=words) as caught:
        uv.resolve(requirements, "3.11")
    assert "\n" not in str(caught.value)


def test_an_index_that_is_not_there_is_unavailable(
    index: Loopback, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://127.0.0.1:{closed_port}/simple")
    with pytest.raises(UnavailableError, match="pinned"):
        uv.resolve("toy", "3.11")


def test_an_index_that_is_ill_is_unavailable(
    index: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.answer = lambda asked: (503, b"")
    with pytest.raises(UnavailableError, match="503"):
        uv.resolve("toy", "3.11")


def test_relative_paths_start_in_the_folder(index: Loopback, tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("part\n")
    assert uv.resolve("-r more.txt", "3.11", folder=tmp_path).startswith("part==2.0")


def test_a_uv_lock_is_given_as_pins_without_the_project(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "mine"\nversion = "0"\nrequires-python = ">=3.11"\n'
        'dependencies = ["toy"]\n'
    )
    lock = tmp_path / "uv.lock"
    lock.write_text(
        'version = 1\nrevision = 1\nrequires-python = ">=3.11"\n\n'
        '[[package]]\nname = "mine"\nversion = "0"\nsource = { virtual = "." }\n'
        'dependencies = [{ name = "toy" }]\n\n'
        '[package.metadata]\nrequires-dist = [{ name = "toy" }]\n\n'
        '[[package]]\nname = "toy"\nversion = "1.0"\n'
        'source = { registry = "https://index.invalid/simple" }\n'
        'wheels = [{ url = "https://index.invalid/toy-1.0-py3-none-any.whl", '
        f'hash = "sha256:{"0" * 64}" }}]\n'
    )
    assert uv.export(lock) == f"toy==1.0 \\\n    --hash=sha256:{'0' * 64}\n"
    lock.write_text("not a lock")
    with pytest.raises(UserError, match=r"uv\.lock"):
        uv.export(lock)
    (tmp_path / "pyproject.toml").unlink()
    with pytest.raises(UserError, match=r"pyproject\.toml: no such file"):
        uv.export(lock)


def test_a_missing_uv_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def nowhere() -> str:
        raise FileNotFoundError

    monkeypatch.setattr(package, "find_uv_bin", nowhere)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotFoundError, match="uv is missing"):
        uv.find_uv()
    (tmp_path / "uv").write_text("#!/bin/sh\n")
    (tmp_path / "uv").chmod(0o755)
    assert uv.find_uv() == tmp_path / "uv"
