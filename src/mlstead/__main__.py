"""Lets ``python -m mlstead`` be the command line."""

import sys

from mlstead.cli.main import main

sys.exit(main())
