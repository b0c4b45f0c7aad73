"""Images and registries: whose login is known here, and how a bundle's images get into one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from mlstead.clients import durable, kubeconfig
from mlstead.clients.image_name import parse_image
from mlstead.clients.registry import Login, Registry
from mlstead.clients.registry_auth import password_name
from mlstead.clients.secrets import SecretStore
from mlstead.errors import NotFoundError, UserError
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

    def of_site(self, site: str, ask: Ask | None = None) -> Login:
        """Give the login of the registry of a site that was applied from here, by its name.

        Raises:
            NotFoundError: there is no such site, or it has no registry.
            UserError: the site's secrets cannot be opened.
        """
        note = self._home / "sites" / site / "state.json"
        try:
            address = json.loads(note.read_text(encoding="utf-8")).get("registry")
        except (OSError, ValueError, AttributeError):
            known = sorted(it.parent.name for it in (self._home / "sites").glob("*/state.json"))
            hint = f"known: {', '.join(known)}" if known else "mlstead site apply makes one"
            raise NotFoundError(f"no site {site} was applied from here", hint=hint) from None
        found = self.site_login(address, ask) if address else None
        if found is None:
            raise NotFoundError(
                f"site {site} has no registry", hint="roles: [registry] of a machine, and apply"
            )
        return found

    def options_of_site(self, site: str, context: str, ask: Ask | None = None) -> dict[str, str]:
        """Give what a context of a site's cluster is to say: its kubectl context, its registry.

        The registry's password becomes a secret of this home, so that nobody is asked for the
        passphrase of the site's secrets when work is sent.

        Raises:
            NotFoundError, UserError: as ``of_site``.
        """
        login = self.of_site(site, ask)
        authority = self._home / "kubernetes" / context / "registry.pem"
        authority.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        durable.write(authority, login.authority.encode())
        SecretStore(self._home).set(password_name(login.address), login.password)
        return {
            "kubeconfig": str(kubeconfig.find()),
            "kube_context": site,
            "registry": f"{login.address}/mlstead/{context}",
            "registry_user": login.user,
            "registry_authority": str(authority),
        }

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
