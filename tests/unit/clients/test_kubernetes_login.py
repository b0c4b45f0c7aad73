"""A kubeconfig's ways to log in work as kubectl's do, and no error says a secret."""

from __future__ import annotations

import base64
import datetime
import json
import stat
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from tests.unit.clients.api_server import ApiServer, api_server, kubeconfig

from mlstead.clients import kubernetes_login
from mlstead.clients.authority import Pair, issue
from mlstead.clients.kubernetes import Cluster
from mlstead.clients.kubernetes_login import Credentials, read
from mlstead.errors import NotFoundError, PlatformError, SpecError, UserError

SECRET = "very-s3cret"


@pytest.fixture(scope="module")
def shared() -> Iterator[ApiServer]:
    with api_server() as state:
        yield state


@pytest.fixture
def server(shared: ApiServer) -> ApiServer:
    shared.answers((200, {}))
    shared.asked.clear()
    return shared


@pytest.fixture(scope="module")
def ann(shared: ApiServer) -> Pair:
    return issue(shared.authority, name="ann", names=[], client=True)


def login(server: ApiServer, folder: Path, user: dict[str, Any], **cluster: Any) -> Credentials:
    return Credentials(read(kubeconfig(folder, server, user, **cluster)))


def ask(server: ApiServer, folder: Path, user: dict[str, Any], **cluster: Any) -> tuple[str, str]:
    """Ask the server something; give the header and the name by which it knew us."""
    one = Cluster(read(kubeconfig(folder, server, user, **cluster)))
    try:
        one.get("/version")
    finally:
        one.close()
    asked = server.asked[-1]
    return asked.headers.get("authorization", ""), asked.user


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


# ---- what is read


def test_the_current_context_is_read(server: ApiServer, tmp_path: Path) -> None:
    found = read(kubeconfig(tmp_path, server))
    assert (found.server, found.name, found.namespace) == (server.address, "test", "")
    assert found.folder == tmp_path
    assert "s3cret" not in repr(found)


def test_the_user_s_own_file_is_read(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path, server)))
    assert read().server == server.address


def changed(path: Path, **fields: Any) -> Path:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    return path


def test_a_context_is_chosen_by_name(server: ApiServer, tmp_path: Path) -> None:
    path = kubeconfig(tmp_path, server)
    other = {"name": "o", "context": {"cluster": "c", "namespace": "team"}}
    content = json.loads(path.read_text())
    changed(path, contexts=[*content["contexts"], other])
    found = read(path, "o")
    assert (found.namespace, dict(found.user)) == ("team", {})
    with pytest.raises(NotFoundError, match="no context x") as error:
        read(path, "x")
    assert error.value.hint == "known: test, o"


@pytest.mark.parametrize(
    ("fields", "kind", "said"),
    [
        ({"current-context": ""}, NotFoundError, "no current context"),
        ({"contexts": []}, NotFoundError, "no contexts"),
        ({"clusters": []}, UserError, "leads to no cluster"),
        ({"clusters": [{"name": "c", "cluster": {}}]}, UserError, "leads to no cluster"),
        ({"clusters": [{"name": "c"}]}, SpecError, "cluster"),
        ({"contexts": "x"}, SpecError, "contexts"),
        ({"users": [{"user": {"token": SECRET}}]}, SpecError, "name"),
    ],
)
def test_a_kubeconfig_that_leads_nowhere_is_told(
    server: ApiServer, tmp_path: Path, fields: Any, kind: type[PlatformError], said: str
) -> None:
    path = changed(kubeconfig(tmp_path, server), **fields)
    with pytest.raises(kind, match=said) as error:
        read(path)
    assert SECRET not in str(error.value)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no contexts"):
        read(tmp_path / "none")


# ---- whom we trust


def test_an_authority_may_be_written_down_or_in_a_file(server: ApiServer, tmp_path: Path) -> None:
    pem = server.authority.certificate_pem
    wrapped = base64.encodebytes(pem.encode()).decode()  # with line ends, as a block of YAML has
    for data in (encoded(pem), wrapped):
        more = {"certificate-authority": None, "certificate-authority-data": data}
        assert ask(server, tmp_path, {}, **more) == ("", "")
    assert ask(server, tmp_path, {}, **{"certificate-authority": str(tmp_path / "ca.pem")})


@pytest.mark.parametrize("data", ["§", "YQ", encoded("no pem"), encoded("é"), "//79"])
def test_a_damaged_authority_is_told(server: ApiServer, tmp_path: Path, data: str) -> None:
    one = login(server, tmp_path, {}, **{"certificate-authority-data": data})
    with pytest.raises(UserError, match="is damaged"):
        one.context()


def test_an_authority_s_file_that_is_not_there_is_told(server: ApiServer, tmp_path: Path) -> None:
    one = login(server, tmp_path, {}, **{"certificate-authority": "none.pem"})
    with pytest.raises(UserError, match=rf"cannot read {tmp_path}/none\.pem"):
        one.context()


