"""An answer that is not a prediction: an HTTP status and one line of text."""

from mlstead.errors import UserError

_LONGEST = 300


class AnswerError(UserError):
    """What the client is told instead of a prediction.

    Attributes:
        status: the HTTP status, 400 to 599.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(one_line(message))
        self.status = status


def one_line(text: object) -> str:
    """Squeeze a message into one line of at most 300 characters."""
    line = " ".join(str(text).split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


def quoted(value: object) -> str:
    """Show something a client sent, cut short so that it cannot flood a message."""
    text = repr(value) if not isinstance(value, str) else repr(value[:60])
    return text if len(text) <= 80 else text[:79] + "…"
