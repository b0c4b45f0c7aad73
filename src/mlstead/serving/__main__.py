"""``python -m mlstead.serving CONFIG.json``: serve one service until told to stop."""

import logging
import sys
from pathlib import Path

from mlstead.errors import PlatformError
from mlstead.serving.config import ServerConfig, read
from mlstead.serving.server import serve


def main(arguments: list[str]) -> int:
    """Serve what the configuration file describes; give the exit code."""
    logging.basicConfig(format="%(levelname)s %(message)s", stream=sys.stderr)
    if len(arguments) != 1:
        print("usage: python -m mlstead.serving CONFIG.json", file=sys.stderr)
        return 2
    try:
        return serve(read(ServerConfig, Path(arguments[0])))
    except PlatformError as error:
        hint = f" ({error.hint})" if error.hint else ""
        print(f"error: {error}{hint}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
