"""Code becomes a tree: what belongs to it, what never does, and what it costs the second time."""

import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from mlstead.artifacts import _rules
from mlstead.artifacts.code import CodeStore
from mlstead.errors import ConflictError, NotFoundError, UserError

Write = Callable[..., None]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def store(home: Path) -> CodeStore:
    return CodeStore(home / "code.git", home)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "project").mkdir()
    return tmp_path / "project"


def write(root: Path, **files: str) -> None:
    """Write files; two underscores stand for a slash, one before the end for a dot."""
    for name, text in files.items():
        put(root, name.replace("__", "/").replace("_", "."), text)


def put(root: Path, path: str, text: str = "x\n") -> Path:
    place = root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)
    return place


def git(folder: Path, *args: str) -> str:
    """Run git as a person would, in a repository of theirs."""
    env = {
        "PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@b",
    }  # fmt: skip
    done = subprocess.run(
        ["git", *args], cwd=folder, env=env, capture_output=True, text=True, check=True
    )
    return done.stdout


def commit(folder: Path) -> None:
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "first")


def test_a_folder_without_git_becomes_a_tree(store: CodeStore, project: Path) -> None:
    write(project, train_py="print()\n", lib__model_py="y\n")
    snapshot = store.snapshot(project)
    assert store.files(snapshot.tree) == ("lib/model.py", "train.py")
    assert (snapshot.files, snapshot.size) == (2, 10)
    assert not (project / ".git").exists()


def test_the_tree_is_the_one_that_git_would_make(store: CodeStore, project: Path) -> None:
    write(project, train_py="print()\n", lib__model_py="y\n")
    (project / "train.py").chmod(0o755)
    (project / "link.py").symlink_to("train.py")
    commit(project)
    assert store.snapshot(project).tree == git(project, "rev-parse", "HEAD^{tree}").strip()


def test_uncommitted_new_and_deleted_files_count(store: CodeStore, project: Path) -> None:
    write(project, a_py="a\n", b_py="b\n")
    commit(project)
    first = store.snapshot(project)
    write(project, a_py="changed\n", c_py="new\n")
    (project / "b.py").unlink()
    second = store.snapshot(project)
    assert store.diff(first.tree, second.tree) == ["M a.py", "D b.py", "A c.py"]
    assert git(project, "status", "--short") == " M a.py\n D b.py\n?? c.py\n"


def test_an_unchanged_folder_gives_the_same_and_writes_nothing(
    store: CodeStore, project: Path, home: Path
) -> None:
    write(project, a_py="a\n", d__b_py="b\n")
    first = store.snapshot(project)
    before = sorted(path.stat().st_ino for path in (home / "code").rglob("*"))
    assert store.snapshot(project) == first
    assert sorted(path.stat().st_ino for path in (home / "code").rglob("*")) == before


def test_a_change_back_is_seen(store: CodeStore, project: Path) -> None:
    trees = []
    for text in ("a\n", "b\n", "a\n", "b\n"):
        write(project, a_py=text)
        trees.append(store.snapshot(project).tree)
    assert trees[0] == trees[2] != trees[1] == trees[3]


def test_a_file_becomes_a_folder_and_back(store: CodeStore, project: Path) -> None:
    write(project, a="file\n")
    first = store.snapshot(project)
    (project / "a").unlink()
    write(project, a__b="in\n")
    assert store.files(store.snapshot(project).tree) == ("a/b",)
    (project / "a" / "b").unlink()
    (project / "a").rmdir()
    write(project, a="file\n")
    assert store.snapshot(project) == first


