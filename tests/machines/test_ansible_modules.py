"""Our Ansible modules, run as root here by what Ansible runs modules with.

Needs ansible-core (pip install 'mlstead[site]'). Stamps lie in a folder of the test, not in /etc.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from mlstead.site.components import ansible_folder

# As Ansible's own wrapper does: the arguments are set, then the module is run as a program.
RUN = """
import json, runpy, sys
from ansible.module_utils import basic
basic._ANSIBLE_ARGS = sys.stdin.buffer.read()
basic._ANSIBLE_PROFILE = "legacy"
runpy.run_path(sys.argv[1], run_name="__main__")
"""


class Modules:
    """Runs our modules with a folder of their own for stamps."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stamps = folder / "parts"
        for name in ("mlstead_part", "mlstead_copy", "mlstead_files"):
            text = (ansible_folder() / "library" / f"{name}.py").read_text(encoding="utf-8")
            text = text.replace('"/etc/mlstead/parts"', repr(str(self.stamps)))
            (folder / f"{name}.py").write_text(text, encoding="utf-8")

    def run(self, module: str, *, check: bool = False, **arguments: Any) -> dict[str, Any]:
        asked = {"ANSIBLE_MODULE_ARGS": {**arguments, "_ansible_check_mode": check}}
        done = subprocess.run(
            [sys.executable, "-c", RUN, str(self.folder / f"{module}.py")],
            input=json.dumps(asked),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert "Traceback" not in done.stderr + done.stdout, done.stderr + done.stdout
        found: dict[str, Any] = json.loads(done.stdout)
        assert bool(found.get("failed")) == (done.returncode != 0)
        return found

    def part(self, *, check: bool = False, **arguments: Any) -> dict[str, Any]:
        return self.run("mlstead_part", check=check, **{"name": "x", "inputs": "i", **arguments})

    def copy(self, *, check: bool = False, **arguments: Any) -> dict[str, Any]:
        return self.run("mlstead_copy", check=check, **arguments)

    def files(self, *, check: bool = False, **arguments: Any) -> dict[str, Any]:
        return self.run("mlstead_files", check=check, **arguments)

    def stamp(self) -> Any:
        return json.loads((self.stamps / "x.json").read_text())

    def names(self) -> list[str]:
        return [path.name for path in self.stamps.iterdir()]

    def drift(self) -> Any:
        """Let the program that looks at machines judge the stamp."""
        text = (ansible_folder().parent / "site" / "_probe.py").read_text(encoding="utf-8")
        text = text.replace('"/etc/mlstead/parts"', repr(str(self.stamps)))
        code = text + "\nprint(json.dumps(parts()))\n"
        done = subprocess.run([sys.executable, "-I", "-"], input=code.encode(), capture_output=True)
        return json.loads(done.stdout)["x"]


@pytest.fixture
def modules(tmp_path: Path) -> Modules:
    import_module("ansible.module_utils.basic")  # asked for: without it this tier fails
    return Modules(tmp_path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "owned"
    path.write_text("content")
    path.chmod(0o640)
    return path


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# ---- the stamp of a part


def test_a_stamp_says_what_a_part_owns_and_nothing_has_drifted(
    modules: Modules, file: Path
) -> None:
    link = file.with_name("link")
    link.symlink_to("owned")
    found = modules.part(
        files=[str(file), str(link)],
        checksums={str(file): digest(b"content")},
        lines={str(file): ["content"]},
        paths=[str(file.parent)],
        settings={"kernel.ostype": "Linux", "net.ipv4.ip_forward": 1},
    )
    assert found["changed"] is True
    stamp = modules.stamp()
    assert stamp["inputs"] == "i"
    assert stamp["files"] == {
        str(file): {"sha256": digest(b"content"), "mode": "0640", "owner": "root:root"},
        str(link): {"link": "owned"},
    }
    assert stamp["settings"]["net.ipv4.ip_forward"] == "1"
    assert (modules.stamps / "x.json").stat().st_mode & 0o777 == 0o644
    drift = [it for it in modules.drift()["drift"] if "ip_forward" not in it]
    assert (modules.drift()["inputs"], drift) == ("i", [])
    file.write_text("by hand")
    assert f"{file} was changed" in modules.drift()["drift"]


def test_the_same_stamp_again_changes_nothing(modules: Modules, file: Path) -> None:
    modules.part(files=[str(file)])
    before = (modules.stamps / "x.json").stat().st_ino
    assert modules.part(files=[str(file)])["changed"] is False
    assert (modules.stamps / "x.json").stat().st_ino == before
    assert modules.part(files=[str(file)], inputs="j")["changed"] is True
    assert modules.names() == ["x.json"]


def test_a_damaged_stamp_is_written_anew(modules: Modules) -> None:
    modules.part()
    (modules.stamps / "x.json").write_bytes(b"\xff{")
    assert modules.part()["changed"] is True
    assert modules.stamp()["inputs"] == "i"


def test_no_stamp_is_written_for_a_file_that_is_not_as_the_bundle_says(
    modules: Modules, file: Path
) -> None:
    found = modules.part(files=[str(file)], checksums={str(file): digest(b"other")})
    assert found["msg"] == f"{file} has another checksum than the bundle's manifest"
    found = modules.part(files=["/not/there"])
    assert found["msg"] == "/not/there: No such file or directory"
    found = modules.part(files=[str(file.parent)])
    assert found["msg"] == f"{file.parent}: Is a directory"
    found = modules.part(packages=["no-such-package"])
    assert found["failed"]
    assert not modules.stamps.exists()


def test_a_file_of_nobody_is_owned_by_numbers(modules: Modules, file: Path) -> None:
    os.chown(file, 54321, 54322)
    modules.part(files=[str(file)])
    assert modules.stamp()["files"][str(file)]["owner"] == "54321:54322"
    assert modules.drift()["drift"] == []


def test_check_mode_says_what_would_change_and_writes_nothing(modules: Modules, file: Path) -> None:
    files = [str(file)]
    assert modules.part(check=True, files=files)["changed"] is True
    assert modules.part(check=True, files=["/not/there"])["changed"] is True
    # A file of the older bundle still lies there: the copy before did nothing.
    older = {str(file): digest(b"newer")}
    assert modules.part(check=True, files=files, checksums=older)["changed"] is True
    assert not modules.stamps.exists()
    modules.part(files=files)
    assert modules.part(check=True, files=files)["changed"] is False
    assert modules.part(check=True, files=files, inputs="j")["changed"] is True
    assert modules.part(check=True, state="absent", owned=True)["changed"] is True
    assert modules.stamp()["inputs"] == "i"
    assert file.exists()


def test_a_stamp_is_taken_away_with_or_without_what_it_names(modules: Modules, file: Path) -> None:
    modules.part(files=[str(file)])
    assert modules.part(state="absent")["changed"] is True
    assert file.exists()
    assert modules.part(state="absent")["changed"] is False
    modules.part(files=[str(file)])
    assert modules.part(state="absent", owned=True)["changed"] is True
    assert not file.exists()
    assert modules.names() == []


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"files": 3}', '{"files": [1, "relative"]}', "\0"]
)
def test_a_damaged_stamp_can_be_taken_away(modules: Modules, text: str) -> None:
    modules.stamps.mkdir()
    (modules.stamps / "x.json").write_text(text)
    assert modules.part(state="absent", owned=True)["changed"] is True
    assert modules.names() == []


