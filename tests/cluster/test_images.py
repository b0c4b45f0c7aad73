"""Images made here: pushed into a real registry, refused, damaged, cut short, and run by a pod."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.cluster import base_image, bed
from tests.cluster.registry_process import PASSWORD, RegistryProcess
from tests.machines import given

from mlstead.artifacts.code import CodeStore
from mlstead.clients.authority import Pair, make_authority
from mlstead.clients.registry import Blob, Login, Registry, sha256
from mlstead.engines.base import Code, Environment
from mlstead.engines.kubernetes.image import CODE, Wanted, build
from mlstead.errors import NotFoundError, UnavailableError, UserError

pytestmark = pytest.mark.timeout(600)
IDNA = (
    "idna==3.20 --hash=sha256:a7db850025b95ded1eae8a46181a1a6c56c92c96f0e2b005d9ff8dc0210cab44"
    " --hash=sha256:ab7ae7122974553370f0bdb919e1a960b2cd1bc1ef0276416d896db81c14582c\n"
)
PACKAGES = Environment("with-idna", IDNA, "3.11", hashes=True)
MAIN = "import idna, sys\nprint(idna.encode('bücher.de').decode(), open('data.txt').read())\n"


@pytest.fixture(scope="module")
def authority() -> Pair:
    return make_authority("images")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, authority: Pair) -> Iterator[RegistryProcess]:
    process = RegistryProcess(tmp_path_factory.mktemp("registry"), authority)
    process.start()
    base_image.push(process.login)
    yield process
    process.kill()


@pytest.fixture
def other(tmp_path: Path, authority: Pair) -> Iterator[RegistryProcess]:
    process = RegistryProcess(tmp_path / "other", authority)
    process.start()
    yield process
    process.kill()


class Project:
    """A folder of code, the store of its snapshots, and a cache."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.cache = folder / "code", folder / "cache"
        self.folder.mkdir()
        self._store = CodeStore(folder / "code.git", folder / "home")
        self.write("main.py", MAIN)
        self.write("data.txt", "one")

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text, encoding="utf-8")

    def code(self) -> Code:
        return Code(str(self._store.git_dir), self._store.snapshot(self.folder).tree)

    def build(self, process: RegistryProcess, repository: str = "test/app") -> str:
        address = process.login.address
        base = f"{address}/{base_image.REPOSITORY}:{base_image.TAG}"
        wanted = Wanted(base, f"{address}/{repository}", self.code(), PACKAGES)
        return build(wanted, process.login, self.cache)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def writes(process: RegistryProcess) -> int:
    return sum(method in ("POST", "PUT", "PATCH") for method, _, _ in process.requests())


def read_back(login: Login, name: str) -> tuple[dict[str, object], dict[str, bytes]]:
    """Give the configuration and the files of an image, as a node would unpack it."""
    repository, _, digest = name.partition("/")[2].partition("@")
    files: dict[str, bytes] = {}
    with Registry(login) as registry:
        manifest = registry.resolve(repository, digest)
        config = json.loads(registry.read(repository, manifest.data["config"]["digest"]))
        for row, inner in zip(manifest.data["layers"], config["rootfs"]["diff_ids"], strict=True):
            packed = b"".join(registry.stream(repository, row["digest"]))
            assert len(packed) == row["size"]
            with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
                for member in tar:
                    file = tar.extractfile(member) if member.isreg() else None
                    files[member.name] = file.read() if file else b""
            assert inner == sha256(subprocess.run(
                ["gzip", "-dc"], input=packed, capture_output=True, check=True
            ).stdout)  # fmt: skip
    return config, files


