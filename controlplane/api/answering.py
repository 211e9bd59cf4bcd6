"""How the API answers: JSON, Kubernetes ``Status`` objects under ``/apis``, problem documents elsewhere.

Pure but for making responses.  Every refusal says what happened, where, and what to do next, and under ``/apis``
carries the machine-readable reason that `kubectl` acts on (Kubernetes API conventions, "Response Status Kind").
"""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from starlette.responses import Response

from controlplane import errors
from controlplane.admission import pointers
from schemas import kinds, names
from schemas.kits import jsontexts
from schemas.meta import Json
from schemas.problems import PROBLEM_JSON, Problem, Status, StatusCause, StatusDetails

REASONS: Final = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    406: "NotAcceptable",
    409: "Conflict",
    410: "Expired",
    413: "RequestEntityTooLarge",
    415: "UnsupportedMediaType",
    421: "Misdirected",
    422: "Invalid",
    503: "ServiceUnavailable",
}
"""HTTP code → ``Status.reason``; anything else is ``InternalError``."""


class Refusal(Exception):  # noqa: N818 (it is an answer, not a fault)
    """A refusal that belongs to HTTP alone: no room behind the door has a word for it."""

    def __init__(self, code: int, message: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.headers = dict(headers or {})


def encode(value: Any) -> bytes:
    """``value`` as compact JSON; what is stored has no NaN."""
    data = jsontexts.quick(value, nulls=True)
    if data is not None:
        return data
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")


def answer(value: Any, code: int = 200, *, media_type: str = "application/json", **headers: str) -> Response:
    """A JSON answer that nobody caches."""
    sent = {"cache-control": "no-cache, private", **headers}
    return Response(encode(value), status_code=code, media_type=media_type, headers=sent)


def wants_status(path: str) -> bool:
    """Whether a path belongs to the resource API, which answers with ``Status`` objects."""
    return path.startswith(("/api/", "/apis", "/openapi/", "/version")) and not path.startswith(names.MANAGEMENT_PREFIX)


def refused(error: Exception, path: str, *, name: str = "", kind: kinds.Kind | None = None) -> Response:
    """The answer to a failed request, in the form that its path promises."""
    status = status_of(error, name=name, kind=kind)
    code = int(status["code"])
    headers = dict(error.headers) if isinstance(error, Refusal) else {}
    if code == 503:
        headers.setdefault("retry-after", "1")
    if wants_status(path):
        return answer(status, code, **headers)
    return answer(problem_of(error, code, path), code, media_type=PROBLEM_JSON, **headers)


def status_of(error: Exception, *, name: str = "", kind: kinds.Kind | None = None) -> Json:
    """The ``Status`` of an error."""
    code, reason = _verdict(error)
    details = StatusDetails(
        name=name,
        group=names.GROUP if kind is not None else "",
        kind=(kind.name if code == 422 else kind.plural) if kind is not None else "",
        causes=_causes(error),
        retry_after_seconds=1 if code == 503 else None,
    )
    status = Status(message=_message(error, name, kind), reason=reason, code=code, details=details)
    return _without_blanks(status.wire())


def reason_of(error: Exception) -> str:
    """The one word for an error (``Status.reason``)."""
    return _verdict(error)[1]


def code_of(error: Exception) -> int:
    """The HTTP code for an error."""
    return _verdict(error)[0]


def success(record_name: str, uid: str, kind: kinds.Kind) -> Json:
    """The ``Status`` of an object that is gone at once."""
    details = StatusDetails(name=record_name, group=names.GROUP, kind=kind.plural, uid=uid)
    return _without_blanks(Status(status="Success", code=200, details=details).wire())


def problem_of(error: Exception, code: int, path: str) -> Json:
    """The RFC 9457 problem document of an error."""
    document = Problem(
        title=HTTPStatus(code).phrase,
        status=code,
        detail=_message(error, "", None),
        instance=path,
        errors=error.violations if isinstance(error, errors.Invalid) else [],
        retryable=isinstance(error, errors.ModplaneError) and error.retryable,
    )
    return document.wire()


def _verdict(error: Exception) -> tuple[int, str]:
    if isinstance(error, Refusal):
        return error.code, REASONS.get(error.code, "InternalError")
    if isinstance(error, errors.Invalid) and any(found.reason == "DocumentTooLarge" for found in error.violations):
        return 413, REASONS[413]
    for kind, code, reason in (
        (errors.NotFound, 404, "NotFound"),
        (errors.SourceNotFound, 404, "NotFound"),
        (errors.AlreadyExists, 409, "AlreadyExists"),
        (errors.Conflict, 409, "Conflict"),
        (errors.OwnershipConflict, 409, "Conflict"),
        (errors.StillNeeded, 409, "Conflict"),
        (errors.Compacted, 410, "Expired"),
        (errors.Invalid, 422, "Invalid"),
        (errors.SourceInvalid, 422, "Invalid"),
        (errors.StoreError, 503, "ServiceUnavailable"),
        (errors.Fenced, 503, "ServiceUnavailable"),
        (errors.Unreachable, 503, "ServiceUnavailable"),
    ):
        if isinstance(error, kind):
            return code, reason
    return 500, "InternalError"


def _message(error: Exception, name: str, kind: kinds.Kind | None) -> str:
    if isinstance(error, errors.Invalid) and kind is not None and name:
        listed = "; ".join(f"{pointers.dotted(found.pointer)}: {found.message}" for found in error.violations)
        return f'{kind.name} "{name}" is invalid: {listed}'
    if isinstance(error, errors.NotFound) and kind is not None:
        return f'{kind.plural}.{names.GROUP} "{name}" not found'
    if isinstance(error, Refusal | errors.ModplaneError):
        return error.message
    return "the control plane failed; its log has the details under this path and time"


def _causes(error: Exception) -> list[StatusCause]:
    if isinstance(error, errors.Invalid):
        return [
            StatusCause(reason=found.reason, message=found.message, field=pointers.dotted(found.pointer))
            for found in error.violations
        ]
    if isinstance(error, errors.OwnershipConflict):
        return [
            StatusCause(reason="FieldManagerConflict", message=f'conflict with "{owner}"', field=f".{group}")
            for group, owner in sorted(error.owners.items())
        ]
    return []


def _without_blanks(status: Json) -> Json:
    details = {key: value for key, value in status.get("details", {}).items() if value not in ("", [])}
    kept = {key: value for key, value in status.items() if key != "details" and (value != "" or key == "message")}
    return {**kept, "details": details} if details else kept
