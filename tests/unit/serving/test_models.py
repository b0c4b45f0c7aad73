"""What models of both runtimes answer: class numbers, names, raw outputs, and refusals."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from mlstead.errors import NotFoundError, SpecError, UserError

SWAP = [[0, 1], [1, 0]]  # the larger of two numbers gets the other's class
IMAGES = {"name": "image", "datatype": "UINT8", "shape": [-1, 2, 1]}
PICTURE_CARD = {
    "inputs": [IMAGES],
    "preprocess": {"reshape": [-1, 2], "scale": 0.5, "offset": 1.0},
    "output": "argmax",
    "classes": ["shirt", "bag"],
}
ECHO = """
import numpy as np
def predict(inputs):
    return {name + "_back": array for name, array in inputs.items()}
"""


def ask(asker: Any, *tensors: dict[str, Any], **more: Any) -> Any:
    answer = asker("POST", "/v2/models/fashion/infer", {"inputs": list(tensors), **more})
    assert answer.status == 200, answer.body
    return answer.json


def refusal(asker: Any, *tensors: dict[str, Any], **more: Any) -> tuple[int, str]:
    answer = asker("POST", "/v2/models/fashion/infer", {"inputs": list(tensors), **more})
    assert list(answer.json) == ["error"]
    assert "\n" not in answer.json["error"]
    return answer.status, answer.json["error"]


def tensor(data: Any, shape: list[int], datatype: str = "FP32", name: str = "x") -> dict[str, Any]:
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}


def test_argmax_answers_class_numbers_and_counts_class_names(serve: Any, folders: Any) -> None:
    asker = serve({"v3": folders.scores(SWAP, PICTURE_CARD)})
    pictures = [[[9], [1]], [[0], [200]], [[255], [0]]]
    said = ask(asker, tensor(pictures, [3, 2, 1], "UINT8", "anything"), id="42")
    assert said == {
        "model_name": "fashion",
        "model_version": "v3",
        "id": "42",
        "outputs": [{"name": "class", "shape": [3], "datatype": "INT64", "data": [1, 0, 1]}],
    }
    assert asker("GET", "/v2/models/fashion/stats").json["classes"] == {"bag": 2, "shirt": 1}


def test_scores_and_class_names_are_answered_when_asked_for(serve: Any, folders: Any) -> None:
    asker = serve({"v3": folders.scores(SWAP, PICTURE_CARD)})
    wanted = [{"name": "class_name"}, {"name": "scores"}]
    said = ask(asker, tensor([4, 2], [1, 2, 1], "UINT8"), outputs=wanted)
    names, scores = said["outputs"]
    assert names == {"name": "class_name", "shape": [1], "datatype": "BYTES", "data": ["bag"]}
    assert scores["data"] == [2.0, 3.0]  # scaled by 0.5, shifted by 1, swapped


def test_an_unknown_output_is_refused(serve: Any, folders: Any) -> None:
    asker = serve({"v3": folders.scores(SWAP)})
    status, error = refusal(asker, tensor([1, 2], [1, 2]), outputs=[{"name": "y"}])
    assert (status, "scores" in error) == (400, True)


def test_without_a_card_an_onnx_model_answers_all_its_outputs(serve: Any, folders: Any) -> None:
    said = ask(serve({"v1": folders.scores(SWAP)}), tensor([1, 2], [1, 2], "INT64"))
    assert said["outputs"] == [
        {"name": "scores", "shape": [1, 2], "datatype": "FP32", "data": [2.0, 1.0]}
    ]


def test_a_scikit_learn_classifier_in_onnx_agrees_with_scikit_learn(
    serve: Any, folders: Any
) -> None:
    skl2onnx = importlib.import_module("skl2onnx")
    rows, labels = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=500).fit(rows, labels)
    folder = folders.new()
    rows32 = rows.astype(np.float32)
    converted = skl2onnx.to_onnx(model, rows32[:1])
    (folder / "model.onnx").write_bytes(converted.SerializeToString())
    asker = serve({"v1": folder})
    said = ask(asker, tensor(rows.tolist(), list(rows.shape), "FP64"))
    assert said["outputs"][0]["data"] == model.predict(rows).tolist()
    assert sum(asker("GET", "/v2/models/fashion/stats").json["classes"].values()) == 150


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (tensor([1, 2], [1, 2], "UINT8"), "shape must be [-1, 2, 1]"),
        (tensor([1, 2, 3], [1, 3, 1], "UINT8"), "shape must be [-1, 2, 1]"),
        (tensor([1, 2], [1, 2, 1], "FP32"), "datatype must be UINT8"),
        (tensor([1, 2], [1, 2, 1], "INT64"), "datatype must be UINT8"),
        (tensor(["a", "b"], [1, 2, 1], "BYTES"), "datatype must be UINT8"),
        (tensor([1, 999], [1, 2, 1], "UINT8"), "out of range"),
    ],
)
def test_what_the_card_does_not_allow_is_refused(
    serve: Any, folders: Any, sent: dict[str, Any], reason: str
) -> None:
    status, error = refusal(serve({"v3": folders.scores(SWAP, PICTURE_CARD)}), sent)
    assert (status, reason in error) == (400, True), error


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (tensor([1, 1e300], [1, 2], "FP64"), "NaN or too large"),
        (tensor([1, 1e39], [1, 2], "FP32"), "NaN or too large"),
        (tensor(["a", "b"], [1, 2], "BYTES"), "datatype must be FP32"),
        (tensor([1, 2, 3], [1, 3], "FP32"), "shape must be [-1, 2]"),
    ],
)
def test_what_an_onnx_model_cannot_take_is_refused(
    serve: Any, folders: Any, sent: dict[str, Any], reason: str
) -> None:
    status, error = refusal(serve({"v1": folders.scores(SWAP)}), sent)
    assert (status, reason in error) == (400, True), error


def test_infinite_input_is_let_in_where_the_card_allows_it(serve: Any, folders: Any) -> None:
    asker = serve({"v1": folders.scores([[1.0]], {"allow_nan": True})})
    assert ask(asker, tensor([1e39], [1, 1]))["outputs"][0]["data"] == [None]


def test_scores_that_are_nan_are_an_error_and_not_a_class(serve: Any, folders: Any) -> None:
    card = {"allow_nan": True, "output": "argmax"}
    asker = serve({"v1": folders.scores([[1.0, 0.0]], card)})
    assert refusal(asker, tensor([1e39], [1, 1])) == (500, "the model's scores are NaN")


def test_two_inputs_are_told_apart_by_name(serve: Any, folders: Any) -> None:
    graph = helper.make_graph(
        [helper.make_node("Sub", ["a", "b"], ["difference"])],
        "two",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in "ab"],
        [helper.make_tensor_value_info("difference", TensorProto.FLOAT, ["n"])],
    )
    asker = serve({"v1": folders.onnx(graph)})
    said = ask(asker, tensor([1], [1], name="b"), tensor([5], [1], name="a"))
    assert said["outputs"][0]["data"] == [4.0]
    assert refusal(asker, tensor([1], [1], name="b"))[0] == 400
    assert refusal(asker, tensor([1], [1], name="b"), tensor([1], [1], name="b"))[0] == 400
    wrong = refusal(asker, tensor([1], [1], name="a"), tensor([1], [1], name="c"))
    assert wrong == (400, "the model's inputs are a, b")


def test_python_code_gets_named_arrays_of_every_datatype(serve: Any, folders: Any) -> None:
    folder = folders.card(runtime="python", entry="user_echo:predict")
    asker = serve({"v1": folder}, code=str(folders.code(ECHO, "user_echo")))
    said = ask(asker, tensor(["a"], [1], "BYTES", "t"), tensor([[True]], [1, 1], "BOOL", "b"))
    assert said["outputs"] == [
        {"name": "t_back", "shape": [1], "datatype": "BYTES", "data": ["a"]},
        {"name": "b_back", "shape": [1, 1], "datatype": "BOOL", "data": [True]},
    ]


def test_python_code_loads_each_version_from_its_own_folder(serve: Any, folders: Any) -> None:
    text = """
