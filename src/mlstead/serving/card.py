"""The model card: what a model folder says about itself, in ``mlstead-model.json``.

Every field may be left out; a folder that holds only ``model.onnx`` needs no card::

    {"runtime": "onnx",                  which runtime: onnx or python
     "file": "model.onnx",               the model's file, a plain name inside the folder
     "entry": "predictor:predict",       python only: module:function in the service's code
     "inputs": [{"name": "image", "datatype": "UINT8", "shape": [-1, 28, 28]}],
     "preprocess": {"reshape": [-1, 784], "scale": 0.00392, "offset": 0.0},
     "output": "argmax",                 the first output holds scores: answer class numbers
     "classes": ["shirt", "bag"],        names of the class numbers
     "allow_nan": false, "warmup": true}

Clients are held to ``inputs`` (-1 is any size); the array is then reshaped, cast to what the model
takes, and multiplied and shifted (``x * scale + offset``). Without ``output`` the model's outputs
are answered as they are, and an integer or text first output counts as the predicted class.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints
from pydantic import model_validator as check

from mlstead.serving.config import Record, read

FILE = "mlstead-model.json"
Datatype = Annotated[
    str, StringConstraints(pattern=r"^(BOOL|U?INT(8|16|32|64)|FP(16|32|64)|BYTES)$")
]
Entry = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$")]
FileName = Annotated[str, StringConstraints(pattern=r"^[^/\\\x00-\x1f]{1,200}$")]
Shape = Annotated[tuple[Annotated[int, Field(ge=-1)], ...], Field(strict=False, max_length=16)]


class Input(Record):
    """One tensor a client has to send."""

    name: str
    datatype: Datatype
    shape: Shape


class Preprocess(Record):
    """What is done to the only input before the model sees it."""

    reshape: Shape = ()
    scale: float = 1.0
    offset: float = 0.0


class Card(Record):
    """What a model folder says about itself."""

    runtime: str = ""
    file: FileName = "model.onnx"
    entry: Entry = "predictor:predict"
    inputs: Annotated[tuple[Input, ...], Field(strict=False)] = ()
    preprocess: Preprocess | None = None
    output: Literal["argmax"] | None = None
    classes: Annotated[tuple[str, ...], Field(strict=False)] = ()
    allow_nan: bool = False
    warmup: bool = True
    metadata: Mapping[str, Any] = Field(default_factory=dict)

    @check(mode="after")
    def _consistent(self) -> Self:
        names = [tensor.name for tensor in self.inputs]
        if len(set(names)) < len(names):
            raise ValueError("inputs: two have the same name")
        if self.preprocess and len(self.inputs) > 1:
            raise ValueError("preprocess needs exactly one input")
        if self.file in {".", ".."}:
            raise ValueError("file: not a file name")
        return self


def read_card(folder: Path) -> Card:
    """Read a model folder's card; a folder without one has an empty card.

    Raises:
        SpecError: the card is not JSON, or a field of it is wrong.
    """
    path = folder / FILE
    return read(Card, path) if path.is_file() else Card()
