"""Sites: planned, applied, looked at, changed and removed; what the site verbs call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from mlstead.errors import PlatformError
from mlstead.plan import Bundle, Step
from mlstead.records.base import Run, Store
from mlstead.site import bundle as bundles
from mlstead.site import driving, leaving
from mlstead.site.applying import Event, run_steps
from mlstead.site.driving import Planned, Told
from mlstead.site.facts import Gathered
from mlstead.site.options import check_options
from mlstead.site.session import Session, Stranger
from mlstead.site.status import Status, status
from mlstead.spec.load import load_site
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
        loaded = load_site(path)
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

        Raises:
            UnavailableError: a machine does not answer.
        """
        names = session.site.nodes + tuple(
            name for name in session.site.machines if name not in session.site.nodes
        )

        def steps(gathered: Gathered) -> list[Step]:
            for problem in () if dead else gathered.problems.values():
                raise _with_hint(problem, "--dead passes over machines that are gone")
            return leaving.remove_steps(session.site, gathered.facts, names)

        run = self._do(session, steps, told, spare=names, keep_data=keep_data)
        session.forget()
        return run

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


def _with_hint(error: PlatformError, hint: str) -> PlatformError:
    return type(error)(str(error), hint=hint)


__all__ = ["Event", "Planned", "Session", "Sites", "Status", "Stranger"]