import json
def load(folder, params):
    return json.loads((folder / "weight.json").read_text()) * params["factor"]
def predict(inputs, weight):
    return inputs["x"] * weight
"""
    versions = {}
    for number in (2, 3):
        versions[f"v{number}"] = folders.card(runtime="python", entry="user_weight:predict")
        (versions[f"v{number}"] / "weight.json").write_text(str(number))
    code = str(folders.code(text, "user_weight"))
    asker = serve(versions, code=code, params={"factor": 10}, traffic={"v2": 50, "v3": 50})
    answers = [ask(asker, tensor([1], [1])) for _ in range(4)]
    assert [said["outputs"][0]["data"] for said in answers] == [[20.0], [30.0]] * 2
    assert [said["model_version"] for said in answers] == ["v2", "v3"] * 2


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise ValueError('two\\nlines')", "ValueError: two lines"),
        ("raise SystemExit(3)", "SystemExit"),
        ("return None", "TypeError"),
        ("return {}", "no output"),
        ("return [object()]", "no datatype"),
        ("return [b'\\xff']", "UnicodeDecodeError"),
        ("return 1 + 2j", "no datatype"),
    ],
)
def test_python_code_that_fails_is_an_error_500_and_the_next_request_works(
    serve: Any, folders: Any, body: str, reason: str
) -> None:
    text = f"def predict(inputs):\n    if inputs['x'][0] == 1:\n        {body}\n    return inputs\n"
    folder = folders.card(runtime="python", entry="user_bad:predict")
    asker = serve({"v1": folder}, code=str(folders.code(text, "user_bad")))
    status, error = refusal(asker, tensor([1], [1]))
    assert status == 500
    assert reason in error
    assert ask(asker, tensor([2], [1]))["outputs"][0]["data"] == [2.0]
    stats = asker("GET", "/v2/models/fashion/stats").json
    assert (stats["requests"], stats["errors"]) == (2, 1)


@pytest.mark.parametrize(
    ("text", "entry", "reason"),
    [
        ("x = (", "user_load:predict", "SyntaxError"),
        ("import nothing_of_that_name", "user_load:predict", "ModuleNotFoundError"),
        ("def load(folder, params): raise OSError('gone')", "user_load:predict", "OSError: gone"),
        ("x = 1", "user_load:predict", "no function predict"),
        ("x = 1", "user_load:x", "no function x"),
        ("x = 1", "other:predict", "the code has no other"),
    ],
)
def test_python_code_that_cannot_be_loaded_is_named(
    serve: Any, folders: Any, text: str, entry: str, reason: str
) -> None:
    folder = folders.card(runtime="python", entry=entry)
    with pytest.raises(UserError, match=reason) as refused:
        serve({"v1": folder}, code=str(folders.code(text, "user_load")))
    assert str(refused.value).startswith("version v1: ")


def test_python_code_may_not_stand_for_a_module_that_is_there_already(
    serve: Any, folders: Any
) -> None:
    folder = folders.card(runtime="python", entry="json:loads")
    with pytest.raises(UserError, match="the name of another module"):
        serve({"v1": folder}, code=str(folders.code("loads = eval", "json")))


def test_code_in_a_model_folder_is_never_run(serve: Any, folders: Any, tmp_path: Path) -> None:
    folder = folders.card(runtime="python", entry="user_inside:predict")
    (folder / "user_inside.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w')")
    with pytest.raises(UserError, match="needs the service's code"):
        serve({"v1": folder})
    with pytest.raises(UserError, match="the code has no user_inside"):
        serve({"v1": folder}, code=str(folders.new()))
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    ("card", "reason"),
    [
        ({"runtime": "pickle"}, "no 'pickle'"),
        ({"runtime": "base"}, "no 'base'"),
        ({"file": "other.onnx"}, "no other.onnx in the model folder"),
        ({"inputs": [IMAGES, {**IMAGES, "name": "b"}]}, "the card has 2 inputs"),
        ({"inputs": [IMAGES]}, "Invalid rank"),
        ({"output": "argmax", "preprocess": {"reshape": [7, 7]}}, "cannot be given the shape"),
    ],
)
def test_a_card_that_does_not_fit_its_model_is_refused_at_the_start(
    serve: Any, folders: Any, card: dict[str, Any], reason: str
) -> None:
    with pytest.raises(UserError, match=reason):
        serve({"v1": folders.scores(SWAP, card)})


def test_a_broken_card_is_refused_at_the_start(serve: Any, folders: Any) -> None:
    folder = folders.scores(SWAP)
    (folder / "mlstead-model.json").write_text("{")
    with pytest.raises(SpecError):
        serve({"v1": folder})


def test_a_missing_folder_is_named(serve: Any, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="version v1: no folder"):
        serve({"v1": tmp_path / "gone"})


def test_a_model_may_not_read_weights_outside_its_folder(
    serve: Any, folders: Any, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_bytes(np.float32(7).tobytes())
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1, 1])
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="../secret")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "outside",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])],
        [weight],
    )
    folder = folders.new()
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match=r"model\.onnx is not a model"):
        serve({"v1": folder})


def test_a_failing_model_is_logged_once_per_kind_of_error(
    serve: Any, folders: Any, caplog: pytest.LogCaptureFixture
) -> None:
    folder = folders.card(runtime="python", entry="user_loud:predict")
    code = folders.code("def predict(inputs): raise ValueError('no')", "user_loud")
    asker = serve({"v1": folder}, code=str(code))
    for _ in range(5):
        assert refusal(asker, tensor([1], [1]))[0] == 500
    assert len([one for one in caplog.records if one.exc_info]) == 1


def test_metadata_says_what_to_send(serve: Any, folders: Any) -> None:
    asker = serve({"v3": folders.scores(SWAP, PICTURE_CARD)})
    about = asker("GET", "/v2/models/fashion").json
    assert about == {
        "name": "fashion",
        "versions": ["v3"],
        "platform": "onnx",
        "inputs": [IMAGES],
        "outputs": [{"name": "class", "datatype": "INT64", "shape": [-1]}],
    }
    assert asker("GET", "/v2/models/fashion/versions/v3").json == about
