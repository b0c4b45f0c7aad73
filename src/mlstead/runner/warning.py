"""Says a thing once on the program's standard error, and never fails doing so."""

from __future__ import annotations

import sys

_said: set[str] = set()


def once(subject: str, text: str) -> None:
    """Print one line for people, the first time only that this subject comes up."""
    if subject in _said:
        return
    _said.add(subject)
    try:
        print(f"mlstead: {text}", file=sys.stderr, flush=True)
    except Exception:  # a closed or broken standard error is no reason to stop a training
        return