def test_an_image_holds_its_base_the_code_and_the_packages(
    running: RegistryProcess, project: Project
) -> None:
    config, files = read_back(running.login, project.build(running))
    assert files["mlstead/code/main.py"].decode() == MAIN
    assert "mlstead/environment/idna/core.py" in files
    assert files["mlstead/environment/bin/idna"].startswith(b"#!/usr/bin/env python3\n")
    assert sys.executable.encode() not in b"".join(
        content for name, content in files.items() if name.startswith("mlstead/environment")
    )
    own = config["config"]
    assert isinstance(own, dict)
    variables = dict(row.split("=", 1) for row in own["Env"])
    assert variables["PATH"] == "/mlstead/environment/bin:/usr/local/bin:/usr/bin:/bin"
    assert variables["PYTHONPATH"] == "/mlstead/environment"
    assert variables["LANG"] == "C.UTF-8" and own["Cmd"] == ["python3"]


def test_the_same_again_sends_nothing_and_asks_once_for_base_and_image(
    running: RegistryProcess, project: Project
) -> None:
    first = project.build(running)
    before = len(running.requests())
    assert project.build(running) == first
    asked = running.requests()[before:]
    assert [(method, status) for method, _, status in asked] == [("HEAD", 200)] * 2


def test_another_cache_makes_the_same_image_and_sends_no_layer(
    running: RegistryProcess, project: Project, tmp_path: Path
) -> None:
    first = project.build(running)
    project.cache = tmp_path / "another"
    assert project.build(running) == first


def test_a_base_in_another_registry_is_copied(
    running: RegistryProcess, other: RegistryProcess, project: Project
) -> None:
    def connect(login: Login) -> Registry:
        return Registry(other.login if login.address == other.login.address else running.login)

    base = f"{running.login.address}/{base_image.REPOSITORY}:{base_image.TAG}"
    address = other.login.address
    wanted = Wanted(base, f"{address}/test/app", project.code(), PACKAGES)
    name = build(wanted, other.login, project.cache, connect=connect)
    assert "mlstead/code/main.py" in read_back(other.login, name)[1]
    other.wipe()
    assert build(wanted, other.login, project.cache, connect=connect) == name
    assert "usr/bin/python3.11" in read_back(other.login, name)[1]


def test_nobody_gets_in_without_the_password(running: RegistryProcess) -> None:
    for login, words in (
        (replace(running.login, user="", password=""), "who does not log in"),
        (replace(running.login, password="wrong"), "refuses 'mlstead'"),
    ):
        with Registry(login) as registry, pytest.raises(UserError, match=words):
            registry.manifest(base_image.REPOSITORY, base_image.TAG)
        with Registry(login) as registry, pytest.raises(UserError, match=words):
            registry.upload("test/app", Blob.of_bytes(b"x"))


@pytest.mark.parametrize("theirs", [True, False], ids=["another authority", "the system's"])
def test_a_registry_that_the_authority_does_not_vouch_for_is_refused(
    running: RegistryProcess, theirs: bool
) -> None:
    pem = make_authority("other").certificate_pem if theirs else ""
    login = replace(running.login, authority=pem)
    with Registry(login) as registry, pytest.raises(UserError, match="not trusted"):
        registry.digest(base_image.REPOSITORY, base_image.TAG)


def test_plain_http_is_not_spoken_unless_asked_for(running: RegistryProcess) -> None:
    with (
        Registry(replace(running.login, plain=True)) as registry,
        pytest.raises(UserError, match="400"),
    ):
        registry.digest(base_image.REPOSITORY, base_image.TAG)


def test_what_is_not_there_is_not_found(running: RegistryProcess, project: Project) -> None:
    with Registry(running.login) as registry:
        assert registry.digest("test/nothing", "v1") == ""
        with pytest.raises(NotFoundError):
            registry.manifest("test/nothing", "v1")
    wanted = Wanted(f"{running.login.address}/no/base:1", f"{running.login.address}/test/app")
    with pytest.raises(NotFoundError, match="no/base:1"):
        build(wanted, running.login, project.cache)


