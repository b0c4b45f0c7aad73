"""Starts a program that goes on alone: own session, no terminal, none of our files."""

import os
from collections.abc import Mapping, Sequence

_NOTHING = [
    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
    (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
    (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
]


def start(argv: Sequence[str], env: Mapping[str, str]) -> int:
    """Start a program with exactly this environment; give its process number.

    Descriptors that this process was given by its own parent are the program's, too: it must
    close them first of all.

    Raises:
        OSError: it cannot be started.
    """
    return os.posix_spawn(argv[0], list(argv), dict(env), file_actions=_NOTHING, setsid=True)