def test_an_empty_folder_is_an_empty_tree(store: CodeStore, project: Path, tmp_path: Path) -> None:
    for _ in range(2):
        snapshot = store.snapshot(project)
        assert (store.files(snapshot.tree), snapshot.files) == ((), 0)
    store.checkout(snapshot.tree, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_gitignore_counts_without_a_repository(store: CodeStore, project: Path) -> None:
    write(project, a_py="a\n", data__x="x\n", b_log="l\n", sub__c_log="l\n", sub__keep_log="k\n")
    put(project, ".gitignore", "data/\n*.log\n")
    put(project, "sub/.gitignore", "!keep.log\n")
    files = store.files(store.snapshot(project).tree)
    assert files == (".gitignore", "a.py", "sub/.gitignore", "sub/keep.log")


def test_a_file_that_is_ignored_later_is_left_out(store: CodeStore, project: Path) -> None:
    write(project, a_py="a\n", big_bin="b\n")
    assert "big.bin" in store.files(store.snapshot(project).tree)
    put(project, ".gitignore", "big.bin\n")
    assert store.files(store.snapshot(project).tree) == (".gitignore", "a.py")
    (project / ".gitignore").unlink()
    assert store.files(store.snapshot(project).tree) == ("a.py", "big.bin")


def test_mlsteadignore_counts_over_gitignore(store: CodeStore, project: Path) -> None:
    write(project, a_py="a\n", b_csv="b\n", c_csv="c\n", d__e="e\n")
    put(project, ".gitignore", "*.csv\n")
    put(project, ".mlsteadignore", "# comment\n!b.csv\n/d\n")
    files = store.files(store.snapshot(project).tree)
    assert files == (".gitignore", ".mlsteadignore", "a.py", "b.csv")
    put(project, ".mlsteadignore", "")
    assert "d/e" in store.files(store.snapshot(project).tree)


def test_rules_of_the_repository_around_count(store: CodeStore, tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    put(repo, ".gitignore", "*.log\n/w?rk/out/\n")
    put(repo, "other.py")
    put(repo, "work/[odd] name/train.py")
    for path in ("a.log", "out/x", "keep/out/x", "train.py", "skip/x", "keep/skip"):
        put(repo / "work", path)
    put(repo / "work", ".mlsteadignore", "/skip\nw*k\n")
    commit(repo)
    put(repo, ".git/info/exclude", "local.py\n")
    put(repo, "work/local.py")
    files = store.files(store.snapshot(repo / "work").tree)
    assert files == (
        ".mlsteadignore", "[odd] name/train.py", "keep/out/x", "keep/skip", "train.py",
    )  # fmt: skip
    assert store.files(store.snapshot(repo / "work" / "[odd] name").tree) == ("train.py",)
    put(repo, ".gitignore", "")
    assert "a.log" in store.files(store.snapshot(repo / "work").tree)


def test_a_folder_that_the_repository_around_ignores_is_taken_by_itself(
    store: CodeStore, tmp_path: Path
) -> None:
    repo = tmp_path / "repo"
    put(repo, ".gitignore", "scratch/\n")
    put(repo, "scratch/train.py")
    put(repo, "scratch/x.log")
    put(repo, "scratch/.gitignore", "*.log\n")
    commit(repo)
    for _ in range(2):
        snapshot = store.snapshot(repo / "scratch")
        assert store.files(snapshot.tree) == (".gitignore", "train.py")
    put(repo, ".gitignore", "")
    assert store.snapshot(repo / "scratch") == snapshot


def test_nested_repositories_are_plain_folders(store: CodeStore, project: Path) -> None:
    write(project, a_py="a\n", sub__b_py="b\n", sub__x_log="l\n", empty__c_py="c\n")
    put(project, "sub/.gitignore", "*.log\n")
    commit(project / "sub")
    git(project / "empty", "init", "-q")
    put(project, "deep/er/one.py")
    commit(project / "deep" / "er")
    (project / "none").mkdir()
    git(project / "none", "init", "-q")
    expected = ("a.py", "deep/er/one.py", "empty/c.py", "sub/.gitignore", "sub/b.py")
    for _ in range(2):
        assert store.files(store.snapshot(project).tree) == expected
    put(project, "sub/b.py", "changed\n")
    put(project, "sub/new.py")
    assert "sub/new.py" in store.files(store.snapshot(project).tree)


def test_virtual_environments_bytecode_and_the_home_are_left_out(
    store: CodeStore, tmp_path: Path
) -> None:
    for path in ("a.py", "my env/pyvenv.cfg", "my env/lib/x.py", "__pycache__/a.pyc", "home/x"):
        put(tmp_path, path)
    for _ in range(2):
        assert store.files(store.snapshot(tmp_path).tree) == ("a.py",)
    put(tmp_path, "lib/x.py")
    assert store.files(store.snapshot(tmp_path).tree) == ("a.py", "lib/x.py")
    put(tmp_path, "lib/pyvenv.cfg")
    assert store.files(store.snapshot(tmp_path).tree) == ("a.py",)


def test_bytes_are_kept_as_they_are_whatever_attributes_say(
    store: CodeStore, project: Path, tmp_path: Path
) -> None:
    put(project, ".gitattributes", "* text=auto eol=lf ident filter=lfs export-subst\n")
    put(project, "sub/.gitattributes", "* working-tree-encoding=UTF-16 export-ignore\n")
    content = b"a\r\n$Id$ $Format:%H$\r\n\xff"
    (project / "x.txt").write_bytes(content)
    (project / "sub" / "y.txt").write_bytes(content)
    store.checkout(store.snapshot(project).tree, tmp_path / "out")
    assert (tmp_path / "out" / "x.txt").read_bytes() == content
    assert (tmp_path / "out" / "sub" / "y.txt").read_bytes() == content


def test_settings_and_hooks_of_the_person_take_no_part(
    store: CodeStore, project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    canary = tmp_path / "canary"
    config = put(
        tmp_path,
        "config",
        f"[core]\n autocrlf = input\n excludesFile = {tmp_path}/ignore\n"
        f" fsmonitor = touch {canary}\n"
        f'[filter "evil"]\n clean = touch {canary}\n smudge = touch {canary}\n required = true\n',
    )
    put(tmp_path, "ignore", "*.py\n")
    put(project, ".gitattributes", "* filter=evil\n")
    (project / "a.py").write_bytes(b"a\r\n")
    commit(project)
    put(project, ".git/hooks/post-index-change", f"#!/bin/sh\ntouch {canary}\n").chmod(0o755)
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, str(config))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "elsewhere"))
    snapshot = store.snapshot(project)
    store.checkout(snapshot.tree, tmp_path / "out")
    assert (tmp_path / "out" / "a.py").read_bytes() == b"a\r\n"
    assert not canary.exists()


