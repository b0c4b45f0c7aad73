"""The secrets of a site: generated when first needed, kept encrypted, never planned or printed."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import mlstead.clients
from mlstead import discover
from mlstead.spec.site import Site

SPARE: Final = timedelta(days=30)  # a certificate that ends sooner is made again


class SiteSecrets:
    """Gives secrets by the names that steps use; see ``value``."""

    def __init__(self, folder: Path, site: Site, passphrase: Callable[[], str] | None) -> None:
        self._site = site
        self._folder = folder
        self._ask = passphrase
        self._open: Any = None
        self.given: set[str] = set()

    @property
    def _vault(self) -> Any:
        if self._open is None:
            vault = discover.part(mlstead.clients, "vault")
            self._open = vault.Vault(self._folder, self._site.name, passphrase=self._ask)
        return self._open

    def value(self, name: str) -> str:
        """Give a secret, which is made if it is not there.

        ``authority.crt`` and ``authority.key`` are the site's certificate authority,
        ``<server>.crt`` and ``<server>.key`` a server's certificate, ``<user>.password`` its
        password.

        Raises:
            UserError: the secrets cannot be opened.
            ValueError: nothing is called so.
        """
        owner, _, part = name.rpartition(".")
        if part == "password":
            generate = discover.part(mlstead.clients, "vault").generate
            value = str(self._vault.ensure(name, generate))
        elif part in ("crt", "key"):
            pair = self._authority() if owner == "authority" else self._server(owner)
            value = str(pair.certificate_pem if part == "crt" else pair.key_pem)
        else:
            raise ValueError(f"no secret is called {name}")
        if part != "crt":
            self.given.add(value)
        return value

    def destroy(self) -> None:
        """Forget all secrets for good."""
        self._vault.destroy()

    def _authority(self) -> Any:
        authorities = discover.part(mlstead.clients, "authority")

        def make() -> str:
            return _packed(authorities.make_authority(self._site.name))

        return _unpacked(authorities, self._vault.ensure("authority", make))

    def _server(self, name: str) -> Any:
        """Give the certificate of a server; a new one when it ends soon or its names changed."""
        authorities = discover.part(mlstead.clients, "authority")
        names = self._names(name)

        def make() -> str:
            return _packed(authorities.issue(self._authority(), name=name, names=names), names)

        text = self._vault.ensure(f"server.{name}", make)
        pair = _unpacked(authorities, text)
        ends = authorities.expiry(pair.certificate_pem)
        if json.loads(text).get("names") != names or ends - datetime.now(UTC) < SPARE:
            text = make()
            self._vault.set(f"server.{name}", text)
        return _unpacked(authorities, text)

    def _names(self, role: str) -> list[str]:
        """Name what a server is reached by: the machines of its role and their addresses."""
        machines = self._site.machines
        return [
            it
            for name, machine in machines.items()
            if role in machine.roles
            for it in (name, machine.address)
        ]


def registry_secrets(folder: Path, ask: Callable[[], str] | None) -> tuple[str, str]:
    """Give the password of a site's registry and the certificate of the site's authority.

    Args:
        folder: what is kept of the site here; its name is the site's.
        ask: asks for the passphrase; None: there is nobody to ask.

    Raises:
        NotFoundError: nothing was made for that site.
        UserError: the secrets cannot be opened.
    """
    vault = discover.part(mlstead.clients, "vault").Vault(folder, folder.name, passphrase=ask)
    return vault.get("registry.password"), str(json.loads(vault.get("authority"))["crt"])


def _packed(pair: Any, names: list[str] | None = None) -> str:
    return json.dumps({"crt": pair.certificate_pem, "key": pair.key_pem, "names": names or []})


def _unpacked(authorities: Any, text: str) -> Any:
    data = json.loads(text)
    return authorities.Pair(data["crt"], data["key"])
