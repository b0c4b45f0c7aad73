"""Commands on hosts: what ssh is asked, and its words turned into errors of ours."""

from __future__ import annotations

import itertools
import json
import os
import shlex
import signal
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.clients.openssh import OpenSsh, make_key

from mlstead.clients.ssh import Answer, Held, Ssh, Target
from mlstead.clients.ssh_said import fingerprint
from mlstead.errors import PlatformError, UnavailableError, UserError

HEAD = Target("head", "10.0.0.5")
BANG = "@" * 59


@pytest.fixture
def openssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OpenSsh:
    return OpenSsh.install(tmp_path / "bin", monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "site"


def _options(argv: list[str]) -> dict[str, str]:
    said: dict[str, str] = {}
    for flag, word in itertools.pairwise(argv):
        if flag == "-o":
            said.setdefault(*word.split("=", 1))
    return said


def _wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not until():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


# ---- commands ------------------------------------------------------------------------------


def test_a_command_gives_code_output_and_words(openssh: OpenSsh, folder: Path) -> None:
    with Ssh(folder) as ssh:
        answer = ssh.run(HEAD, "cat; echo no >&2; exit 7", input=b"in\0put")
    assert (answer.code, answer.out, answer.err) == (7, b"in\0put", "no\n")


@pytest.mark.parametrize(
    ("command", "out"),
    [
        ("echo \"it's\" '$HOME' # a remark", b"it's $HOME\n"),
        ("cat <<END\n$((1 + 1))\nEND", b"2\n"),
        ("set -e; false; echo unseen", b""),
    ],
)
def test_a_command_means_there_what_it_means_to_sh(
    openssh: OpenSsh, folder: Path, command: str, out: bytes
) -> None:
    with Ssh(folder) as ssh:
        assert ssh.run(HEAD, command).out == out


@pytest.mark.parametrize("code", [0, 1, 127, 255])
def test_every_exit_code_of_a_command_comes_back(openssh: OpenSsh, folder: Path, code: int) -> None:
    with Ssh(folder) as ssh:
        answer = ssh.run(HEAD, f"printf 'Permission denied' >&2; exit {code}")
    assert (answer.code, answer.err) == (code, "Permission denied")


def test_a_command_ended_by_a_signal_has_a_code_over_128(openssh: OpenSsh, folder: Path) -> None:
    with Ssh(folder) as ssh:
        assert ssh.run(HEAD, "exec sh -c 'kill -9 $$'").code == 137


def test_banners_and_login_scripts_are_not_the_words_of_a_command(
    openssh: OpenSsh, folder: Path
) -> None:
    openssh.answer(HEAD.address, before="=== Permission denied to strangers ===\nbashrc: oops\n")
    with Ssh(folder) as ssh:
        assert ssh.run(HEAD, "echo word >&2").err == "word\n"


def test_a_connection_that_ends_with_the_command_is_told_from_code_255(
    openssh: OpenSsh, folder: Path
) -> None:
    with Ssh(folder) as ssh, pytest.raises(UnavailableError, match=r"head \(10.0.0.5\): .* lost"):
        ssh.run(HEAD, "kill -9 $$")  # the shell that would have told the code


def test_a_command_that_does_not_end_is_ended(openssh: OpenSsh, folder: Path) -> None:
    with Ssh(folder) as ssh, pytest.raises(UnavailableError, match=r"head .* in 0\.5 s"):
        ssh.run(HEAD, "exec sleep 300", timeout=0.5)


def test_input_is_on_no_command_line_and_output_not_shown(openssh: OpenSsh, folder: Path) -> None:
    with Ssh(folder) as ssh:
        answer = ssh.run(HEAD, "cat", input=b"hidden-value")
    assert answer.out == b"hidden-value"
    assert "hidden-value" not in repr(answer)
    assert "hidden-value" not in json.dumps(openssh.calls())


def test_big_input_and_output_pass(openssh: OpenSsh, folder: Path) -> None:
    content = os.urandom(4 << 20)
    with Ssh(folder) as ssh:
        assert ssh.run(HEAD, "cat", input=content).out == content


# ---- what ssh is asked ---------------------------------------------------------------------


def test_ssh_is_told_who_to_trust_and_never_to_ask(openssh: OpenSsh, folder: Path) -> None:
    target = Target("head", "10.0.0.5", port=2222, user="admin")
    with Ssh(folder) as ssh:
        ssh.run(target, "true")
    (call,) = openssh.calls()
    argv, options = call["argv"], _options(call["argv"])
    assert argv[-3:-1] == ["--", "10.0.0.5"]
    assert (options["Port"], options["User"]) == ("2222", '"admin"')
    wanted = {
        "BatchMode": "yes", "StrictHostKeyChecking": "yes", "ConnectTimeout": "10",
        "ServerAliveInterval": "10", "ServerAliveCountMax": "3", "ControlMaster": "auto",
        "ControlPersist": "60s", "UserKnownHostsFile": f'"{folder}/known_hosts" ~/.ssh/known_hosts',
    }  # fmt: skip
    assert {name: options[name] for name in wanted} == wanted
    assert "IdentitiesOnly" not in options


def test_ssh_speaks_english_and_sees_nothing_of_ours(
    openssh: OpenSsh, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLSTEAD_PASSPHRASE", "hidden-value")
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/agent")
    with Ssh(folder) as ssh:
        ssh.run(HEAD, "true")
    (call,) = openssh.calls()
    assert call["env"]["LC_ALL"] == "C"
    assert call["env"]["SSH_AUTH_SOCK"] == "/run/agent"
    assert "hidden-value" not in json.dumps(call)


def test_a_key_that_is_named_is_the_only_one_tried(
    openssh: OpenSsh, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "my 100% key").touch(0o600)
    with Ssh(folder) as ssh:
        ssh.run(Target("head", "10.0.0.5", key="~/my 100% key"), "true")
    options = _options(openssh.calls()[0]["argv"])
    assert options["IdentityFile"] == f'"{tmp_path}/my 100%% key"'
    assert options["IdentitiesOnly"] == "yes"


def test_the_options_fit_scp_and_one_line_for_ansible(openssh: OpenSsh, folder: Path) -> None:
    with Ssh(folder) as ssh:
        given = ssh.arguments(Target("head", "h", port=22, user="CORP\\admin"))
    assert set(given[::2]) == {"-o"}
    assert shlex.split(shlex.join(given)) == given


@pytest.mark.parametrize(
    "address", ["-oProxyCommand=x", "--", "", "a b", "a\nb", "u@h", "ssh://h", "$(x)", "h;x", "ä"]
)
def test_an_address_that_ssh_could_take_for_something_else_is_refused(address: str) -> None:
    with pytest.raises(UserError, match=r"head: .* address"):
        Target("head", address)


@pytest.mark.parametrize("user", ["-x", "a b", 'a"b', "a;b", "$x", "a\\"])
def test_a_user_that_ssh_could_take_for_something_else_is_refused(user: str) -> None:
    with pytest.raises(UserError, match=r"head: .* user"):
        Target("head", "10.0.0.5", user=user)


@pytest.mark.parametrize("address", ["10.0.0.5", "fd00::1", "::1", "fe80::1%eth0", "n-1.site.x"])
def test_addresses_and_names_are_taken(address: str) -> None:
    assert Target("head", address).address == address


def test_ssh_that_is_missing_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with Ssh(folder) as ssh, pytest.raises(UserError, match="ssh is not installed"):
        ssh.run(HEAD, "true")


# ---- folders -------------------------------------------------------------------------------


def test_both_folders_are_the_owners_alone_and_the_sockets_go(
    openssh: OpenSsh, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = Path(os.environ["XDG_RUNTIME_DIR"])
    with Ssh(folder) as ssh:
        assert not list(runtime.iterdir())  # nothing before it is needed
        ssh.arguments(HEAD)
        (made,) = runtime.iterdir()
        assert stat.S_IMODE(made.stat().st_mode) == 0o700
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert not made.exists()


@pytest.mark.parametrize("runtime", ["", "/nonexistent", "long"])
def test_the_path_of_a_socket_stays_short(
    openssh: OpenSsh, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: str
) -> None:
    if runtime == "long":
        runtime = str(tmp_path / ("x" * 80))
        Path(runtime).mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
    with Ssh(folder) as ssh:
        path = _options(ssh.arguments(HEAD))["ControlPath"].strip('"')
        assert len(path) + 17 < 108
        assert Path(path).parent.is_dir()


def test_hosts_and_keys_have_connections_of_their_own(openssh: OpenSsh, folder: Path) -> None:
    targets = [HEAD, Target("head", "10.0.0.5", key="a"), Target("head", "10.0.0.5", user="x")]
    with Ssh(folder) as ssh:
        assert len({_options(ssh.arguments(target))["ControlPath"] for target in targets}) == 3


# ---- failures ------------------------------------------------------------------------------

LOGS = [
    (
        "ssh: connect to host 10.0.0.5 port 22: Connection refused\n",
        UnavailableError, "does not answer on port 22: Connection refused",
    ),
    (
        "ssh: connect to host 10.0.0.5 port 2222: Connection timed out\n",
        UnavailableError, "does not answer on port 2222: Connection timed out",
    ),
    (
        "ssh: connect to host 10.0.0.5 port 22: No route to host\n",
        UnavailableError, "does not answer on port 22: No route to host",
    ),
    (
        "ssh: Could not resolve hostname 10.0.0.5: Temporary failure in name resolution\n",
        UnavailableError, "name 10.0.0.5 is not found: Temporary failure",
    ),
    (
        "Connection timed out during banner exchange\n",
        UnavailableError, "port 22: it takes connections but says nothing",
    ),
    (
        "kex_exchange_identification: Connection closed by remote host\n"
        "Connection closed by UNKNOWN port 65535\n",
        UnavailableError, "closed the connection before login",
    ),
    (
        "kex_exchange_identification: read: Connection reset by peer\n",
        UnavailableError, "before login: .*reset by peer",
    ),
    ("", UnavailableError, "ssh failed: it gave no reason"),
    ("something new\n", UnavailableError, "ssh failed: something new"),
    (
        "No ED25519 host key is known for 10.0.0.5 and you have requested strict checking.\n"
        "Host key verification failed.\n",
        UserError, "host key is not known yet",
    ),
    ("Host key verification failed.\n", UserError, "a host key on the way"),
    (
        f"{BANG}\n@       WARNING: REVOKED HOST KEY DETECTED!               @\n{BANG}\n"
        "The ED25519 host key for 10.0.0.5 is marked as revoked.\nHost key verification failed.\n",
        UserError, "revoked",
    ),
    (
        "root@10.0.0.5: Permission denied (publickey).\n",
        UserError, "root@10.0.0.5 may not log in with any key",
    ),
    (
        'Load key "/k": error in libcrypto\nroot@10.0.0.5: Permission denied (publickey).\n',
        UserError, "key /k cannot be used: error in libcrypto",
    ),
    (
        "Received disconnect from 10.0.0.5 port 22:2: Too many authentication failures\n"
        "Disconnected from 10.0.0.5 port 22\n",
        UserError, "too many keys",
    ),
    (
        "Unable to negotiate with 10.0.0.5 port 22: no matching cipher found. "
        "Their offer: 3des-cbc\n",
        UserError, "nothing in common: no matching cipher found",
    ),
    (
        '/root/.ssh/config line 1: no argument after keyword "*.x"\n'
        "/root/.ssh/config: terminating, 1 bad configuration options\n",
        UserError, "cannot read its configuration: /root/.ssh/config line 1",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("log", "kind", "said"), LOGS)
def test_failures_of_ssh_are_one_line_and_a_hint(
    openssh: OpenSsh, folder: Path, log: str, kind: type[PlatformError], said: str
) -> None:
    openssh.answer(HEAD.address, log=log, code=255)
    with Ssh(folder) as ssh, pytest.raises(kind, match=rf"head \(10.0.0.5\): .*{said}") as caught:
        ssh.run(HEAD, "true")
    assert "\n" not in str(caught.value) + caught.value.hint
    assert caught.value.hint


def test_the_words_of_a_jump_host_are_told(openssh: OpenSsh, folder: Path) -> None:
    before = "ssh: Could not resolve hostname jump.x: Name or service not known\n"
    log = "kex_exchange_identification: Connection closed by remote host\n"
    openssh.answer(HEAD.address, log=log, before=before, code=255)
    with Ssh(folder) as ssh, pytest.raises(UnavailableError, match=r"name jump\.x is not found"):
        ssh.run(HEAD, "true")


def test_a_changed_host_key_is_told_with_both_fingerprints(openssh: OpenSsh, folder: Path) -> None:
    kind, key = make_key("old")
    folder.mkdir()
    (folder / "known_hosts").write_text(f"other {kind} {make_key('x')[1]}\n10.0.0.5 {kind} {key}\n")
    log = (
        f"{BANG}\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\n{BANG}\n"
        "IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!\n"
        "The fingerprint for the ED25519 key sent by the remote host is\n"
        "SHA256:V0womR0Jt/U1bfcJJY0TovRfe/4ZKAYN1t26iRd0EgA.\n"
        f"Add correct host key in {folder}/known_hosts to get rid of this message.\n"
        f"Offending ED25519 key in {folder}/known_hosts:2\n"
        "Host key for 10.0.0.5 has changed and you have requested strict checking.\n"
        "Host key verification failed.\n"
    )
    openssh.answer(HEAD.address, log=log, code=255)
    with Ssh(folder) as ssh, pytest.raises(UserError, match=r"CHANGED.*attack") as caught:
        ssh.run(HEAD, "true")
    assert "now SHA256:V0womR0Jt/U1bfcJJY0TovRfe/4ZKAYN1t26iRd0EgA," in str(caught.value)
    assert f"{fingerprint(key)} in {folder}/known_hosts:2" in str(caught.value)
    assert "mlstead site trust --replace" in caught.value.hint


def test_a_login_that_runs_no_commands_is_told(openssh: OpenSsh, folder: Path) -> None:
    openssh.answer(HEAD.address, out="This account is currently not available.\n", code=1)
    with Ssh(folder) as ssh, pytest.raises(UserError, match="runs no command: This account"):
        ssh.run(HEAD, "true")


def test_a_key_that_is_missing_or_open_to_others_is_told_before_ssh_starts(
    openssh: OpenSsh, folder: Path, tmp_path: Path
) -> None:
    with Ssh(folder) as ssh:
        with pytest.raises(UserError, match="no-key: No such file"):
            ssh.run(Target("head", "10.0.0.5", key=str(tmp_path / "no-key")), "true")
        shared = tmp_path / "shared"
        shared.touch()
        shared.chmod(0o640)
        with pytest.raises(UserError, match="shared can be read by others") as caught:
            ssh.run(Target("head", "10.0.0.5", key=str(shared)), "true")
    assert "chmod 600" in caught.value.hint
    assert not openssh.calls()


# ---- side by side --------------------------------------------------------------------------


def test_answers_come_in_order_and_a_failure_stops_no_other(openssh: OpenSsh, folder: Path) -> None:
    openssh.answer("10.0.0.2", log="ssh: connect to host 10.0.0.2 port 22: refused\n", code=255)
    targets = [Target(f"n{i}", f"10.0.0.{i}") for i in range(1, 5)]
    with Ssh(folder) as ssh:
        found = ssh.run_all([(target, "cat", target.name.encode()) for target in targets])
    assert isinstance(found.pop(1), UnavailableError)
    assert [answer.out for answer in found if isinstance(answer, Answer)] == [b"n1", b"n3", b"n4"]


def test_no_host_is_no_answer(openssh: OpenSsh, folder: Path) -> None:
    with Ssh(folder) as ssh:
        assert ssh.run_all([]) == []


@pytest.mark.timeout(120)
def test_an_interrupt_ends_every_session_at_once(openssh: OpenSsh, folder: Path) -> None:
    targets = [Target(f"n{i}", f"10.0.0.{i}") for i in range(1, 5)]

    def interrupt() -> None:
        _wait(lambda: len(openssh.calls()) == 2)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with Ssh(folder) as ssh, pytest.raises(KeyboardInterrupt):
        ssh.run_all([(target, "sleep 900", b"") for target in targets], timeout=900, at_once=2)
    thread.join()
    assert len(openssh.calls()) == 2


# ---- held ----------------------------------------------------------------------------------


def _lock(ssh: Ssh, file: Path) -> Held:
    return ssh.hold(HEAD, f"flock -n {file} -c 'echo held; exec cat'")


def test_a_lock_is_held_until_it_is_closed(openssh: OpenSsh, folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "lock"
    with Ssh(folder) as ssh:
        first = _lock(ssh, file)
        answer = first.confirmed()
        assert (answer.code, answer.out, first.alive()) == (0, b"held", True)
        with _lock(ssh, file) as second:
            assert second.confirmed().code == 1
        first.close()
        first.close()
        assert not first.alive()
        with _lock(ssh, file) as third:
            assert third.confirmed().out == b"held"


def test_a_held_session_shares_no_connection(openssh: OpenSsh, folder: Path) -> None:
    with Ssh(folder) as ssh, ssh.hold(HEAD, "echo held; exec cat") as held:
        held.confirmed()
    options = _options(openssh.calls()[0]["argv"])
    assert (options["ControlMaster"], options["ControlPath"]) == ("no", "none")


def test_a_host_that_cannot_be_reached_holds_nothing(openssh: OpenSsh, folder: Path) -> None:
    openssh.answer(HEAD.address, log="Connection timed out during banner exchange\n", code=255)
    with (
        Ssh(folder) as ssh,
        ssh.hold(HEAD, "echo held; exec cat") as held,
        pytest.raises(UnavailableError, match="says nothing"),
    ):
        held.confirmed()


def test_a_session_that_says_nothing_is_not_waited_for_forever(
    openssh: OpenSsh, folder: Path
) -> None:
    with (
        Ssh(folder) as ssh,
        ssh.hold(HEAD, "exec cat") as held,
        pytest.raises(UnavailableError, match=r"no answer in 0\.2 s"),
    ):
        held.confirmed(0.2)