def test_the_name_of_a_part_cannot_leave_the_folder(modules: Modules) -> None:
    modules.part(name="../../x")
    assert modules.names() == ["x.json"]


# ---- files of the bundle


def asked(dest: Path, content: bytes = b"program", mode: str = "0755") -> dict[str, str]:
    return {"src": f"bin/{dest.name}", "dest": str(dest), "sha256": digest(content), "mode": mode}


def staged(folder: Path, name: str, content: bytes = b"program") -> str:
    path = folder / f"staged-{name}"
    path.write_bytes(content)
    return str(path)


def test_what_is_missing_or_otherwise_is_named(modules: Modules, tmp_path: Path) -> None:
    right, mode, content, gone = (tmp_path / name for name in ("right", "mode", "content", "gone"))
    for path in (right, mode, content):
        path.write_bytes(b"other" if path == content else b"program")
        path.chmod(0o644 if path == mode else 0o755)
    files = [asked(path) for path in (right, mode, content, gone)]
    found = modules.copy(files=files)
    assert found["missing"] == [str(path) for path in (mode, content, gone)]
    assert found["changed"] is True
    assert modules.copy(files=files[:1]) | {"invocation": 0} == {
        "changed": False, "missing": [], "invocation": 0
    }  # fmt: skip


def test_a_staged_file_is_put_in_place_whole(modules: Modules, tmp_path: Path) -> None:
    dest = tmp_path / "program"
    dest.write_bytes(b"older")
    with dest.open("rb") as running:
        found = modules.copy(files=[asked(dest)], staged={str(dest): staged(tmp_path, "a")})
        assert running.read() == b"older"
    assert (found["changed"], found["missing"]) == (True, [])
    assert (dest.read_bytes(), dest.stat().st_mode & 0o7777) == (b"program", 0o755)
    assert modules.copy(files=[asked(dest)])["changed"] is False
    assert not list(tmp_path.glob("*.mlstead-new"))


def test_the_folder_of_a_file_is_made_for_all_to_read(modules: Modules, tmp_path: Path) -> None:
    dest = tmp_path / "a" / "b" / "program"
    before = os.umask(0o077)
    try:
        modules.copy(files=[asked(dest)], staged={str(dest): staged(tmp_path, "a")})
    finally:
        os.umask(before)
    assert [it.stat().st_mode & 0o7777 for it in (dest, *dest.parents[:2])] == [0o755] * 3


