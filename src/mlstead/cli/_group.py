"""A group of verbs that knows what people may mean by a word it does not know."""

import importlib
from typing import Any

import typer.core


class Group(typer.core.TyperGroup):
    """Verbs under one name, such as those of ``data``."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the verb that is called.

        Raises:
            UserError: there is none of that name.
        """
        known = self.list_commands(ctx)
        if not ctx.resilient_parsing and args[0] not in known and not args[0].startswith("-"):
            group = ctx.command_path.split()[1:]
            raise importlib.import_module("mlstead.cli._usage").no_verb(args[0], group, known)
        return super().resolve_command(ctx, args)