def test_a_blob_that_was_tampered_with_is_refused(running: RegistryProcess) -> None:
    blob = Blob.of_bytes(os.urandom(3 << 20))
    with Registry(running.login) as registry:
        registry.upload("test/tampered", blob)
        file = running.blob(blob.digest)
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
        with pytest.raises(UserError, match="gives bytes of"):
            list(registry.stream("test/tampered", blob.digest))


def test_bytes_that_are_not_those_of_their_digest_are_not_taken(running: RegistryProcess) -> None:
    lie = Blob(sha256(b"this"), 4, lambda: iter((b"that",)))
    with Registry(running.login) as registry:
        with pytest.raises(UserError, match="DIGEST_INVALID"):
            registry.upload("test/lie", lie)
        assert not registry.has("test/lie", lie.digest)


def test_a_damaged_layer_of_the_cache_is_refused_and_made_again(
    other: RegistryProcess, project: Project
) -> None:
    base_image.push(other.login)
    name = project.build(other)
    layers = sorted((project.cache / "blobs").iterdir(), key=lambda path: path.stat().st_size)
    content = bytearray(layers[-1].read_bytes())
    content[-20] ^= 1
    layers[-1].write_bytes(content)
    other.wipe()
    base_image.push(other.login)
    with pytest.raises(UserError, match="was damaged"):
        project.build(other)
    assert project.build(other) == name
    read_back(other.login, name)


SENDER = """
import sys
from mlstead.clients.registry import Blob, Login, Registry, sha256
address, authority, password = (line.rstrip("\\0") for line in sys.stdin.read().split("\\0\\n"))
content = bytes(range(256)) * (1 << 16)
def halves():
    yield content[: len(content) // 2]
    print("half", flush=True)
    import time; time.sleep(600)
with Registry(Login(address, "mlstead", password, authority)) as registry:
    registry.upload("test/killed", Blob(sha256(content), len(content), halves))
"""


def test_an_upload_that_was_killed_leaves_nothing_and_works_again(running: RegistryProcess) -> None:
    content = bytes(range(256)) * (1 << 16)
    login = running.login
    sender = subprocess.Popen(
        [sys.executable, "-c", SENDER],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8",
    )  # fmt: skip
    assert sender.stdin and sender.stdout
    sender.stdin.write("\0\n".join((login.address, login.authority, PASSWORD)))
    sender.stdin.close()
    assert sender.stdout.readline() == "half\n"
    sender.kill()
    sender.wait(30)
    sender.stdout.close()
    with Registry(login) as registry:
        assert not registry.has("test/killed", sha256(content))
        registry.upload("test/killed", Blob.of_bytes(content))
        assert b"".join(registry.stream("test/killed", sha256(content))) == content


def test_a_registry_that_dies_in_the_middle_of_an_upload_gets_it_again(
    other: RegistryProcess,
) -> None:
    content = os.urandom(16 << 20)
    tries: list[int] = []

    def pieces() -> Iterator[bytes]:
        tries.append(1)
        yield content[: 8 << 20]
        if len(tries) == 1:
            other.kill()
            other.start()
        yield content[8 << 20 :]

    with Registry(other.login) as registry:
        registry.upload("test/died", Blob(sha256(content), len(content), pieces))
        assert len(tries) == 2
        assert b"".join(registry.stream("test/died", sha256(content))) == content


def test_a_registry_that_is_gone_is_told_after_a_few_tries(other: RegistryProcess) -> None:
    other.kill()
    pauses: list[float] = []
    with (
        Registry(other.login, pause=pauses.append) as registry,
        pytest.raises(UnavailableError, match=other.login.address),
    ):
        registry.digest("test/app", "v1")
    assert len(pauses) == 3


