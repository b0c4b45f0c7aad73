"""Workers through the front door: ranks, logs with their rank, one death ends or restarts all."""

import json
from pathlib import Path

from tests.local.front_door import Door, work

HEAD = (
    "mlstead: 1\nkind: job\nname: group\nresources: {cpu: 0.5, memory: 256Mi}\n"
    "command: python main.py\n"
)
RANKS = """\
import json, os, pathlib
names = ["RANK", "WORLD_SIZE", "LOCAL_RANK", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT"]
print(json.dumps({name: os.environ.get(name) for name in names}))
import mlstead
mlstead.log(value=10 + int(os.environ["RANK"]))
pathlib.Path(os.environ["MLSTEAD_OUTPUTS"], "mine").write_text(os.environ["RANK"])
"""


def test_each_rank_knows_its_place_and_its_lines_carry_it(door: Door, tmp_path: Path) -> None:
    text = HEAD + (
        "workers: {count: 3, framework: torch}\noutputs: {mine: {kind: data, ranks: all}}\n"
    )
    door.good("run", work(tmp_path, text, main_py=RANKS))
    lines = door.good("logs", "group").out.splitlines()
    told = {}
    for line in lines:
        rank, _, rest = line.partition("] ")
        told[rank] = json.loads(rest)
    assert sorted(told) == ["[rank 0", "[rank 1", "[rank 2"]
    assert {env["RANK"] for env in told.values()} == {"0", "1", "2"}
    assert {env["WORLD_SIZE"] for env in told.values()} == {"3"}
    assert len({env["MASTER_PORT"] for env in told.values()}) == 1
    only = door.good("logs", "group", "--rank", "1").out
    assert json.loads(only)["RANK"] == "1"
    door.good("get", "group", "--to", tmp_path / "got")
    kept = {path.name: path.read_text() for path in (tmp_path / "got" / "mine").iterdir()}
    assert sorted(kept.values()) == ["0", "1", "2"]


def test_when_one_rank_dies_the_others_end_and_the_rank_is_named(
    door: Door, tmp_path: Path
) -> None:
    program = (
        "import os, time\nif os.environ['RANK'] == '1': raise SystemExit(5)\ntime.sleep(100)\n"
    )
    text = HEAD + "workers: {count: 2, framework: none}\ngrace: 2s\n"
    result = door("run", work(tmp_path, text, main_py=program))
    assert result.code == 1
    status = door.show("group")["run"]["status"]
    assert (status["rank"], status["exit_code"]) == (1, 5)


def test_the_group_restarts_from_its_checkpoint_within_its_retries(
    door: Door, tmp_path: Path
) -> None:
    program = """\
import os, pathlib, time
mine = pathlib.Path(os.environ["MLSTEAD_CHECKPOINTS"], "rank" + os.environ["RANK"])
if mine.exists():
    print("resumed from", mine.read_text())
else:
    mine.write_text("step 7")
    if os.environ["RANK"] == "0":
        while not (mine.parent / "rank1").exists():
            time.sleep(0.01)
        raise SystemExit(1)
    time.sleep(100)
"""
    text = HEAD + (
        "workers: {count: 2, framework: none}\nretries: {max: 1, for: [error]}\ngrace: 2s\n"
    )
    door.good("run", work(tmp_path, text, main_py=program))
    run = door.show("group")["run"]
    assert run["attempt"] == 2
    assert door.good("logs", "group").out.count("resumed from step 7") == 2


def test_tensorflow_workers_get_a_tf_config_that_agrees(door: Door, tmp_path: Path) -> None:
    program = "import os\nprint(os.environ['TF_CONFIG'])\n"
    text = HEAD + "workers: {count: 2, framework: tensorflow}\n"
    door.good("run", work(tmp_path, text, main_py=program))
    configs = [
        json.loads(line.partition("] ")[2]) for line in door.good("logs", "group").out.splitlines()
    ]
    assert len({json.dumps(config["cluster"]) for config in configs}) == 1
    assert sorted(config["task"]["index"] for config in configs) == [0, 1]
    assert len(set(configs[0]["cluster"]["worker"])) == 2
