"""Reads versions, aliases, links and the cache."""

from collections.abc import Sequence

from mlstead.errors import NotFoundError
from mlstead.records.base import CacheEntry, Link, Version
from mlstead.records.sql.database import Session
from mlstead.records.sql.rows import LINK, VERSION, link, version

_SHOWN = 5


def versions(
    session: Session, project: str = "", kind: str = "", name: str = "", digest: str = ""
) -> list[Version]:
    """List versions by project, kind, name and number, with their aliases."""
    wanted = {"project": project, "kind": kind, "name": name, "digest": digest}
    given = {column: value for column, value in wanted.items() if value}
    where = " AND ".join(f"v.{column} = ?" for column in given) or "1 = 1"
    rows = session.all(
        f"SELECT {VERSION}, a.alias FROM versions v LEFT JOIN aliases a ON a.project = v.project "
        "AND a.kind = v.kind AND a.name = v.name AND a.number = v.number "
        f"WHERE {where} ORDER BY v.project, v.kind, v.name, v.number, a.alias",
        *given.values(),
    )
    found: dict[tuple[str, ...], tuple[tuple[str, ...], list[str]]] = {}
    for *row, alias in rows:
        _, aliases = found.setdefault(tuple(row[:4]), (tuple(row), []))
        if alias:
            aliases.append(alias)
    return [version(row, tuple(aliases)) for row, aliases in found.values()]


def one(session: Session, project: str, kind: str, name: str, at: str) -> Version:
    """Read one version by number or alias, or the newest."""
    known = versions(session, project, kind, name) if name else []
    fits = [it for it in known if not at or at == str(it.number) or at in it.aliases]
    if fits:
        return fits[-1]
    if not known:
        raise NotFoundError(f"no {kind} {name!r} in project {project}")
    names = [str(it.number) for it in known][-_SHOWN:]
    names += [alias for it in known for alias in it.aliases][:_SHOWN]
    raise NotFoundError(f"no {kind} {name}@{at}", hint=f"known: {', '.join(names)}")


def links(session: Session, run_ids: Sequence[str], digest: str) -> list[Link]:
    """List what runs read and wrote."""
    if run_ids:
        also = " AND digest = ?" if digest else ""
        rows = session.among(
            f"SELECT {LINK} FROM links WHERE run_id IN (@){also}",
            list(dict.fromkeys(run_ids)),
            *([digest] if digest else []),
        )
    else:
        rows = session.all(f"SELECT {LINK} FROM links WHERE digest = ?", digest) if digest else []
    return sorted(map(link, rows), key=lambda it: (it.run_id, it.direction, it.slot))


def cached(session: Session, key: str) -> CacheEntry | None:
    """Read the cache entry of a key."""
    rows = session.all('SELECT "key", run_id, created FROM cache WHERE "key" = ?', key)
    return CacheEntry(*rows[0]) if rows else None


def digests(session: Session) -> list[str]:
    """List every digest that a version or a link refers to, in one reading."""
    rows = session.all("SELECT digest FROM versions UNION SELECT digest FROM links ORDER BY 1")
    return [row[0] for row in rows if row[0]]