def test_a_bundle_is_loaded_once_by_the_verb(
    other: RegistryProcess, tmp_path: Path, authority: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pem = tmp_path / "authority.pem"
    pem.write_text(authority.certificate_pem)
    folder = tmp_path / "bundle"
    for name in ("bin", "cni", "images"):
        (folder / name).mkdir(parents=True)
    (folder / "bin/kubectl").write_text("#!/bin/sh\n")
    os.link(given.bundle() / "images/busybox.tar", folder / "images/busybox.tar")
    mlstead = [sys.executable, "-m", "mlstead", "bundle"]
    subprocess.run([*mlstead, "create", str(folder)], check=True, capture_output=True)
    load = [*mlstead, "load", str(folder), "--to", other.login.address, "--json"]
    monkeypatch.setenv("MLSTEAD_REGISTRY_PASSWORD", PASSWORD)

    def loaded(*more: str, code: int = 0) -> str:
        done = subprocess.run([*load, *more], capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        assert PASSWORD not in done.stdout + done.stderr
        return done.stdout or done.stderr

    first = json.loads(loaded("--authority", str(pem)))
    names = [
        f"{other.login.address}/{name}" for name in ("local/busybox:1", "library/busybox:latest")
    ]
    assert [image["name"] for image in first] == names
    assert first[0]["sent"] > 2_000_000 and first[1]["sent"] == 0, "the second name is a mount"
    before = writes(other)
    again = json.loads(loaded("--authority", str(pem)))
    assert [image["sent"] for image in again] == [0, 0] and writes(other) == before
    assert "not trusted" in loaded(code=2)
    monkeypatch.delenv("MLSTEAD_REGISTRY_PASSWORD")
    assert "MLSTEAD_REGISTRY_PASSWORD" in loaded("--authority", str(pem), code=2)
    with Registry(other.login) as registry:
        assert registry.resolve("local/busybox", "1").digest == first[0]["digest"]


# ---- in the kept cluster -------------------------------------------------------------------


def kubectl(*words: str, content: str = "") -> str:
    command = [str(given.bundle() / "bin/kubectl"), "--kubeconfig", str(bed.kubeconfig())]
    done = subprocess.run(
        [*command, "--namespace", "img", *words],
        input=content, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def login() -> Iterator[Login]:
    kubectl(
        "apply",
        "-f",
        "-",
        content='{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"img"}}',
    )
    found = base_image.login_of_bed()
    base_image.push(found)
    yield found
    kubectl("delete", "pods", "--all", "--wait=true", "--grace-period=0")


def output_of_pod(name: str, image: str) -> str:
    """Run ``python3 main.py`` on h2 to its end; give what it printed."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "nodeName": "h2",
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": {"runAsUser": 65532, "runAsGroup": 65532, "runAsNonRoot": True},
            "containers": [
                {
                    "name": "c",
                    "image": image,
                    "workingDir": CODE,
                    "command": ["sh", "-c", "python3 main.py && idna faß.de"],
                }
            ],
        },
    }
    kubectl("delete", "pod", name, "--ignore-not-found", "--grace-period=0")
    deadline = time.monotonic() + 60
    while "default" not in kubectl("get", "serviceaccounts", "-o", "name"):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    kubectl("apply", "-f", "-", content=json.dumps(pod))
    deadline = time.monotonic() + 180
    while True:
        status = json.loads(kubectl("get", "pod", name, "-o", "json"))["status"]
        if status["phase"] in ("Succeeded", "Failed"):
            return kubectl("logs", name)
        assert time.monotonic() < deadline, kubectl("describe", "pod", name)
        time.sleep(0.2)


def test_a_pod_runs_the_code_with_its_packages_and_then_changed_code(
    login: Login, project: Project
) -> None:
    base = f"{login.address}/{base_image.REPOSITORY}:{base_image.TAG}"

    def image() -> str:
        wanted = Wanted(base, f"{login.address}/img/app", project.code(), PACKAGES)
        return build(wanted, login, project.cache)

    first = image()
    assert output_of_pod("first", first).split() == ["xn--bcher-kva.de", "one", "xn--fa-hia.de"]
    project.write("data.txt", "two")
    second = image()
    assert second != first
    assert output_of_pod("second", second).split() == ["xn--bcher-kva.de", "two", "xn--fa-hia.de"]