@pytest.mark.parametrize(
    "name", [".env", "server.pem", "tls.key", "id_rsa", "id_ed25519", "sub/.env.local"]
)
def test_names_like_secrets_are_refused_unless_listed(
    store: CodeStore, project: Path, name: str
) -> None:
    put(project, "a.py")
    put(project, name)
    with pytest.raises(UserError, match="looks like secrets") as caught:
        store.snapshot(project)
    assert name in str(caught.value)
    assert "code.include" in caught.value.hint
    assert name in store.files(store.snapshot(project, include=[name]).tree)
    with pytest.raises(UserError, match="looks like secrets"):
        store.snapshot(project)
    put(project, ".gitignore", name + "\n")
    assert store.files(store.snapshot(project).tree) == (".gitignore", "a.py")


def test_what_is_listed_is_taken_though_it_is_ignored(store: CodeStore, project: Path) -> None:
    put(project, ".gitignore", ".env\nbuild/\n*.csv\n")
    for path in ("a.py", ".env", ".env.example", "build/x.bin", "t.csv", "u.csv"):
        put(project, path)
    include = [".env", "build/x.bin", "t.*"]
    expected = (".env", ".env.example", ".gitignore", "a.py", "build/x.bin", "t.csv")
    for _ in range(2):
        assert store.files(store.snapshot(project, include=include).tree) == expected
    assert store.files(store.snapshot(project).tree) == (".env.example", ".gitignore", "a.py")


