"""Code of an older version beside the service's own: the same module names, no mixing."""

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest

from mlstead.errors import UserError
from mlstead.serving.config import ServerConfig
from mlstead.serving.service import Service, load_service

CARD = {"runtime": "python", "entry": "user_entry:predict", "warmup": False}
ENTRY = """\
import numpy as np
import user_package.inner
from user_same import WHO
def load(folder, params):
    return dict(params)
def predict(inputs, params):
    from user_late import LATE
    import user_package.deep.leaf
    from user_package import deep
    return {"said": np.asarray(["|".join([
        WHO, user_package.inner.WHO, LATE, user_package.deep.leaf.WHO, deep.WHO, params["who"]])])}
"""


def code(folder: Path, who: str) -> Path:
    """Write code whose every module says ``who`` it belongs to."""
    files = {
        "user_entry.py": ENTRY,
        "user_same.py": f"WHO = {who!r}\n",
        "user_late.py": "from user_later import LATE\n",
        "user_later.py": f"LATE = {who!r}\n",
        "user_package/__init__.py": "",
        "user_package/inner.py": "from user_same import WHO\n",
        "user_package/deep/__init__.py": "from ..inner import WHO\n",
        "user_package/deep/leaf.py": "from . import WHO\n",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def loaded(folders: Any, own: Path, old: Path, **more: Any) -> Service:
    told = {
        "name": "fashion",
        "code": str(own),
        "params": {"who": "own"},
        "traffic": {"v2": 100},
        "versions": {
            "v2": {"path": str(folders.card(**CARD)), "number": 2},
            "v1": {"path": str(folders.card(**CARD)), "number": 1, "code": str(old), **more},
        },
    }
    return load_service(ServerConfig.model_validate_json(json.dumps(told)))


def said(service: Service, version: str) -> list[str]:
    body = {"inputs": [{"name": "x", "shape": [1], "datatype": "INT64", "data": [1]}]}
    answer = service.slots[version].model.answer(json.dumps(body).encode())
    text: str = json.loads(answer.body)["outputs"][0]["data"][0]
    return text.split("|")


@pytest.mark.usefixtures("forget_modules")
@pytest.mark.parametrize("order", [("v1", "v2"), ("v2", "v1")])
def test_each_version_runs_its_own_modules_also_those_it_imports_late(
    folders: Any, tmp_path: Path, order: tuple[str, str]
) -> None:
    own, old = code(tmp_path / "own", "own"), code(tmp_path / "old", "old")
    service = loaded(folders, own, old, params={"who": "old"})
    for version in (*order, *order):
        who = {"v1": "old", "v2": "own"}[version]
        assert said(service, version) == [who] * 6
    assert str(old) not in sys.path
    assert sys.modules["user_same"].WHO == "own"
    service.close()


@pytest.mark.usefixtures("forget_modules")
def test_what_an_old_version_unpickles_while_it_is_loaded_is_of_its_own_code(
    folders: Any, tmp_path: Path
) -> None:
    own, old = code(tmp_path / "own", "own"), code(tmp_path / "old", "old")
    entry = (
        "import pickle, numpy as np\n"
        "from user_same import Net\n"
        "def load(folder, params):\n"
        "    return pickle.loads(pickle.dumps(Net()))\n"
        "def predict(inputs, net):\n"
        "    return {'said': np.asarray([net.who])}\n"
    )
    for folder, who in ((own, "own"), (old, "old")):
        (folder / "user_entry.py").write_text(entry)
        (folder / "user_same.py").write_text(f"class Net:\n    who = {who!r}\n")
    service = loaded(folders, own, old)
    assert (said(service, "v1"), said(service, "v2")) == (["old"], ["own"])
    assert pickle.loads(pickle.dumps(sys.modules["user_same"].Net())).who == "own"
    service.close()


@pytest.mark.usefixtures("forget_modules")
def test_an_old_version_that_does_not_load_is_left_out_where_it_is_optional(
    folders: Any, tmp_path: Path
) -> None:
    own, old = code(tmp_path / "own", "own"), code(tmp_path / "old", "old")
    (old / "user_same.py").write_text("raise RuntimeError('too old')\n")
    with pytest.raises(UserError, match=r"version v1: .*too old"):
        loaded(folders, own, old)
    service = loaded(folders, own, old, optional=True)
    assert list(service.slots) == ["v2"]
    assert said(service, "v2") == ["own"] * 6
    service.close()