def test_a_file_that_changed_on_the_way_is_refused(modules: Modules, tmp_path: Path) -> None:
    dest = tmp_path / "program"
    found = modules.copy(
        files=[asked(dest)], staged={str(dest): staged(tmp_path, "a", b"tampered")}
    )
    assert found["msg"] == "bin/program: not what the bundle's manifest says; it was changed"
    assert not dest.exists()


def test_a_place_that_cannot_be_is_told_without_a_traceback(
    modules: Modules, tmp_path: Path
) -> None:
    dest = tmp_path / "folder"
    dest.mkdir()
    found = modules.copy(files=[asked(dest)], staged={str(dest): staged(tmp_path, "a")})
    assert found["msg"] == f"{dest}: Is a directory"
    away = tmp_path / "no" / "folder" / "x"
    found = modules.copy(links=[{"dest": str(away), "to": "x"}])
    assert found["failed"]
    assert "No such file or directory" in found["msg"]


def test_links_are_made_when_all_files_are_there(modules: Modules, tmp_path: Path) -> None:
    dest, link = tmp_path / "program", tmp_path / "called"
    link.write_text("a file in the way")
    links = [{"dest": str(link), "to": "program"}]
    assert modules.copy(files=[asked(dest)], links=links)["missing"] == [str(dest)]
    assert not link.is_symlink()
    given = {str(dest): staged(tmp_path, "a")}
    assert modules.copy(files=[asked(dest)], links=links, staged=given)["changed"] is True
    assert str(link.readlink()) == "program"
    assert modules.copy(files=[asked(dest)], links=links)["changed"] is False


def test_check_mode_copies_nothing(modules: Modules, tmp_path: Path) -> None:
    dest, link = tmp_path / "program", tmp_path / "called"
    found = modules.copy(
        check=True,
        files=[asked(dest)],
        links=[{"dest": str(link), "to": "program"}],
        staged={str(dest): staged(tmp_path, "a")},
    )
    assert found["changed"] is True
    assert not os.path.lexists(dest)
    assert not os.path.lexists(link)


# ---- folders and small files


def test_folders_and_files_are_made_with_their_rights_and_named(
    modules: Modules, tmp_path: Path
) -> None:
    folder, file = tmp_path / "a" / "b", tmp_path / "a" / "b" / "c"
    asked: dict[str, Any] = {
        "folders": [{"path": str(folder), "mode": "0750"}],
        "files": [{"dest": str(file), "content": "ü\n", "mode": "0640", "owner": "daemon"}],
    }
    assert modules.files(check=True, **asked)["written"] == [str(folder), str(file)]
    assert list(tmp_path.glob("a*")) == []
    found = modules.files(**asked)
    assert (found["changed"], found["written"]) == (True, [str(folder), str(file)])
    assert (file.read_text(encoding="utf-8"), file.stat().st_mode & 0o7777) == ("ü\n", 0o640)
    assert (file.owner(), file.group(), folder.stat().st_mode & 0o7777) == ("daemon", "root", 0o750)
    found = modules.files(**asked)
    assert (found["changed"], found["written"]) == (False, [])
    assert [path.name for path in folder.iterdir()] == ["c"]


def test_only_what_differs_is_written_again(modules: Modules, tmp_path: Path) -> None:
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    files = [{"dest": str(path), "content": "x"} for path in (one, two, three)]
    modules.files(files=files)
    inodes = [path.stat().st_ino for path in (one, two)]
    two.chmod(0o600)
    three.unlink()
    three.symlink_to("one")
    assert modules.files(files=files)["written"] == [str(two), str(three)]
    assert [path.stat().st_ino for path in (one, two)] == inodes
    assert two.stat().st_mode & 0o7777 == 0o644
    assert not three.is_symlink() and one.read_text() == "x"


def test_a_file_without_content_only_gets_its_rights(modules: Modules, file: Path) -> None:
    asked = [{"dest": str(file), "mode": "0600"}]
    assert modules.files(files=asked)["changed"] is True
    assert (file.read_text(), file.stat().st_mode & 0o7777) == ("content", 0o600)
    gone = [{"dest": str(file) + ".gone", "mode": "0600"}]
    assert modules.files(files=gone)["msg"] == f"{file}.gone: No such file or directory"
    assert modules.files(check=True, files=gone)["changed"] is True


def test_files_that_cannot_be_written_are_told_without_a_traceback(
    modules: Modules, tmp_path: Path, file: Path
) -> None:
    found = modules.files(files=[{"dest": str(tmp_path / "no" / "x"), "content": ""}])
    assert "No such file or directory" in found["msg"]
    found = modules.files(files=[{"dest": str(tmp_path), "content": ""}])
    assert found["msg"] == f"{tmp_path}: Is a directory"
    found = modules.files(folders=[{"path": str(file)}])
    assert found["msg"] == f"{file}: File exists"
    nobody = [{"dest": str(file), "content": "", "owner": "no-such-user"}]
    assert "no-such-user" in modules.files(files=nobody)["msg"]
    assert modules.files(check=True, files=nobody)["changed"] is True
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".py") == ["owned"]
