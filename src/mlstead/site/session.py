"""A site as it is worked with: its spec, what is kept of it here, and the way to it."""

import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from mlstead.clients import hostkeys
from mlstead.clients.hostkeys import HostKey
from mlstead.clients.ssh import Ssh, Target
from mlstead.errors import ConflictError, NotFoundError, PlatformError, UserError
from mlstead.machines import registry
from mlstead.plan import Bundle
from mlstead.site import bundle as bundles
from mlstead.site import existing
from mlstead.site.cluster import OnHead, Reach
from mlstead.site.existing import OnHere, is_existing
from mlstead.site.facts import Gathered, gather, target
from mlstead.site.secrets import SiteSecrets
from mlstead.spec.loaded import LoadedSite

STATE: Final = "state.json"
Ask = Callable[[], str]


@dataclass(frozen=True, slots=True)
class Stranger:
    """A machine that shows host keys.

    Attributes:
        name: the machine; fingerprints: of the keys it shows now, nothing says they are right.
        known: whether it is known by one of them; one that does not answer, by any.
    """

    name: str
    fingerprints: tuple[str, ...]
    known: bool = False


class Session:
    """One site, opened; use it in a ``with``.

    Args:
        home: the folder of the user's state; what is kept of a site lies in ``sites/<name>``.
        loaded: the site.
        bundle: a folder that goes before the one of the site file, and is remembered.
        passphrase: asks for the passphrase of the site's secrets; None: there is nobody to ask.

    Raises:
        ConflictError: another site of this name was applied from here.
    """

    def __init__(
        self, home: Path, loaded: LoadedSite, *, bundle: str = "", passphrase: Ask | None = None
    ) -> None:
        self.site = loaded.site
        given = Path(loaded.site.kubernetes.kubeconfig).expanduser()
        self._kubeconfig = (loaded.folder / given).resolve()
        self.folder = home / "sites" / loaded.site.name
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise UserError(f"{self.folder}: {error.strerror}") from error
        self._refuse_another()
        self._given = str(Path(bundle).expanduser().resolve()) if bundle else ""
        self._own = str((loaded.folder / Path(self.site.bundle).expanduser()).resolve())
        self._here: OnHere | None = None
        self.ssh = Ssh(self.folder)
        self.secrets = SiteSecrets(self.folder, self.site, passphrase)
        self._seen: dict[str, tuple[HostKey, ...]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.ssh.close()

    def bundle(self) -> Bundle | None:
        """Give the bundle: the one given, that of the site file, or the one of the last time.

        Raises:
            UserError: it is not there, or damaged.
        """
        place = self._given or (self._own if self.site.bundle else "") or self.state("bundle")
        return bundles.load(Path(place)) if place else None

    @property
    def reach(self) -> Reach:
        """The way to the cluster: by its control plane, or from here if it is an existing one.

        Raises:
            UserError: it is an existing one, and its kubeconfig or a program is missing.
        """
        return self._existing() if is_existing(self.site) else OnHead(self.site, self.ssh)

    def _existing(self) -> OnHere:
        if self._here is None:
            self._here = existing.reach(self.site, self._kubeconfig, self.bundle())
        return self._here

    def settle(self) -> None:
        """Keep in mind which site has this name here, its registry, and which bundle was given."""
        given = {"bundle": self._given} if self._given and not self.site.bundle else {}
        self.remember({"head": self._head, "registry": registry.address(self.site), **given})

    @property
    def _head(self) -> str:
        if is_existing(self.site):
            return " ".join((str(self._kubeconfig), self.site.kubernetes.context)).strip()
        return self.site.machines[self.site.with_role("control-plane")[0]].address

    def _refuse_another(self) -> None:
        """Two sites of one name would share secrets, and one take the other's kubectl context."""
        kept = self.state("head")
        if kept and kept != self._head:
            message = f"another site is called {self.site.name}: its cluster is that of {kept}"
            hint = f"choose another name; if that site is gone for good, delete {self.folder}"
            raise ConflictError(message, hint=hint)

    def state(self, key: str) -> str:
        """Give what was remembered; "" if nothing was."""
        try:
            data = json.loads((self.folder / STATE).read_text(encoding="utf-8"))
            return str(data.get(key, ""))
        except (OSError, ValueError, AttributeError):
            return ""

    def remember(self, values: Mapping[str, str]) -> None:
        """Keep values for later calls, whole or not at all."""
        data: dict[str, Any] = {}
        with suppress(OSError, ValueError):
            data = json.loads((self.folder / STATE).read_text(encoding="utf-8"))
        descriptor, aside = tempfile.mkstemp(dir=self.folder, prefix=".state-")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump({**data, **values}, file)
        Path(aside).replace(self.folder / STATE)

    def strangers(self, machines: Sequence[str] | None = None) -> list[Stranger]:
        """Find machines with unknown keys; one whose key has the given fingerprint gets known.

        Raises:
            UserError: a machine shows other keys than the one that the site file names.
        """
        names = self.site.machines if machines is None else machines
        unknown = [
            target(self.site, name)
            for name in names
            if not hostkeys.known(self.folder, target(self.site, name))
        ]
        found = []
        for name, keys in self._scan(unknown).items():
            if isinstance(keys, PlatformError):
                continue  # it does not answer: that is told when it is looked at
            wanted = self.site.machines[name].host_key
            if wanted is None:
                found.append(Stranger(name, tuple(key.fingerprint for key in keys)))
                continue
            right = hostkeys.match(keys, wanted)
            if right is None:
                shown = ", ".join(key.fingerprint for key in keys)
                raise UserError(
                    f"machines.{name}.host_key: {wanted}, but {name} shows {shown}",
                    hint="somebody may be in between; compare with ssh-keygen -l on the machine",
                )
            hostkeys.trust(self.folder, target(self.site, name), [right])
        return found

    def shown(self, names: Sequence[str]) -> list[Stranger]:
        """Give the keys that machines show now; one that is known need not answer.

        Raises:
            NotFoundError: there is no such machine.
            PlatformError: one that is not known does not answer.
        """
        for name in names:
            if name not in self.site.machines:
                raise NotFoundError(f"the site has no machine {name!r}")
        found = []
        for name, keys in self._scan([target(self.site, name) for name in names]).items():
            known = hostkeys.known(self.folder, target(self.site, name))
            if not isinstance(keys, PlatformError):
                prints = tuple(key.fingerprint for key in keys)
                found.append(Stranger(name, prints, bool({*keys} & {*known})))
            elif known:
                found.append(Stranger(name, (), known=True))
            else:
                raise keys
        return found

    def trust(self, name: str, fingerprints: Sequence[str], *, replace: bool = False) -> None:
        """Know a machine by the keys with these fingerprints from now on.

        Raises:
            NotFoundError: there is no such machine, or it shows no such key.
            ConflictError: it is known by another key, and not ``replace``.
        """
        if name not in self.site.machines:
            raise NotFoundError(f"the site has no machine {name!r}")
        here = target(self.site, name)
        keys = self._seen.get(name) or self._scan([here])[name]
        if isinstance(keys, PlatformError):
            raise keys
        chosen = [key for key in keys if key.fingerprint in fingerprints]
        if not chosen:
            shown = ", ".join(key.fingerprint for key in keys)
            raise NotFoundError(f"{name} shows no such key", hint=f"it shows {shown}")
        hostkeys.trust(self.folder, here, chosen, replace=replace)

    def _scan(self, targets: Sequence[Target]) -> Mapping[str, tuple[HostKey, ...] | PlatformError]:
        """Ask machines for their keys, and keep them: sshd shuts out those who ask often."""
        found = hostkeys.scan(targets) if targets else {}
        self._seen |= {name: it for name, it in found.items() if not isinstance(it, PlatformError)}
        return found

    def look(self, machines: Sequence[str] | None = None) -> Gathered:
        """Gather facts of machines, all if none are named; of an existing cluster, of that."""
        if is_existing(self.site):
            return existing.look(self.site, self._existing())
        return gather(self.site, self.ssh, self.bundle(), machines)

    def forget(self) -> None:
        """Forget the site's secrets and state; logs stay, and hosts stay known by their keys."""
        self.secrets.destroy()
        (self.folder / STATE).unlink(missing_ok=True)