def test_a_folder_too_large_is_refused_with_the_largest(
    store: CodeStore, project: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_rules, "LARGEST", 5000)
    monkeypatch.setattr(_rules, "TOTAL", 12000)
    for number in range(12):
        put(project, f"f{number:02}", "x" * (1000 + number))
    with pytest.raises(UserError, match="too large for code") as caught:
        store.snapshot(project)
    named = [
        name for name in (f"f{number:02}" for number in range(12)) if name in str(caught.value)
    ]
    assert named == [f"f{number:02}" for number in range(2, 12)]
    assert list((home / "code.git" / "objects").rglob("??/*")) == []
    for number in range(6):
        (project / f"f{number:02}").unlink()
    assert store.snapshot(project).files == 6
    put(project, "one", "x" * 5001)
    with pytest.raises(UserError, match="one "):
        store.snapshot(project)


@pytest.mark.parametrize("to", ["/etc/passwd", "../outside", "sub/../../outside", "round/../../x"])
def test_links_that_point_outside_are_refused(store: CodeStore, project: Path, to: str) -> None:
    put(project.parent, "outside")
    put(project, "sub/x")
    (project / "round").symlink_to(".")
    (project / "link").symlink_to(to)
    with pytest.raises(UserError, match="link points outside"):
        store.snapshot(project)


def test_odd_names_come_back(store: CodeStore, project: Path, tmp_path: Path) -> None:
    names = {b"a\nb", b"\xff\xfe", b"sp ace", b"back\\slash", b"-dash", b":(top)x", b"*?[", b'"q"'}
    for name in names:
        (project / os.fsdecode(name)).write_bytes(name)
    snapshot = store.snapshot(project)
    assert {os.fsencode(name) for name in store.files(snapshot.tree)} == names
    store.checkout(snapshot.tree, tmp_path / "out")
    assert {os.fsencode(path.name): path.read_bytes() for path in (tmp_path / "out").iterdir()} == {
        name: name for name in names
    }


def test_pipes_are_left_out(store: CodeStore, project: Path) -> None:
    put(project, "a.py")
    os.mkfifo(project / "pipe")
    assert store.files(store.snapshot(project).tree) == ("a.py",)


def test_checkout_gives_what_was_there(store: CodeStore, project: Path, tmp_path: Path) -> None:
    write(project, a_py="a\n", d__run_sh="#!/bin/sh\n")
    (project / "d" / "run.sh").chmod(0o755)
    (project / "link").symlink_to("d/run.sh")
    tree = store.snapshot(project).tree
    for name in ("one", "two"):
        store.checkout(tree, tmp_path / name)
        (tmp_path / name / "a.py").open("a").close()
        assert (tmp_path / name / "a.py").read_text() == "a\n"
        assert os.access(tmp_path / name / "d" / "run.sh", os.X_OK)
        assert str((tmp_path / name / "link").readlink()) == "d/run.sh"
        assert store.snapshot(tmp_path / name).tree == tree
        (tmp_path / name / "a.py").write_text("changed in a run\n")
    with pytest.raises(ConflictError):
        store.checkout(tree, tmp_path / "one")


@pytest.mark.parametrize("tree", ["0" * 40, "HEAD", "--help", ""])
def test_a_tree_that_is_not_there_is_not_found(
    store: CodeStore, project: Path, tmp_path: Path, tree: str
) -> None:
    put(project, "a.py")
    store.snapshot(project)
    for ask in (
        lambda: store.checkout(tree, tmp_path / "out"),
        lambda: store.files(tree),
        lambda: store.grep(tree, "x"),
        lambda: store.diff(tree, tree),
    ):
        with pytest.raises(NotFoundError):
            ask()
    assert not (tmp_path / "out").exists()


