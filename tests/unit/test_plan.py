"""Differences between what is wanted and what is there, and the steps they give."""

import copy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlstead.plan import (
    Bundle,
    BundleFile,
    Component,
    Facts,
    HostFacts,
    PartFacts,
    SecretRef,
    Step,
    differing,
    digest,
    object_key,
    object_steps,
    role_steps,
    steps_of,
)
from mlstead.testing.site_values import a_site

SITE = a_site("s", {"a": ["control-plane"], "b": ["worker"]})
LEAF = st.none() | st.booleans() | st.integers() | st.text(max_size=8)
KEY = st.text("abc", min_size=1, max_size=3)
JSON = st.recursive(
    LEAF, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEY, inner, max_size=3)
)
NOTHING: tuple[Any, ...] = ({}, [], "", None, False)


def grown(value: Any) -> Any:
    """Give what the API server would: the same, with fields of its own in every map."""
    if isinstance(value, dict):
        return {**{key: grown(item) for key, item in value.items()}, "its own": {"x": 1}}
    return [grown(item) for item in value] if isinstance(value, list) else value


# ---- differing


@settings(deadline=None)
@given(JSON)
def test_what_is_as_wanted_does_not_differ_whatever_else_is_there(value: Any) -> None:
    assert differing(value, copy.deepcopy(value)) == ""
    assert differing(value, grown(value)) == ""


@settings(deadline=None)
@given(st.dictionaries(KEY, JSON, min_size=1, max_size=3), st.data())
def test_a_field_with_something_in_it_that_is_gone_is_named(
    value: dict[str, Any], data: st.DataObject
) -> None:
    key = data.draw(st.sampled_from(sorted(value)))
    found = {name: item for name, item in value.items() if name != key}
    assert differing(value, found) == ("" if value[key] in NOTHING else key)


@settings(deadline=None)
@given(JSON, JSON)
def test_two_values_without_a_difference_are_equal_but_for_what_is_empty(
    one: Any, other: Any
) -> None:
    if differing(one, other) == "" and differing(other, one) == "":
        assert pruned(one) == pruned(other)


