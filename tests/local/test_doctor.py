"""What `doctor` says of this machine."""

from tests.local.front_door import Door


def test_this_machine_is_well_and_runs_a_task(door: Door) -> None:
    checks = door.good("doctor", "--deep", "--json").json["checks"]
    assert [(check["name"], check["state"]) for check in checks] == [
        ("engine", "ok"), ("task", "ok"),
    ]  # fmt: skip
    assert "cpu" in door.good("doctor").out
