"""Reads and changes the user's kubeconfig; what is not ours in it stays as it is written."""

import base64
import binascii
import contextlib
import fcntl
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from mlstead.clients import durable
from mlstead.errors import NotFoundError, UnavailableError, UserError
from mlstead.spec.compose import compose
from mlstead.spec.load import read_source
from mlstead.spec.nodes import Items, Leaf, Map, Node, Source, explain, plain
from mlstead.spec.problems import Problem, nearest
from mlstead.spec.splice import drop, put

VARIABLE: Final = "KUBECONFIG"
PATIENCE: Final = 10.0  # seconds; kubectl needs milliseconds
_START: Final = "apiVersion: v1\nkind: Config\n"
_LISTS: Final = {"clusters": "cluster", "users": "user", "contexts": "context"}
_NAMESPACE: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Access:
    """How a cluster is reached, and as whom: certificates and key in PEM.

    Attributes:
        server: the address of its API server.
        authority: whose certificates the server must show; "" if it is not verified.
        certificate: ours; key: its private key.
    """

    server: str
    authority: str
    certificate: str
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Context:
    """A context of a kubeconfig: the names of its cluster and its user, and its namespace."""

    name: str
    cluster: str
    user: str
    namespace: str
    current: bool


def find(environment: Mapping[str, str] | None = None) -> Path:
    """Give the user's kubeconfig, there or not.

    The first that is there of those in ``KUBECONFIG``; if none is, the last of them, as kubectl
    does; ``~/.kube/config`` if the variable is not set.
    """
    given = (os.environ if environment is None else environment).get(VARIABLE, "")
    paths = [Path(it).expanduser().absolute() for it in given.split(os.pathsep) if it]
    there = next((it for it in paths if it.exists()), None)
    return there or (paths[-1] if paths else Path.home() / ".kube" / "config")


def contexts(path: Path) -> list[Context]:
    """List the contexts, in the file's order; none if there is no file.

    Raises:
        SpecError: it is damaged, or no kubeconfig; each line names file, line and column.
    """
    content = _content(_read(path))
    current = content.get("current-context")
    found = []
    for it in content["contexts"]:
        cluster, user, namespace = (
            str(it["context"].get(key) or "") for key in ("cluster", "user", "namespace")
        )
        found.append(Context(it["name"], cluster, user, namespace, it["name"] == current))
    return found


def access(path: Path, name: str) -> Access | None:
    """Give what a context leads to; None if it is not there, or leads to nothing.

    Raises:
        SpecError: the file is damaged, or no kubeconfig.
    """
    return _access(_content(_read(path)), name)


def parse_access(text: str) -> Access:
    """Read what the current context of a kubeconfig's text leads to.

    Raises:
        UserError: it is no such text; nothing of it is told, since it may hold a private key.
    """
    found = None
    with contextlib.suppress(UserError):
        content = _content(Source("<kubeconfig>", text))
        found = _access(content, str(content.get("current-context")))
    if found is None or not (found.authority and found.certificate and found.key):
        raise UserError("what should be a kubeconfig is none")
    return found


def merge(path: Path, name: str, access: Access, *, entry: str) -> None:
    """Put a context with its cluster and user in place; it becomes the current one if none is.

    Args:
        path: the file; made for its owner alone, as is its folder.
        name: of the context; one that leads elsewhere is replaced, else its namespace stays.
        access: what it leads to.
        entry: the name of cluster and user, which are ours alone.

    Raises:
        SpecError: the file is damaged, or no kubeconfig; it stays as it is.
        UserError: it cannot be changed; UnavailableError: another program is changing it.
    """
    cluster = {"certificate-authority-data": _base64(access.authority), "server": access.server}
    user = {
        "client-certificate-data": _base64(access.certificate),
        "client-key-data": _base64(access.key),
    }
    with _changing(path) as change:
        source = change.source
        source = _set(source, "clusters", {"cluster": cluster, "name": entry})
        source = _set(source, "users", {"name": entry, "user": user})
        leads = {"cluster": entry, "user": entry}
        if not _leads_to(source, name, entry):
            source = _set(source, "contexts", {"context": leads, "name": name})
        if not _content(source).get("current-context"):
            source = put(source, ("current-context",), name)
        change.source = source


def remove(path: Path, name: str, *, entry: str) -> bool:
    """Take a context away with its cluster and user, if it leads to ours; say whether it did.

    Cluster and user stay while another context leads to them.

    Raises:
        SpecError, UserError, UnavailableError: as ``merge``.
    """
    if not path.exists():
        return False
    with _changing(path) as change:
        source, before = change.source, change.source.text
        if _leads_to(source, name, entry):
            source = _without(source, "contexts", name)
            if _content(source).get("current-context") == name:
                source = put(source, ("current-context",), "")
        for kind, field_ in (("clusters", "cluster"), ("users", "user")):
            others = _content(source)["contexts"]
            if all(it["context"].get(field_) != entry for it in others):
                source = _without(source, kind, entry)
        change.source = source
    return source.text != before


def use(path: Path, name: str) -> None:
    """Make a context the current one.

    Raises:
        NotFoundError: there is none of that name.
        SpecError, UserError, UnavailableError: as ``merge``.
    """
    with _changing(path) as change:
        _known(change.source, name)
        change.source = put(change.source, ("current-context",), name)


