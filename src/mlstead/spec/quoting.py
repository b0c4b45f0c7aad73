"""Where in a shell command a value can be inserted, quoted, and stay one word."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

_WORD_START = frozenset(" \t\n;&|()<>")
_HEREDOC = re.compile(r"<<(-?)[ \t]*((?:'[^'\n]*'|\"[^\"\n]*\"|\\.|[^\s'\"\\;&|<>()`])+)")
_CASE = re.compile(r"case[ \t\n]")
_ENDS = {"'": "'", '"': '"', "`": "`", "${": "}"}
_WORDS = {
    "'": "inside single quotes",
    '"': "inside double quotes",
    "`": "inside backquotes",
    "$((": "inside $(( ))",
    "((": "inside $(( ))",
    "${": "inside ${ }",
    "#": "inside a comment",
    "<<": "inside a here-document",
    "\\": "after a backslash",
    "$'": "after $'…', which shells read in different ways",
    "case": "after case inside $( ), which cannot be followed safely",
}


@dataclass(slots=True)
class _Lexer:
    """Follows the quoting of a POSIX shell through a text.

    It errs on the safe side: what it cannot follow counts as quoted from there on.

    Attributes:
        stack: the contexts around the current character, outermost first: a quote, or
            ``(`` for a list of commands, ``((`` inside arithmetic.
        waiting: delimiters of here-documents whose text starts at the next line.
        at: index of the character to read next.
        inside: an index where a word goes on, whatever character stands before it.
        lost: why nothing after this point is safe; empty while it is.
    """

    text: str
    stack: list[str] = field(default_factory=list)
    waiting: list[tuple[str, bool]] = field(default_factory=list)
    lost: str = ""
    at: int = 0
    inside: int = -1

    def context(self) -> str:
        """Name the context that makes an insertion here unsafe; empty if it is safe."""
        if self.lost:
            return self.lost
        unsafe = (kind for kind in reversed(self.stack) if kind not in ("(", "$("))
        return next(unsafe, "")

    def advance(self, end: int) -> None:
        """Read up to an index."""
        while self.at < end:
            self._one()

    def _one(self) -> None:
        top = self.stack[-1] if self.stack else ""
        char = self.text[self.at]
        if top == "<<":
            self._document()
        elif top == "#" and char == "\n":
            self.stack.pop()
        elif char == "\\" and top not in ("'", "#"):
            self.at += 2
            self.inside = self.at
        elif char == _ENDS.get(top):
            self.at += 1
            self.stack.pop()
        elif top in ("'", "`", "#") or not self._opens(char, top):
            self.at += 1

    def _push(self, kind: str, length: int) -> bool:
        self.stack.append(kind)
        self.at += length
        return True

    def _opens(self, char: str, top: str) -> bool:
        """Enter the context that starts here, if one does."""
        if char == "$":
            return self._dollar(top)
        if char == "`":
            return self._push("`", 1)
        if char == '"':
            return self._push('"', 1)
        if top == '"':
            return False
        if char == "'":
            if top == "${" and '"' in self.stack:
                self.lost = self.lost or "${"
            return self._push("'", 1)
        return self._command(char, top)

    def _dollar(self, top: str) -> bool:
        rest = self.text[self.at + 1 : self.at + 3]
        if rest == "((":
            self.stack += ["$((", "(("]
            return self._push("((", 3)
        if rest[:1] == "(":
            return self._push("$(", 2)
        if rest[:1] == "{":
            return self._push("${", 2)
        if rest[:1] == "'" and top not in ('"', "${"):
            self.lost = self.lost or "$'"
        return False

    def _command(self, char: str, top: str) -> bool:
        """Handle what means something only outside quotes."""
        starts = self.at == 0 or self.text[self.at - 1] in _WORD_START
        starts = starts and self.at != self.inside
        if char == "(":
            return self._push("((" if top == "((" else "(", 1)
        if char == ")":
            return self._closing(top)
        if char == "\n" and self.waiting:
            return self._push("<<", 1)
        if top in ("${", "(("):
            return False
        if char == "#" and starts:
            return self._push("#", 1)
        if char == "<" and self.text.startswith("<<", self.at):
            return self._redirect()
        if starts and "$(" in self.stack and _CASE.match(self.text, self.at):
            self.lost = self.lost or "case"
        return False

    def _closing(self, top: str) -> bool:
        """Leave parentheses; arithmetic must end with two of them side by side."""
        self.at += 1
        if top in ("(", "$(", "(("):
            self.stack.pop()
        if top != "(":
            self.inside = self.at
        if top == "((":
            if self.stack[-1] == "$((":
                self.stack.pop()
            elif self.stack[-2] == "$((" and self.text[self.at : self.at + 1] != ")":
                self.lost = self.lost or "$(("
        return True

    def _redirect(self) -> bool:
        if self.text.startswith("<<<", self.at):
            self.at += 3
            return True
        match = _HEREDOC.match(self.text, self.at)
        if match is None:
            self.at += 2
            return True
        word = re.sub(r"\\(.)|['\"]", r"\1", match[2])
        self.waiting.append((word, bool(match[1])))
        self.at = match.end()
        return True

    def _document(self) -> None:
        """Read one line of a here-document's text."""
        end = self.text.find("\n", self.at)
        end = len(self.text) if end < 0 else end
        row = self.text[self.at : end]
        word, tabs = self.waiting[0]
        self.at = min(end + 1, len(self.text))
        if (row.lstrip("\t") if tabs else row) == word:
            self.waiting.pop(0)
            if not self.waiting:
                self.stack.pop()


def unsafe(text: str, spans: Sequence[tuple[int, int]]) -> list[str]:
    """Say for each expression of a shell command why it cannot stand there.

    Args:
        text: the command as it is written.
        spans: start and end of each expression, in order.

    Returns:
        For each span the reason in words; empty where a quoted value is safe.
    """
    lexer = _Lexer(text)
    found = []
    for start, end in spans:
        lexer.advance(start)
        context = lexer.context()
        if lexer.at > start:
            context = "\\" if text[start - 1] == "\\" else context or "<<"
        found.append(_WORDS.get(context, ""))
        lexer.at = max(end, lexer.at)
    return found
