"""What people type wrongly, told in one line with a hint; knows the words of neighbouring tools."""

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

from mlstead.cli._verbs import HIDDEN, VERBS
from mlstead.errors import UserError

VERB_WORDS = {
    "show": "describe inspect info explain details get-run",
    "ps": "status list ls jobs runs top queue history",
    "stop": "cancel delete kill rm remove terminate down destroy abort",
    "run": "submit apply start launch create exec train up deploy serve experiment sweep job",
    "plan": "dry-run validate check lint preview",
    "logs": "log tail attach follow",
    "get": "download cp fetch outputs artifacts",
    "data": "dataset datasets artifact dvc",
    "model": "models registry",
    "predict": "infer query ask",
    "secret": "secrets credentials",
    "context": "contexts config ctx use-context project profile",
    "init": "new template example",
    "fix": "migrate convert",
    "schema": "schemas",
}
INNER_WORDS = {
    "list": "ls ps versions",
    "show": "describe inspect info status",
    "add": "push upload put create new import register",
    "get": "download pull fetch cp checkout export",
    "remove": "rm delete drop unset",
    "verify": "check fsck validate",
    "gc": "prune clean",
    "alias": "tag promote label",
    "use": "switch set select activate",
    "set": "add create put",
}
OPTION_WORDS = {
    "--json": "-o --output --format",
    "--on": "--context --cluster --engine",
    "--project": "--namespace --ns --workspace --experiment",
    "--param": "--set --parameter --params -P",
    "--detach": "--background --async --no-wait --nowait",
    "--follow": "--tail --stream -w --watch",
    "--limit": "--max --num --head --count",
    "--to": "--out --dest --target --destination",
    "--running": "--open --active",
    "--all": "--everything",
}


def told(error: Any, argv: Sequence[str]) -> UserError:
    """Say in one line what is wrong with a call, and what would be right.

    Args:
        error: what the parser of the command line raised.
        argv: the words of the call.
    """
    words = _words(error.ctx) if getattr(error, "ctx", None) else _verb(argv)
    group = " ".join(words)
    where = f"{group}: " if words else ""
    look = f"mlstead {group} --help" if words else "mlstead --help"
    kind = type(error).__name__
    if kind == "NoSuchOption":
        near = _option(error)
        return UserError(f"{where}no option {error.option_name}", hint=_hint(near, look))
    if kind == "MissingParameter" and error.param.param_type_name == "argument":
        usage = " ".join(["mlstead", *words, *_arguments(error.ctx)])
        return UserError(f"{where}{_name(error.param)} is missing", hint=f"{usage}; {look}")
    text = " ".join(error.format_message().split()).rstrip(".")
    return UserError(where + text[:1].lower() + text[1:], hint=look)


def no_verb(word: str, group: Sequence[str], known: Iterable[str]) -> UserError:
    """Say that there is no such verb, and which one may be meant."""
    names = [name for name in known if name not in HIDDEN]
    where = " ".join(["mlstead", *group])
    lists = f"{where} --help lists verbs"
    if word == "help" and not group:
        return UserError("no verb 'help'", hint=lists)
    near = _near(word, names, INNER_WORDS if group else VERB_WORDS)
    before = f"{' '.join(group)}: " if group else ""
    return UserError(f"{before}no verb {word!r}", hint=_hint(near, lists))


def _hint(near: str, otherwise: str) -> str:
    return f"did you mean {near}? {otherwise}" if near else otherwise


def _near(word: str, names: Sequence[str], others: dict[str, str]) -> str:
    """Give the name that is meant: by what neighbours call it, else by its letters."""
    meant = {name.lstrip("-"): name for name in names}
    for name, words in others.items():
        if name in names:
            meant = {**{one.lstrip("-"): name for one in words.split()}, **meant}
    plain = word.lstrip("-")
    long = [one for one in meant if len(one) > 2]  # of short ones almost all are near
    close = difflib.get_close_matches(plain, long, n=1, cutoff=0.6)
    return meant[plain] if plain in meant else meant[close[0]] if close else ""


def _option(error: Any) -> str:
    names = [name for param in error.ctx.command.params for name in param.opts if name[0] == "-"]
    return _near(error.option_name, ["--help", *names], OPTION_WORDS)


def _words(context: Any) -> list[str]:
    """Name the verb that was called, with the verb inside its group."""
    return str(context.command_path).split()[1:]


def _verb(argv: Sequence[str]) -> list[str]:
    return [argv[0]] if argv and argv[0] in VERBS else []


def _name(param: Any) -> str:
    return str(param.metavar or param.name).upper().replace("_", "-")


def _arguments(context: Any) -> list[str]:
    """Write the arguments of a verb as its help does: those that may be left out in brackets."""
    arguments = [one for one in context.command.params if one.param_type_name == "argument"]
    return [_name(one) if one.required else f"[{_name(one)}]" for one in arguments]
