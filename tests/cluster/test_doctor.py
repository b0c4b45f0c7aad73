"""What `doctor` finds on a real cluster: all well, or exactly what is missing."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from tests.cluster.conftest import Ground
from tests.local.front_door import Door

pytestmark = pytest.mark.timeout(300)


def found(door: Door, *words: str, code: int = 0) -> dict[str, Any]:
    result = door("doctor", *words, "--json")
    assert result.code == code, result.out + result.err
    return {check["name"]: check for check in result.json["checks"]}


def test_a_cluster_that_has_everything_is_well_and_runs_a_task(door: Door, ground: Ground) -> None:
    checks = found(door, "--deep")
    assert {check["state"] for check in checks.values()} == {"ok"}, checks
    jobs = ground.cluster.get(f"/apis/batch/v1/namespaces/{ground.namespace}/jobs")["items"]
    assert not [it for it in jobs if it["metadata"]["name"].startswith("doctor-")]


def test_each_thing_that_is_missing_is_named_with_what_to_do(
    door: Door, ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [f"--{name}={value}" for name, value in ground.options().items()]
    door.good(
        "context", "add", "bad", "--engine=kubernetes", *options, "--namespace=not-there",
        "--artifacts=s3://no-such-bucket/x", f"--endpoint={ground.s3.endpoint}",
    )  # fmt: skip
    checks = found(door, "--on", "bad", "--deep", code=2)
    assert checks["namespace"]["state"] == "missing"
    assert "kubectl create namespace not-there" in checks["namespace"]["hint"]
    assert checks["s3"]["state"] == "missing"
    assert checks["registry"]["state"] == "limited"
    assert "task" not in checks
    monkeypatch.setenv("MLSTEAD_REGISTRY_PASSWORD", "wrong")
    assert found(door, code=2)["registry"]["state"] == "missing"


def test_rights_that_a_user_lacks_are_named(door: Door, ground: Ground) -> None:
    space = f"/api/v1/namespaces/{ground.namespace}"
    ground.cluster.create(f"{space}/serviceaccounts", {"metadata": {"name": "nobody"}})
    token = ground.cluster.create(
        f"{space}/serviceaccounts/nobody/token", {"spec": {"expirationSeconds": 600}}
    )["status"]["token"]
    authority = re.search(
        r"certificate-authority-data: *\"?([^\"\s]+)", ground.kubeconfig.read_text()
    )
    assert authority is not None
    cluster = {"server": ground.cluster.server, "certificate-authority-data": authority[1]}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "c",
    }
    weak = door.home.parent / "weak"
    weak.write_text(json.dumps(config), encoding="utf-8")
    weak.chmod(0o600)
    door.good(
        "context", "add", "weak", "--engine=kubernetes", f"--kubeconfig={weak}",
        f"--namespace={ground.namespace}", f"--artifacts=s3://{ground.bucket}/w",
        f"--endpoint={ground.s3.endpoint}",
    )  # fmt: skip
    checks = found(door, "--on", "weak", code=2)
    assert "create jobs" in checks["rights"]["detail"]
    assert checks["nodes"]["state"] == "limited"
