"""What a process must not tell: the values of secrets, struck out of messages and of everything that is printed.

Always holds: a value that was given to `Mask.hide` once is struck out for as long as the process lives, in each
spelling in which Python, JSON and URLs write it, and line by line if it has several long ones; so whatever an author's
code raises, logs or prints, neither a report nor the worker's log has it.  Texts shorter than `SHORTEST` are not
struck out: they stand in every second line by chance.

`mask` is the process's own; `confiding` tells it values, `explaining` and `dataplane.agent.loading` ask it for
messages, and `veil` puts it before standard output and standard error.
"""

import json
import re
import sys
import threading
from collections.abc import Iterator
from typing import Any, Final, TextIO, cast
from urllib.parse import quote, quote_plus

SHORTEST: Final = 4
"""Characters from which on a secret is struck out."""
_LINE: Final = 12
"""Characters from which on a single line of a longer secret is struck out, too."""


class Mask:
    """Values and what is shown in their place."""

    def __init__(self) -> None:
        self._shown: dict[str, str] = {}
        self._pattern: re.Pattern[str] | None = None
        self._lock = threading.Lock()

    def hide(self, value: str, shown: str) -> None:
        """From now on ``shown`` stands where ``value`` would."""
        with self._lock:
            fresh = {spelling: shown for spelling in _spellings(value) if spelling not in self._shown}
            if not fresh:
                return
            self._shown = {**self._shown, **fresh}
            longest_first = sorted(self._shown, key=len, reverse=True)
            self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    def text(self, text: str) -> str:
        """The text without hidden values."""
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda match: self._shown[match.group()], text)


class Veil:
    """A text stream that strikes out what is written; everything else is the stream's own."""

    def __init__(self, stream: TextIO, mask: Mask) -> None:
        self._stream = stream
        self._mask = mask

    def write(self, text: str) -> int:
        """As the stream's; says that all was written."""
        self._stream.write(self._mask.text(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """As the stream's."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


mask: Final = Mask()


def veil() -> None:
    """From now on this process prints no hidden value; call it before logging is set up."""
    sys.stdout = cast("TextIO", Veil(sys.stdout, mask))
    sys.stderr = cast("TextIO", Veil(sys.stderr, mask))


def _spellings(value: str) -> Iterator[str]:
    parts = [value, value.strip(), *(line for line in map(str.strip, value.splitlines()) if len(line) >= _LINE)]
    for part in parts:
        for spelling in _written(part):
            if len(spelling) >= SHORTEST:
                yield spelling


def _written(text: str) -> Iterator[str]:
    """One text as repr, JSON and a URL write it; a log in JSON writes a repr once more."""
    once = [text, repr(text)[1:-1], json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]]
    yield from once
    yield from (json.dumps(each)[1:-1] for each in once)
    yield from (quote(text, safe=""), quote(text), quote_plus(text))
