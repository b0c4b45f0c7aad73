"""A pod's program finds its place in the group, its secrets where only it reads, and no more."""

from __future__ import annotations

import io
import json
import stat
import tarfile
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest

from mlstead.runner import pod, pod_ground
from mlstead.runner.pod_ground import Ground, Place, PrepareError
from mlstead.runner.pod_ship import pack
from mlstead.runner.pod_transfer import Transfer, TransferError

TASK: dict[str, Any] = {
    "id": "t", "command": ["true"], "env": {}, "code": False, "working_dir": "", "inputs": [],
    "outputs": [], "values": [], "ranks": [], "secrets": [], "retry": [], "timeout": None,
    "workers": {"count": 1, "processes": 1, "framework": "none", "launcher": "mlstead"},
    "grace": 10.0, "ports": {}, "gpu": 0, "master": "", "hosts": [], "port": 29500,
}  # fmt: skip
HOSTS = ["t-0.t", "t-1.t"]


class Given:
    """What a pod was given, in folders of a test."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self._patch = root, monkeypatch
        for name in ("task", "secret", "run", "code"):
            (root / name).mkdir()
            monkeypatch.setattr(pod_ground, name.upper(), root / name)
        monkeypatch.setattr(pod_ground, "PACKAGES", root / "environment")
        self.params: dict[str, Any] = {}

    def ground(self, worker: int = 0, failures: str = "", **task: Any) -> Ground:
        self._patch.setenv("JOB_COMPLETION_INDEX", str(worker))
        self._patch.setenv("MLSTEAD_POD_FAILURES", failures)
        (self.root / "task" / "task.json").write_text(json.dumps({**TASK, **task}))
        (self.root / "task" / "params.json").write_text(json.dumps(self.params))
        uploads = {"inputs": {"data": "http://data"}, "checkpoints": ["http://0", "http://1"]}
        (self.root / "secret" / "uploads.json").write_text(json.dumps(uploads))
        return Ground()


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Given:
    return Given(tmp_path, monkeypatch)


def workers(count: int = 1, processes: int = 1, **more: str) -> dict[str, Any]:
    group = count > 1
    return {
        "workers": {**TASK["workers"], "count": count, "processes": processes, **more},
        "master": HOSTS[0] if group else "", "hosts": HOSTS[:count] if group else [],
    }  # fmt: skip


GROUP = ("MASTER_", "RANK", "WORLD_SIZE", "LOCAL_", "NODE_RANK", "NNODES", "PET_", "TF_CONFIG")


def place_of(ground: Ground, number: int = 0) -> dict[str, str]:
    env = ground.environment(ground.places[number])
    return {name: value for name, value in env.items() if name.startswith(GROUP)}


def test_a_single_process_is_told_of_no_group(given: Given) -> None:
    ground = given.ground()
    assert (ground.places, ground.ranks, ground.prefix) == ([Place(0, 0, 0)], 1, "1/")
    assert place_of(ground) == {}


@pytest.mark.parametrize(("failures", "attempt"), [("", 1), ("0", 1), ("2", 3)])
def test_an_attempt_is_one_more_than_the_failures(
    given: Given, failures: str, attempt: int
) -> None:
    ground = given.ground(failures=failures)
    assert ground.attempt == attempt
    assert ground.environment(ground.places[0])["MLSTEAD_ATTEMPT"] == str(attempt)


def test_every_process_of_a_group_knows_its_place(given: Given) -> None:
    ground = given.ground(1, **workers(2, 2, framework="torch"))
    assert ground.places == [Place(2, 1, 0), Place(3, 1, 1)]
    assert place_of(ground, 1) == {
        "MASTER_ADDR": "t-0.t", "MASTER_PORT": "29500", "NODE_RANK": "1", "RANK": "3",
        "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2",
    }  # fmt: skip


def test_a_launcher_of_its_own_starts_its_processes_itself(given: Given) -> None:
    ground = given.ground(1, **workers(2, 8, launcher="own"))
    assert ground.places == [Place(1, 1, 0)]
    found = place_of(ground)
    assert (found["NNODES"], found["PET_NPROC_PER_NODE"], found["PET_NODE_RANK"]) == ("2", "8", "1")
    assert "RANK" not in found
    assert place_of(given.ground(**workers(launcher="own")))["MASTER_ADDR"] == "127.0.0.1"


def test_tensorflow_is_told_of_all_processes(given: Given) -> None:
    ground = given.ground(1, **workers(2, 2, framework="tensorflow"))
    told = json.loads(place_of(ground, 0)["TF_CONFIG"])
    assert told["cluster"]["worker"] == [
        "t-0.t:29501", "t-0.t:29502", "t-1.t:29501", "t-1.t:29502",
    ]  # fmt: skip
    assert told["task"] == {"type": "worker", "index": 2}


def test_ranks_write_where_nobody_else_does(given: Given) -> None:
    ground = given.ground(**workers(1, 2))
    envs = [ground.environment(place) for place in ground.places]
    for name in ("MLSTEAD_OUTPUTS", "MLSTEAD_METRICS"):
        assert len({env[name] for env in envs}) == 2
    assert ground.log(0) != ground.log(1)


def test_parameters_ports_and_variables_reach_the_program(
    given: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("LANG", "C.UTF-8")
    given.params = {"lr": 0.1, "long-name": "ünter", "many": [1, None], "on": True}
    ground = given.ground(env={"A": "b", "HOME": "/mine", "PATH": "/opt/x"}, ports={"http": 8080})
    env = ground.environment(ground.places[0])
    assert {name: env[f"MLSTEAD_PARAM_{name}"] for name in ("LR", "LONG_NAME", "MANY", "ON")} == {
        "LR": "0.1", "LONG_NAME": "ünter", "MANY": "[1, null]", "ON": "true",
    }  # fmt: skip
    assert (env["MLSTEAD_PORT_HTTP"], env["A"], env["HOME"]) == ("8080", "b", "/mine")
    assert env["PATH"].split(":")[0] == "/opt/x"
    assert (env["LANG"], env["CUDA_VISIBLE_DEVICES"]) == ("C.UTF-8", "")
    assert not any(name.startswith(("KUBERNETES_", "MLSTEAD_POD_")) for name in env)
    assert "JOB_COMPLETION_INDEX" not in env


def test_packages_of_the_image_are_found_before_ours(given: Given) -> None:
    (given.root / "environment").mkdir()
    ground = given.ground(env={"PYTHONPATH": "/mine"})
    env = ground.environment(ground.places[0])
    assert env["PYTHONPATH"] == f"{given.root}/environment:/mine:{given.root}/run/bundle"
    assert env["PATH"].startswith(f"{given.root}/environment/bin:")


def test_secrets_reach_the_program_in_files_that_only_it_reads(given: Given) -> None:
    (given.root / "secret" / "secret.hook").write_text("s3cret")
    wanted = [
        {"name": "hook", "env": "HOOK", "file": ""},
        {"name": "hook", "env": "HOOK_FILE", "file": "hook.txt"},
        {"name": "hook", "env": "", "file": "other"},
    ]
    ground = given.ground(secrets=wanted, **workers(1, 2))
    for place in ground.places:
        env = ground.environment(place)
    folder = given.root / "run" / "secrets"
    assert (env["HOOK"], env["HOOK_FILE"]) == ("s3cret", str(folder / "hook.txt"))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    modes = {it.name: (it.read_text(), stat.S_IMODE(it.stat().st_mode)) for it in folder.iterdir()}
    assert modes == {"hook.txt": ("s3cret", 0o600), "other": ("s3cret", 0o600)}


# ---- before the program


class Store:
    """Gives what lies at addresses."""

    def __init__(self, **content: bytes) -> None:
        self._content = content
        self.error: TransferError | None = None

    def fetch(self, url: str, target: BinaryIO, patience: float) -> bool:
        if self.error:
            raise self.error
        found = self._content.get(url.removeprefix("http://"))
        target.write(found or b"")
        return found is not None


def fill(ground: Ground, store: Store) -> None:
    ground.fill(cast("Transfer", store))


def archive(folder: Path) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as made:
        made.add(folder, "input")
    return content.getvalue()


def data(mode: str = "copy") -> dict[str, Any]:
    return {"inputs": [{"name": "data", "mode": mode}]}


def test_code_and_inputs_are_there_and_a_copy_may_be_changed(given: Given) -> None:
    (given.root / "code" / "src").mkdir()
    (given.root / "code" / "src" / "main.py").write_text("x")
    (given.root / "code" / "src" / "main.py").chmod(0o444)
    tree = given.root / "tree"
    tree.mkdir()
    (tree / "a").write_text("a")
    (tree / "a").chmod(0o444)
    ground = given.ground(code=True, working_dir="src", **data())
    fill(ground, Store(data=archive(tree)))
    assert (given.root / "run/inputs/data/a").read_text() == "a"
    for path in (given.root / "run/work/src/main.py", given.root / "run/inputs/data/a"):
        assert path.stat().st_mode & 0o200
    assert not (given.root / "run" / "input.tar").exists()


@pytest.mark.parametrize("content", [None, b"", b"no archive", b"\0" * 700])
def test_an_input_that_cannot_be_had_is_told_by_its_name(
    given: Given, content: bytes | None
) -> None:
    store = Store() if content is None else Store(data=content)
    with pytest.raises(PrepareError, match="input 'data'") as error:
        fill(given.ground(**data()), store)
    assert error.value.reason == "volume"


def test_a_store_that_is_away_is_told(given: Given) -> None:
    store = Store()
    store.error = TransferError("away")
    for task, failures in ((data(), ""), ({}, "1")):
        with pytest.raises(PrepareError, match="away") as error:
            fill(given.ground(failures=failures, **task), store)
        assert error.value.reason == "volume"


def test_a_folder_that_the_code_has_not_is_told(given: Given) -> None:
    with pytest.raises(PrepareError, match="working_dir: there is no folder 'none'"):
        fill(given.ground(working_dir="none"), Store())


def test_a_later_attempt_finds_the_checkpoints_of_its_worker(given: Given) -> None:
    kept = given.root / "kept"
    kept.mkdir()
    (kept / "step").write_text("7")
    content = io.BytesIO()
    pack(kept, content)
    store = Store(**{"1": content.getvalue()})
    fill(given.ground(1), store)
    assert list((given.root / "run/checkpoints").iterdir()) == []
    fill(given.ground(1, failures="1"), store)
    assert (given.root / "run/checkpoints/step").read_text() == "7"


# ---- how it ended


@pytest.mark.parametrize(
    "detail", ["", "x" * 9000, "é" * 9000, "😀" * 9000, "\udcff" * 9000, '"\\' * 900]
)
def test_what_is_told_of_an_end_fits_where_kubernetes_keeps_it(detail: str) -> None:
    end = {
        "phase": "failed", "reason": "error", "detail": detail, "attempt": 1, "worker": 0,
        "outputs": {str(rank): 1 << 40 for rank in range(8)},
    }  # fmt: skip
    text = pod.told(end)
    assert len(text.encode()) <= 4096
    read = json.loads(text)
    assert detail.startswith(read.pop("detail"))
    assert read == {name: value for name, value in end.items() if name != "detail"}
    assert len(pod.told({**end, "detail": "short"})) < len(text) or not detail
