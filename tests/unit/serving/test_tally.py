"""Counting requests, and the texts made of the counts."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mlstead.serving.metrics import Metrics
from mlstead.serving.tally import OTHER, Tally, percentile, summary


def test_counts_errors_latency_and_classes_are_summed_over_versions() -> None:
    first, second = Tally(), Tally()
    first.record(200, 0.010, {"bag": 2})
    first.record(400, 0.030, {})
    second.record(200, 0.020, {"bag": 1, "shirt": 1})
    total = summary([first, second])
    assert total["requests"] == 3
    assert total["errors"] == 1
    assert total["classes"] == {"bag": 3, "shirt": 1}
    assert total["p50_ms"] == pytest.approx(20)
    assert total["p99_ms"] == pytest.approx(30)


def test_latencies_of_old_requests_are_forgotten_but_still_counted() -> None:
    tally = Tally()
    for _ in range(10):
        tally.record(200, 9.0, {})
    for _ in range(2048):
        tally.record(200, 0.001, {})
    assert tally.summary()["requests"] == 2058
    assert tally.summary()["p99_ms"] == pytest.approx(1)
    assert tally.histogram[-2] == 10


def test_a_refusal_counts_as_an_error_but_not_as_a_quick_answer() -> None:
    tally = Tally()
    tally.record(200, 0.5, {})
    for _ in range(9):
        tally.refuse(503)
    said = tally.summary()
    assert (said["requests"], said["errors"], said["p50_ms"]) == (10, 9, 500)


def test_nothing_measured_is_no_percentile() -> None:
    assert percentile([], 0.5) is None


def test_a_model_that_invents_classes_cannot_fill_the_memory() -> None:
    tally = Tally()
    for number in range(5000):
        tally.record(200, 0.001, {str(number): 1})
    assert len(tally.classes) == 1001
    assert tally.classes[OTHER] == 4000


def test_metrics_are_text_that_prometheus_reads() -> None:
    tally = Tally()
    tally.record(200, 0.003, {'a "b"\n': 2})
    tally.record(503, 20.0, {})
    text = Metrics("fashion", {"v1": tally}).text().decode()
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    place = (("model", "fashion"), ("version", "v1"))
    assert samples[("mlstead_requests_total", *place)] == 2
    assert samples[("mlstead_errors_total", ("code", "503"), *place)] == 1
    assert samples[("mlstead_predictions_total", ("class", 'a "b"\n'), *place)] == 2
    assert samples[("mlstead_request_seconds_bucket", ("le", "0.005"), *place)] == 1
    assert samples[("mlstead_request_seconds_bucket", ("le", "+Inf"), *place)] == 2
    assert samples[("mlstead_request_seconds_sum", *place)] == pytest.approx(20.003)
