"""Sites: planned, applied, looked at, changed and removed; what the site verbs call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from mlstead.clients import durable
from mlstead.errors import ConflictError, NotFoundError, PlatformError, UserError
from mlstead.plan import CLUSTER, Bundle, Step
from mlstead.records.base import Run, Store
from mlstead.site import bundle as bundles
from mlstead.site import driving, laptop, leaving, pruning, writing
from mlstead.site.applying import Event, run_steps
from mlstead.site.driving import Planned, Told
from mlstead.site.existing import is_existing
from mlstead.site.facts import Gathered
from mlstead.site.options import check_options
from mlstead.site.session import Session, Stranger
from mlstead.site.status import Status, status
from mlstead.spec.load import load_site, read_source
from mlstead.spec.loaded import LoadedSite

Ask = Callable[[], str]


class Sites:
    """The sites that this home knows.

    Args:
        home: the folder of the user's state.
        store: opens the records, where changes of sites are kept.
        project: what their runs belong to.
    """

    def __init__(self, home: Path, store: Callable[[], Store], project: str) -> None:
        self._home, self._store, self._project = home, store, project

    def load(self, path: Path) -> LoadedSite:
        """Read a site file; SpecError with every problem and its place."""
        try:
            loaded = load_site(path)
        except NotFoundError as error:
            hint = "mlstead site init writes one; -f FILE names another"
            raise _with_hint(error, hint) from error
        check_options(loaded)
        return loaded

    def open(self, loaded: LoadedSite, *, bundle: str = "", ask: Ask | None = None) -> Session:
        """Open a site; ``ask`` asks for the passphrase of its secrets. Use it in a ``with``."""
        return Session(self._home, loaded, bundle=bundle, passphrase=ask)

    def strangers(self, session: Session) -> list[Stranger]:
        """Find machines whose host keys must be trusted first."""
        return session.strangers()

    def plan(self, session: Session) -> Planned:
        """Say what an apply would do; nothing is changed."""
        return driving.plan(session)

    def apply(self, session: Session, told: Told) -> Run | None:
        """Make the site as described; None if it is so already."""
        return driving.apply(session, self._store(), self._project, told)

    def status(self, session: Session) -> Status:
        """Say how the site is."""
        return status(session.site, session.look())

    def drain(self, session: Session, name: str, told: Told) -> Run:
        """Move what runs on a worker elsewhere, and keep new work away.

        Raises:
            UserError: the machine cannot be drained.
        """
        leaving.check_worker(session.site, name)
        steps = leaving.drain_steps(session.site, [name])
        return self._do(session, lambda gathered: steps, told)

    def remove_machine(self, session: Session, name: str, told: Told, *, dead: bool) -> Run:
        """Take a worker out of the cluster, and our parts off it; a dead one is only forgotten.

        Raises:
            UserError: the site cannot do without it.
            UnavailableError: it does not answer, and nobody said that it is dead.
        """
        leaving.check_worker(session.site, name)

        def steps(gathered: Gathered) -> list[Step]:
            if name in gathered.problems and not dead:
                raise _with_hint(gathered.problems[name], "--dead forgets a machine that is gone")
            found = leaving.drain_steps(session.site, [name], dead=dead)
            found += leaving.forget_steps(session.site, gathered, [name])
            return found + leaving.remove_steps(session.site, gathered.facts, [name])

        return self._do(session, steps, told, spare=(name,))

    def remove(self, session: Session, told: Told, *, keep_data: bool, dead: bool) -> Run:
        """Take everything of ours off all machines; ``dead`` passes over those that are gone.

        Of an existing cluster, what is marked as this site's is taken out of it.

        Raises:
            UnavailableError: a machine does not answer.
            UserError: something that others made would be lost.
        """
        if is_existing(session.site):
            return self._leave(session, told, dead=dead)
        names = session.site.nodes + tuple(
            name for name in session.site.machines if name not in session.site.nodes
        )

        def steps(gathered: Gathered) -> list[Step]:
            for problem in () if dead else gathered.problems.values():
                raise _with_hint(problem, "--dead passes over machines that are gone")
            return leaving.remove_steps(session.site, gathered.facts, names)

        run = self._do(session, steps, told, spare=names, keep_data=keep_data)
        laptop.forget(session.site)
        session.forget()
        return run

    def _leave(self, session: Session, told: Told, *, dead: bool) -> Run:
        """Take what is marked as the site's out of a cluster that stays."""
        bare = pruning.without_apps(session.site)

        def steps(gathered: Gathered) -> list[Step]:
            for problem in () if dead else gathered.problems.values():
                raise _with_hint(problem, "--dead forgets a cluster that is gone")
            if lost := pruning.lost_with(bare, gathered.facts):
                raise UserError("\n".join(lost), hint="take it away yourself")
            return pruning.prune_steps(bare, gathered.facts)

        run = self._do(session, steps, told, spare=(CLUSTER,))
        if left := () if dead else steps(session.look()):
            keys = ", ".join(step.key for step in left)
            raise UserError(f"not all could be taken away: {keys}", hint="try again")
        session.forget()
        return run

    def write(
        self, path: Path, name: str, addresses: Sequence[str], user: str, key: str
    ) -> list[str]:
        """Write a first site file; give the names of its machines.

        Raises:
            ConflictError: the file exists.
            UserError: an address cannot be one.
        """
        machines = writing.names_for(addresses)
        text = writing.draft(name, machines, user, key)
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError as error:
            raise ConflictError(f"{path} exists", hint="choose another with --file") from error
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}") from error
        return [machine[0] for machine in machines]

    def add_to(self, path: Path, name: str, address: str, roles: Sequence[str]) -> None:
        """Write a machine into a site file, everything else in it stays as it is.

        Raises:
            UserError: the file or the machine cannot be.
        """
        text = writing.add_machine(read_source(path).text, name, address, roles, origin=str(path))
        _replace(path, text)

    def take_out(self, path: Path, name: str) -> None:
        """Take a machine out of a site file."""
        _replace(path, writing.remove_machine(read_source(path).text, name, origin=str(path)))

    def make_bundle(self, folder: Path) -> Bundle:
        """Write the manifest of a bundle folder."""
        return bundles.create(folder)

    def _do(
        self,
        session: Session,
        steps: Callable[[Gathered], Sequence[Step]],
        told: Told,
        *,
        spare: Sequence[str] = (),
        keep_data: bool = False,
    ) -> Run:
        """Do steps that are made from facts; machines that may be gone are in ``spare``."""
        store = self._store()
        with driving.alone(session):
            driving.close_open(session, store)
            gathered = session.look()
            for name, problem in gathered.problems.items():
                if name not in spare:
                    raise problem
            wanted = steps(gathered)
            with driving.recorded(
                session, store, self._project, wanted, told, keep_data=keep_data
            ) as change:
                run_steps(change.doing, wanted)
        return store.run(change.run.id)


def _replace(path: Path, text: str) -> None:
    """Write a file whole or not at all; its permissions stay."""
    try:
        mode = path.stat().st_mode & 0o777
        durable.write(path.resolve(), text.encode())
        path.chmod(mode)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error


def _with_hint(error: PlatformError, hint: str) -> PlatformError:
    return type(error)(str(error), hint=hint)


__all__ = ["Event", "Planned", "Session", "Sites", "Status", "Stranger"]
