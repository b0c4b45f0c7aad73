"""Leases: who drives a run, until when by the database's clock."""

from mlstead.records.base import Lease
from mlstead.records.sql.database import Session


def claim(session: Session, run_id: str, holder: str, seconds: float) -> Lease | None:
    """Take or renew a lease; None while another holder's is good.

    A lease taken in the future is not believed: the clock was set back since, and the fence keeps
    its holder from writing all the same.
    """
    if not holder:
        raise ValueError("a lease needs a holder")
    rows = session.all("SELECT holder, fence, taken, expires FROM leases WHERE run_id = ?", run_id)
    was, fence, taken, expires = rows[0] if rows else ("", 0, 0.0, 0.0)
    good = bool(was) and taken <= session.now < expires
    if good and was != holder:
        return None
    lease = Lease(run_id, holder, fence if good else fence + 1, session.now + seconds)
    session.change(
        "INSERT INTO leases (run_id, holder, fence, taken, expires) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (run_id) DO UPDATE SET holder = excluded.holder, fence = excluded.fence, "
        "taken = excluded.taken, expires = excluded.expires",
        *(run_id, holder, lease.fence, session.now, lease.expires),
    )
    return lease


def release(session: Session, lease: Lease) -> None:
    """Give a lease back, unless it is another's by now."""
    session.change(
        "UPDATE leases SET holder = '', expires = 0 WHERE run_id = ? AND holder = ? AND fence = ?",
        *(lease.run_id, lease.holder, lease.fence),
    )
