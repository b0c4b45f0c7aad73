"""What the local engine makes before a program starts: its copy of the code, its environment."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.contract.local_home import open_engine

from mlstead.engines.base import Code, Environment, Phase, Reason
from mlstead.engines.local.disk import Home
from mlstead.engines.local.engine import LocalEngine
from mlstead.testing.engine_values import (
    output,
    run,
    submit,
    task,
    wait_final,
    wait_phase,
    wait_until,
)


@pytest.fixture
def engine(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalEngine]:
    monkeypatch.setenv("UV_OFFLINE", "1")
    with open_engine(home, monkeypatch) as engine:
        yield engine


# ---- code


@pytest.fixture(params=["sha1", "sha256"])
def code(request: pytest.FixtureRequest, tmp_path: Path) -> Code:
    """A tree with a script, a link, a file in a folder, and attributes that would change bytes."""
    folder = tmp_path / "src"
    (folder / "pkg").mkdir(parents=True)
    (folder / "run.sh").write_text("#!/bin/sh\ncat pkg/data.txt linked\n")
    (folder / "run.sh").chmod(0o755)
    (folder / "pkg" / "data.txt").write_bytes(b"a\nb\n")
    (folder / "linked").symlink_to("pkg/data.txt")
    (folder / ".gitattributes").write_text("*.txt text eol=crlf ident\n")
    store = tmp_path / "store"
    _git("init", "-q", "--bare", f"--object-format={request.param}", str(store))
    env = {"GIT_DIR": str(store), "GIT_WORK_TREE": str(folder)}
    (store / "info").mkdir(exist_ok=True)
    (store / "info" / "attributes").write_text("* -text -eol -ident\n")
    _git("add", "-A", cwd=folder, **env)
    return Code(str(store), _git("write-tree", cwd=folder, **env))


def _git(*words: str, cwd: Path | None = None, **env: str) -> str:
    done = subprocess.run(
        ["git", *words], env=os.environ | env, cwd=cwd, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_the_code_is_the_working_folder_as_it_was_stored(engine: LocalEngine, code: Code) -> None:
    status = run(engine, task("t", "./run.sh", code=code))
    assert status.phase is Phase.SUCCEEDED, output(engine, "t")
    assert output(engine, "t") == "a\nb\na\nb\n"


def test_each_task_may_change_its_copy_only(engine: LocalEngine, code: Code) -> None:
    for name in ("t", "u"):
        run(engine, task(name, "./run.sh; echo x > pkg/data.txt; rm run.sh", code=code))
        assert output(engine, name) == "a\nb\na\nb\n"


def test_the_working_dir_is_below_the_code(engine: LocalEngine, code: Code) -> None:
    run(engine, task("t", "cat data.txt; exit 0", code=code, working_dir="pkg"))
    assert output(engine, "t") == "a\nb\n"
    status = run(engine, task("u", "true", code=code, working_dir="none"))
    assert "working_dir: there is no folder 'none'" in status.detail


def test_code_that_is_not_there_fails_with_a_cause(engine: LocalEngine, code: Code) -> None:
    missing = Code(code.store, "0" * len(code.tree))
    status = run(engine, task("t", "true", code=missing))
    assert (status.phase, status.reason) == (Phase.FAILED, Reason.ERROR)
    assert status.detail.startswith("code: ") and "see the log" in status.detail


# ---- environments


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A package of one module, so that nothing is fetched."""
    path = tmp_path / "tiny-1.0-py3-none-any.whl"
    info = "tiny-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny.py", "NAME = 'tiny one'\n")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


def _requirements(wheel: Path) -> str:
    return f"tiny @ {wheel.as_uri()}\n"


def test_an_environment_is_built_once_and_used_by_all(
    engine: LocalEngine, wheel: Path, tmp_path: Path
) -> None:
    setup = f"echo built >> {tmp_path}/built"
    wanted = Environment("key1", _requirements(wheel), setup=setup)
    code = "import sys, tiny; print(tiny.NAME, sys.prefix)"
    names = [f"t{number}" for number in range(3)]
    submit(engine, *(task(name, "python", "-c", code, environment=wanted) for name in names))
    for name in names:
        assert wait_final(engine, name).phase is Phase.SUCCEEDED, output(engine, name)
        assert output(engine, name).splitlines()[-1].startswith("tiny one ")
        assert "key1" in output(engine, name)
    assert (tmp_path / "built").read_text() == "built\n"


def test_a_program_in_its_own_environment_can_still_log(engine: LocalEngine, wheel: Path) -> None:
    wanted = Environment("key2", _requirements(wheel))
    code = "import mlstead; mlstead.log(loss=0.5, step=1)"
    status = run(engine, task("t", "python", "-c", code, environment=wanted))
    assert status.phase is Phase.SUCCEEDED, output(engine, "t")
    assert b'"loss"' in engine.metrics("t", 1, 0, 0)


def test_an_environment_that_cannot_be_built_fails_and_is_tried_anew(
    engine: LocalEngine, tmp_path: Path
) -> None:
    wanted = Environment("key3", setup=f"echo trying; test -e {tmp_path}/go")
    status = run(engine, task("t", "true", environment=wanted))
    assert (status.phase, status.reason) == (Phase.FAILED, Reason.ERROR)
    assert status.detail.startswith("environment: ") and "trying" in output(engine, "t")
    (tmp_path / "go").touch()
    assert run(engine, task("u", "true", environment=wanted)).phase is Phase.SUCCEEDED


def test_hashes_are_enforced_when_there_are_any(engine: LocalEngine, wheel: Path) -> None:
    text = f"tiny @ {wheel.as_uri()} --hash=sha256:{'0' * 64}\n"
    status = run(engine, task("t", "true", environment=Environment("key4", text, hashes=True)))
    assert (status.phase, status.reason) == (Phase.FAILED, Reason.ERROR)


def test_a_build_can_be_cancelled(engine: LocalEngine, home: Path) -> None:
    wanted = Environment("key5", setup="sleep 600")
    submit(engine, task("t", "true", environment=wanted), task("u", "true", environment=wanted))
    folder = Home(home).environments / "key5"
    wait_until(lambda: (folder / "bin" / "python").exists(), "the environment")
    wait_phase(engine, "t", Phase.STARTING)
    engine.cancel("u", 0.0)
    assert wait_final(engine, "u").phase is Phase.CANCELLED
    engine.cancel("t", 0.0)
    assert wait_final(engine, "t").phase is Phase.CANCELLED


def test_index_passwords_are_for_the_build_only(
    engine: LocalEngine, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_INDEX_URL", "https://user:canary@index.invalid/simple")
    wanted = Environment("key6", setup='test -n "$UV_INDEX_URL"')
    one = task(
        "t", sys.executable, "-c", "import os; print(sorted(os.environ))", environment=wanted
    )
    assert "canary" not in repr(engine.prepare(one, engine.facts()))
    assert run(engine, one).phase is Phase.SUCCEEDED, output(engine, "t")
    assert "UV_INDEX_URL" not in output(engine, "t")
