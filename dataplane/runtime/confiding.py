"""Secrets: found by name in this worker's environment or in a folder of files, and handed to the module that asks.

Always holds: a value is read anew for each instance that is built, so that a new generation or a restarted worker has
what holds now; an instance keeps what it was built with.  What cannot be had now may be had later: `StartFailed`,
which names the reference, where it was looked for and what to do, and never a value.  A file that others may read, or
anybody but its owner may write, is not used.  Called by `building`; every value goes to `masking` first.
"""

import os
import stat
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any, Final, Self

from dataplane.errors import StartFailed
from dataplane.runtime import masking
from schemas import references
from schemas.meta import Json

MAX_BYTES: Final = 64 * 1024
"""Of a secret's file."""
FOLDER: Final = "MODPLANE_SECRETS_DIR"


class Secrets:
    """Where secrets are."""

    def __init__(
        self, values: Mapping[str, str] | None = None, folder: Path | None = None, *, mask: masking.Mask = masking.mask
    ) -> None:
        """``values``: by environment variable (`references.variable`); they win over the files of ``folder``."""
        self._values = dict(values or {})
        self._folder = folder
        self._mask = mask

    @classmethod
    def taken(cls, environment: MutableMapping[str, str], folder: Path | None) -> Self:
        """Those of an environment, which has none afterwards: neither a module's dump nor its children get them."""
        found = {name: environment.pop(name) for name in _variables(environment)}
        return cls(found, folder)

    @classmethod
    def of(cls, environment: Mapping[str, str], more: Mapping[str, str] | None = None) -> Self:
        """Those of an environment, its folder setting included; ``more``, by name, comes first."""
        found = {name: environment[name] for name in _variables(environment)}
        found |= {references.variable(name): value for name, value in (more or {}).items()}
        folder = environment.get(FOLDER)
        return cls(found, Path(folder) if folder else None)

    def revealed(self, config: Json) -> Json:
        """The configuration with values in place of references; StartFailed."""
        if not references.mentioned(config):
            return config
        revealed: Json = references.replaced(config, self._value)
        return revealed

    def _value(self, name: str) -> str:
        variable = references.variable(name)
        value = self._values.get(variable)
        if value is None and self._folder is not None:
            value = _read(name, self._folder / name)
        if value is None:
            raise StartFailed("SecretMissing", f"{references.SCHEME}{name}: {self._nowhere(name, variable)}")
        if not value:
            raise _refused(name, "it is empty; write its value there")
        self._mask.hide(value, references.SCHEME + name)
        return value

    def _nowhere(self, name: str, variable: str) -> str:
        if self._folder is None:
            return f"this worker has neither {variable} nor {FOLDER} in its environment; set one of them and restart it"
        return f"there is no file {self._folder / name}, and this worker's environment has no {variable}"


def _variables(environment: Mapping[str, Any]) -> list[str]:
    return [name for name in environment if name.startswith(references.ENVIRONMENT)]


def _read(name: str, file: Path) -> str | None:
    """The text of a secret's file, without the line break at its end; None: there is no such file."""
    try:
        with open(file, "rb", opener=_patient) as opened:
            fault = _fault(os.fstat(opened.fileno()), file)
            data = b"" if fault else opened.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _refused(name, f"{file} cannot be read: {error.strerror}") from error
    if fault:
        raise _refused(name, f"{file} {fault}")
    if len(data) > MAX_BYTES:
        raise _refused(name, f"{file} has more than {MAX_BYTES:,} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise _refused(name, f"{file} is not UTF-8 text; encode it, in base64 for one") from None
    return text.removesuffix("\n").removesuffix("\r")


def _patient(path: str, flags: int) -> int:
    """A pipe is opened at once, not when somebody writes into it."""
    return os.open(path, flags | os.O_NONBLOCK)


def _fault(found: os.stat_result, file: Path) -> str:
    """Why an open file is not to be trusted with a secret; empty: it is."""
    if not stat.S_ISREG(found.st_mode):
        return "is no file"
    if found.st_mode & stat.S_IWOTH or found.st_mode & stat.S_IWGRP:
        return f"may be written by others than its owner (mode {found.st_mode & 0o777:04o}); chmod go-w it"
    if found.st_mode & stat.S_IROTH and file.parent.stat().st_mode & stat.S_IXOTH:
        return f"may be read by everybody (mode {found.st_mode & 0o777:04o}); chmod o-r it, or o-x its folder"
    return ""


def _refused(name: str, why: str) -> StartFailed:
    return StartFailed("SecretRefused", f"{references.SCHEME}{name}: {why}")
