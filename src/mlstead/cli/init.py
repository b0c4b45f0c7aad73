"""The verb ``init``: write a first work file."""

from pathlib import Path
from typing import Annotated

import typer

from mlstead.errors import ConflictError, UserError

app = typer.Typer()

WORK = """\
# A job: one command with its needs. Run it: mlstead run mlstead.yaml -p greeting=Hi
mlstead: 1
kind: job
name: hello
command: python hello.py
params: {greeting: Hello}
outputs: {notes: {kind: data, name: notes}}
resources: {cpu: 1, memory: 1Gi}
"""
PROGRAM = '''\
"""What the job runs: reads its parameters, logs a figure, leaves an output."""

import json
import os
import pathlib

import mlstead

params = json.loads(pathlib.Path(os.environ["MLSTEAD_PARAMS"]).read_text())
print(f"{params['greeting']} from {os.environ['MLSTEAD_RUN_ID']}")
for step in range(3):
    mlstead.log(score=step / 2, step=step)
notes = pathlib.Path(os.environ["MLSTEAD_OUTPUTS"]) / "notes"
notes.mkdir()
(notes / "note.txt").write_text("written by the job\\n")
'''


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Where; the folder is made.")] = Path(),
) -> None:
    """Write a first work file and its program; nothing is overwritten."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}") from error
    files = {"mlstead.yaml": WORK, "hello.py": PROGRAM}
    for name in files:
        if (folder / name).exists():
            raise ConflictError(f"{folder / name} exists", hint="choose another folder")
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
        print(folder / name)
    print(f"now: mlstead run {folder / 'mlstead.yaml'}")
