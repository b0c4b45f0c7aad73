"""What a runtime is: a loader that makes a predictor of a model folder.

A runtime is one file that assigns ``PART``, a function from a Source to a Predictor. It never
unpickles: what a model folder holds is data, and only the service's own code is run.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mlstead.serving.card import Card
from mlstead.serving.tensors import Array, Tensor


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model comes from: its folder and card, the service's code folder and parameters.

    ``apart`` says that the code is not the service's own but that of an older version, whose
    modules must not be mistaken for modules of the same name.
    """

    folder: Path
    card: Card
    code: Path | None
    params: Mapping[str, Any]
    apart: bool = False


class Predictor(Protocol):
    """A loaded model: what it takes and gives (empty: not known), and a function over arrays."""

    @property
    def inputs(self) -> tuple[Tensor, ...]: ...

    @property
    def outputs(self) -> tuple[Tensor, ...]: ...

    def predict(self, arrays: dict[str, Array]) -> dict[str, Array]: ...


Loader = Callable[[Source], Predictor]
