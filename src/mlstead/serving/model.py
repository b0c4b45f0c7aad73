"""One loaded model version: from the bytes of a request to the bytes of its answer."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from mlstead import discover
from mlstead.errors import NotFoundError, UserError
from mlstead.serving import runtimes
from mlstead.serving.card import Card, read_card
from mlstead.serving.config import Version
from mlstead.serving.inputs import Intake
from mlstead.serving.outputs import Outcome, finish
from mlstead.serving.problem import AnswerError, one_line
from mlstead.serving.request import parse
from mlstead.serving.runtimes.base import Predictor, Source
from mlstead.serving.tensors import Array, Json, Tensor

_log = logging.getLogger("mlstead.serving")


@dataclass(frozen=True, slots=True)
class Answer:
    """The bytes of an answer, and how often each class was predicted in it."""

    body: bytes
    classes: Mapping[str, int]


class Model:
    """A model version that answers requests; it is called by one thread at a time."""

    def __init__(self, service: str, version: str, card: Card, predictor: Predictor) -> None:
        self.version = version
        self.card = card
        self._service = service
        self._predictor = predictor
        self._intake = Intake(card, predictor.inputs)
        self._told: set[type[BaseException]] = set()

    def answer(self, body: bytes) -> Answer:
        """Answer one inference request.

        Raises:
            AnswerError: 400, the request does not fit the model; 500, the model fails.
        """
        request = parse(body)
        outcome = self._predict(self._intake.accept(request), request.outputs)
        reply: Json = {
            "model_name": self._service,
            "model_version": self.version,
            "outputs": outcome.tensors,
        }
        if request.id:
            reply["id"] = request.id
        return Answer(orjson.dumps(reply, option=orjson.OPT_SERIALIZE_NUMPY), outcome.classes)

    def _predict(self, arrays: dict[str, Array], wanted: tuple[str, ...]) -> Outcome:
        try:
            return finish(self.card, self._predictor.predict(arrays), wanted)
        except AnswerError:
            raise
        except (Exception, SystemExit) as error:
            if type(error) not in self._told:  # once per kind: a broken model must not fill the log
                self._told.add(type(error))
                _log.exception("version %s failed", self.version)
            raise AnswerError(
                500, f"version {self.version} failed: {type(error).__name__}: {one_line(error)}"
            ) from error

    def warm_up(self) -> None:
        """Predict once on zeros, where the inputs are known and are numbers.

        Raises:
            AnswerError: the model cannot predict.
        """
        sample = self._intake.sample()
        if self.card.warmup and sample:
            self._predict(sample, ())

    def describe(self, versions: list[str]) -> Json:
        """Give the protocol's metadata of this version."""
        return {
            "name": self._service,
            "versions": versions,
            "platform": self.card.runtime,
            "inputs": [tensor.as_json() for tensor in self._intake.declared],
            "outputs": [tensor.as_json() for tensor in self._outputs()],
        }

    def _outputs(self) -> tuple[Tensor, ...]:
        if self.card.output == "argmax":
            return (Tensor("class", "INT64", (-1,)),)
        return self._predictor.outputs


def load_model(
    service: str, name: str, version: Version, *, code: str, params: Mapping[str, Any]
) -> Model:
    """Load one version of a service, and try it once.

    Raises:
        UserError: the folder, its card, its runtime or the model itself cannot be used.
    """
    folder = Path(version.path)
    if not folder.is_dir():
        raise NotFoundError(f"version {name}: no folder {folder}")
    card = read_card(folder)
    runtime = version.runtime or card.runtime or "onnx"
    card = card.model_copy(update={"runtime": runtime})
    try:
        load = discover.part(runtimes, runtime).PART
        if version.params is not None:
            params = version.params
        code = version.code or code
        place, apart = Path(code) if code else None, bool(version.code)
        source = Source(folder.resolve(), card, place, params, apart)
        model = Model(service, name, card, load(source))
        model.warm_up()
    except ImportError as error:
        raise UserError(
            f"runtime {runtime} is not installed: {error}", hint="pip install 'mlstead[serve]'"
        ) from error
    except UserError as error:
        raise UserError(f"version {name}: {one_line(error)}", hint=error.hint) from error
    return model
