"""Checkpoints: whole or not there, at whatever moment the program dies."""

import errno
import os
import signal
import time
from pathlib import Path

import pytest
from tests.unit.runner.conftest import Program

from mlstead.errors import UserError
from mlstead.runner.checkpoints import latest_checkpoint, save_checkpoint


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLSTEAD_CHECKPOINTS", str(tmp_path))
    return tmp_path


def newest(name: str = "model.pt") -> bytes:
    path = latest_checkpoint(name)
    assert path is not None
    return path.read_bytes()


def test_the_newest_comes_back_byte_for_byte(folder: Path) -> None:
    assert latest_checkpoint("model.pt") is None
    save_checkpoint(b"one", "model.pt")
    save_checkpoint(b"two", "model.pt")
    assert newest() == b"two"


def test_a_file_is_copied_and_stays_where_it_is(folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x" * 3_000_000)
    assert save_checkpoint(source, "model.pt").read_bytes() == source.read_bytes()
    assert newest() == source.read_bytes()


def test_names_do_not_mix(folder: Path) -> None:
    save_checkpoint(b"a", "model.pt")
    save_checkpoint(b"b", "other-model.pt")
    assert (newest(), newest("other-model.pt")) == (b"a", b"b")


def test_as_many_are_kept_as_asked(folder: Path) -> None:
    for number in range(12):
        save_checkpoint(b"%d" % number, "model.pt", keep=3)
    assert sorted(path.read_bytes() for path in folder.iterdir()) == [b"10", b"11", b"9"]
    save_checkpoint(b"12", "model.pt", keep=1)
    assert [path.read_bytes() for path in folder.iterdir()] == [b"12"]


@pytest.mark.parametrize("damage", ["bit", "short", "empty", "long"])
def test_of_a_damaged_one_the_previous_is_used(folder: Path, damage: str) -> None:
    save_checkpoint(b"the good one", "model.pt")
    path = save_checkpoint(b"the bad one", "model.pt")
    content = bytearray(path.read_bytes())
    content[3] ^= 1
    changed = {"bit": bytes(content), "short": b"the", "empty": b"", "long": b"the bad one."}
    path.write_bytes(changed[damage])
    assert newest() == b"the good one"
    save_checkpoint(b"the next one", "model.pt")
    assert newest() == b"the next one"


@pytest.mark.parametrize("moment", ["os.fsync", "os.replace"])
def test_a_kill_while_writing_leaves_the_previous_one(
    folder: Path, program: Program, moment: str
) -> None:
    save_checkpoint(b"before", "model.pt")
    done = program(
        "import os\nfrom mlstead.runner.checkpoints import save_checkpoint\n"
        f"{moment} = lambda *_: os.kill(os.getpid(), 9)\n"
        "save_checkpoint(b'never', 'model.pt')",
        MLSTEAD_CHECKPOINTS=str(folder),
    )
    assert done.returncode == -signal.SIGKILL
    assert newest() == b"before"
    left = [path for path in folder.iterdir() if path.name.startswith(".")]
    assert len(left) == 1
    os.utime(left[0], (time.time() - 7200,) * 2)
    save_checkpoint(b"after", "model.pt")
    assert not left[0].exists() and newest() == b"after"


def test_a_full_disk_is_an_error_and_costs_nothing_that_was_there(
    folder: Path, program: Program
) -> None:
    save_checkpoint(b"before", "model.pt")
    done = program(
        "import errno, resource, signal\n"
        "from mlstead.runner.checkpoints import save_checkpoint\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000))\n"
        "try: save_checkpoint(b'x' * 200000, 'model.pt')\n"
        "except OSError as error: print(error.errno)",
        MLSTEAD_CHECKPOINTS=str(folder),
    )
    assert done.stdout == f"{errno.EFBIG}\n", done.stderr
    assert [path.read_bytes() for path in folder.iterdir()] == [b"before"]


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "-x", "a\n", "x" * 101])
def test_a_name_that_is_no_plain_file_name_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(UserError):
        save_checkpoint(b"", name)
    assert list(folder.iterdir()) == []
    with pytest.raises(UserError):
        save_checkpoint(b"", "fine", keep=0)
