"""One field of a text changes; all else stays as it is written, or nothing is changed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlstead.errors import UserError
from mlstead.spec.compose import compose
from mlstead.spec.nodes import Source, plain
from mlstead.spec.problems import Path
from mlstead.spec.splice import block, drop, put, written

NEW = {"address": "10.0.0.3", "roles": ["worker"]}
LINE = "w: {address: 10.0.0.3, roles: [worker]}"


def changed(text: str, path: Path, value: Any, *, flow: bool = True) -> str:
    return put(Source("f", text), path, value, flow=flow).text


def without(text: str, path: Path) -> str:
    return drop(Source("f", text), path).text


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("m:\n  a: 1\nb: 2\n", f"m:\n  a: 1\n  {LINE}\nb: 2\n"),
        ("m:\n  a: 1  # é\n\n# b\nb: 2\n", f"m:\n  a: 1  # é\n  {LINE}\n\n# b\nb: 2\n"),
        ("m:\n    a: 1", f"m:\n    a: 1\n    {LINE}\n"),
        ("m:\n  a:\n    x: [1,\n      2]\n", f"m:\n  a:\n    x: [1,\n      2]\n  {LINE}\n"),
        ("m:\n  a: |\n    x\n    y\nb: 1\n", f"m:\n  a: |\n    x\n    y\n  {LINE}\nb: 1\n"),
        ("m: {a: 1}  # x\n", f"m: {{a: 1, {LINE}}}  # x\n"),
        ("m: {a: {b: 1},\n  # x\n}\n", f"m: {{a: {{b: 1}}, {LINE},\n  # x\n}}\n"),
        ("m: {}\n", f"m: {{{LINE}}}\n"),
        ("m:\nb: 1\n", f"m: {{{LINE}}}\nb: 1\n"),
        ("b: 1\n", f"b: 1\nm: {{{LINE}}}\n"),
        ("m:\r\n  a: 1\r\nb: 2\r\n", f"m:\r\n  a: 1\r\n  {LINE}\r\nb: 2\r\n"),
        ('{"m": {"a": 1}}', f'{{"m": {{"a": 1, {LINE}}}}}'),
    ],
)  # fmt: skip
def test_a_field_is_added_at_the_end_of_its_map(before: str, after: str) -> None:
    assert changed(before, ("m", "w"), NEW) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("m:\n  a: 1\n  # of w\n  w: 2  # w\n  b: 3\n", "m:\n  a: 1\n  # of w\n  b: 3\n"),
        ("m:\n  a: 1\n  w:\n    x: 1\n    y: |\n      z\nb: 1\n", "m:\n  a: 1\nb: 1\n"),
        ("m:\n  w:\n  a: 1\n", "m:\n  a: 1\n"),
        ("m: {w: {x: 1}, a: 1}\n", "m: {a: 1}\n"),
        ("m: {a: 1, w: {x: 1}}\n", "m: {a: 1}\n"),
        ("m: {a: 1, w: [1], b: 2}\n", "m: {a: 1, b: 2}\n"),
        ("m:\n  w: 1  # x\nb: 1\n", "m: {}  # x\nb: 1\n"),
    ],
)  # fmt: skip
def test_a_field_goes_with_its_lines_only(before: str, after: str) -> None:
    assert without(before, ("m", "w")) == after


KUBE = "u:\n- name: a  # x\n  user: {}\n# of b\n- user:\n    t: 1\n  name: b\nc: d\n"


@pytest.mark.parametrize(
    ("path", "value", "after"),
    [
        (("u", 2), {"name": "new", "user": {"t": "x"}},
         KUBE.replace("c: d", "- name: new\n  user:\n    t: x\nc: d")),
        (("u", 1), {"name": "new", "user": {"t": ["x"]}},
         KUBE.replace("- user:\n    t: 1\n  name: b", "- name: new\n  user:\n    t:\n    - x")),
        (("u", 0, "user"), {"t": 1}, KUBE.replace("user: {}", "user:\n    t: 1")),
        (("u",), "e", "u: e\nc: d\n"),
        (("c",), "e", KUBE.replace("c: d", "c: e")),
        (("u", 1, "user", "z"), "yes", KUBE.replace("t: 1", 't: 1\n    z: "yes"')),
    ],
)  # fmt: skip
def test_items_and_values_are_replaced_where_they_stand(path: Path, value: Any, after: str) -> None:
    assert changed(KUBE, path, value, flow=False) == after


def test_items_are_removed_and_a_list_may_become_empty() -> None:
    once = without(KUBE, ("u", 0))
    assert once == "u:\n# of b\n- user:\n    t: 1\n  name: b\nc: d\n"
    assert plain(compose(Source("f", without(once, ("u", 0))))) == {"u": [], "c": "d"}


@pytest.mark.parametrize("empty", ["c:", "c: null", 'c: ""', "c: ~  # x"])
def test_an_empty_value_is_set(empty: str) -> None:
    text = changed(f"a: 1\n{empty}\nb: 2\n", ("c",), "d")
    assert plain(compose(Source("f", text))) == {"a": 1, "c": "d", "b": 2}
    assert text.startswith("a: 1\nc: d") and text.endswith("\nb: 2\n")


def test_a_map_inside_a_list_is_changed() -> None:
    text = "- m:\n    a: 1\n"
    assert changed(text, (0, "m", "w"), 1) == "- m:\n    a: 1\n    w: 1\n"


@pytest.mark.parametrize("text", ["x: &x {a: 1}\nm: *x\n", "m: &x\n  a: 1\nb: *x\n"])
def test_what_cannot_be_changed_alone_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"^f:\d+:\d+: m.w is written .* changed here"):
        changed(text, ("m", "w"), 1)


VALUES: Any = st.recursive(
    st.text(max_size=8) | st.integers() | st.booleans() | st.none(),
    lambda one: st.lists(one, max_size=3) | st.dictionaries(st.text(min_size=1), one, max_size=3),
    max_leaves=8,
)


def _legal(value: Any) -> bool:
    text = repr(value)
    odd = any(
        ord(char) in (0x85, 0x2028, 0x2029) or 0xD800 <= ord(char) < 0xE000 for char in str(value)
    )
    return not odd and "\\x" not in text and "\\u" not in text and "'<<'" not in text


@given(st.dictionaries(st.text(min_size=1), VALUES, min_size=1, max_size=4).filter(_legal))
def test_what_is_written_is_read_again(value: dict[str, Any]) -> None:
    assert plain(compose(Source("f", block(value)))) == value
    assert plain(compose(Source("f", written(value)))) == value
