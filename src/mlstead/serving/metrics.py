"""The text of ``/metrics``, in the exposition format of Prometheus."""

from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

from mlstead.serving.tally import BUCKETS, Tally

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
_BOUNDS = [*(str(bound) for bound in BUCKETS), "+Inf"]


class Metrics:
    """Turns the tallies into text when it is asked for, so that a request pays nothing for it."""

    def __init__(self, service: str, tallies: Mapping[str, Tally]) -> None:
        self._service = service
        self._tallies = tallies
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        """Give all metrics as Prometheus reads them."""
        return bytes(generate_latest(self._registry))

    def collect(self) -> Iterator[Any]:
        """Give the metric families (called by the registry)."""
        where = ["model", "version"]
        requests = CounterMetricFamily(
            "mlstead_requests", "Inference requests answered.", labels=where
        )
        errors = CounterMetricFamily(
            "mlstead_errors", "Requests answered with an error.", labels=[*where, "code"]
        )
        classes = CounterMetricFamily(
            "mlstead_predictions", "Rows predicted, by class.", labels=[*where, "class"]
        )
        latency = HistogramMetricFamily(
            "mlstead_request_seconds", "Time from request to answer.", labels=where
        )
        for version, tally in self._tallies.items():
            place = [self._service, version]
            requests.add_metric(place, tally.requests)
            for code, amount in tally.errors.items():
                errors.add_metric([*place, str(code)], amount)
            for name, amount in tally.classes.items():
                classes.add_metric([*place, name], amount)
            buckets = list(zip(_BOUNDS, accumulate(tally.histogram), strict=True))
            latency.add_metric(place, buckets, tally.seconds)
        yield from (requests, errors, classes, latency)
