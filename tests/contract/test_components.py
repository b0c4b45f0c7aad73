"""The component contract over every part of machines and cluster that discover finds."""

from collections import Counter
from collections.abc import Mapping

import pytest

import mlstead.apps
import mlstead.machines
from mlstead import discover
from mlstead.plan import Component, Facts
from mlstead.site.components import ansible_folder, apps, machine_parts
from mlstead.site.planning import ports
from mlstead.testing.component_contract import ComponentContract
from mlstead.testing.site_values import APPS, sites


@pytest.mark.parametrize("name", discover.names(mlstead.machines))
class TestMachineParts(ComponentContract):
    @pytest.fixture
    def peers(self) -> Mapping[str, Component]:
        return machine_parts()

    def test_where_no_machine_has_it_nothing_is_unmet(self, component: Component) -> None:
        for site in sites().values():
            if not list(component.machines(site)):
                assert component.unmet(site, Facts()) == []


@pytest.mark.parametrize("name", discover.names(mlstead.apps))
class TestApps(ComponentContract):
    @pytest.fixture
    def peers(self) -> Mapping[str, Component]:
        return apps()

    def test_an_app_has_no_machines(self, component: Component) -> None:
        assert [list(component.machines(site)) for site in sites().values()] == [[], [], [], []]


def test_every_app_with_options_is_under_contract() -> None:
    named = {name for name in apps() if hasattr(discover.part(mlstead.apps, name), "OPTIONS")}
    assert named <= set(APPS) <= set(apps())


def test_no_two_parts_have_a_name_or_a_title_in_common() -> None:
    assert not set(machine_parts()) & set(apps())
    titles = [it.title for it in (*machine_parts().values(), *apps().values())]
    assert len(set(titles)) == len(titles)


def test_no_two_parts_listen_on_one_port_or_ask_by_one_name() -> None:
    for site in sites().values():
        taken = Counter((port.target, port.number, port.protocol) for port in ports(site))
        assert [port for port, count in taken.items() if count > 1] == []
        for machine in site.machines:
            parts = machine_parts().values()
            asked = Counter(one.name for part in parts for one in part.probes(site, machine))
            assert [name for name, count in asked.items() if count > 1] == []


def test_every_role_belongs_to_a_part() -> None:
    roles = {path.name for path in (ansible_folder() / "roles").iterdir() if path.is_dir()}
    assert roles == {name for name, part in machine_parts().items() if part.phase != "access"}
