"""Images and registries: whose login is known here, and how a bundle's images get into one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from mlstead.clients.image_name import parse_image
from mlstead.clients.registry import Login, Registry
from mlstead.errors import UserError
from mlstead.site import bundle as bundles
from mlstead.site.images import Loaded, load_images
from mlstead.site.secrets import registry_secrets

__all__ = ["Images", "Loaded", "Login"]

USER = "mlstead"
"""Who logs in to the registry of a site."""

Ask = Callable[[], str]


class Images:
    """The registries that this home knows, and the way of images into any registry."""

    def __init__(self, home: Path) -> None:
        self._home = home

    @staticmethod
    def login(address: str, user: str, password: str, authority: str, *, plain: bool) -> Login:
        """Give a login; ``authority`` is PEM, ``plain`` allows http."""
        return Login(address, user, password, authority, plain)

    def site_login(self, address: str, ask: Ask | None = None) -> Login | None:
        """Give the login of a site's registry; None if no site applied from here has it.

        Raises:
            UserError: the site's secrets cannot be opened.
        """
        for note in sorted((self._home / "sites").glob("*/state.json")):
            try:
                known = json.loads(note.read_text(encoding="utf-8")).get("registry")
            except (OSError, ValueError, AttributeError):
                continue
            if known == address:
                password, authority = registry_secrets(note.parent, ask)
                return Login(address, USER, password, authority)
        return None

    def load(
        self, folder: Path, given: Login, ask: Ask | None, told: Callable[[str], None]
    ) -> list[Loaded]:
        """Bring the images of a bundle into a registry; what it has is not sent again.

        Args:
            folder: the bundle.
            given: where to; without a password it is the login of the site's registry there.
            ask: asks for the passphrase of a site's secrets; None: there is nobody to ask.
            told: gets the name of each image that is sent.

        Raises:
            NotFoundError: there is no bundle.
            UserError: no login is known, an archive is damaged, or the registry refuses.
            UnavailableError: the registry does not answer.
        """
        parse_image(f"{given.address}/name")
        login = self.complete(given, ask)
        bundle = bundles.load(folder)
        archives = [file.path for file in bundle.files if file.path.startswith("images/")]
        with Registry(login) as registry:
            return load_images(folder, archives, registry, told)

    def complete(self, given: Login, ask: Ask | None) -> Login:
        """Add what is known of a registry to what was given.

        Raises:
            UserError: neither says a password, or the site's secrets cannot be opened.
        """
        if given.plain or (given.password and given.authority):
            return given
        found = self.site_login(given.address, ask)
        if found is not None:
            user, password = given.user or found.user, given.password or found.password
            return Login(given.address, user, password, given.authority or found.authority)
        if given.password:
            return given
        raise UserError(
            f"no password for {given.address}: it is no registry of a site applied from here",
            hint="set MLSTEAD_REGISTRY_PASSWORD, and --user if that is not mlstead",
        )
