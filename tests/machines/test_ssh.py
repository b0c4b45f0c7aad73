"""Commands, locks and host keys against a real sshd on loopback (needs OpenSSH's server)."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.machines import sshd as server
from tests.machines.sshd import Sshd

from mlstead.clients import hostkeys
from mlstead.clients.ssh import Answer, Ssh, Target
from mlstead.errors import ConflictError, UnavailableError, UserError

MEBIBYTE = 1 << 20
HOLDER = """
import sys, time
from pathlib import Path
from mlstead.clients.ssh import Ssh, Target
ssh = Ssh(Path(sys.argv[1]))
held = ssh.hold(Target("head", "127.0.0.1", int(sys.argv[2]), "", sys.argv[3]), sys.argv[4])
print(held.confirmed().out.decode(), flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with server.serve(tmp_path_factory.mktemp("sshd") / "server") as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / 'a "ßite" 100%d \\ x'


@pytest.fixture
def ssh(folder: Path) -> Iterator[Ssh]:
    with Ssh(folder) as opened:
        yield opened


@pytest.fixture
def head(sshd: Sshd, folder: Path) -> Target:
    """A host whose key is trusted."""
    target = sshd.target()
    server.trust(folder, target, key=sshd.host_key())
    return target


def _wait(until: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


# ---- commands ------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 1, 127, 255])
def test_the_right_key_runs_commands_and_their_codes_come_back(
    ssh: Ssh, head: Target, code: int
) -> None:
    answer = ssh.run(head, f"cat; echo 'Connection refused' >&2; exit {code}", input=b"in")
    assert (answer.code, answer.out, answer.err) == (code, b"in", "Connection refused\n")


def test_a_command_ended_by_a_signal_has_a_code_over_128(ssh: Ssh, head: Target) -> None:
    assert ssh.run(head, "exec sh -c 'kill -9 $$'").code == 137


def test_big_input_and_output_pass_unchanged(ssh: Ssh, head: Target) -> None:
    content = os.urandom(MEBIBYTE) * 48
    assert ssh.run(head, "cat", input=content, timeout=200).out == content


def test_input_that_nobody_reads_does_not_stop_us(ssh: Ssh, head: Target) -> None:
    assert ssh.run(head, "exec true", input=b"x" * 8 * MEBIBYTE).code == 0


def test_a_connection_cut_on_the_way_is_not_an_answer(ssh: Ssh, head: Target) -> None:
    with pytest.raises(UnavailableError, match="was lost"):
        ssh.run(head, "kill -9 $PPID; sleep 60")
    assert ssh.run(head, "echo again").out == b"again\n"


def test_a_command_that_does_not_end_is_given_up_and_the_next_one_runs(
    ssh: Ssh, head: Target
) -> None:
    with pytest.raises(UnavailableError, match="no end of the command in 1 s"):
        ssh.run(head, "exec sleep 20", timeout=1)
    assert ssh.run(head, "echo again").out == b"again\n"


def test_fifty_hosts_are_reached_side_by_side(ssh: Ssh, sshd: Sshd, head: Target) -> None:
    calls = [(sshd.target(f"n{i}"), "cat", f"n{i}".encode()) for i in range(50)]
    calls[7] = (sshd.target("n7", port=server.free_port()), "cat", b"")
    found = ssh.run_all(calls, timeout=250)
    assert isinstance(found.pop(7), UnavailableError)
    wanted = [f"n{i}".encode() for i in range(50) if i != 7]
    assert [answer.out for answer in found if isinstance(answer, Answer)] == wanted


def test_commands_share_one_login_until_it_is_closed(sshd: Sshd, folder: Path) -> None:
    def logins() -> int:
        return (sshd.folder / "log").read_text().count("Accepted publickey")

    target = sshd.target()
    server.trust(folder, target, key=sshd.host_key())
    before = logins()
    with Ssh(folder) as ssh:
        for _ in range(3):
            assert ssh.run(target, "true").code == 0
        assert logins() == before + 1
    with Ssh(folder) as ssh:
        assert ssh.run(target, "true").code == 0
    assert logins() == before + 2


def test_scp_takes_the_same_options(ssh: Ssh, head: Target, tmp_path: Path) -> None:
    (tmp_path / "from").write_text("content")
    place = f"{head.address}:{tmp_path}/to"
    subprocess.run(["scp", "-q", *ssh.arguments(head), tmp_path / "from", place], check=True)
    assert (tmp_path / "to").read_text() == "content"


# ---- who is let in, and who is trusted -----------------------------------------------------


def test_a_wrong_key_is_told_with_the_user(ssh: Ssh, head: Target, tmp_path: Path) -> None:
    wrong = server.make_key(tmp_path / "wrong")
    target = Target("head", head.address, head.port, head.user, str(wrong))
    with pytest.raises(UserError, match=rf"head .*: {head.user}@127.0.0.1 may not .* {wrong}"):
        ssh.run(target, "true")


def test_the_path_of_a_key_may_hold_any_letter(ssh: Ssh, sshd: Sshd, head: Target) -> None:
    key = sshd.folder / 'my "key" 100%d'
    shutil.copy(sshd.key, key)
    assert ssh.run(sshd.target(key=str(key)), "true").code == 0


def test_a_host_key_that_is_not_known_is_refused(ssh: Ssh, sshd: Sshd) -> None:
    with pytest.raises(UserError, match="host key is not known yet"):
        ssh.run(sshd.target(), "true")


def test_a_changed_host_key_is_refused_until_it_is_replaced(
    ssh: Ssh, sshd: Sshd, folder: Path, tmp_path: Path
) -> None:
    target, now = sshd.target(), sshd.host_key()
    before = server.public(server.make_key(tmp_path / "before"))
    server.trust(folder, target, key=before)
    with pytest.raises(UserError, match=r"CHANGED.*attack") as caught:
        ssh.run(target, "true")
    assert now.fingerprint in str(caught.value) and before.fingerprint in str(caught.value)
    with pytest.raises(ConflictError):
        hostkeys.trust(folder, target, [now])
    hostkeys.trust(folder, target, [now], replace=True)
    assert ssh.run(target, "true").code == 0


def test_a_scanned_key_is_the_one_that_ssh_takes(ssh: Ssh, sshd: Sshd, folder: Path) -> None:
    target = sshd.target()
    keys = hostkeys.scan([target])["head"]
    assert keys == (sshd.host_key(),)
    assert hostkeys.match(keys, sshd.host_key().fingerprint) == sshd.host_key()
    hostkeys.trust(folder, target, keys)
    assert hostkeys.known(folder, target) == keys
    assert ssh.run(target, "true").code == 0
    hostkeys.forget(folder, target)
    assert hostkeys.known(folder, target) == ()


def test_aliases_and_jump_hosts_of_the_user_lead_there(
    ssh: Ssh, sshd: Sshd, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "jump_known").write_text(f"bastion {_text(sshd)}\n")
    (tmp_path / "config").write_text(
        f"Host bastion node\n  HostName 127.0.0.1\n  Port {sshd.port}\n  IdentityFile {sshd.key}\n"
        f"Host bastion\n  HostKeyAlias bastion\n  UserKnownHostsFile {tmp_path}/jump_known\n"
        "Host node\n  ProxyJump bastion\n"
    )
    programs = tmp_path / "bin"
    programs.mkdir()
    real = shutil.which("ssh")
    (programs / "ssh").write_text(f'#!/bin/sh\nexec {real} -F {tmp_path}/config "$@"\n')
    (programs / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    node = Target("node", "node")
    with pytest.raises(UserError, match="not known yet"):
        ssh.run(node, "true")
    keys = hostkeys.scan([node])["node"]
    assert keys == (sshd.host_key(),)
    hostkeys.trust(folder, node, keys)
    assert ssh.run(node, "echo there").out == b"there\n"


def _text(sshd: Sshd) -> str:
    key = sshd.host_key()
    return f"{key.kind} {key.key_base64}"


# ---- hosts that do not answer --------------------------------------------------------------


def test_a_port_that_nobody_listens_on_is_told(ssh: Ssh, sshd: Sshd) -> None:
    port = server.free_port()
    target = sshd.target(port=port)
    with pytest.raises(UnavailableError, match=f"does not answer on port {port}: .*refused"):
        ssh.run(target, "true")
    found = hostkeys.scan([target], timeout=1)["head"]
    assert isinstance(found, UnavailableError)
    assert "refused" in str(found)


@pytest.mark.parametrize("accepts", [True, False])
def test_a_host_that_takes_connections_and_says_nothing_is_given_up(
    ssh: Ssh, sshd: Sshd, accepts: bool
) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        port = silent.getsockname()[1]
        if not accepts:  # the queue of the kernel is full, further ones get no answer at all
            full = [socket.socket() for _ in range(4)]
            for one in full:
                one.setblocking(False)
                one.connect_ex(("127.0.0.1", port))
        with pytest.raises(UnavailableError, match=f"does not answer on port {port}"):
            ssh.run(sshd.target(port=port), "true", timeout=120)  # ConnectTimeout is 10
        if not accepts:
            for one in full:
                one.close()


# ---- locks ---------------------------------------------------------------------------------


def _lock(file: Path) -> str:
    return f"flock -n '{file}' -c 'echo held; exec cat'"


def _is_free(ssh: Ssh, head: Target, file: Path) -> bool:
    with ssh.hold(head, _lock(file)) as tried:
        answer = tried.confirmed()
        assert answer.code in (0, 1)
        return answer.out == b"held"


def test_a_lock_is_held_until_it_is_closed(ssh: Ssh, head: Target, tmp_path: Path) -> None:
    file = tmp_path / "lock"
    with ssh.hold(head, _lock(file)) as held:
        assert held.confirmed().out == b"held"
        assert not _is_free(ssh, head, file)
        assert held.alive()
    _wait(lambda: _is_free(ssh, head, file))


def test_a_holder_that_is_killed_gives_up_its_lock(
    ssh: Ssh, sshd: Sshd, head: Target, folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "lock"
    argv = [sys.executable, "-c", HOLDER, str(folder), str(head.port), head.key, _lock(file)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert not _is_free(ssh, head, file)
        holder.send_signal(signal.SIGKILL)
    _wait(lambda: _is_free(ssh, head, file))


def test_a_lock_whose_connection_is_cut_is_seen_to_be_lost(
    ssh: Ssh, head: Target, tmp_path: Path
) -> None:
    command = f"echo $PPID > '{tmp_path}/session'; {_lock(tmp_path / 'lock')}"
    with ssh.hold(head, command) as held:
        assert held.confirmed().out == b"held"
        os.kill(int((tmp_path / "session").read_text()), signal.SIGKILL)
        _wait(lambda: not held.alive())
    _wait(lambda: _is_free(ssh, head, tmp_path / "lock"))
