"""Every error the platform raises on purpose.

PlatformError
├─ UserError            the person must change something            exit 2
│  ├─ SpecError         a field of a spec file is wrong
│  ├─ NotFoundError     no such run, version, machine, app or artifact
│  └─ ConflictError     it exists already, or changed meanwhile
├─ UnavailableError     something outside does not answer           exit 3
└─ RunFailedError       the user's own program failed               exit 1

Anything else that escapes is our bug: traceback, exit 4.
"""

from __future__ import annotations

from typing import ClassVar, Optional


class PlatformError(Exception):
    """Base of all errors shown to people without a traceback.

    Attributes:
        hint: what the person can do about it, one line; may be empty.
        exit_code: what the command line exits with; given by each subclass.
    """

    exit_code: ClassVar[int]

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UserError(PlatformError):
    """The person asking must change something."""

    exit_code: ClassVar[int] = 2


class SpecError(UserError):
    """A field of a spec is wrong; the message starts with where it stands."""


class NotFoundError(UserError):
    """There is no such run, version, machine, app or artifact."""


class ConflictError(UserError):
    """It exists already with other content, or changed meanwhile."""


class UnavailableError(PlatformError):
    """Something outside does not answer; trying again may help.

    Attributes:
        delay: seconds to wait before trying again; None if not known.
    """

    exit_code: ClassVar[int] = 3

    def __init__(self, message: str, *, hint: str = "", delay: Optional[float] = None) -> None:  # noqa: UP045 runs on 3.9
        super().__init__(message, hint=hint)
        self.delay = delay


class RunFailedError(PlatformError):
    """The user's own program ended badly."""

    exit_code: ClassVar[int] = 1
