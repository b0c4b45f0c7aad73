"""class Platform: what the command line, the web pages and the Python SDK all come through."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlstead.platform
from mlstead import discover
from mlstead.clients.secrets import SecretStore
from mlstead.platform import context as contexts
from mlstead.platform import driver
from mlstead.platform.context import Context
from mlstead.platform.opening import open_backends
from mlstead.platform.runs import Runs
from mlstead.records.base import Run
from mlstead.spec.names import check_project
from mlstead.work.base import Backends

if TYPE_CHECKING:  # each is loaded when it is first used
    from mlstead.platform.images import Images
    from mlstead.platform.services import Services
    from mlstead.platform.sites import Sites
    from mlstead.platform.versions import Versions
    from mlstead.spec.loaded import Loaded
    from mlstead.spec.work import Work


class Platform:
    """One context and one project; its parts are opened when first used.

    Args:
        home: the folder of the user's state; default ``MLSTEAD_HOME`` or the data folder.
        on: the name of a context; default the current one.
        project: the project; default the context's.
    """

    def __init__(self, home: Path | None = None, *, on: str = "", project: str = "") -> None:
        self.home = (home or contexts.home_folder()).absolute()
        self.context: Context = contexts.choose(self.home, on)
        self.project = check_project(project or self.context.project)

    @cached_property
    def backends(self) -> Backends:
        """Open the engine and the stores."""
        return open_backends(self.home, self.context)

    @cached_property
    def runs(self) -> Runs:
        """Give the runs of the project."""
        return Runs(self.backends, self.context, self.project)

    @cached_property
    def data(self) -> Versions:
        """Give the data of the project."""
        data: Versions = _part("versions").Versions(
            self.backends, self.context, self.project, "data"
        )
        return data

    @cached_property
    def models(self) -> Versions:
        """Give the models of the project."""
        models: Versions = _part("versions").Versions(
            self.backends, self.context, self.project, "model"
        )
        return models

    @cached_property
    def services(self) -> Services:
        """Give the services of the project."""
        services: Services = _part("services").Services(self.backends, self.project)
        return services

    @cached_property
    def secrets(self) -> SecretStore:
        """Give the secrets of the home folder."""
        return SecretStore(self.home)

    @cached_property
    def sites(self) -> Sites:
        """Give the sites of the home folder."""
        sites: Sites = _part("sites").Sites(self.home, lambda: self.backends.store, self.project)
        return sites

    @cached_property
    def images(self) -> Images:
        """Give the way of images into registries."""
        images: Images = _part("images").Images(self.home)
        return images

    def run(self, work: Work | Loaded, folder: Path | None = None) -> Run:
        """Submit work and wait for its end; ``folder`` is where its relative paths start."""
        return self.runs.follow(self.runs.submit(work, folder, attended=True).id)

    def drive(self) -> None:
        """Drive open runs until none is left."""
        driver.drive(self.backends, self.context)

    def track(self) -> None:
        """Copy to MLflow until there is nothing left to copy."""
        driver.track(self.backends, self.context)


def _part(name: str) -> Any:
    return discover.part(mlstead.platform, name)