def test_a_server_that_nobody_vouches_for_is_refused(server: ApiServer, tmp_path: Path) -> None:
    one = login(server, tmp_path, {}, **{"insecure-skip-tls-verify": True})
    with pytest.raises(UserError, match="insecure-skip-tls-verify is not supported"):
        one.context()


# ---- as whom


def test_a_token_is_sent(server: ApiServer, tmp_path: Path) -> None:
    assert ask(server, tmp_path, {"token": SECRET}) == (f"Bearer {SECRET}", "")


def test_a_token_s_file_is_read_each_time_and_comes_first(
    server: ApiServer, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("one\n")
    one = login(server, tmp_path, {"token": "old", "tokenFile": "token"})
    assert one.headers() == {"Authorization": "Bearer one"}
    (tmp_path / "token").write_text("two")
    assert one.headers() == {"Authorization": "Bearer two"}
    (tmp_path / "token").unlink()
    with pytest.raises(UserError, match=rf"cannot read {tmp_path}/token"):
        one.headers()


def test_a_certificate_is_shown(server: ApiServer, tmp_path: Path, ann: Pair) -> None:
    data = {
        "client-certificate-data": encoded(ann.certificate_pem),
        "client-key-data": encoded(ann.key_pem),
    }
    assert ask(server, tmp_path, data) == ("", "ann")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "cert.pem").write_text(ann.certificate_pem)
    (tmp_path / "in" / "key.pem").write_text(ann.key_pem)
    files = {"client-certificate": "in/cert.pem", "client-key": str(tmp_path / "in" / "key.pem")}
    assert ask(server, tmp_path, files) == ("", "ann")


def test_no_key_is_left_lying_about(
    server: ApiServer, tmp_path: Path, ann: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = tmp_path / "run"
    runtime.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    data = {
        "client-certificate-data": encoded(ann.certificate_pem),
        "client-key-data": encoded(ann.key_pem),
    }
    modes = []
    made = kubernetes_login._load

    def look(*arguments: Any) -> None:
        real = arguments[0].load_cert_chain

        class Context:
            def load_cert_chain(self, name: str, **more: Any) -> None:
                modes.append((Path(name).parent, stat.S_IMODE(Path(name).stat().st_mode)))
                real(name, **more)

        made(Context(), *arguments[1:])  # type: ignore[arg-type]

    monkeypatch.setattr(kubernetes_login, "_load", look)
    login(server, tmp_path, data).context()
    assert modes == [(runtime, 0o600)]
    assert list(runtime.iterdir()) == []


def locked(pair: Pair) -> str:
    key = serialization.load_pem_private_key(pair.key_pem.encode(), None)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"x"),
    ).decode()  # fmt: skip


def test_a_damaged_certificate_or_key_is_told_without_it(
    server: ApiServer, tmp_path: Path, ann: Pair
) -> None:
    other = issue(server.authority, name="bob", names=[], client=True)
    good = encoded(ann.certificate_pem)
    for certificate, key in (
        (good, encoded(SECRET)), (good, encoded(other.key_pem)), (good, encoded(locked(ann))),
        (encoded("x"), encoded(ann.key_pem)), (good, f"§{SECRET}"), ("§", encoded(ann.key_pem)),
    ):  # fmt: skip
        user = {"client-certificate-data": certificate, "client-key-data": key}
        with pytest.raises(UserError, match="is damaged") as error:
            login(server, tmp_path, user).context()
        said = f"{error.value} {error.value.hint} {error.value.__cause__}"
        assert SECRET not in said
        assert "PRIVATE KEY" not in said


def test_a_password_is_not_supported_and_not_told(server: ApiServer, tmp_path: Path) -> None:
    one = login(server, tmp_path, {"username": "ann", "password": SECRET})
    with pytest.raises(UserError, match="a password login is not supported") as error:
        one.headers()
    assert SECRET not in str(error.value)


# ---- programs


def program(folder: Path, *lines: str, name: str = "bin/login") -> Path:
    """Write a program that counts its calls, and says what the lines print."""
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    text = "\n".join(lines)
    count = f"open({str(folder / 'calls')!r}, 'a').write('x')"
    path.write_text(f"#!{sys.executable} -IS\nimport json, os, sys, time\n{count}\n{text}\n")
    path.chmod(0o755)
    return path


def calls(folder: Path) -> int:
    return len((folder / "calls").read_text())


def says(**status: Any) -> str:
    return f"print({json.dumps({'kind': 'ExecCredential', 'status': status})!r})"


def by(command: str, **more: Any) -> dict[str, Any]:
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": command, **more}}


def test_a_program_gives_a_token_once(server: ApiServer, tmp_path: Path) -> None:
    path = program(tmp_path, says(token=SECRET))
    one = login(server, tmp_path, by(str(path)))
    assert one.headers() == one.headers() == {"Authorization": f"Bearer {SECRET}"}
    one.context()
    assert calls(tmp_path) == 1