def pruned(value: Any) -> Any:
    """Leave out the fields of maps that hold nothing."""
    if isinstance(value, dict):
        rows = {key: pruned(item) for key, item in value.items()}
        return {key: rows[key] for key in rows if value[key] not in NOTHING}
    return [pruned(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("wanted", "found", "path"),
    [
        ({"a": {"b": 1}}, {"a": {"b": 2}}, "a.b"),
        ({"a": {"b": 1}}, {"a": 3}, "a"),
        ({"a": {"b": 1}}, {"a": None}, "a"),
        ({"a": [{"b": 1}, {"c": 2}]}, {"a": [{"b": 1}, {"c": 3}]}, "a[1].c"),
        ({"a": [1]}, {"a": [1, 2]}, "a"),
        ({"a": [1, 2]}, {"a": [2, 1]}, "a[0]"),
        ({"a": [1]}, {"a": "1"}, "a"),
        ({"a": "1"}, {"a": 1}, "a"),
        ({"a": {}}, {}, ""),
        ({}, None, "."),
        ([], None, "."),
        (1, 2, "."),
        ({"a": True}, {}, "a"),
        ({"x/y.z": "1"}, {"x/y.z": "2"}, "x/y.z"),
    ],
)
def test_the_first_difference_is_named_by_its_path(wanted: Any, found: Any, path: str) -> None:
    assert differing(wanted, found) == path


# ---- objects


def an_object(**spec: Any) -> dict[str, Any]:
    metadata = {"name": "c", "namespace": "n"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": spec}


def test_an_object_is_named_by_kind_namespace_and_name() -> None:
    assert object_key(an_object()) == "ConfigMap/n/c"
    assert object_key({"kind": "Node", "metadata": {"name": "a"}}) == "Node/a"


def test_objects_are_one_step_with_a_reason_for_each_that_is_not_right() -> None:
    right, changed = an_object(a="1"), an_object(b="2")
    changed["metadata"] = {"name": "d"}
    gone = {**an_object(), "kind": "Secret"}
    there = {"ConfigMap/n/c": right, "ConfigMap/d": {**changed, "data": {"b": "3"}}}
    part = Component("Do it", "apps")
    wait = (("rollout", "status", "x"),)
    steps = object_steps("x", part, [right, changed, gone], Facts(objects=there), wait)
    assert [step.reasons for step in steps] == [
        ("ConfigMap/d: data.b was changed", "Secret/n/c is not there")
    ]
    assert steps[0].key == "x:cluster"
    assert steps[0].arguments == {
        "objects": [right, changed, gone],
        "wait": [["rollout", "status", "x"]],
    }
    assert object_steps("x", part, [right], Facts(objects=there)) == []


def test_without_a_cluster_every_object_is_to_be_made() -> None:
    (step,) = object_steps("x", Component("Do it", "apps"), [an_object()], Facts())
    assert step.reasons == ("ConfigMap/n/c is not there",)


# ---- roles


def part(**inputs: Any) -> Component:
    return Component(
        "Do it", "runtime", machines=lambda site: list(site.machines), inputs=lambda *_: inputs
    )


def facts(name: str, a: PartFacts, **roles: str) -> Facts:
    return Facts(hosts={"a": HostFacts(parts={name: a})}, roles=roles)


def test_a_role_has_a_step_for_each_machine_that_lacks_it_or_has_it_otherwise() -> None:
    component = part(x_size=1)
    inputs = digest(["r1", {"x_size": 1}])
    first, second = role_steps("x", component, SITE, Facts(roles={"x": "r1"}))
    assert (first.target, second.target) == ("a", "b")
    assert first.arguments == {"x_size": 1, "mlstead_inputs": inputs}
    assert first.reasons == ("not installed",)

    def reasons(found: PartFacts, role: str = "r1") -> tuple[str, ...]:
        steps = steps_of("x", component, SITE, facts("x", found, x=role))
        return next((step.reasons for step in steps if step.target == "a"), ())

    assert reasons(PartFacts(inputs)) == ()
    assert reasons(PartFacts(inputs, ("f is gone", "u is failed"))) == ("f is gone", "u is failed")
    assert reasons(PartFacts(inputs), "r2") == ("its settings or its version changed",)
    changed = PartFacts("older", ("f is gone",))
    assert reasons(changed) == ("its settings or its version changed", "f is gone")
    assert reasons(PartFacts("", ("f is gone",))) == ("not installed",)


def test_a_component_with_a_plan_of_its_own_is_asked_for_it() -> None:
    step = Step("t", "laptop", "x", "local")
    assert steps_of("x", replace(part(), plan=lambda *_: [step]), SITE, Facts()) == [step]


def test_secrets_count_by_name_and_the_order_of_fields_does_not() -> None:
    assert digest({"a": SecretRef("x"), "b": 1}) == digest({"b": 1, "a": SecretRef("x")})
    assert digest({"a": SecretRef("x")}) != digest({"a": SecretRef("y")})
    assert digest([["a"], "b"]) != digest(["a", ["b"]])


def test_a_secret_is_not_written_out() -> None:
    step = Step("t", "a", "x", "role", {"x_password": SecretRef("registry.password")})
    assert "<secret registry.password>" in f"{step.arguments['x_password']}"


def test_a_bundle_gives_the_files_of_some_folders() -> None:
    files = tuple(BundleFile(path, "", 0) for path in ("bin/a", "cni/b", "binary/c", "cni/d"))
    bundle = Bundle("/b", {}, files)
    assert [it.path for it in bundle.under("cni")] == ["cni/b", "cni/d"]
    assert [it.path for it in bundle.under("bin", "cni")] == ["bin/a", "cni/b", "cni/d"]


def test_what_is_not_known_of_a_part_is_nothing() -> None:
    assert Facts().part("a", "x") == PartFacts()
    assert facts("x", PartFacts("i")).part("a", "y") == PartFacts()
    assert facts("x", PartFacts("i")).part("a", "x") == PartFacts("i")
