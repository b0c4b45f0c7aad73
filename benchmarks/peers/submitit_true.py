"""One run of the program ``true`` by submitit's local executor: submitit_true.py FOLDER."""

import sys

from submitit import LocalExecutor
from submitit.helpers import CommandFunction

executor = LocalExecutor(folder=sys.argv[1])
executor.submit(CommandFunction(["true"], verbose=False)).result()
