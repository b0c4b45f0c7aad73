"""Where work goes: named contexts of the user, kept in one file of the home folder."""

import dataclasses
import json
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from platformdirs import user_data_dir

import mlstead.engines
from mlstead import discover
from mlstead.engines.base import Engine, Place
from mlstead.errors import NotFoundError, UserError
from mlstead.spec.names import check_project

DEFAULT = "local"
HERE = ("local", "memory")  # engines whose tasks run where mlstead does
FILE = "contexts.json"
_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")


@dataclass(frozen=True, slots=True)
class Context:
    """One place to work with.

    Attributes:
        name: what ``--on`` takes; project: the default of ``--project``.
        engine: the part of ``mlstead.engines`` that runs tasks.
        records: URL of the records; "" means SQLite in the home folder. A password does not
            belong here: give it in ``MLSTEAD_RECORDS``.
        artifacts: URL of the artifact store (``s3://bucket/prefix``); "" means the home folder.
        endpoint: the S3 server's address; "" means the environment's.
        options: what only its engine knows, such as the namespace of a cluster.
    """

    name: str = DEFAULT
    engine: str = "local"
    project: str = "default"
    records: str = ""
    artifacts: str = ""
    endpoint: str = ""
    options: Mapping[str, str] = field(default_factory=dict)


def home_folder() -> Path:
    """Give the folder that holds the user's state: ``MLSTEAD_HOME`` or the data folder."""
    return Path(os.environ.get("MLSTEAD_HOME") or user_data_dir("mlstead")).expanduser().absolute()


def make_home(home: Path) -> None:
    """Make the home folder if it is not there.

    Raises:
        UserError: it cannot be made, or cannot be written.
    """
    hint = "set MLSTEAD_HOME to a folder you may write"
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise UserError(f"{home}: {error.strerror}", hint=hint) from error
    if not os.access(home, os.W_OK):
        raise UserError(f"{home}: cannot be written", hint=hint)


def load(home: Path) -> tuple[str, dict[str, Context]]:
    """Read all contexts and the name of the current one; there is always ``local``.

    Raises:
        UserError: the file cannot be read.
    """
    contexts = {DEFAULT: Context()}
    try:
        data = json.loads((home / FILE).read_text(encoding="utf-8"))
        for name, fields in data["contexts"].items():
            contexts[name] = Context(**{**fields, "name": name})
        return str(data["current"]), contexts
    except FileNotFoundError:
        return DEFAULT, contexts
    except OSError as error:
        raise UserError(f"{home / FILE}: cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{home / FILE}: cannot be read: {error}") from error


def choose(home: Path, name: str = "") -> Context:
    """Give the context of a name: the argument, ``MLSTEAD_CONTEXT``, or the current one."""
    current, contexts = load(home)
    wanted = name or os.environ.get("MLSTEAD_CONTEXT") or current
    if wanted not in contexts:
        raise NotFoundError(f"no context {wanted!r}", hint="known: " + ", ".join(sorted(contexts)))
    return contexts[wanted]


def save(home: Path, current: str, contexts: Mapping[str, Context]) -> None:
    """Write all contexts at once."""
    make_home(home)
    data = {
        "current": current,
        "contexts": {name: dataclasses.asdict(value) for name, value in contexts.items()},
    }
    descriptor, aside = tempfile.mkstemp(dir=home, prefix=".contexts-")
    with os.fdopen(descriptor, "w", encoding="utf-8") as out:
        json.dump(data, out, indent=2)
    Path(aside).replace(home / FILE)


def add(home: Path, context: Context) -> None:
    """Keep a new or changed context."""
    if not _NAME.fullmatch(context.name):
        raise UserError(f"context {context.name!r}: lower case letters, digits and - only")
    check_project(context.project)
    if context.options and context.engine == DEFAULT:
        raise UserError(
            f"{next(iter(context.options))}: is of a cluster", hint="--engine kubernetes"
        )
    if context.engine not in discover.names(mlstead.engines):
        known = ", ".join(discover.names(mlstead.engines))
        raise NotFoundError(f"no engine {context.engine!r}", hint=f"known: {known}")
    if urlsplit(context.records).password or "password=" in context.records.lower():
        raise UserError(
            "records: a password does not belong in a file", hint="give the URL in MLSTEAD_RECORDS"
        )
    place = context.artifacts
    if (
        place
        and not place.startswith("s3://")
        and ("://" in place or not Path(place).is_absolute())
    ):
        raise UserError(
            f"artifacts {place!r}: no place for them", hint="s3://BUCKET/PREFIX, or /FOLDER"
        )
    current, contexts = load(home)
    make_home(home)
    engine_of(home, context)  # what it lacks is told now
    save(home, current, {**contexts, context.name: context})


def engine_of(home: Path, context: Context) -> Engine:
    """Make the engine of a context; nothing is asked of it yet.

    Raises:
        UserError: the context lacks something that the engine needs.
    """
    place = Place(home, context.name, context.options, context.artifacts, context.endpoint)
    engine: Engine = discover.part(mlstead.engines, context.engine).create(place)
    return engine


def use(home: Path, name: str) -> Context:
    """Make a context the current one."""
    context = choose(home, name)
    _, contexts = load(home)
    save(home, name, contexts)
    return context


def remove(home: Path, name: str) -> None:
    """Forget a context; what runs there goes on."""
    current, contexts = load(home)
    if name not in contexts or name == DEFAULT:
        raise NotFoundError(f"no context {name!r} to remove")
    del contexts[name]
    save(home, DEFAULT if current == name else current, contexts)
