"""Revision 0001: the first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Text sorts by code point in both databases, as Python's str does.
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
# SQLite makes a column the row's own number only when its type is the word INTEGER.
WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
FLOAT = sa.Float(53).with_variant(sa.REAL(), "sqlite")


def _text(name: str, default: str | None = "") -> sa.Column[str]:
    return sa.Column(name, TEXT, nullable=False, server_default=default)


def _json(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False, server_default="{}")


def _whole(name: str) -> sa.Column[int]:
    return sa.Column(name, WHOLE, nullable=False, server_default="0")


def _time(name: str) -> sa.Column[float]:
    return sa.Column(name, FLOAT, nullable=False, server_default="0")


def _number(name: str, *, given: bool) -> sa.Column[int]:
    """Make a primary key; ``given``: the program gives the numbers, else the database."""
    identity = () if given else (sa.Identity(),)
    return sa.Column(name, WHOLE, *identity, primary_key=True, autoincrement=not given)


def upgrade() -> None:
    """Create everything."""
    _runs()
    _metrics()
    _artifacts()
    _driving()


def _runs() -> None:
    op.create_table(
        "runs",
        _number("number", given=True),
        sa.Column("id", TEXT, nullable=False, unique=True),
        sa.Column("token", TEXT, nullable=True, unique=True),
        *(_text(name) for name in ("project", "kind", "name", "engine", "state", "parent", "key")),
        *(
            _json(name)
            for name in ("spec", "request", "params", "labels", "values", "extra", "status")
        ),
        _time("created"),
        sa.Column("started", FLOAT, nullable=True),
        sa.Column("ended", FLOAT, nullable=True),
        *(_text(name) for name in ("reason", "detail", "cached", "code", "environment", "mlflow")),
        _whole("attempt"),
        _whole("stop"),
    )
    # Newest first within each filter; "state" makes counting children an index-only read.
    op.create_index("runs_by_parent", "runs", ["parent", "number", "state"])
    for name in ("project", "kind", "name", "state"):
        op.create_index(f"runs_by_{name}", "runs", [name, "parent", "number"])
    op.create_index("runs_by_code", "runs", ["code"])
    op.create_table(
        "events",
        _number("number", given=False),
        sa.Column("run_id", TEXT, sa.ForeignKey("runs.id"), nullable=False),
        _whole("attempt"),
        _text("name", None),
        _time("time"),
        _json("data"),
        sa.UniqueConstraint("run_id", "attempt", "name"),
    )


def _metrics() -> None:
    # A series is one metric of one rank, with what "latest" and "best" need.
    op.create_table(
        "series",
        _number("id", given=False),
        sa.Column("run_id", TEXT, sa.ForeignKey("runs.id"), nullable=False),
        _text("key", None),
        _whole("rank"),
        _whole("count"),
        _whole("last_number"),
        _whole("last_step"),
        sa.Column("min_number", WHOLE, nullable=True),
        sa.Column("min_value", FLOAT, nullable=True),
        sa.Column("max_number", WHOLE, nullable=True),
        sa.Column("max_value", FLOAT, nullable=True),
        sa.UniqueConstraint("run_id", "key", "rank"),
    )
    op.create_table(
        "points",
        _number("number", given=True),
        _whole("series"),
        _whole("step"),
        sa.Column("value", FLOAT, nullable=True),  # NULL is NaN, which SQLite cannot hold
        _time("time"),
        _whole("attempt"),
    )
    op.create_index("points_by_series", "points", ["series", "number"])


def _artifacts() -> None:
    op.create_table(
        "versions",
        *(sa.Column(name, TEXT, primary_key=True) for name in ("project", "kind", "name")),
        sa.Column("number", WHOLE, primary_key=True, autoincrement=False),
        *(_text(name) for name in ("digest", "run_id", "output", "source")),
        _whole("size"),
        _whole("files"),
        _time("created"),
        _json("meta"),
    )
    op.create_index("versions_by_digest", "versions", ["digest"])
    # The highest number ever given, so that a dropped one never returns.
    op.create_table(
        "version_names",
        *(sa.Column(name, TEXT, primary_key=True) for name in ("project", "kind", "name")),
        _whole("last"),
    )
    op.create_table(
        "aliases",
        *(sa.Column(name, TEXT, primary_key=True) for name in ("project", "kind", "name", "alias")),
        _whole("number"),
    )
    op.create_table(
        "links",
        sa.Column("run_id", TEXT, sa.ForeignKey("runs.id"), primary_key=True),
        sa.Column("direction", TEXT, primary_key=True),
        sa.Column("slot", TEXT, primary_key=True),
        *(_text(name) for name in ("kind", "digest", "ref")),
        _whole("partial"),
    )
    op.create_index("links_by_digest", "links", ["digest"])
    op.create_table(
        "cache",
        sa.Column("key", TEXT, primary_key=True),
        _text("run_id"),
        _time("created"),
    )


def _driving() -> None:
    op.create_table(
        "counters",
        sa.Column("name", TEXT, primary_key=True),
        _whole("value"),
    )
    op.execute("INSERT INTO counters (name, value) VALUES ('runs', 0), ('points', 0)")
    op.create_table("cursors", sa.Column("name", TEXT, primary_key=True), _text("value"))
    op.create_table(
        "leases",
        sa.Column("run_id", TEXT, primary_key=True),
        _text("holder"),
        _whole("fence"),
        _time("taken"),
        _time("expires"),
    )
    op.create_table(
        "outgoing",
        sa.Column("id", TEXT, primary_key=True),
        *(_text(name) for name in ("run_id", "to", "text", "state", "error")),
        _time("created"),
        _whole("tries"),
        _time("next_try"),
    )
    op.create_index("outgoing_by_state", "outgoing", ["state", "next_try"])


def downgrade() -> None:
    """Refuse: records go forward only; a copy of the database is the way back."""
    raise NotImplementedError("records are not downgraded")
