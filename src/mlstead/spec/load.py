"""A work file or text, read into a frozen spec; every error names its place."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from mlstead.errors import NotFoundError, SpecError
from mlstead.spec.check import problems as find_problems
from mlstead.spec.check_site import site_problems
from mlstead.spec.compose import MOST_BYTES, compose
from mlstead.spec.fields import found_words, problems_of
from mlstead.spec.loaded import Loaded, LoadedSite
from mlstead.spec.nodes import (
    Leaf,
    Map,
    Node,
    Source,
    explain,
    plain,
)
from mlstead.spec.overrides import Overrides, override
from mlstead.spec.problems import Place, Problem, close, line, spec_error
from mlstead.spec.resolve import Read, resolve_pipeline
from mlstead.spec.site import Site
from mlstead.spec.work import KINDS, Work

VERSION = 1


def load(path: Path, *, overrides: Overrides = ()) -> Loaded:
    """Read a work file.

    Args:
        path: the file.
        overrides: parameters that replace those of the file, as a map or as ``name=value``.

    Raises:
        NotFoundError: there is no such file.
        SpecError: the file is not a work file that can be run; one line for each problem.
    """
    source = read_source(path)
    work, tree = _work(compose(source), overrides, _Files(path.parent).read)
    return Loaded(work, path.resolve().parent, source.text, tree)


def load_site(path: Path) -> LoadedSite:
    """Read a site file; the options of its apps are not looked at.

    Raises:
        NotFoundError: there is no such file.
        SpecError: the file describes no site that can be; one line for each problem.
    """
    source = read_source(path)
    site, tree = _site(compose(source))
    return LoadedSite(site, path.resolve().parent, source.text, tree)


def parse_site(text: str, *, origin: str = "<string>") -> Site:
    """Read a site from a text; the options of its apps are not looked at.

    Raises:
        SpecError: the text describes no site that can be; one line for each problem.
    """
    return _site(compose(Source(origin, text)))[0]


def _site(root: Node) -> tuple[Site, Map]:
    wrong = _header_problems(root, ("site",))
    if wrong or not isinstance(root, Map):
        raise explain(root, wrong)
    try:
        site = Site.model_validate(plain(root), by_alias=True, by_name=False)
    except ValidationError as error:
        raise explain(root, problems_of(Site, error)) from error
    wrong = list(site_problems(site))
    if wrong:
        raise explain(root, wrong)
    return site, root


def parse(text: str, *, origin: str = "<string>", overrides: Overrides = ()) -> Work:
    """Read a work from a text; it cannot use other files.

    Raises:
        SpecError: the text is not a work that can be run; one line for each problem.
    """
    work, _ = _work(compose(Source(origin, text)), overrides, None)
    return work


def read_source(path: Path) -> Source:
    """Read the text of a spec file.

    Raises:
        NotFoundError: there is no such file.
        SpecError: it cannot be read, is larger than 1 MiB, or is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise NotFoundError(f"{path}: no such file") from error
    except OSError as error:
        raise SpecError(f"{path}: {error.strerror}") from error
    if len(content) > MOST_BYTES:
        raise SpecError(f"{path}: larger than 1 MiB, the most a spec may have")
    try:
        return Source(str(path), content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8", "replace")
        at = Place(str(path), before.count("\n") + 1, len(before) - before.rfind("\n"))
        raise spec_error([line(at, (), "not UTF-8", "save the file as UTF-8")]) from error


class _Files:
    """Reads the files that steps use, each once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[str, Node] = {}

    def read(self, use: str) -> Node:
        if use not in self._read:
            root = compose(read_source(self._folder / use))
            wrong = _header_problems(root)
            if wrong:
                raise explain(root, wrong)
            self._read[use] = root
        return self._read[use]


def _header_problems(root: Node, kinds: Sequence[str] = tuple(KINDS)) -> list[Problem]:
    """Check the fields by which a spec file is known: mlstead and kind."""
    if not isinstance(root, Map):
        what = "a site file" if kinds == ("site",) else "a work file"
        return [Problem((), f"{what} is a map of fields", f"mlstead: 1, kind: {kinds[0]}, …")]
    found = []
    version, kind = root.get("mlstead"), root.get("kind")
    if version is None:
        hint = "write mlstead: 1 at the top, or run mlstead fix"
        found.append(Problem(("mlstead",), "is required", hint))
    elif not isinstance(version, Leaf) or version.value is True or version.value != VERSION:
        message = f"version {plain(version)} is not known; this mlstead reads version {VERSION}"
        hint = ""
        if isinstance(version, Leaf) and isinstance(version.value, str | bool | float):
            message = f"must be a whole number; found {found_words(version.value)}"
            hint = f"write mlstead: {VERSION}"
        found.append(Problem(("mlstead",), message, hint))
    if kind is None:
        found.append(Problem(("kind",), "is required: " + ", ".join(kinds)))
    elif not isinstance(kind, Leaf) or kind.value not in kinds:
        written = str(plain(kind))
        other = "a site file is for mlstead site" if written == "site" else close(written, kinds)
        hint = (
            "a work file is for mlstead run" if kinds == ("site",) and written in KINDS else other
        )
        message = (
            f"must be {'one of ' if len(kinds) > 1 else ''}{', '.join(kinds)}; found {written}"
        )
        found.append(Problem(("kind",), message, hint))
    return found


def _work(root: Node, overrides: Overrides, read: Read | None) -> tuple[Work, Map]:
    wrong = _header_problems(root)
    if wrong or not isinstance(root, Map):
        raise explain(root, wrong)
    if overrides:
        root = override(root, overrides)
    content = plain(root)
    if content["kind"] == "pipeline":
        root, wrong = resolve_pipeline(root, read)
        content = plain(root)
    model = KINDS[content["kind"]]
    try:
        work = model.model_validate(content, by_alias=True, by_name=False)
    except ValidationError as error:
        lost = [it.path[:2] for it in wrong]
        more = [it for it in problems_of(model, error) if it.path[:2] not in lost]
        raise explain(root, wrong + more) from error
    wrong += find_problems(work)  # type: ignore[arg-type]
    if wrong:
        raise explain(root, wrong)
    return work, root  # type: ignore[return-value]
