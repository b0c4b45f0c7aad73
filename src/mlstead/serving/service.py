"""The service: its versions, which one answers, and how many requests it takes on."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter, time

from mlstead.errors import UserError
from mlstead.serving.config import ServerConfig
from mlstead.serving.lane import Lane
from mlstead.serving.metrics import Metrics
from mlstead.serving.model import Answer, Model, load_model
from mlstead.serving.problem import AnswerError
from mlstead.serving.tally import Tally, summary
from mlstead.serving.tensors import Json
from mlstead.serving.traffic import Traffic

_log = logging.getLogger("mlstead.serving")


@dataclass(frozen=True, slots=True)
class Slot:
    """One version in service: the model, its lane and its counts."""

    model: Model
    lane: Lane
    tally: Tally


class Service:
    """All versions of one named model, behind one bounded queue."""

    def __init__(self, config: ServerConfig, models: Mapping[str, Model]) -> None:
        self.name = config.name
        self.limits = config.limits
        self.slots = {
            name: Slot(model, Lane(model.answer), Tally()) for name, model in models.items()
        }
        self.traffic = Traffic(config.shares())
        self.metrics = Metrics(self.name, {name: one.tally for name, one in self.slots.items()})
        self._since = time()
        self._inside = 0

    def enter(self, slot: Slot) -> None:
        """Take a place in the queue; give it back with ``leave``.

        Raises:
            AnswerError: 503, the queue is full.
        """
        if self._inside >= self.limits.queue:
            slot.tally.refuse(503)
            raise AnswerError(503, "too many requests at once; try again")
        self._inside += 1

    @property
    def stuck(self) -> list[str]:
        """The versions whose model has a request in hand."""
        return [name for name, slot in self.slots.items() if slot.lane.working]

    def leave(self) -> None:
        """Give back a place in the queue."""
        self._inside -= 1

    async def infer(self, slot: Slot, body: bytes, started: float) -> Answer:
        """Answer one request and count it; ``started`` is its perf_counter() time.

        Raises:
            AnswerError: the request or the model is wrong.
        """
        try:
            answer = await slot.lane.run(body)
        except AnswerError as problem:
            slot.tally.record(problem.status, perf_counter() - started, {})
            raise
        except Exception:
            slot.tally.record(500, perf_counter() - started, {})
            raise
        slot.tally.record(200, perf_counter() - started, answer.classes)
        return answer

    def stats(self) -> Json:
        """Sum up what the service did since it started, over all versions and for each."""
        return {
            "model": self.name,
            "since": self._since,
            "queue": self._inside,
            **summary(slot.tally for slot in self.slots.values()),
            "versions": {name: slot.tally.summary() for name, slot in self.slots.items()},
        }

    def close(self) -> None:
        """Let go of the versions' threads."""
        for slot in self.slots.values():
            slot.lane.close()


def load_service(config: ServerConfig) -> Service:
    """Load every version of a service.

    Raises:
        UserError: a version cannot be loaded; the message names it.
    """
    models: dict[str, Model] = {}
    # those with code of their own first: nothing of it is left where the service's is imported
    for name in sorted(config.versions, key=lambda name: not config.versions[name].code):
        version = config.versions[name]
        try:
            models[name] = load_model(
                config.name, name, version, code=config.code, params=config.params
            )
        except UserError as error:
            if not version.optional:
                raise
            _log.warning("left out: %s", error)
    return Service(config, {name: models[name] for name in config.versions if name in models})
