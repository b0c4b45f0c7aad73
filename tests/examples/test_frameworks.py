"""Follows the READMEs of the PyTorch and TensorFlow examples, on real images where given."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.examples.images import folder
from tests.local.front_door import Door

EXAMPLES = Path(__file__).parents[2] / "examples"
pytestmark = [pytest.mark.frameworks, pytest.mark.timeout(1500)]


def test_fashion_mnist_is_trained_on_two_workers_served_and_asked(
    door: Door, tmp_path: Path
) -> None:
    images, real = folder(tmp_path)
    example = EXAMPLES / "fashion-mnist"
    door.good("run", example / "pipeline.yaml", "-p", f"source={images}")
    details = door.show("fashion-mnist")
    assert {child["state"] for child in details["children"]} == {"succeeded"}
    report = next(child for child in details["children"] if child["key"] == "report")
    if real:
        assert report["values"]["accuracy"] >= 0.78
    request = tmp_path / "REQUEST.json"
    subprocess.run(
        [sys.executable, example / "request.py", images, "--out", request], check=True, timeout=60
    )
    asked = json.loads(request.read_text())["inputs"]
    assert [(one["datatype"], one["shape"][1:]) for one in asked] == [("UINT8", [28, 28])]
    answer = door.good("predict", "fashion", request, "--json").json
    [output] = answer["outputs"]
    assert len(output["data"]) == asked[0]["shape"][0]
    assert all(number in range(10) for number in output["data"])
    lineage = door.good("model", "show", "fashion@1", "--json").json
    assert lineage["run"]["parent"] == details["run"]["id"]
    assert {link["slot"] for link in lineage["inputs"]} == {"train", "best"}
    door.good("stop", "service/fashion")


def test_ddp_equals_one_process_and_resumes_after_a_death(door: Door, tmp_path: Path) -> None:
    images, _ = folder(tmp_path)
    job = EXAMPLES / "ddp" / "job.yaml"
    options = ("-p", f"source={images}", "-p", "epochs=6")
    door.good("run", job, *options)
    values = door.show("ddp")["run"]["values"]
    assert values["world"] == 2
    assert np.isclose(values["gradient_difference"], 0, atol=1e-5)
    assert np.isclose(values["weight_difference"], 0, atol=1e-3)
    door.good("run", job, *options, "-p", "die_at=3")
    run = door.show("ddp")["run"]
    assert run["attempt"] == 2
    assert run["values"]["resumed_at"] > 0
    door.good("run", EXAMPLES / "ddp" / "torchrun.yaml", *options)
    assert door.show("ddp-torchrun")["run"]["values"]["world"] == 2


def test_tensorflow_workers_hold_the_same_weights(door: Door, tmp_path: Path) -> None:
    images, _ = folder(tmp_path)
    job = EXAMPLES / "tensorflow" / "job.yaml"
    door.good("run", job, "-p", f"source={images}", "-p", "epochs=4")
    values = door.show("tensorflow")["run"]["values"]
    assert values["world"] == 2
    assert values["difference_over_workers"] == 0
    assert np.isclose(values["difference_from_one_process"], 0, atol=1e-3)
