"""What every part of machines and cluster must do. Subclass, and give ``name`` and ``peers``."""

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

import pytest

from mlstead.plan import (
    CLUSTER,
    LAPTOP,
    PHASES,
    Component,
    Facts,
    PartFacts,
    SecretRef,
    Step,
    object_key,
    steps_of,
)
from mlstead.site.applying import resolved
from mlstead.site.components import ansible_folder, ordered
from mlstead.spec.site import Site
from mlstead.testing.site_values import a_bundle, after, bare, drifted, edits, sites

KNOWN: Final = ("role", "manifest", "helm")
"""The actions whose end ``site_values.after`` can tell from the step."""
SECRETIVE: Final = ("password", "key", "token", "secret", "passphrase")


def _shapes() -> dict[str, tuple[Site, Facts]]:
    """Give everything a part is planned with: each site, and machines of every sort."""
    found = {}
    for name, site in sites().items():
        found[f"{name}, nothing known"] = (site, Facts())
        found[f"{name}, bare"] = (site, bare(site))
        found[f"{name}, no Python"] = (site, _silent(site))
        found[f"{name}, old"] = (site, bare(site, cgroups=1, resources=False, nameservers=[]))
        found[f"{name}, no bundle"] = (site, replace(bare(site), bundle=None))
        some = dict(list(bare(site).hosts.items())[1:])
        found[f"{name}, the first is away"] = (site, replace(bare(site), hosts=some))
    return found


def _silent(site: Site) -> Facts:
    """Give the facts of machines without Python."""
    facts = bare(site)
    hosts = {name: replace(it, system={"python": ""}) for name, it in facts.hosts.items()}
    return replace(facts, hosts=hosts)


SHAPES: Final = _shapes()


