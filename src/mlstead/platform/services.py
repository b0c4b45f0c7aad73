"""Services: list, address, predict, figures."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlstead.clients import predict as client
from mlstead.errors import NotFoundError, PlatformError, UserError
from mlstead.records.base import Run
from mlstead.work import generations
from mlstead.work.base import Backends


class Services:
    """The services of one project."""

    def __init__(self, backends: Backends, project: str) -> None:
        self._backends = backends
        self._project = project

    def list(self) -> list[Run]:
        """List the runs whose generation serves now."""
        return generations.serving(self._backends, self._project)

    def find(self, name: str) -> Run:
        """Find a service by name.

        Raises:
            NotFoundError: nothing of that name serves.
        """
        name = name.removeprefix("service/")
        run = generations.current(self._backends, self._project, name)
        if run is None:
            known = ", ".join(run.name for run in self.list()) or "none"
            raise NotFoundError(f"no service {name} runs", hint=f"running: {known}")
        return run

    def predict(self, name: str, request: Path, version: str = "") -> Mapping[str, Any]:
        """Send an Open Inference Protocol request; give the answer.

        Raises:
            UserError: the file is no JSON, or the server refused the request.
            UnavailableError: the service does not answer.
        """
        run = self.find(name)
        try:
            body = request.read_bytes()
            json.loads(body)
        except OSError as error:
            raise UserError(f"{request}: {error.strerror}") from error
        except ValueError as error:
            raise UserError(f"{request}: not JSON: {error}") from error
        return client.infer(self.url(run, version) + "/infer", body, 60.0)

    def url(self, run: Run, version: str = "") -> str:
        """Give the address of a service's model, or of one version of it."""
        base = f"{run.extra['url'].rstrip('/')}/v2/models/{run.name}"
        if not version:
            return base
        if version not in run.extra["resolved"]:
            known = ", ".join(run.extra["resolved"])
            raise NotFoundError(f"service {run.name} has no version {version}", hint=known)
        return f"{base}/versions/{version}"

    def figures(self, run: Run) -> Mapping[str, Any]:
        """Give requests, errors, latency and class counts; {} if it does not answer."""
        try:
            return client.get_json(self.url(run) + "/stats", 5.0)
        except PlatformError:
            return {}
