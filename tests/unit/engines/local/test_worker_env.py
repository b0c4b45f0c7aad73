"""What each process of a group is told."""

from __future__ import annotations

import json
from typing import Any

from mlstead.engines.local.worker_env import places, ports_needed, variables


def workers(**fields: Any) -> dict[str, Any]:
    plain = {"count": 1, "processes": 1, "framework": "none", "launcher": "mlstead"}
    return plain | fields


def test_a_program_that_is_alone_is_told_nothing() -> None:
    alone = workers()
    assert variables(alone, places(alone)[0], []) == {} and ports_needed(alone) == 0


def test_ranks_go_through_the_workers() -> None:
    group = workers(count=2, processes=2, framework="torch")
    told = [variables(group, place, [2000]) for place in places(group)]
    assert [(env["RANK"], env["NODE_RANK"], env["LOCAL_RANK"]) for env in told] == [
        ("0", "0", "0"), ("1", "0", "1"), ("2", "1", "0"), ("3", "1", "1"),
    ]  # fmt: skip
    assert {env["WORLD_SIZE"] for env in told} == {"4"}
    assert {env["MASTER_PORT"] for env in told} == {"2000"}


def test_tensorflow_gets_a_port_for_each_and_one_to_meet_at() -> None:
    group = workers(count=2, framework="tensorflow")
    assert ports_needed(group) == 3
    config = json.loads(variables(group, places(group)[1], [1, 2, 3])["TF_CONFIG"])
    assert config == {
        "cluster": {"worker": ["127.0.0.1:2", "127.0.0.1:3"]},
        "task": {"type": "worker", "index": 1},
    }


def test_a_launcher_of_its_own_gets_no_rank() -> None:
    group = workers(count=2, processes=4, launcher="own")
    env = variables(group, places(group)[1], [2000])
    assert len(places(group)) == 2 and "RANK" not in env
    assert (env["NNODES"], env["NODE_RANK"], env["PET_NPROC_PER_NODE"]) == ("2", "1", "4")