class ComponentContract:
    """One test per promise of ``plan.Component``; all its functions are pure."""

    @pytest.fixture
    def name(self) -> str:
        """Give the name of the part's file."""
        raise NotImplementedError

    @pytest.fixture
    def peers(self) -> Mapping[str, Component]:
        """Give all parts of its folder, itself among them."""
        raise NotImplementedError

    @pytest.fixture
    def component(self, name: str, peers: Mapping[str, Component]) -> Component:
        return peers[name]

    @pytest.fixture(params=list(sites()))
    def site(self, request: pytest.FixtureRequest) -> Site:
        return sites()[request.param]

    @pytest.fixture
    def done(self, name: str, component: Component, site: Site) -> Facts:
        """Give the facts when the part is installed as the site says."""
        facts = bare(site)
        return after(facts, steps_of(name, component, site, facts))

    # ---- what it says of itself

    def test_it_has_a_phase_and_a_title_of_one_line(self, component: Component) -> None:
        assert component.phase in PHASES
        assert component.title[:1].isupper()
        assert component.title.isprintable()
        assert not component.title.endswith(".")

    def test_what_it_needs_is_there_and_comes_before_it(
        self, name: str, component: Component, peers: Mapping[str, Component]
    ) -> None:
        assert set(component.needs) <= set(peers)
        order = list(ordered(peers))
        assert all(order.index(need) < order.index(name) for need in component.needs)

    def test_its_machines_are_of_the_site(self, component: Component, site: Site) -> None:
        found = list(component.machines(site))
        assert set(found) <= set(site.machines)
        assert len(set(found)) == len(found)

    def test_its_ports_are_whole_and_its_own(self, component: Component, site: Site) -> None:
        ports = list(component.ports(site))
        for port in ports:
            assert port.target in site.machines
            assert 0 < port.number < 65536
            assert port.owner
            assert port.login or port.sources == "loopback"
        assert len({(port.target, port.number, port.protocol) for port in ports}) == len(ports)

    def test_its_probes_are_programs_with_arguments(self, component: Component, site: Site) -> None:
        for machine in site.machines:
            probes = list(component.probes(site, machine))
            assert len({probe.name for probe in probes}) == len(probes)
            for probe in probes:
                assert probe.argv
                assert all(word and "\0" not in word for word in probe.argv)

    def test_what_is_unmet_is_said_in_lines(self, component: Component) -> None:
        for label, shape in SHAPES.items():
            lines = component.unmet(*shape)
            assert all(line and line.isprintable() for line in lines), label

    def test_a_whole_bundle_leaves_nothing_unmet(self, component: Component, site: Site) -> None:
        assert component.unmet(site, bare(site)) == []

    # ---- what it plans

    def test_it_plans_whatever_is_known_and_twice_the_same(
        self, name: str, component: Component
    ) -> None:
        for label, (site, facts) in SHAPES.items():
            before = copy.deepcopy((site, facts))
            steps = steps_of(name, component, site, facts)
            assert steps_of(name, component, site, facts) == steps, label
            assert (site, facts) == before, label

    def test_a_step_says_where_what_and_why(self, name: str, component: Component) -> None:
        for label, (site, facts) in SHAPES.items():
            steps = steps_of(name, component, site, facts)
            for step in steps:
                assert step.component == name, label
                assert step.target in {*site.machines, CLUSTER, LAPTOP}, label
                assert step.title.isprintable(), label
                assert step.reasons, label
                assert all(reason.isprintable() for reason in step.reasons), label
            assert len({(it.key, it.action, it.reasons) for it in steps}) == len(steps), label

    def test_a_role_is_there_with_its_removal(
        self, name: str, component: Component, site: Site
    ) -> None:
        for step in steps_of(name, component, site, bare(site)):
            if step.action == "role":
                tasks = ansible_folder() / "roles" / name / "tasks"
                assert {"main.yml", "remove.yml"} <= {path.name for path in tasks.iterdir()}
                assert (tasks / f"{step.tasks}.yml").is_file()

    def test_variables_of_a_role_carry_its_name(self, name: str, component: Component) -> None:
        for step in _every_step(name, component):
            if step.action == "role":
                strange = {key for key in step.arguments if not key.startswith("mlstead_")}
                assert {
                    it for it in strange if it != name and not it.startswith(f"{name}_")
                } == set()

    def test_arguments_are_plain_data_once_secrets_are_put_in(
        self, name: str, component: Component
    ) -> None:
        for step in _every_step(name, component):
            plain = resolved(step.arguments, lambda secret: f"value of {secret}")
            assert json.loads(json.dumps(plain)) == plain

    def test_a_secret_stands_in_a_plan_by_its_name_only(
        self, name: str, component: Component
    ) -> None:
        for step in _every_step(name, component):
            for key, value in step.arguments.items():
                if key.rsplit("_", 1)[-1] in SECRETIVE:
                    assert not value or isinstance(value, SecretRef), key

    # ---- what is left to do

    def test_nothing_is_left_when_it_is_done(
        self, name: str, component: Component, site: Site, done: Facts
    ) -> None:
        assert _known(steps_of(name, component, site, done)) == []

    def test_one_drift_gives_exactly_that_step(
        self, name: str, component: Component, site: Site, done: Facts
    ) -> None:
        for machine, parts in ((key, host.parts) for key, host in done.hosts.items()):
            if name not in parts:
                continue
            found = PartFacts(parts[name].inputs, ("/a/file was changed",))
            step, *more = _known(
                steps_of(name, component, site, drifted(done, machine, name, found))
            )
            assert (step.key, more) == (f"{name}:{machine}", [])
            assert step.reasons == ("/a/file was changed",)
            assert step.arguments["mlstead_inputs"] == found.inputs

    def test_a_part_that_is_gone_or_older_gives_exactly_that_step(
        self, name: str, component: Component, site: Site, done: Facts
    ) -> None:
        for machine, host in done.hosts.items():
            if name not in host.parts:
                continue
            for found in (PartFacts(), PartFacts("of an older version")):
                facts = drifted(done, machine, name, found)
                steps = _known(steps_of(name, component, site, facts))
                assert [step.key for step in steps] == [f"{name}:{machine}"]

    def test_an_object_that_is_gone_or_changed_gives_exactly_that_reason(
        self, name: str, component: Component, site: Site, done: Facts
    ) -> None:
        for key, reason, objects in _damage(name, component, site):
            facts = replace(done, objects={**(done.objects or {}), **objects})
            if not objects[key]:
                facts = replace(
                    facts, objects={k: one for k, one in (facts.objects or {}).items() if k != key}
                )
            steps = _known(steps_of(name, component, site, facts))
            assert [step.target for step in steps] == [CLUSTER]
            assert steps[0].reasons == (reason,)

    def test_a_release_that_is_gone_or_otherwise_gives_exactly_that_step(
        self, name: str, component: Component, site: Site, done: Facts
    ) -> None:
        for key, release in (done.releases or {}).items():
            damaged = {
                "is not there": None,
                "is failed": replace(release, status="failed"),
                "the value more was changed": replace(
                    release, values={**release.values, "more": 1}
                ),
                "Service/x is not there": replace(release, drift=("Service/x is not there",)),
                f"{release.chart} 0.0.1, not": replace(release, version="0.0.1"),
            }
            for words, found in damaged.items():
                releases = {} if found is None else {key: found}
                (step,) = _known(steps_of(name, component, site, replace(done, releases=releases)))
                (reason,) = step.reasons
                assert reason.startswith(f"release {key}")
                assert words in reason

    def test_another_bundle_never_changes_what_machines_have_it(
        self, component: Component, site: Site
    ) -> None:
        facts = replace(bare(site), bundle=replace(a_bundle(), versions={"kubernetes": "v9"}))
        for machine in component.machines(site):
            before = component.inputs(site, bare(site), machine)
            assert set(component.inputs(site, facts, machine)) == set(before)


def _every_step(name: str, component: Component) -> Iterator[Step]:
    for site, facts in SHAPES.values():
        yield from steps_of(name, component, site, facts)


def _known(steps: list[Step]) -> list[Step]:
    return [step for step in steps if step.action in KNOWN]


def _damage(
    name: str, component: Component, site: Site
) -> list[tuple[str, str, dict[str, dict[str, Any]]]]:
    """List ways to damage the part's objects: key, the reason it gives, and the object then."""
    found: list[tuple[str, str, dict[str, dict[str, Any]]]] = []
    for step in steps_of(name, component, site, bare(site)):
        if step.action != "manifest":
            continue
        for one in step.arguments["objects"]:
            key = object_key(one)
            found.append((key, f"{key} is not there", {key: {}}))
            for path, changed in edits(one):
                found.append((key, f"{key}: {_written(path)} was changed", {key: changed}))
    return found


def _written(path: str) -> str:
    """Write a path as ``plan.differing`` does: indices in brackets."""
    parts = (f"[{part}]" if part.isdigit() else f".{part}" for part in path.split("."))
    return "".join(parts).removeprefix(".")
