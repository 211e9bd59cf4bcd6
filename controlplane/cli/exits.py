"""How a command ends: one exit code per kind of answer, and the exception that carries it to the shell.

The codes are part of the contract: scripts tell "no" from "could not ask".  Raised by every verb, turned into an
exit code and a message on stderr by `controlplane.cli.main`, and nowhere else.
"""

from typing import Final

YES: Final = 0
NO: Final = 1
"""The answer is no: invalid, not there, the condition is false and will stay so."""
USAGE: Final = 2
REFUSED: Final = 3
"""The server understood and refused."""
UNREACHABLE: Final = 4
TIMED_OUT: Final = 5
INTERRUPTED: Final = 130

MEANINGS: Final = {
    YES: "yes, done",
    NO: "the answer is no (invalid, not there, condition false)",
    USAGE: "the command line is wrong",
    REFUSED: "the server refused",
    UNREACHABLE: "the server cannot be reached",
    TIMED_OUT: "timed out",
    INTERRUPTED: "interrupted",
}


class Exit(Exception):  # noqa: N818 - not always an error: the answer "no" ends a command too
    """Ends the command with a code; the message, if any, goes to stderr."""

    def __init__(self, code: int, message: str = "", *, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        """What to do next, on a line of its own."""


def no(message: str = "", *, hint: str = "") -> Exit:
    """The answer is no."""
    return Exit(NO, message, hint=hint)


def usage(message: str, *, hint: str = "") -> Exit:
    """The command line is wrong."""
    return Exit(USAGE, message, hint=hint)


def refused(message: str, *, hint: str = "") -> Exit:
    """The server refused."""
    return Exit(REFUSED, message, hint=hint)


def unreachable(message: str, *, hint: str = "") -> Exit:
    """The server cannot be reached."""
    return Exit(UNREACHABLE, message, hint=hint)


def timed_out(message: str, *, hint: str = "") -> Exit:
    """The time is over."""
    return Exit(TIMED_OUT, message, hint=hint)