def set_namespace(path: Path, name: str, namespace: str) -> None:
    """Set the namespace in which a context works.

    Raises:
        NotFoundError: there is no such context.
        SpecError, UserError, UnavailableError: as ``merge``; a name that no namespace has.
    """
    if not _NAMESPACE.fullmatch(namespace):
        hint = "at most 63 of a-z, 0-9 and -, not - at the ends"
        raise UserError(f"{namespace!r} cannot be a namespace", hint=hint)
    with _changing(path) as change:
        index = _known(change.source, name)
        where = ("contexts", index, "context", "namespace")
        change.source = put(change.source, where, namespace)


# ---- the text ------------------------------------------------------------------------------


def _content(source: Source) -> dict[str, Any]:
    """Read what the text says; its three lists are there."""
    if not _has_content(source):
        return {kind: [] for kind in _LISTS}
    root = compose(source)
    wrong = list(_problems(root))
    if wrong:
        raise explain(root, wrong)
    found: dict[str, Any] = plain(root)
    return {**found, **{kind: found.get(kind) or [] for kind in _LISTS}}


def _has_content(source: Source) -> bool:
    lines = (line.strip() for line in source.text.splitlines())
    return any(line and not line.startswith("#") for line in lines)


def _problems(root: Node) -> Iterator[Problem]:
    """Find what keeps a text from being a kubeconfig."""
    if not isinstance(root, Map):
        yield Problem((), "a kubeconfig is a map of fields", "apiVersion: v1, kind: Config, …")
        return
    kind = root.get("kind")
    if kind is not None and plain(kind) != "Config":
        yield Problem(("kind",), f"must be Config; found {plain(kind)}")
    for name, inner in _LISTS.items():
        node = root.get(name)
        if node is None or (isinstance(node, Leaf) and node.value is None):
            continue
        if not isinstance(node, Items):
            yield Problem((name,), "must be a list")
            continue
        seen: set[str] = set()
        for index, item in enumerate(node.items):
            yield from _item_problems((name, index), item, inner, seen)


def _item_problems(
    path: tuple[str, int], item: Node, inner: str, seen: set[str]
) -> Iterator[Problem]:
    value = plain(item)
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        yield Problem(path, "must be a map with a name")
    elif value["name"] in seen:
        yield Problem((*path, "name"), f"a second {inner} is called {value['name']}")
    elif not isinstance(value.get(inner), dict):
        yield Problem(path, f"must have a map {inner}")
    else:
        seen.add(value["name"])


def _index(source: Source, kind: str, name: str) -> int | None:
    names = [it["name"] for it in _content(source)[kind]]
    return names.index(name) if name in names else None


def _known(source: Source, name: str) -> int:
    index = _index(source, "contexts", name)
    if index is None:
        known = [it["name"] for it in _content(source)["contexts"]]
        hint = nearest(name, known) or f"{source.name} has none"
        raise NotFoundError(f"no context {name} in {source.name}", hint=hint)
    return index


def _leads_to(source: Source, name: str, entry: str) -> bool:
    index = _index(source, "contexts", name)
    found = {} if index is None else _content(source)["contexts"][index]["context"]
    return bool(found.get("cluster") == entry and found.get("user") == entry)


def _set(source: Source, kind: str, item: Mapping[str, Any]) -> Source:
    if not _has_content(source):
        text = source.text if source.text.endswith("\n") or not source.text else source.text + "\n"
        source = Source(source.name, text + _START)
    items = _content(source)[kind]
    index = _index(source, kind, item["name"])
    if index is not None and items[index] == item:
        return source
    return put(source, (kind, len(items) if index is None else index), item)


def _without(source: Source, kind: str, name: str) -> Source:
    index = _index(source, kind, name)
    return source if index is None else drop(source, (kind, index))


def _access(content: Mapping[str, Any], name: str) -> Access | None:
    lists = {kind: {it["name"]: it[inner] for it in content[kind]}
             for kind, inner in _LISTS.items()}  # fmt: skip
    leads = lists["contexts"].get(name)
    if leads is None or leads.get("cluster") not in lists["clusters"]:
        return None
    cluster = lists["clusters"][leads["cluster"]]
    user = lists["users"].get(leads.get("user"), {})
    return Access(
        str(cluster.get("server") or ""),
        ""
        if cluster.get("insecure-skip-tls-verify")
        else _pem(cluster.get("certificate-authority-data")),
        _pem(user.get("client-certificate-data")),
        _pem(user.get("client-key-data")),
    )


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _pem(data: object) -> str:
    try:
        return base64.b64decode(str(data or ""), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""


# ---- the file ------------------------------------------------------------------------------


@dataclass(slots=True)
class _Change:
    source: Source


def _read(path: Path) -> Source:
    try:
        return read_source(path)
    except NotFoundError:
        return Source(str(path), "")


@contextlib.contextmanager
def _changing(path: Path) -> Iterator[_Change]:
    """Give the text, alone among all programs, and write what it became, whole or not at all."""
    real = Path(os.path.realpath(path))  # a link stays one
    try:
        real.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _alone(real):
            source = _read(path)
            change = _Change(source)
            yield change
            if change.source.text != source.text:
                durable.write(real, change.source.text.encode())
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep off others of us by a lock on the folder, and kubectl by the file that it looks for."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        lock = Path(f"{path}.lock")
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                os.close(os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
                break
            except FileExistsError as error:
                if time.monotonic() > deadline:
                    hint = f"if no kubectl runs: rm {lock}"
                    message = f"{path}: another program is changing it"
                    raise UnavailableError(message, hint=hint) from error
                time.sleep(0.05)
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
    finally:
        os.close(folder)
