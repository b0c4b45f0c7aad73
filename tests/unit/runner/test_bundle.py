"""The bundle: import mlstead where it is not installed; the real one where it is."""

import ast
import importlib
import threading
from pathlib import Path

import pytest
from tests.unit.runner.conftest import SOURCE, Program

import mlstead
from mlstead.errors import UserError
from mlstead.runner import bundle
from mlstead.runner.bundled import PROGRAM

RUNNER = sorted((Path(SOURCE) / "mlstead" / "runner").glob("*.py"))
ALL = f"import mlstead\nfor name in {sorted(PROGRAM)}: assert callable(getattr(mlstead, name))\n"


def test_where_mlstead_is_not_installed_the_programs_side_works(
    program: Program, tmp_path: Path
) -> None:
    folder = bundle.ensure(tmp_path)
    done = program(
        ALL + "mlstead.log(a=1, step=2); print(mlstead.__file__)\n"
        "assert mlstead.log is mlstead.log and not hasattr(mlstead, 'Platform')",
        path=str(folder),
        MLSTEAD_METRICS=str(tmp_path / "metrics"),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(folder))
    assert b'"k":"a","v":1.0,"s":2' in (tmp_path / "metrics").read_bytes()


def test_what_the_bundle_lacks_is_told_by_name(program: Program, tmp_path: Path) -> None:
    done = program("import mlstead; mlstead.Platform", path=str(bundle.ensure(tmp_path)))
    assert "mlstead is not installed in this environment" in done.stderr


def test_the_server_comes_with_it_only_where_it_is_asked_for(tmp_path: Path) -> None:
    plain, whole = bundle.ensure(tmp_path), bundle.ensure(tmp_path, server=True)
    assert not (plain / "mlstead" / "serving").exists()
    assert (whole / "mlstead" / "serving" / "runtimes" / "python.py").is_file()
    assert (whole / "mlstead" / "runner" / "metrics.py").is_file()


def test_an_installed_mlstead_is_not_shadowed(program: Program, tmp_path: Path) -> None:
    folder = bundle.ensure(tmp_path)
    done = program(
        "import mlstead, mlstead.runner, mlstead.spec, mlstead.errors\n"
        "for module in (mlstead, mlstead.runner, mlstead.spec, mlstead.errors):\n"
        "    print(module.__file__)\n"
        "print(mlstead.__spec__.origin, *mlstead.__path__)\n"
        "assert not hasattr(mlstead, 'PROGRAM')",
        path=f"{folder}:{SOURCE}",
    )
    assert done.returncode == 0, done.stderr
    assert str(folder) not in done.stdout and done.stdout.count(SOURCE) == 6


def test_the_installed_mlstead_has_the_same_names_from_the_same_modules() -> None:
    for name, module in PROGRAM.items():
        assert getattr(mlstead, name) is getattr(importlib.import_module(module), name)


def test_another_release_that_is_installed_is_used_as_it_is(
    program: Program, tmp_path: Path
) -> None:
    package = tmp_path / "site" / "mlstead"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("def log(): return 'real'\n")
    (package / "more.py").write_text("here = 1\n")
    done = program(
        "import mlstead\nfrom mlstead import more\nprint(mlstead.log(), more.here)\n"
        "import importlib; print(importlib.reload(mlstead).log())",
        path=f"{bundle.ensure(tmp_path)}:{package.parent}",
    )
    assert done.stdout == "real 1\nreal\n", done.stderr


def test_an_editable_install_by_an_import_hook_is_found(program: Program, tmp_path: Path) -> None:
    package = tmp_path / "elsewhere" / "mlstead"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("real = True\n")
    done = program(
        "import sys\nfrom importlib.machinery import PathFinder\n"
        "class Hook:\n"
        "    @staticmethod\n"
        "    def find_spec(name, path=None, target=None):\n"
        f"        where = [{str(package.parent)!r}]\n"
        "        return PathFinder.find_spec(name, where) if name == 'mlstead' else None\n"
        "sys.meta_path.append(Hook)\n"
        "import mlstead; print(mlstead.real)",
        path=str(bundle.ensure(tmp_path)),
    )
    assert done.stdout == "True\n", done.stderr


def test_two_bundles_and_a_folder_of_that_name_do_no_harm(program: Program, tmp_path: Path) -> None:
    (tmp_path / "mlstead").mkdir()  # the working directory's own folder
    paths = [bundle.ensure(tmp_path / home) for home in ("a", "b")]
    done = program(ALL + "print(mlstead.__file__)", path=":".join(map(str, paths)))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(paths[0]))


def test_it_is_made_once_also_by_many_at_once(tmp_path: Path) -> None:
    made: list[Path] = []
    threads = [
        threading.Thread(target=lambda: made.append(bundle.ensure(tmp_path))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8 and len(set(made)) == 1
    assert list((tmp_path / "bundle").iterdir()) == [made[0]]
    before = made[0].stat().st_mtime_ns
    assert bundle.ensure(tmp_path) == made[0] and made[0].stat().st_mtime_ns == before


def test_a_home_that_cannot_be_written_is_the_persons_error(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    with pytest.raises(UserError, match="cannot write"):
        bundle.ensure(tmp_path / "home")


def test_the_runner_needs_nothing_but_the_standard_library(program: Program) -> None:
    names = [f"mlstead.runner.{path.stem}" for path in RUNNER if path.stem != "__init__"]
    done = program(
        f"import sys, importlib\nsys.path.insert(0, {SOURCE!r})\n"
        f"for name in {names}: importlib.import_module(name)\n"
        "ours = {name.split('.')[0] for name in sys.modules} - set(sys.stdlib_module_names)\n"
        "print(sorted(ours - {'__main__'}), [n for n in sys.modules if 'mlstead' in n"
        " and not n.startswith(('mlstead.runner', 'mlstead.errors')) and n != 'mlstead'])",
    )
    assert done.stdout == "['mlstead'] []\n", done.stderr


@pytest.mark.parametrize("path", RUNNER, ids=lambda path: path.stem)
def test_annotations_of_the_runner_are_never_evaluated_on_old_pythons(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 9))
    postponed = any(
        isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body
    )
    assert postponed or len(tree.body) == 1