def test_a_program_is_told_what_kubectl_tells_it(server: ApiServer, tmp_path: Path) -> None:
    path = program(
        tmp_path,
        "info = json.loads(os.environ['KUBERNETES_EXEC_INFO'])",
        "said = [sys.argv[1:], os.environ['A'], info['spec']['interactive'], sys.stdin.read()]",
        "token = json.dumps([*said, info['apiVersion']])",
        "print(json.dumps({'status': {'token': token}}))",
    )
    user = by(str(path), args=["a", 1], env=[{"name": "A", "value": "b"}])
    token = login(server, tmp_path, user).headers()["Authorization"].removeprefix("Bearer ")
    assert json.loads(token) == [["a", "1"], "b", False, "", "client.authentication.k8s.io/v1"]


def test_a_program_is_found_beside_the_file_or_on_the_path(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, says(token="beside"))
    program(tmp_path, says(token="on the path"), name="bin/login-by-path")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for command, token in (("./bin/login", "beside"), ("login-by-path", "on the path")):
        one = login(server, tmp_path, by(command))
        assert one.headers() == {"Authorization": f"Bearer {token}"}


def test_a_program_gives_a_certificate(server: ApiServer, tmp_path: Path, ann: Pair) -> None:
    made = {"clientCertificateData": ann.certificate_pem, "clientKeyData": ann.key_pem}
    path = program(tmp_path, says(**made))
    assert ask(server, tmp_path, by(str(path))) == ("", "ann")


@pytest.mark.parametrize(("minutes", "asked"), [(-5, 3), (0.5, 3), (5, 1)])
def test_a_program_is_asked_again_before_what_it_gave_ends(
    server: ApiServer, tmp_path: Path, minutes: float, asked: int
) -> None:
    end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=minutes)
    text = end.strftime("%Y-%m-%dT%H:%M:%SZ")
    path = program(tmp_path, says(token="t", expirationTimestamp=text))
    one = login(server, tmp_path, by(str(path)))
    for _ in range(3):
        one.headers()
    assert calls(tmp_path) == asked


def test_a_program_is_asked_once_by_many_threads(server: ApiServer, tmp_path: Path) -> None:
    path = program(tmp_path, says(token="t"))
    one = login(server, tmp_path, by(str(path)))
    together = threading.Barrier(8)

    def headers(_number: int) -> dict[str, str]:
        together.wait()
        return one.headers()

    with ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(headers, range(8)))) == 8
    assert calls(tmp_path) == 1


@pytest.mark.parametrize(
    "line",
    [
        "pass",
        f"print({SECRET!r})",
        f"print(json.dumps([{SECRET!r}]))",
        "print(json.dumps({'kind': 'ExecCredential'}))",
        "print(json.dumps({'status': None}))",
        "print(json.dumps({'status': {}}))",
        says(token=None),
        says(token=SECRET, expirationTimestamp="soon"),
        says(token=SECRET, expirationTimestamp=7),
        says(clientCertificateData=7),
        f"{says(token=SECRET)}\nsys.exit(1)",
        f"sys.stdout.buffer.write(b'\\xff{SECRET}')",
    ],
)
def test_a_program_that_gives_nothing_good_is_told_by_its_last_words(
    server: ApiServer, tmp_path: Path, line: str
) -> None:
    words = "print('first\\nyour session has ended', file=sys.stderr)"
    path = program(tmp_path, words, line)
    with pytest.raises(UserError, match=r"gave no credentials: your session has ended$") as error:
        login(server, tmp_path, by(str(path))).headers()
    assert error.value.hint == "log in with it again"
    assert SECRET not in f"{error.value} {error.value.__cause__} {error.value.__context__}"


def test_a_program_that_is_not_there_says_how_to_get_it(server: ApiServer, tmp_path: Path) -> None:
    user = by("no-such-login", installHint="\nget it from the shop\nor not")
    with pytest.raises(UserError, match="no program no-such-login") as error:
        login(server, tmp_path, user).headers()
    assert error.value.hint == "get it from the shop"


def test_a_program_that_cannot_be_run_is_told(server: ApiServer, tmp_path: Path) -> None:
    path = program(tmp_path, "pass")
    path.write_text("no program")
    for mode in (0o755, 0o644):
        path.chmod(mode)
        with pytest.raises(UserError, match=f"cannot run {path}: "):
            login(server, tmp_path, by(str(path))).headers()


def test_a_program_that_does_not_end_is_ended(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes_login, "_PROGRAM_SECONDS", 0.1)
    path = program(tmp_path, "time.sleep(60)")
    user = by(str(path), args=[f"--client-secret={SECRET}"])
    one = Cluster(read(kubeconfig(tmp_path, server, user)))
    with pytest.raises(UserError, match="does not end") as error:
        one.get("/version")
    assert SECRET not in f"{error.value} {error.value.__cause__}"
    one.close()
