"""The page ``/docs`` and what it is made of: Swagger UI from this package, never from elsewhere.

Files have their version or digest in the name and may be cached for ever; the page names the present ones and is asked
for each time.  Where the files come from and their digests: ``swagger/VENDORED.json``.  Used by both planes' pages; it
reads files, so not on a serving loop.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, Final

Headers = tuple[tuple[bytes, bytes], ...]

# scripts are files of ours, so none may stand in the page; Swagger UI sets styles on its elements as it goes
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_SAFE: Final[Headers] = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))
_PAGE: Final[Headers] = (
    (b"cache-control", b"no-cache"),
    (b"content-security-policy", _POLICY.encode()),
    *_SAFE,
)
_FILE: Final[Headers] = ((b"cache-control", b"public, max-age=31536000, immutable"), *_SAFE)

FOLDER: Final = "docs/"
"""Below which the page's files are."""


@dataclass(frozen=True, slots=True)
class Asset:
    """Something to answer with."""

    body: bytes
    kind: bytes
    headers: Headers


def vendored() -> dict[str, Any]:
    """Where the files of others come from: package, version, licence, and each file's SHA-256."""
    record: dict[str, Any] = json.loads(_place("swagger", "VENDORED.json").read_bytes())
    return record


def page(title: str) -> Asset:
    """The page itself; ``title`` is plain text without markup."""
    text = _place("docs.html").read_text(encoding="utf-8")
    for word, name in {**_names(), "title": title}.items():
        text = text.replace(f"{{{word}}}", name)
    return Asset(text.encode(), b"text/html; charset=utf-8", _PAGE)


def file(name: str) -> Asset | None:
    """The file of that (versioned) name; None if there is none, or no more."""
    words = {name: word for word, name in _names().items()}
    if name not in words:
        return None
    place, kind = _FILES[words[name]]
    return Asset(_place(*place).read_bytes(), kind, _FILE)


_SCRIPT: Final = b"text/javascript; charset=utf-8"
_FILES: Final[Mapping[str, tuple[tuple[str, ...], bytes]]] = {
    "style": (("swagger", "swagger-ui.css"), b"text/css; charset=utf-8"),
    "bundle": (("swagger", "swagger-ui-bundle.js"), _SCRIPT),
    "start": (("docs.js",), _SCRIPT),
}


@cache
def _names() -> dict[str, str]:
    """What the page calls its files."""
    version = vendored()["version"]
    start = hashlib.sha256(_place("docs.js").read_bytes()).hexdigest()[:12]
    return {
        "style": f"swagger-ui-{version}.css",
        "bundle": f"swagger-ui-bundle-{version}.js",
        "start": f"start-{start}.js",
    }


def _place(*steps: str) -> Traversable:
    return resources.files("schemas.kits.apidocs").joinpath(*steps)
