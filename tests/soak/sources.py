"""Modules that a soak ships: good ones whose every answer proves where it came from, and bad ones of every sort.

Each source carries a token that no other has, and `Ledger` knows under which digest it is packed.  A handler answers
with its module's name, the token and the stamp of its configuration, so that an answer names its generation.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from controlplane.discovery import packing

GOOD: Final = "good"

_HEAD = '''"""TOKEN=@TOKEN@"""

import asyncio
import ctypes
import os
import sys
import threading
import time

from dataplane.sdk import BaseModuleRouter, ModuleMetadata, require_module_auth

SERVED = "worker" in sys.argv
@TOP@

class Soaked(@BASE@):
    metadata = ModuleMetadata(module_id="@NAME@", version="1.0.0")
@INSIDE@
    def register_routes(self, router):
        @router.get("/who")
        @require_module_auth("NONE")
        async def who():
            return {"module": "@NAME@", "token": "@TOKEN@", "stamp": self.config.get("stamp", "")}

        @router.get("/thread")
        @require_module_auth("NONE")
        def thread():
            return {"module": "@NAME@", "token": "@TOKEN@", "stamp": self.config.get("stamp", "")}

        @router.get("/mine")
        @require_module_auth("ROLE", roles=["soak"])
        async def mine():
            return {"module": "@NAME@", "token": "@TOKEN@", "stamp": self.config.get("stamp", "")}
@ROUTES@
'''


@dataclass(frozen=True, slots=True)
class Sort:
    """One way in which a module is bad: text at the top of the file, in the class, among the routes."""

    name: str
    top: str = ""
    inside: str = ""
    routes: str = ""
    base: str = "BaseModuleRouter"
    stalls: bool = True
    """Whether it ends in ERROR, for sure and soon."""
    cuts: bool = False
    """Whether it ends the process of a worker."""


def _route(path: str, body: str, *, name: str = "bad", plain: bool = False) -> str:
    return (
        f'\n        @router.get("{path}")\n        @require_module_auth("NONE")\n'
        f"        {'' if plain else 'async '}def {name}():\n            {body}\n"
    )


def _deeper(text: str) -> str:
    return text.replace("\n", "\n    ")


_START = "\n    async def on_startup(self):\n        "

SORTS: Final = (
    Sort("import error", "import there_is_no_such_thing"),
    Sort("syntax error", "def broken(:"),
    Sort("exit at import", "raise SystemExit(3)"),
    Sort("os._exit", "os._exit(5)", stalls=False),
    Sort("segmentation fault", "ctypes.string_at(0)", stalls=False),
    Sort("abort", "os.abort()", stalls=False),
    Sort("memory eater", "HELD = [bytearray(1 << 28) for _ in range(1 << 10)]", stalls=False),
    Sort("hang", "threading.Event().wait()", stalls=False),
    Sort("endless loop", "while True: pass", stalls=False),
    Sort("output flood", "os.write(1, b'x' * 3_000_000)\nraise ImportError('after the flood')"),
    Sort("stolen descriptors", "os.closerange(3, 256)\nraise ImportError('after the theft')", stalls=False),
    Sort("threads", "for _ in range(50): threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n1 / 0"),
    Sort("wrong type", base="object"),
    Sort("bad create", inside="\n    @classmethod\n    def create_instance(cls):\n        raise KeyError('no')\n"),
    Sort("bad route", routes=_route("no-slash", "return 1")),
    Sort("reserved route", routes=_route("/health", "return 1")),
    Sort("route twice", routes=_route("/a/{x}", "return 1") + _route("/a/{y}", "return 2", name="worse")),
    Sort("failing start", inside=f'{_START}raise RuntimeError("no database")\n', stalls=False),
    Sort("hanging start", inside=f"{_START}await asyncio.Event().wait()\n", stalls=False),
    Sort("other routes when served", routes="\n        if SERVED:" + _deeper(_route("/extra", "return 1"))),
    Sort("poison", "if SERVED: os.abort()", cuts=True),
)  # fmt: skip

NOISES: Final = (
    ("raises", 'raise RuntimeError("a bug")', {500}),
    ("exits", "raise SystemExit(1)", {500}),
    ("never", "await asyncio.Event().wait()", {504}),
    ("blocks", "time.sleep(0.7)\n            return 1", {200}),
)
"""Handlers of a module that behaves badly while it serves: path, body, what a caller gets."""

SHOUTS: Final = _route("/raises", NOISES[0][1], name="raises") + "".join(
    _route(f"/{name}", body, name=name) for name, body, _ in NOISES[1:]
)


def source(name: str, token: str, sort: Sort | None = None, *, noisy: bool = False) -> str:
    """The text of a module's only file."""
    chosen = sort or Sort(GOOD)
    places = {
        "@TOP@": chosen.top + "\n",
        "@INSIDE@": chosen.inside,
        "@ROUTES@": chosen.routes + (SHOUTS if noisy else ""),
        "@BASE@": chosen.base,
        "@NAME@": name,
        "@TOKEN@": token,
    }
    text = _HEAD
    for place, filling in places.items():
        text = text.replace(place, filling)
    return text


class Ledger:
    """Everything that was ever shipped: what it is, and under which digest it is packed."""

    def __init__(self, modules: Path) -> None:
        self._modules = modules
        self._tokens: dict[str, str] = {}
        self._sorts: dict[str, str] = {}
        self.shipped: dict[str, str] = {}
        """By name: the token of the code that lies in the modules path."""

    def ship(self, name: str, token: str, sort: Sort | None = None, *, noisy: bool = False) -> None:
        """Put a module's code into the modules path, at once as a whole."""
        place = self._modules / f"{name}.py"
        beside = self._modules / f".{name}.new"
        beside.write_text(source(name, token, sort, noisy=noisy))
        beside.replace(place)
        self._tokens[packing.read(place)[0]] = token
        self._sorts[token] = sort.name if sort else GOOD
        self.shipped[name] = token

    def take_away(self, name: str) -> None:
        """Remove a module's code from the modules path."""
        (self._modules / f"{name}.py").unlink(missing_ok=True)
        self.shipped.pop(name, None)

    def token_of(self, digest: str | None) -> str:
        """Which code a digest names; empty: none of ours."""
        return self._tokens.get(digest or "", "")

    def sort_of(self, digest: str | None) -> str:
        """What sort of code a digest names."""
        return self._sorts.get(self.token_of(digest), "")

    def kind(self, name: str) -> str:
        """What sort of code lies in the modules path under a name."""
        return self._sorts.get(self.shipped.get(name, ""), "")
