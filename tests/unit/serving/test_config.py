"""The server's configuration file and the model card: what is accepted, what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from mlstead.errors import NotFoundError, SpecError
from mlstead.serving.card import Card, read_card
from mlstead.serving.config import ServerConfig, read

GOOD: dict[str, Any] = {
    "name": "fashion",
    "host": "127.0.0.1",
    "port": 0,
    "ready_file": "/tmp/ready.json",
    "versions": {"v3": {"path": "/models/3", "runtime": "onnx", "number": 3}},
    "traffic": {"v3": 100},
    "code": "",
    "params": {"top": 3},
    "limits": {"body": 33554432, "queue": 128},
}


def _write(folder: Path, value: Any) -> Path:
    path = folder / "config.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_a_whole_configuration_is_read(tmp_path: Path) -> None:
    config = read(ServerConfig, _write(tmp_path, GOOD))
    assert config.versions["v3"].number == 3
    assert config.shares() == {"v3": 100}
    assert config.limits.queue == 128


def test_the_least_configuration_serves_its_only_version(tmp_path: Path) -> None:
    config = read(ServerConfig, _write(tmp_path, {"name": "a", "versions": {"v1": {"path": "/m"}}}))
    assert config.shares() == {"v1": 100}
    assert config.host == "127.0.0.1"


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"nmae": "x"}, "nmae"),
        ({"name": "../x"}, "name"),
        ({"name": "a/b"}, "name"),
        ({"port": "80"}, "port"),
        ({"port": 70000}, "port"),
        ({"versions": {}}, "versions is empty"),
        ({"versions": {"..": {"path": "/m"}}, "traffic": {}}, "versions"),
        ({"traffic": {"v4": 100}}, "'v4'"),
        ({"traffic": {"v3": 0}}, "every version 0"),
        ({"traffic": {"v3": -1}}, "traffic.v3"),
        ({"limits": {"queue": 0}}, "limits.queue"),
        ({"versions": {"a": {"path": "/"}, "b": {"path": "/"}}, "traffic": {}}, "need traffic"),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, change: dict[str, Any], where: str) -> None:
    with pytest.raises(SpecError, match=where) as refused:
        read(ServerConfig, _write(tmp_path, {**GOOD, **change}))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00", '{"name": NaN}'])
def test_what_is_not_a_json_object_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(SpecError):
        read(ServerConfig, _write(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"nothing\.json"):
        read(ServerConfig, tmp_path / "nothing.json")


def test_a_folder_without_card_has_an_empty_one(tmp_path: Path) -> None:
    assert read_card(tmp_path) == Card()


@pytest.mark.parametrize(
    "card",
    [
        {"file": "../model.onnx"},
        {"file": "/etc/passwd"},
        {"file": ".."},
        {"file": "a\\b"},
        {"entry": "os.system"},
        {"entry": "../predictor:predict"},
        {"inputs": [{"name": "x", "datatype": "FLOAT", "shape": [1]}]},
        {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-2]}]},
        {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1]}] * 2},
        {"output": "softmax"},
        {"surprise": 1},
    ],
)
def test_a_wrong_card_is_refused(tmp_path: Path, card: dict[str, Any]) -> None:
    (tmp_path / "mlstead-model.json").write_text(json.dumps(card))
    with pytest.raises(SpecError, match=r"mlstead-model\.json"):
        read_card(tmp_path)
