"""The image that a task's pods run: the one it names, or one made of it with code and packages."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from mlstead.clients.registry import Login
from mlstead.clients.registry_auth import password_name
from mlstead.clients.secrets import SecretStore
from mlstead.engines.base import Code, Environment
from mlstead.engines.kubernetes import image
from mlstead.engines.kubernetes.settings import Settings
from mlstead.errors import NotFoundError, UnavailableError, UserError

PASSWORD: Final = "MLSTEAD_REGISTRY_PASSWORD"


class TaskImages:
    """Makes images in the registry of a context."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._made: dict[tuple[Any, ...], str] = {}

    def image(self, request: Mapping[str, Any]) -> str:
        """Give the image by its address; pushed first if it has code or packages of its own.

        Raises:
            UserError: there is no registry to push to, or it refuses.
            UnavailableError: it does not answer.
        """
        code, environment = request["code"], request["environment"]
        if code is None and environment is None:
            return str(request["image"])
        registry = self._settings.registry
        if not registry:
            raise UserError(
                "code: pods get it in an image, and the context names no registry to push to",
                hint="mlstead context add … --registry HOST:PORT/PREFIX, or `code: null`",
            )
        key = (
            request["image"],
            (code or {}).get("tree"),
            (environment or {}).get("key"),
        )
        if key not in self._made:
            wanted = image.Wanted(
                request["image"],
                f"{registry.rstrip('/')}/code" if "/" not in registry else registry,
                None if code is None else Code(**code),
                None if environment is None else Environment(**environment),
            )
            cache = self._settings.home / "cache" / "images"
            try:
                self._made[key] = image.build(wanted, self.login(registry), cache)
            except UnavailableError as error:
                raise UnavailableError(
                    f"the registry {registry} does not answer: {error}",
                    hint="what was recorded is sent once it does; mlstead ps lists it",
                    delay=error.delay,
                ) from error
        return self._made[key]

    def login(self, registry: str) -> Login:
        """Give the login of the registry that images go to.

        Raises:
            UserError: no password is known.
        """
        one, address = self._settings, registry.partition("/")[0]
        password = os.environ.get(PASSWORD, "")
        if one.registry_user and not password:
            name = password_name(address)
            try:
                password = SecretStore(one.home).get(name)
            except NotFoundError as error:
                raise UserError(
                    f"no password for {one.registry_user} at {address}",
                    hint=f"mlstead secret set {name}, or {PASSWORD}",
                ) from error
        authority = ""
        if one.registry_authority:
            authority = Path(one.registry_authority).read_text(encoding="utf-8")
        return Login(address, one.registry_user, password, authority)
