"""Requests are made from the task and the facts alone; what cannot be done is refused by name."""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import Any

import pytest

from mlstead.engines.base import Code, Environment, Facts, Input, Resources, Secret, Task, Workers
from mlstead.engines.local.prepare import is_id, prepare
from mlstead.errors import UserError

FACTS = Facts(
    cpu=4.0,
    memory=8 << 30,
    gpus=("NVIDIA H200", "NVIDIA L4"),
    details={
        "interpreter": "/v/bin/python",
        "uv": "/v/bin/uv",
        "git": "/usr/bin/git",
        "environment": {"PATH": "/v/bin:/usr/bin"},
        "private": [],
        "disk": 100 << 20,
        "shm": 50 << 20,
    },
)


def task(**fields: Any) -> Task:
    return Task(**({"id": "t", "command": ("true",)} | fields))


def test_a_request_is_plain_data() -> None:
    one = task(
        params=MappingProxyType({"lr": 0.1, "deep": MappingProxyType({"a": (1, 2)})}),
        code=Code("/store", "a" * 40),
        environment=Environment("k", "x==1\n"),
        inputs=(Input("d", "/data"),),
        secrets=(Secret("s", env="S"),),
    )
    request = prepare(one, FACTS).request
    assert json.loads(json.dumps(request)) == request
    assert request["params"] == {"lr": 0.1, "deep": {"a": [1, 2]}}
    assert request["secrets"] == [{"name": "s", "env": "S", "file": ""}]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"image": "x/y@sha256:0"}, "image: not supported by engine local"),
        ({"native": {"kubernetes": {}}}, "native: not supported by engine local yet"),
        ({"queue": "team-a"}, "queue: not supported by engine local yet"),
        ({"mounts": {"big": "volume"}}, "mounts: not supported by engine local yet"),
        ({"workers": Workers(2, framework="ray")}, "ray: not supported by engine local yet"),
        ({"inputs": (Input("d", "/d", "mount"),)}, "data mode mount: not supported"),
        ({"ports": {"http": 80}, "workers": Workers(2)}, "ports of several workers"),
        ({"id": "../x"}, "task id"),
        ({"id": "t" * 53}, "task id"),
        ({"command": ()}, "command"),
        ({"command": ("a\0b",)}, "NUL"),
        ({"env": {"A=B": "x"}}, "env"),
        ({"outputs": ("../x",)}, "cannot be the name"),
        ({"ranks": ("a/b",)}, "cannot be the name"),
        ({"inputs": (Input("..", "/d"),)}, "cannot be the name"),
        ({"secrets": (Secret("s", file="../x"),)}, "cannot be the name"),
        ({"working_dir": "../x"}, "working_dir"),
        ({"working_dir": "/x"}, "working_dir"),
        ({"code": Code("/s", "HEAD")}, "code"),
        ({"environment": Environment("../k")}, "python"),
        ({"workers": Workers(0)}, "at least 1"),
        ({"resources": Resources(cpu=2.5), "workers": Workers(2)}, r"cpu 5 \(2 workers\)"),
        ({"resources": Resources(disk=200 << 20)}, "disk 200 MiB .* 100 MiB free"),
        ({"resources": Resources(shm=60 << 20)}, "shm 60 MiB .* 50 MiB free"),
        ({"resources": Resources(gpu=3)}, "gpu 3 asked for, this machine has 2"),
        ({"resources": Resources(gpu=2, gpu_kinds=("H200",))}, "has 1 of kind H200"),
    ],
)
def test_what_cannot_be_done_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        prepare(task(**fields), FACTS)


def test_a_patient_task_waits_for_a_larger_machine_but_not_for_a_larger_disk() -> None:
    assert prepare(task(patient=True, resources=Resources(cpu=99, gpu=3)), FACTS).task_id == "t"
    with pytest.raises(UserError, match="disk"):
        prepare(task(patient=True, resources=Resources(disk=200 << 20)), FACTS)


def test_an_image_with_an_environment_is_taken() -> None:
    assert prepare(task(image="x/y", environment=Environment("k")), FACTS).task_id == "t"


@pytest.mark.parametrize("task_id", ["", "A", "a_b", "a/b", "..", "a\n", "-a"])
def test_other_texts_are_no_ids(task_id: str) -> None:
    assert not is_id(task_id)