def test_grep_finds_whole_words_only(store: CodeStore, project: Path) -> None:
    write(project, a_py="import mlflow_extra\n")
    first = store.snapshot(project).tree
    write(project, b_py="import mlflow\n")
    second = store.snapshot(project).tree
    for _ in range(2):
        assert (store.grep(first, "mlflow"), store.grep(second, "mlflow")) == (False, True)


def test_pins_keep_a_tree_through_a_collection(store: CodeStore, project: Path) -> None:
    write(project, a_py="first\n")
    kept = store.snapshot(project, ref="runs/digits-abc123")
    write(project, a_py="second\n")
    store.snapshot(project)
    store.collect()
    assert store.files(kept.tree) == ("a.py",)
    assert git(store.git_dir, "rev-parse", "refs/runs/digits-abc123").strip() == kept.tree
    assert git(store.git_dir, "fsck", "--strict", "--no-dangling") == ""
    store.pin(kept.tree, "runs/other")
    store.unpin("runs/digits-abc123")
    assert "digits" not in git(store.git_dir, "for-each-ref")


def test_a_folder_not_used_for_a_month_is_forgotten(
    store: CodeStore, project: Path, home: Path
) -> None:
    write(project, a_py="a\n")
    before = store.snapshot(project)
    (place,) = (home / "code" / "folders").iterdir()
    store.collect()
    assert "refs/folders/" in git(store.git_dir, "for-each-ref")
    os.utime(place / "lock", (1, 1))
    store.collect()
    assert git(store.git_dir, "for-each-ref") == ""
    assert not (place / "index").exists()
    assert store.snapshot(project) == before


@pytest.mark.parametrize(
    "ref", ["../../evil", "runs/a..b", "runs/-x", "runs/x.lock", "runs/", "a b"]
)
def test_a_name_that_git_does_not_take_is_refused(
    store: CodeStore, project: Path, ref: str
) -> None:
    with pytest.raises(UserError, match="name of a ref"):
        store.snapshot(project, ref=ref)


def test_many_snapshots_of_one_folder_at_once_agree(store: CodeStore, project: Path) -> None:
    for number in range(50):
        put(project, f"f{number}.py", f"{number}\n")
    trees: list[str] = []
    threads = [
        threading.Thread(target=lambda: trees.append(store.snapshot(project).tree))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(trees) == 6
    assert len(set(trees)) == 1


@pytest.mark.parametrize("name", ["index", "state.json", "top"])
def test_a_damaged_index_is_made_anew(
    store: CodeStore, project: Path, home: Path, name: str
) -> None:
    write(project, a_py="a\n")
    before = store.snapshot(project)
    (place,) = (home / "code" / "folders").iterdir()
    (place / name).unlink()
    (place / name).write_bytes(b"rubbish")
    write(project, b_py="b\n")
    assert store.snapshot(project).files == 2
    (project / "b.py").unlink()
    assert store.snapshot(project) == before


def test_an_index_that_a_killed_snapshot_moved_on_is_not_believed(
    store: CodeStore, project: Path, home: Path
) -> None:
    write(project, a_py="a\n")
    store.snapshot(project)
    (place,) = (home / "code" / "folders").iterdir()
    old = (place / "state.json").read_bytes()
    write(project, a_py="other\n")
    expected = store.snapshot(project)
    (place / "state.json").chmod(0o600)
    (place / "state.json").write_bytes(old)
    assert store.snapshot(project) == expected


def test_a_failed_snapshot_leaves_no_files_behind(
    store: CodeStore, project: Path, home: Path
) -> None:
    write(project, a_py="a\n")
    first = store.snapshot(project)
    names = {path.name for path in (home / "code").rglob("*")}
    put(project, "id_rsa")
    with pytest.raises(UserError):
        store.snapshot(project)
    assert {path.name for path in (home / "code").rglob("*")} == names
    (project / "id_rsa").unlink()
    assert store.snapshot(project) == first


def test_a_folder_that_is_not_there_is_not_found(store: CodeStore, project: Path) -> None:
    with pytest.raises(NotFoundError):
        store.snapshot(project / "nothing")
