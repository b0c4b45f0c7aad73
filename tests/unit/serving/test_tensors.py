"""Datatypes of the protocol: what becomes an array, what is refused, and the way back."""

import json
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlstead.serving.problem import AnswerError
from mlstead.serving.tensors import DATATYPES, decode, encode

EXTREMES = [
    ("BOOL", [True, False]),
    ("UINT8", [0, 255]),
    ("UINT16", [0, 65535]),
    ("UINT32", [0, 2**32 - 1]),
    ("UINT64", [1, 2**64 - 1]),
    ("INT8", [-128, 127]),
    ("INT16", [-(2**15), 2**15 - 1]),
    ("INT32", [-(2**31), 2**31 - 1]),
    ("INT64", [-(2**63), 2**63 - 1]),
    ("FP16", [0.5, 2]),
    ("FP32", [0.1, -3]),
    ("FP64", [0.1, 1e300]),
    ("BYTES", ["", "héllo"]),
]


@pytest.mark.parametrize(("datatype", "data"), EXTREMES)
def test_every_datatype_survives_the_way_in_and_out(datatype: str, data: list[Any]) -> None:
    array = decode("x", datatype, [2, 1], data)
    assert array.dtype == DATATYPES[datatype]
    tensor = json.loads(orjson.dumps(encode("y", array), option=orjson.OPT_SERIALIZE_NUMPY))
    assert tensor["datatype"] == datatype
    assert tensor["shape"] == [2, 1]
    assert tensor["data"] == pytest.approx(data) if datatype == "FP32" else tensor["data"] == data


def test_all_datatypes_of_the_protocol_are_tested() -> None:
    assert {datatype for datatype, _ in EXTREMES} == set(DATATYPES)


def test_nested_and_flat_data_give_the_same_array() -> None:
    flat = decode("x", "INT64", [2, 3], [1, 2, 3, 4, 5, 6])
    nested = decode("x", "INT64", [2, 3], [[1, 2, 3], [4, 5, 6]])
    assert flat.tolist() == nested.tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize("datatype", ["INT32", "FP32", "UINT64"])
def test_long_data_is_read_whole_and_in_order(datatype: str) -> None:
    rows = [[number, 2 * number] for number in range(1000)]
    assert decode("x", datatype, [1000, 2], rows).tolist() == rows
    assert decode("x", datatype, [200_000], list(range(200_000)))[-1] == 199_999


@pytest.mark.parametrize("strange", [[1], [1, None], [1, "2"], 5, [[1, 2]]])
def test_one_strange_row_among_many_is_found(strange: Any) -> None:
    rows: list[Any] = [[number, number] for number in range(1000)]
    rows[900] = strange
    with pytest.raises(AnswerError):
        decode("x", "INT32", [1000, 2], rows)


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "reason"),
    [
        ("FLOAT", [1], [1.0], "unknown datatype"),
        (None, [1], [1.0], "unknown datatype"),
        (["FP32"], [1], [1.0], "unknown datatype"),
        ("FP32", None, [1.0], "shape must be"),
        ("FP32", [], [1.0], "shape must be"),
        ("FP32", [0], [], "shape must be"),
        ("FP32", [-1], [1.0], "shape must be"),
        ("FP32", [True], [1.0], "shape must be"),
        ("FP32", [1.0], [1.0], "shape must be"),
        ("FP32", [1] * 17, [1.0], "shape must be"),
        ("FP32", [2**40, 2**40], [1.0], "too large"),
        ("FP32", [2], [1.0], "shape is [2], data is [1]"),
        ("FP32", [4], [[1, 2], [3, 4]], "shape is [4], data is [2, 2]"),
        ("FP32", [2, 2], [[1, 2], [3]], "not FP32 data"),
        ("FP32", [1], 1.0, "data must be a list"),
        ("FP32", [1], "AAAA", "data must be a list"),
        ("FP32", [1], [None], "another kind"),
        ("FP32", [1], ["1.0"], "another kind"),
        ("FP32", [1], [{}], "another kind"),
        ("FP32", [1], [True], "another kind"),
        ("FP64", [1], [2**70], "another kind"),
        ("BOOL", [1], [1], "another kind"),
        ("INT64", [1], [1.5], "whole numbers"),
        ("INT64", [1], [2**63], "out of range"),
        ("INT64", [2], [-1, 2**63], "too large"),
        ("INT64", [1], [None], "whole numbers"),
        ("INT64", [1], ["1"], "another kind"),
        ("UINT64", [1], [-1], "out of range"),
        ("UINT8", [1], [256], "out of range"),
        ("UINT8", [1], [-1], "out of range"),
        ("BYTES", [1], [1], "must be strings"),
        ("BYTES", [1], [None], "must be strings"),
    ],
)
def test_wrong_tensors_are_refused_in_one_line(
    datatype: Any, shape: Any, data: Any, reason: str
) -> None:
    with pytest.raises(AnswerError, match=reason.replace("[", r"\[")) as refused:
        decode("x", datatype, shape, data)
    assert refused.value.status == 400
    assert "\n" not in str(refused.value)


def test_a_very_deep_list_is_refused() -> None:
    data: list[Any] = [1]
    for _ in range(500):
        data = [data]
    with pytest.raises(AnswerError):
        decode("x", "INT64", [1], data)


def test_a_long_name_does_not_flood_the_message() -> None:
    with pytest.raises(AnswerError) as refused:
        decode("n" * 100_000, "FP32", [1], [None])
    assert len(str(refused.value)) < 400


def test_too_large_for_a_narrow_float_becomes_infinite_and_is_left_to_the_model_check() -> None:
    assert np.isinf(decode("x", "FP16", [1], [1e300])).all()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner, max_size=2)
    ),
    max_leaves=8,
)


@given(datatype=st.sampled_from(sorted(DATATYPES)), shape=JSON, data=JSON)
def test_any_json_is_an_array_of_the_datatype_or_a_refusal(
    datatype: str, shape: Any, data: Any
) -> None:
    try:
        array = decode("x", datatype, shape, data)
    except AnswerError as error:
        assert error.status == 400
    else:
        assert array.dtype == DATATYPES[datatype]
        assert list(array.shape) == shape
