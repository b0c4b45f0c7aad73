"""The order of parts, the steps of a whole site, what is done side by side, and its ports."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlstead.plan import PHASES, Component, Facts, HostFacts, Step
from mlstead.site.components import apps, machine_parts, ordered, role_digests
from mlstead.site.leaving import drain_steps
from mlstead.site.planning import first_steps, groups, plan_site, ports
from mlstead.testing.site_values import SYSTEM, after, bare, sites


def part(phase: str, *needs: str) -> Component:
    return Component("Do it", phase, needs=needs)


def step(target: str, component: str = "x", tasks: str = "main", mode: str = "") -> Step:
    arguments = {"kubeadm_mode": mode} if mode else {}
    return Step("t", target, component, "role", arguments, tasks=tasks)


def targets(steps: list[Step]) -> list[list[str]]:
    return [[one.target for one in group] for group in groups(steps)]


# ---- the order of parts


def test_parts_are_ordered_by_phase_then_need_then_name() -> None:
    parts = {
        "a": part("apps"),
        "z": part("python"),
        "c": part("runtime", "d"),
        "d": part("runtime", "z"),
        "b": part("runtime"),
    }
    assert list(ordered(parts)) == ["z", "b", "d", "c", "a"]
    assert ordered(parts) == parts


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"a": part("apps", "b"), "b": part("apps", "a")}, "cannot be ordered: a, b"),
        ({"a": part("apps", "a")}, "cannot be ordered: a"),
        ({"a": part("apps", "gone")}, "cannot be ordered: a"),
        ({"a": part("network", "b"), "b": part("apps")}, "a needs a part of a later phase"),
    ],
)
def test_parts_that_cannot_be_ordered_are_told(parts: dict[str, Component], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ordered(parts)


@settings(deadline=None)
@given(st.data())
def test_whatever_the_names_each_part_comes_after_what_it_needs(data: st.DataObject) -> None:
    names = data.draw(st.lists(st.text("abcdef", min_size=1), unique=True, max_size=7))
    parts: dict[str, Component] = {}
    for name in names:
        needs = data.draw(st.sets(st.sampled_from(sorted(parts)))) if parts else set()
        least = max((PHASES.index(parts[one].phase) for one in needs), default=0)
        phase = data.draw(st.integers(least, len(PHASES) - 1))
        parts[name] = part(PHASES[phase], *sorted(needs))
    order = list(ordered(dict(data.draw(st.permutations(list(parts.items()))))))
    assert sorted(order) == sorted(parts)
    assert all(order.index(need) < order.index(one) for one in order for need in parts[one].needs)
    phases = [PHASES.index(parts[one].phase) for one in order]
    assert phases == sorted(phases)


def test_our_parts_come_in_the_order_of_an_install() -> None:
    order = list(machine_parts())
    wanted = ["python", "network", "registry", "containerd", "kubelet", "kubeadm"]
    assert [name for name in order if name in wanted] == wanted
    found = list(apps())
    assert found.index("cluster_dns") < found.index("pod_network")


def test_every_role_has_a_hash_of_its_own() -> None:
    assert len(set(role_digests().values())) == len(role_digests())


# ---- a whole site


@pytest.mark.parametrize("name", sites())
def test_a_plan_that_was_done_leaves_nothing_and_was_in_order(name: str) -> None:
    site = sites()[name]
    facts = bare(site)
    steps = plan_site(site, facts)
    parts = {**machine_parts(), **apps()}
    assert list(dict.fromkeys(one.component for one in steps)) == [
        one for one in parts if one in {it.component for it in steps}
    ]
    left = plan_site(site, after(facts, steps))
    assert [one.key for one in left if one.action != "local"] == []


def test_an_existing_cluster_has_no_steps_of_machines() -> None:
    site = sites()["existing"]
    assert [one.key for one in plan_site(site, Facts()) if one.action == "role"] == []


def test_the_first_node_is_a_control_plane_before_others_join() -> None:
    site = sites()["apart"]
    steps = plan_site(site, bare(site))
    made = [it for it in groups(steps) if it[0].component == "kubeadm"]
    assert [[one.target for one in group] for group in made] == [["n1"], ["n2"]]


def test_machines_without_python_get_it_before_the_rest_is_planned() -> None:
    site = sites()["three"]
    blind = HostFacts({"python": "", "arch": "x86_64"})
    known = bare(site)
    facts = replace(known, hosts={**known.hosts, "w1": blind, "w2": blind})
    first = first_steps(plan_site(site, facts), facts)
    assert [step.key for step in first] == ["python:w1", "python:w2"]
    # What they are is known only now; the rest of the first plan would not have been right.
    looked = after(facts, first)
    hosts = {name: replace(host, system=SYSTEM) for name, host in looked.hosts.items()}
    looked = replace(looked, hosts=hosts)
    steps = plan_site(site, looked)
    assert first_steps(steps, looked) == []
    assert plan_site(site, facts) != [*first, *steps]
    left = plan_site(site, after(looked, steps))
    assert [one.key for one in left if one.action != "local"] == []


def test_nothing_comes_first_where_all_is_known_or_nothing_answers() -> None:
    site = sites()["three"]
    for facts in (bare(site), Facts()):
        assert first_steps(plan_site(site, facts), facts) == []


# ---- side by side


def test_steps_of_one_part_are_done_side_by_side() -> None:
    assert targets([step("a"), step("b"), step("c", "y"), step("d", "y")]) == [
        ["a", "b"], ["c", "d"]
    ]  # fmt: skip
    assert groups([]) == []


def test_other_tasks_and_those_who_join_come_by_themselves() -> None:
    assert targets([step("a", tasks="drain"), step("b")]) == [["a"], ["b"]]
    assert targets([step("a", mode="init"), step("b", mode="join"), step("c", mode="join")]) == [
        ["a"], ["b", "c"]
    ]  # fmt: skip


def test_two_steps_on_one_machine_are_never_side_by_side() -> None:
    assert targets([step("a"), step("b"), step("a"), step("b")]) == [["a", "b"], ["a", "b"]]
    site = sites()["three"]
    assert targets(drain_steps(site, ["w1", "w2"])) == [["head"], ["head"]]


@settings(deadline=None)
@given(st.lists(st.builds(step, st.sampled_from("abc"), st.sampled_from("xy")), max_size=8))
def test_groups_keep_every_step_in_its_order(steps: list[Step]) -> None:
    found = groups(steps)
    assert [one for group in found for one in group] == steps
    for group in found:
        assert len({one.component for one in group}) == 1
        assert len({one.target for one in group}) == len(group)


# ---- ports


def test_every_machine_listens_for_ssh_and_ports_are_in_order() -> None:
    site = sites()["apart"]
    found = ports(site)
    assert [(port.target, port.number) for port in found if port.owner == "sshd"] == [
        ("images", 22), ("n1", 22), ("n2", 22)
    ]  # fmt: skip
    assert [(it.target, it.number) for it in found] == sorted(
        (it.target, it.number) for it in found
    )
    assert ("images", 5443, "registry") in [(it.target, it.number, it.owner) for it in found]


def test_what_holds_the_cluster_is_reached_from_its_machine_only() -> None:
    etcd = [port for port in ports(sites()["three"]) if port.owner == "etcd"]
    assert {port.sources for port in etcd} == {"loopback"}
    assert {port.target for port in etcd} == {"head"}
