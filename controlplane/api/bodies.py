"""Request bodies: how long they may be, of which type, and how they become values.

JSON is read strictly (RFC 8259, I-JSON): UTF-8, no member twice, no NaN, no number that nothing holds.  What a document
may hold is admission's question.  Called by the writing handlers; every refusal is an `answering.Refusal` with the code
that fits.
"""

from typing import Any, Final

from starlette.requests import Request

from controlplane import errors
from controlplane.admission import composing
from controlplane.api import answering
from schemas.kits import strictjson
from schemas.meta import Json

JSON: Final = "application/json"
MERGE_PATCH: Final = "application/merge-patch+json"
JSON_PATCH: Final = "application/json-patch+json"
APPLY_YAML: Final = "application/apply-patch+yaml"
APPLY_JSON: Final = "application/apply-patch+json"
PATCHES: Final = (MERGE_PATCH, JSON_PATCH, APPLY_YAML, APPLY_JSON)

MAX_OBJECT: Final = 1024 * 1024
"""Bytes of a single object as sent: a round trip also carries status, which admission does not count."""
MAX_LIST: Final = 3 * 1024 * 1024
"""Bytes of a list of manifests."""


def content_type(request: Request) -> str:
    """The media type of the body, without parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def expect(request: Request, *types: str) -> str:
    """The body's media type, which has to be one of ``types`` (415)."""
    found = content_type(request)
    if found not in types:
        raise answering.Refusal(
            415, f"the body has to be {' or '.join(types)}, not {found[:80] or 'without a Content-Type'}"
        )
    return found


async def read(request: Request, limit: int) -> bytes:
    """The body, of at most ``limit`` bytes (413); counted while it streams, whatever it says of its length."""
    chunks, size = [], 0
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > limit:
        raise _too_large(limit)
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        chunks.append(chunk)
    return b"".join(chunks)


def decode(data: bytes) -> Any:
    """JSON bytes as a value (400)."""
    try:
        return strictjson.decode(data.decode())
    except ValueError as error:
        raise answering.Refusal(400, f"the body is no proper JSON: {str(error)[:200]}") from error


async def json_object(request: Request, limit: int = MAX_OBJECT, *types: str) -> Json:
    """The body as a JSON object."""
    expect(request, *(types or (JSON,)))
    value = decode(await read(request, limit))
    if not isinstance(value, dict):
        raise answering.Refusal(400, f"the body has to be a JSON object, not {type(value).__name__}")
    return value


def applied_document(data: bytes) -> Json:
    """The document of an apply patch: JSON (which is what kubectl sends) or one YAML document."""
    if data.lstrip()[:1] == b"{":
        value = decode(data)
    else:
        documents = composing.compose(data)
        if len(documents) != 1:
            raise answering.Refusal(400, f"the body has to be one YAML document, not {len(documents)}")
        if documents[0].problems:
            raise errors.Invalid(documents[0].problems)
        value = documents[0].value
    if not isinstance(value, dict):
        raise answering.Refusal(400, "the body has to be an object with apiVersion, kind and metadata")
    return value


def _too_large(limit: int) -> answering.Refusal:
    return answering.Refusal(413, f"the body is larger than {limit:,} bytes; send less at once")
