"""The runtime ``python``: a function of the service's own code, called with named arrays.

The function takes a dict of numpy arrays and gives a dict of them, or one array (then named
``output``). Where its module has ``load(folder, params)``, that is called once per version with
the model folder and the service's parameters, and what it gives is the function's second argument.

The code runs in the server's process, since that process is the user's own task. It comes only from
the service's code folder, never from the model folder: a model is data.
"""

import contextlib
import importlib
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from mlstead.errors import NotFoundError, UserError
from mlstead.serving.problem import one_line
from mlstead.serving.runtimes._apart import Apart
from mlstead.serving.runtimes.base import Loader, Source
from mlstead.serving.tensors import Array, Tensor

_log = logging.getLogger("mlstead.serving")


class PythonPredictor:
    """A user's function, its results made arrays."""

    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()

    def __init__(self, function: Callable[..., Any], extra: tuple[Any, ...]) -> None:
        self._function = function
        self._extra = extra

    def predict(self, arrays: dict[str, Array]) -> dict[str, Array]:
        result = self._function(arrays, *self._extra)
        if isinstance(result, dict):
            return {str(name): np.asarray(value) for name, value in result.items()}
        if result is None:
            raise TypeError("the function gave None, not an array or a dict of arrays")
        return {"output": np.asarray(result)}


@contextlib.contextmanager
def _on_path(code: Path) -> Iterator[None]:
    """Let everybody import the service's code, from now on."""
    if str(code) not in sys.path:
        sys.path.insert(0, str(code))
    yield


def _module(code: Path, name: str) -> ModuleType:
    stem = code.joinpath(*name.split("."))
    if not stem.with_suffix(".py").is_file() and not (stem / "__init__.py").is_file():
        raise NotFoundError(f"the code has no {name}", hint="entry: module:function")
    module = importlib.import_module(name)
    if not Path(module.__file__ or "/").resolve().is_relative_to(code):
        raise UserError(f"{name} is the name of another module", hint="rename the user's file")
    return module


def load(source: Source) -> PythonPredictor:
    """Import the entry function and let its module load the model.

    Raises:
        NotFoundError: the code has no such module or function.
        UserError: there is no code, or it fails while it is loaded.
    """
    if source.code is None:
        raise UserError("runtime python needs the service's code", hint="code: FOLDER")
    name, function = source.card.entry.split(":")
    code = source.code.resolve()
    try:
        with Apart(code).loading() if source.apart else _on_path(code):
            module = _module(code, name)
            loader = getattr(module, "load", None)
            extra = (loader(source.folder, dict(source.params)),) if callable(loader) else ()
    except UserError:
        raise
    except Exception as error:
        _log.exception("the service's code failed while it was loaded")
        raise UserError(
            f"{name}.py fails while it is loaded: {type(error).__name__}: {one_line(error)}"
        ) from error
    found = getattr(module, function, None)
    if not callable(found):
        raise NotFoundError(f"{name}.py has no function {function}")
    return PythonPredictor(found, extra)


PART: Loader = load
