"""Follows the README of the digits example: data, candidates, service, report, and again."""

from pathlib import Path

from tests.local.front_door import Door

FILE = Path(__file__).parents[2] / "examples" / "digits" / "pipeline.yaml"


def test_digits_goes_from_data_to_a_served_model_and_a_report(door: Door, tmp_path: Path) -> None:
    door.good("run", FILE)
    details = door.show("digits")
    assert {child["state"] for child in details["children"]} == {"succeeded"}
    report = next(child for child in details["children"] if child["key"] == "report")
    assert report["values"]["accuracy"] >= 0.95
    door.good("get", "digits", "report", "--to", tmp_path / "got")
    pictures = list((tmp_path / "got").rglob("*.png"))
    assert pictures
    assert pictures[0].read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert list((tmp_path / "got").rglob("report.md"))
    figures = door.good("show", "service/digits", "--json").json["figures"]
    assert figures["requests"] > 0
    lineage = door.good("model", "show", "digits@1", "--json").json
    assert lineage["run"]["parent"] == details["run"]["id"]
    assert lineage["run"]["code"]
    assert lineage["inputs"]

    door.good("run", FILE)
    again = {child["key"]: child["cached"] for child in door.show("digits")["children"]}
    assert again["ingest"]
    assert all(cached for key, cached in again.items() if key.startswith("train"))
    door.good("stop", "service/digits")
