"""Follows the READMEs of the workshop, as a newcomer would."""

from pathlib import Path

from tests.local.front_door import Door

WORKSHOP = Path(__file__).parents[2] / "examples" / "workshop"


def test_01_the_basic_job_prints_and_is_listed(door: Door) -> None:
    result = door.good("run", WORKSHOP / "01-basic-job" / "job.yaml")
    assert result.out
    assert door.good("logs", "hello").out == result.out
    assert door.state("hello") == "succeeded"


def test_02_the_model_is_a_version_that_leads_back_to_its_run(door: Door, tmp_path: Path) -> None:
    door.good("run", WORKSHOP / "02-save-model" / "job.yaml")
    lineage = door.good("model", "show", "line@1", "--json").json
    assert lineage["run"]["id"] == door.show("line")["run"]["id"]
    assert lineage["run"]["code"]
    door.good("model", "get", "line@1", tmp_path / "line")
    assert any((tmp_path / "line").iterdir())


def test_03_the_eater_dies_alone_and_is_told_why(door: Door) -> None:
    folder = WORKSHOP / "03-out-of-memory"
    neighbour = door.good("run", "-d", folder / "neighbour.yaml").out.strip()
    result = door("run", folder / "job.yaml")
    assert result.code == 1
    assert "memory" in result.err
    eater = door.show("eat")["run"]
    assert eater["reason"] == "oom"
    assert eater["status"]["memory_limit"] == 128 << 20
    assert eater["status"]["peak_memory"] > 100 << 20
    door.until(neighbour, "succeeded")
    door.good("run", folder / "job.yaml", "-p", "up_to=32")


def test_04_parameters_arrive_three_ways_and_are_never_run(door: Door) -> None:
    result = door.good("run", WORKSHOP / "04-parameters" / "job.yaml", "-p", "lr=0.2")
    assert "0.2" in result.out
    assert result.out.count("it's 5 o'clock; $(date) is not run") >= 2


def test_05_many_jobs_queue_and_a_failure_is_named(door: Door) -> None:
    file = WORKSHOP / "05-many-jobs" / "sweep.yaml"
    door.good("run", file)
    assert [trial["state"] for trial in door.show("many")["children"]] == ["succeeded"] * 12
    assert door("run", file, "-p", "fails_at=7").code == 1
    failed = [trial for trial in door.show("many")["children"] if trial["state"] == "failed"]
    assert [trial["params"]["number"] for trial in failed] == [7]
