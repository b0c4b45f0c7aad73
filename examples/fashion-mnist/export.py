"""Writes the trained network as an ONNX model that takes raw pixels and answers class numbers.

The graph is made node by node from the weights: what is served is exactly what is written here,
scaling included, and batch normalisation is folded into the convolutions before it.
"""

import json
from pathlib import Path

import numpy as np
import onnx
import torch
from network import Network
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import nn

CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


def folded(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[np.ndarray, np.ndarray]:
    """Give weight and bias of one convolution that does what the two do together."""
    factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    weight = convolution.weight * factor[:, None, None, None]
    bias = norm.bias - norm.running_mean * factor
    return weight.detach().numpy(), bias.detach().numpy()


def graph(network: Network) -> onnx.ModelProto:
    """Make the ONNX model: ``image`` UINT8 [n, 28, 28] in, ``class`` INT64 [n] out."""
    first = folded(network.first, network.first_norm)
    second = folded(network.second, network.second_norm)
    weights = {
        "w1": first[0], "b1": first[1], "w2": second[0], "b2": second[1],
        "w3": network.hidden.weight.detach().numpy(), "b3": network.hidden.bias.detach().numpy(),
        "w4": network.scores.weight.detach().numpy(), "b4": network.scores.bias.detach().numpy(),
        "scale": np.array(1 / 255, np.float32), "shape": np.array([-1, 1, 28, 28], np.int64),
    }  # fmt: skip
    node = helper.make_node
    nodes = [
        node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        node("Mul", ["pixels", "scale"], ["scaled"]),
        node("Reshape", ["scaled", "shape"], ["x0"]),
        node("Conv", ["x0", "w1", "b1"], ["c1"], strides=[2, 2], pads=[2, 2, 2, 2]),
        node("Relu", ["c1"], ["x1"]),
        node("Conv", ["x1", "w2", "b2"], ["c2"], pads=[1, 1, 1, 1]),
        node("Relu", ["c2"], ["x2"]),
        node("MaxPool", ["x2"], ["x3"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", ["x3"], ["flat"]),
        node("Gemm", ["flat", "w3", "b3"], ["h3"], transB=1),
        node("Relu", ["h3"], ["x4"]),
        node("Gemm", ["x4", "w4", "b4"], ["scores"], transB=1),
        node("ArgMax", ["scores"], ["class"], axis=1, keepdims=0),
    ]
    made = helper.make_graph(
        nodes,
        "fashion",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", 28, 28])],
        [helper.make_tensor_value_info("class", TensorProto.INT64, ["n"])],
        [numpy_helper.from_array(np.ascontiguousarray(w), name) for name, w in weights.items()],
    )
    # Versions that every onnxruntime of the last years reads.
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def write(network: Network, folder: Path, sample: np.ndarray) -> None:
    """Write model.onnx and its card; the sample must get the same classes from both."""
    network.eval()
    model = graph(network)
    onnx.checker.check_model(model, full_check=True)
    with torch.no_grad():
        wanted = network(torch.from_numpy(sample)[:, None].float() / 255).argmax(1).numpy()
    (got,) = ReferenceEvaluator(model).run(None, {"image": sample})
    if (wanted != got).any():
        raise SystemExit(f"the exported model differs: {wanted} and {got}")

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    card = {
        "runtime": "onnx",
        "file": "model.onnx",
        "inputs": [{"name": "image", "datatype": "UINT8", "shape": [-1, 28, 28]}],
        "classes": list(CLASSES),
    }
    (folder / "mlstead-model.json").write_text(json.dumps(card, indent=2) + "\n")
