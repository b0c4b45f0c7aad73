"""Counts what a version did: requests, errors, latency, predicted classes."""

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Mapping

from mlstead.serving.tensors import Json

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the latency histogram, in seconds; the last bucket has none."""
_KEPT = 2048
_MOST_CLASSES = 1000
OTHER = "other"


class Tally:
    """The counts of one version since the server started; latencies of the last 2,048 requests."""

    def __init__(self) -> None:
        self.requests = 0
        self.errors: dict[int, int] = {}
        self.classes: dict[str, int] = {}
        self.histogram = [0] * (len(BUCKETS) + 1)
        self.seconds = 0.0
        self.latest = array("d")
        self._next = 0

    def record(self, status: int, seconds: float, classes: Mapping[str, int]) -> None:
        """Count one answered request."""
        if len(self.latest) < _KEPT:
            self.latest.append(seconds)
        else:
            self.latest[self._next] = seconds
            self._next = (self._next + 1) % _KEPT
        self.requests += 1
        self.seconds += seconds
        self.histogram[bisect_left(BUCKETS, seconds)] += 1
        if status >= 400:
            self._error(status)
        for name, amount in classes.items():
            known = name in self.classes or len(self.classes) < _MOST_CLASSES
            key = name if known else OTHER
            self.classes[key] = self.classes.get(key, 0) + amount

    def refuse(self, status: int) -> None:
        """Count a request that never reached the model; it says nothing about latency."""
        self.requests += 1
        self._error(status)

    def _error(self, status: int) -> None:
        self.errors[status] = self.errors.get(status, 0) + 1

    def summary(self) -> Json:
        return summary([self])


def summary(tallies: Iterable[Tally]) -> Json:
    """Sum up counts: requests, errors, p50 and p99 latency in milliseconds, classes."""
    every = list(tallies)
    latest = sorted(seconds for one in every for seconds in one.latest)
    classes: dict[str, int] = {}
    for one in every:
        for name, amount in one.classes.items():
            classes[name] = classes.get(name, 0) + amount
    return {
        "requests": sum(one.requests for one in every),
        "errors": sum(sum(one.errors.values()) for one in every),
        "p50_ms": percentile(latest, 0.50),
        "p99_ms": percentile(latest, 0.99),
        "classes": classes,
    }


def percentile(ordered: list[float], share: float) -> float | None:
    """Give the nearest-rank percentile of sorted seconds in milliseconds; None of nothing."""
    if not ordered:
        return None
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000, 3)
