"""A lab for each file of tests: throw-away hosts, taken away when its tests are done."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from tests.machines import given, proven
from tests.machines.lab import trees
from tests.machines.lab.host import Host
from tests.machines.lab.lab import Lab

FOLDER = given.FOLDER  # beside the lab of `make lab-up`, which stays
given.offer_ansible()
SUBNET = os.environ.get("MLSTEAD_TEST_LAB_SUBNET", "10.77.1")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Give a lab without hosts; what an interrupted run left is taken away first."""
    trees.claim(FOLDER)
    made = Lab(FOLDER / "tests", given.ROOT or Lab(FOLDER).base(), SUBNET)
    made.down()
    yield made
    made.down()
    assert made.left() == []


@pytest.fixture(scope="module")
def hosts(lab: Lab) -> list[Host]:
    """Give two hosts, up and fresh for this file."""
    return lab.up(2)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    proven.take(report.nodeid, report.outcome, report.when, report.duration)


def pytest_sessionfinish() -> None:
    proven.write()
