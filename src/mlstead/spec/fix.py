"""Older work files, rewritten for this version; there is only version 1 so far."""

from mlstead.errors import SpecError
from mlstead.spec.compose import compose
from mlstead.spec.nodes import Map, Source


def fix(text: str, *, origin: str = "<string>") -> str:
    """Add ``mlstead: 1`` where it is missing; give any other text back as it is.

    Raises:
        SpecError: the text is not YAML, or not a map.
    """
    root = compose(Source(origin, text))
    if not isinstance(root, Map):
        raise SpecError(f"{origin}: a work file is a map of fields")
    if "mlstead" in root.entries:
        return text
    if text.startswith("{", root.mark.start):
        at = root.mark.start + 1
        return f"{text[:at]}mlstead: 1{', ' if root.entries else ''}{text[at:]}"
    at = root.mark.start
    indent = " " * (root.mark.column - 1)
    return f"{text[:at]}mlstead: 1\n{indent}{text[at:]}"
