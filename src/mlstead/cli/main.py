"""Finds the verb, loads only its module, and turns errors into one line and an exit code."""

import errno
import importlib
import os
import sys
import traceback
from typing import Annotated, Any

import typer
import typer.main
from typer.exceptions import TyperException

from mlstead.cli._group import Group
from mlstead.cli._verbs import HIDDEN, VERBS
from mlstead.errors import PlatformError, UnavailableError, UserError

BUG = 4
NO_VERB = 2
UNWRITABLE = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG)


class Verbs(Group):
    """A group whose commands are loaded when they are called."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Give a stand-in with the verb's one-liner: enough for help and completion."""
        if cmd_name not in VERBS:
            return None
        return typer.core.TyperCommand(cmd_name, help=VERBS[cmd_name], hidden=cmd_name in HIDDEN)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Load the verb that is called."""
        if args and args[0] in VERBS:
            module = importlib.import_module(f"mlstead.cli.{args[0]}")
            command = typer.main.get_command(module.app)
            command.name = args[0]
            return args[0], command, args[1:]
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"mlstead {importlib.import_module('importlib.metadata').version('mlstead')}")
        raise typer.Exit


@app.callback()
def _about(
    version: Annotated[
        bool,
        typer.Option(
            "--version", "-V", callback=_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """From a work file to a served model, on hardware you own."""


def _tame(text: str) -> str:
    """Show control characters as escapes: part of an error is what a program or user wrote."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def main(argv: list[str] | None = None) -> int:
    """Run one verb; give the exit code of PRODUCT.md §5."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        return _run(argv)
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else int(bool(error.code))
    except TyperException as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            return NO_VERB  # making the error has printed the help
        return _tell(importlib.import_module("mlstead.cli._usage").told(error, argv))
    except PlatformError as error:
        return _tell(error)
    except typer.Abort:
        return _tell(UserError("nothing was given"))
    except KeyboardInterrupt:
        return 130
    except Exception:
        traceback.print_exc()
        print("error: this is a bug of mlstead; please report what stands above", file=sys.stderr)
        return BUG


def _run(argv: list[str]) -> int:
    """Run a verb and write its output out; one that cannot be written is no bug of ours."""
    try:
        command = typer.main.get_command(app)
        code = command(args=argv, prog_name="mlstead", standalone_mode=False)
        sys.stdout.flush()
    except (OSError, SystemExit) as error:
        # typer makes an exit of a pipe without a reader
        cause = error.__context__ if isinstance(error, SystemExit) else error
        if not isinstance(cause, OSError) or cause.errno not in UNWRITABLE or cause.filename:
            raise
        # nothing more is said, also not at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if cause.errno == errno.EPIPE:
            return 0  # the reader has what it wanted (`mlstead ps | head`)
        raise UnavailableError(f"the output cannot be written: {cause.strerror}") from error
    return code if isinstance(code, int) else 0


def _tell(error: PlatformError) -> int:
    print(f"error: {_tame(str(error))}", file=sys.stderr)
    if error.hint:
        print(f"hint: {_tame(error.hint)}", file=sys.stderr)
    return error.exit_code
