"""Host keys: asked for, looked up in both known_hosts, written, replaced, forgotten."""

from __future__ import annotations

import stat
import subprocess
import threading
from pathlib import Path

import pytest
from tests.unit.clients.openssh import OpenSsh, make_key

from mlstead.clients import hostkeys
from mlstead.clients.hostkeys import HostKey
from mlstead.clients.ssh import Target
from mlstead.errors import ConflictError, UnavailableError, UserError

HEAD = Target("head", "10.0.0.5")
OLD, NEW = HostKey(*make_key("old")), HostKey(*make_key("new"))
RSA = HostKey(*make_key("rsa", "ssh-rsa"))


@pytest.fixture(autouse=True)
def openssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OpenSsh:
    return OpenSsh.install(tmp_path / "bin", monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "site"


def _line(name: str, key: HostKey) -> str:
    return f"{name} {key.kind} {key.key_base64}"


def _known(folder: Path, target: Target = HEAD, *own: Path) -> set[HostKey]:
    return set(hostkeys.known(folder, target, own=own))


def test_a_fingerprint_is_the_one_that_ssh_shows(tmp_path: Path) -> None:
    given = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")]
    subprocess.run(given, check=True)
    kind, text, _ = (tmp_path / "key.pub").read_text().split(" ", 2)
    shown = subprocess.check_output(["ssh-keygen", "-lf", str(tmp_path / "key.pub")], text=True)
    assert HostKey(kind, text).fingerprint == shown.split()[1]


@pytest.mark.parametrize(
    ("kind", "text"), [("ssh-rsa", OLD.key_base64), ("ssh-ed25519", "no key"), ("a b\n", "AAAA")]
)
def test_what_is_no_key_is_refused(kind: str, text: str) -> None:
    with pytest.raises(UserError, match="is no host key"):
        HostKey(kind, text)


def test_a_key_is_matched_by_fingerprint_or_text() -> None:
    assert hostkeys.match([RSA, NEW], NEW.fingerprint) == NEW
    assert hostkeys.match([RSA, NEW], f"{RSA.kind} {RSA.key_base64} admin@head") == RSA
    assert hostkeys.match([RSA, NEW], OLD.fingerprint) is None
    assert hostkeys.match([RSA, NEW], "") is None


# ---- asked for -----------------------------------------------------------------------------


def test_hosts_are_asked_side_by_side_and_failures_stay_in_place(openssh: OpenSsh) -> None:
    other = Target("other", "10.0.0.6", port=2222)
    openssh.answer("10.0.0.5", keys=[_line("", NEW).strip(), _line("", RSA).strip()])
    log = "ssh: connect to host 10.0.0.6 port 2222: Connection refused\n"
    openssh.answer("10.0.0.6", log=log, code=255)
    found = hostkeys.scan([HEAD, other])
    assert found["head"] == (NEW, RSA)
    assert isinstance(found["other"], UnavailableError)
    assert "does not answer on port 2222: Connection refused" in str(found["other"])
    assert hostkeys.scan([]) == {}


def test_a_host_that_keyscan_does_not_reach_is_asked_by_ssh(openssh: OpenSsh) -> None:
    denied = "root@10.0.0.5: Permission denied (publickey).\n"
    openssh.answer("10.0.0.5", log=denied, code=255, line=_line("10.0.0.5", NEW))
    assert hostkeys.scan([HEAD]) == {"head": (NEW,)}


def test_an_alias_of_the_users_configuration_leads_to_its_host(openssh: OpenSsh) -> None:
    openssh.answer("head", config={"hostname": "10.0.0.5", "port": "2222"})
    openssh.answer("10.0.0.5", keys=[_line("", NEW).strip()])
    assert hostkeys.scan([Target("head", "head")]) == {"head": (NEW,)}


def test_a_host_behind_another_is_asked_by_ssh_alone(openssh: OpenSsh) -> None:
    answer = {"config": {"proxyjump": "bastion"}, "keys": [_line("", OLD).strip()]}
    openssh.answer("10.0.0.5", **answer, code=255, line=_line("10.0.0.5", NEW))
    assert hostkeys.scan([HEAD]) == {"head": (NEW,)}


# ---- written and looked up -----------------------------------------------------------------


def test_a_trusted_key_is_known(folder: Path) -> None:
    assert _known(folder) == set()
    hostkeys.trust(folder, HEAD, [NEW, RSA])
    hostkeys.trust(folder, HEAD, [NEW])
    file = folder / "known_hosts"
    assert file.read_text() == f"{_line('10.0.0.5', NEW)}\n{_line('10.0.0.5', RSA)}\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert _known(folder) == {NEW, RSA}
    assert _known(folder, Target("x", "10.0.0.6")) == set()


def test_another_port_is_another_host(folder: Path) -> None:
    other = Target("head", "10.0.0.5", port=2222)
    hostkeys.trust(folder, HEAD, [OLD])
    hostkeys.trust(folder, other, [NEW])
    assert _line("[10.0.0.5]:2222", NEW) in (folder / "known_hosts").read_text()
    assert (_known(folder), _known(folder, other)) == ({OLD}, {NEW})


def test_a_host_is_filed_under_the_name_that_ssh_looks_for(openssh: OpenSsh, folder: Path) -> None:
    openssh.answer("head", config={"hostname": "10.0.0.5", "port": "2222"})
    openssh.answer("next", config={"hostname": "10.0.0.6", "hostkeyalias": "Next"})
    hostkeys.trust(folder, Target("head", "head"), [NEW])
    hostkeys.trust(folder, Target("next", "next", port=2222), [OLD])
    lines = [_line("[10.0.0.5]:2222", NEW), _line("next", OLD)]
    assert (folder / "known_hosts").read_text().splitlines() == lines


def test_another_key_of_the_same_kind_is_a_conflict(folder: Path) -> None:
    hostkeys.trust(folder, HEAD, [OLD, RSA])
    before = (folder / "known_hosts").read_bytes()
    with pytest.raises(ConflictError, match="may be an attack") as caught:
        hostkeys.trust(folder, HEAD, [NEW])
    assert NEW.fingerprint in str(caught.value) and OLD.fingerprint in str(caught.value)
    assert "mlstead site trust --replace" in caught.value.hint
    assert (folder / "known_hosts").read_bytes() == before


def test_replacing_takes_away_all_old_keys_of_the_host(folder: Path) -> None:
    hostkeys.trust(folder, Target("x", "10.0.0.6"), [RSA])
    hostkeys.trust(folder, HEAD, [OLD, RSA])
    hostkeys.trust(folder, HEAD, [NEW], replace=True)
    lines = [_line("10.0.0.6", RSA), _line("10.0.0.5", NEW)]
    assert (folder / "known_hosts").read_text().splitlines() == lines


def test_the_users_own_file_counts_hashed_names_included(folder: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text(f"# mine\n{_line('10.0.0.5,head', OLD)} me@x\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(own)], check=True, capture_output=True)
    assert "10.0.0.5" not in own.read_text()
    assert _known(folder, HEAD, own, tmp_path / "none") == {OLD}
    with pytest.raises(ConflictError):
        hostkeys.trust(folder, HEAD, [NEW], own=[own])
    before = own.read_bytes()
    hostkeys.trust(folder, HEAD, [NEW], replace=True, own=[own])
    assert own.read_bytes() == before


def test_marked_lines_are_no_keys_of_a_host(folder: Path) -> None:
    folder.mkdir()
    text = f"@revoked {_line('10.0.0.5', OLD)}\n@cert-authority {_line('10.0.0.*', RSA)}\n"
    (folder / "known_hosts").write_text(text)
    assert _known(folder) == set()
    hostkeys.trust(folder, HEAD, [NEW], replace=True)
    assert (folder / "known_hosts").read_text() == text + _line("10.0.0.5", NEW) + "\n"


def test_a_forgotten_host_is_not_known_and_its_neighbours_stay(folder: Path) -> None:
    hostkeys.forget(folder, HEAD)
    folder.mkdir(exist_ok=True)
    text = f"# by hand\n{_line('10.0.0.5,head', OLD)}\n{_line('10.0.0.5', NEW)}\nother line\n"
    (folder / "known_hosts").write_text(text)
    hostkeys.forget(folder, HEAD)
    assert (folder / "known_hosts").read_text() == f"# by hand\n{_line('head', OLD)}\nother line\n"
    assert _known(folder) == set()


def test_many_who_trust_at_once_lose_nothing(folder: Path) -> None:
    targets = [Target(f"n{i}", f"10.0.1.{i}") for i in range(8)]
    threads = [
        threading.Thread(target=hostkeys.trust, args=(folder, target, [NEW])) for target in targets
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(_known(folder, target) == {NEW} for target in targets)
    assert {path.name for path in folder.iterdir()} == {"known_hosts", "known_hosts.lock"}
