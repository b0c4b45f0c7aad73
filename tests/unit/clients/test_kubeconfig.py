"""Of a kubeconfig only what is ours changes; a damaged one is left as it is."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mlstead.clients import kubeconfig
from mlstead.clients.kubeconfig import Access, Context
from mlstead.errors import NotFoundError, SpecError, UnavailableError, UserError

OURS = Access("https://10.0.0.1:6443", "AUTHORITY\n", "CERTIFICATE\n", "KEY\n")
NEWER = Access("https://10.0.0.2:6443", "AUTHORITY\n", "NEWER\n", "KEY2\n")
THEIRS = """\
# mine
apiVersion: v1
kind: Config
clusters:
    - name: work      # the office
      cluster:
          server:   "https://10.1.1.1"
contexts:
- context: {cluster: work, user: me, namespace: prod}
  name: work
current-context: work   # daily
users:
- name: me
  user:
    token: 'ab c'
"""
STYLES = {
    "none": None,
    "empty": "",
    "comment": "# nothing yet",
    "theirs": THEIRS,
    "without lists": "apiVersion: v1\nkind: Config\nclusters: null\ncontexts: []\nusers:\n",
    "json": '{"apiVersion": "v1", "kind": "Config", "clusters": [], "contexts": [], "users": []}',
    "no newline": THEIRS.rstrip("\n"),
    "crlf": THEIRS.replace("\n", "\r\n"),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kube" / "config"


def given(path: Path, text: str | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if text is not None:
        path.write_bytes(text.encode())


def merged(path: Path, access: Access = OURS) -> str:
    kubeconfig.merge(path, "lab", access, entry="mlstead-lab")
    return path.read_bytes().decode()


@pytest.mark.parametrize("text", STYLES.values(), ids=STYLES)
def test_a_context_is_merged_and_everything_else_stays(path: Path, text: str | None) -> None:
    given(path, text)
    after = merged(path)
    assert kubeconfig.access(path, "lab") == OURS
    if text and "work" in text:
        left = iter(after.splitlines())
        assert all(line in left for line in text.splitlines())  # in order, as they were
        assert kubeconfig.contexts(path)[0] == Context("work", "work", "me", "prod", True)
    else:
        assert kubeconfig.contexts(path) == [Context("lab", "mlstead-lab", "mlstead-lab", "", True)]
    assert kubeconfig.remove(path, "lab", entry="mlstead-lab")
    if text and "work" in text:
        assert path.read_bytes().decode().rstrip() == text.rstrip()
    assert kubeconfig.access(path, "lab") is None
    assert not kubeconfig.remove(path, "lab", entry="mlstead-lab")


def test_merging_twice_changes_nothing(path: Path) -> None:
    given(path, THEIRS)
    once, number = merged(path), path.stat().st_ino
    assert merged(path) == once
    assert path.stat().st_ino == number


def test_a_renewal_keeps_the_namespace_and_the_current_context(path: Path) -> None:
    given(path, THEIRS)
    merged(path)
    kubeconfig.set_namespace(path, "lab", "team")
    kubeconfig.use(path, "lab")
    merged(path, NEWER)
    assert kubeconfig.access(path, "lab") == NEWER
    assert kubeconfig.contexts(path)[1] == Context(
        "lab", "mlstead-lab", "mlstead-lab", "team", True
    )


def test_a_foreign_context_of_that_name_is_replaced_and_its_cluster_stays(path: Path) -> None:
    given(
        path,
        THEIRS.replace("work, user", "work, user").replace("name: work\ncur", "name: lab\ncur"),
    )
    text = merged(path)
    assert kubeconfig.access(path, "lab") == OURS
    assert 'server:   "https://10.1.1.1"' in text
    assert "token: 'ab c'" in text


def test_a_foreign_context_is_not_removed(path: Path) -> None:
    text = THEIRS.replace("name: work\ncur", "name: lab\ncur")
    given(path, text)
    assert not kubeconfig.remove(path, "lab", entry="mlstead-lab")
    assert path.read_text() == text


def test_what_another_context_leads_to_stays(path: Path) -> None:
    merged(path)
    more = "- context: {cluster: mlstead-lab, user: mlstead-lab}\n  name: mine\n"
    text = path.read_text()
    path.write_text(text.replace("contexts:\n", "contexts:\n" + more))
    assert kubeconfig.remove(path, "lab", entry="mlstead-lab")
    assert kubeconfig.access(path, "mine") == OURS
    assert kubeconfig.contexts(path) == [Context("mine", "mlstead-lab", "mlstead-lab", "", False)]


def test_a_removed_context_is_no_longer_the_current_one(path: Path) -> None:
    merged(path)
    kubeconfig.remove(path, "lab", entry="mlstead-lab")
    assert 'current-context: ""' in path.read_text()


def test_a_server_that_is_not_verified_has_no_authority(path: Path) -> None:
    merged(path)
    line = "    insecure-skip-tls-verify: true\n"
    path.write_text(path.read_text().replace("    server:", line + "    server:"))
    found = kubeconfig.access(path, "lab")
    assert found is not None
    assert found.authority == ""


def test_file_and_folder_are_for_their_owner_alone(path: Path) -> None:
    merged(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    path.chmod(0o644)
    merged(path, NEWER)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [it.name for it in path.parent.iterdir()] == ["config"]


def test_a_link_stays_one(path: Path, tmp_path: Path) -> None:
    given(path, None)
    real = tmp_path / "real"
    real.write_text(THEIRS)
    path.symlink_to(real)
    merged(path)
    assert path.is_symlink()
    assert "mlstead-lab" in real.read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", r":2:1: not YAML"),
        ("[]", r":1:1: a kubeconfig is a map"),
        ("kind: Pod\n", r":1:7: kind: must be Config"),
        ("contexts: {}\n", r":1:11: contexts: must be a list"),
        ("users:\n- a\n", r":2:3: users\[0\]: must be a map with a name"),
        ("contexts:\n- name: a\n", r":2:3: contexts\[0\]: must have a map context"),
        ("clusters:\n- {name: a, cluster: {}}\n- {name: a, cluster: {}}\n", r":3:10: .*second"),
        ("a: 1\na: 2\n", r":2:1: duplicate key"),
        ("clusters: &a []\ncontexts: *a\n", r"cannot be changed here"),
    ],
)
def test_a_damaged_file_is_refused_with_its_place_and_left(
    path: Path, text: str, message: str
) -> None:
    given(path, text)
    with pytest.raises(UserError, match=message) as caught:
        merged(path)
    assert str(path) in str(caught.value)
    assert path.read_text() == text
    assert [it.name for it in path.parent.iterdir()] == ["config"]


def test_an_error_tells_no_secret(path: Path) -> None:
    given(path, "users:\n- name: a\n  user: {token: canary\n")
    with pytest.raises(SpecError) as caught:
        kubeconfig.contexts(path)
    assert "canary" not in str(caught.value)
    with pytest.raises(UserError) as other:
        kubeconfig.parse_access("users: [{name: a, user: {client-key-data: canary}}]")
    assert "canary" not in str(other.value)
    assert "KEY" not in repr(OURS)


def test_what_kubeadm_prints_is_read() -> None:
    text = (
        "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: Q0E=\n"
        "    server: https://h:6443\n  name: lab\ncontexts:\n- context:\n    cluster: lab\n"
        "    user: me\n  name: me@lab\ncurrent-context: me@lab\nkind: Config\nusers:\n- name: me\n"
        "  user:\n    client-certificate-data: Q0VSVA==\n    client-key-data: S0VZ\n"
    )
    assert kubeconfig.parse_access(text) == Access("https://h:6443", "CA", "CERT", "KEY")


def test_an_unknown_context_is_told_with_the_nearest(path: Path) -> None:
    given(path, THEIRS)
    with pytest.raises(NotFoundError) as caught:
        kubeconfig.use(path, "wrok")
    assert caught.value.hint == "did you mean work?"
    with pytest.raises(NotFoundError):
        kubeconfig.set_namespace(path, "wrok", "a")
    assert path.read_text() == THEIRS


@pytest.mark.parametrize("namespace", ["", "A", "a_b", "-a", "a-", "a" * 64, "a\nb", "$(id)"])
def test_a_namespace_that_cannot_be_is_refused(path: Path, namespace: str) -> None:
    given(path, THEIRS)
    with pytest.raises(UserError, match="cannot be a namespace"):
        kubeconfig.set_namespace(path, "work", namespace)


def test_a_namespace_is_changed_where_it_stands(path: Path) -> None:
    given(path, THEIRS)
    kubeconfig.set_namespace(path, "work", "test")
    assert path.read_text() == THEIRS.replace("prod", "test")


def test_the_file_is_the_one_that_kubectl_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert kubeconfig.find({"KUBECONFIG": f"{one}:{two}"}) == two
    one.touch()
    assert kubeconfig.find({"KUBECONFIG": f"{one}:{two}"}) == one
    monkeypatch.setenv("HOME", str(tmp_path))
    assert kubeconfig.find({"KUBECONFIG": ":"}) == tmp_path / ".kube" / "config"


def test_many_writers_lose_nothing(path: Path) -> None:
    given(path, THEIRS)
    program = (
        "import sys; from pathlib import Path; from mlstead.clients import kubeconfig\n"
        "for n in range(5):\n"
        "    name = f'{sys.argv[2]}-{n}'\n"
        "    access = kubeconfig.Access('https://x', 'a', 'b', 'c')\n"
        "    kubeconfig.merge(Path(sys.argv[1]), name, access, entry=name)\n"
    )
    command = [sys.executable, "-c", program, str(path)]
    writers = [subprocess.Popen([*command, f"w{n}"]) for n in range(3)]
    assert [it.wait(60) for it in writers] == [0, 0, 0]
    assert len(kubeconfig.contexts(path)) == 16


def test_kubectls_own_lock_is_waited_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given(path, THEIRS)
    lock = Path(f"{path}.lock")
    lock.touch()
    monkeypatch.setattr(kubeconfig, "PATIENCE", 0.2)
    with pytest.raises(UnavailableError, match="another program") as caught:
        merged(path)
    assert str(lock) in caught.value.hint
    assert path.read_text() == THEIRS
    monkeypatch.setattr(kubeconfig, "PATIENCE", 30.0)
    done = threading.Thread(target=merged, args=(path,))
    done.start()
    lock.unlink()
    done.join(30)
    assert kubeconfig.access(path, "lab") == OURS
    assert not lock.exists()


def test_a_lock_of_a_dead_process_holds_nobody(path: Path) -> None:
    given(path, THEIRS)
    handle = os.open(path.parent, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    os.close(handle)
    merged(path)
    assert kubeconfig.access(path, "lab") == OURS
