"""Errors over HTTP: RFC 9457 problem documents, and Kubernetes ``Status`` objects under ``/apis``."""

from typing import Any, Literal

from schemas.meta import Json, Model

PROBLEM_JSON = "application/problem+json"


class Violation(Model):
    """One thing wrong with an input."""

    pointer: str
    """JSON pointer (RFC 6901) into the document; empty: the document itself."""
    message: str
    """What is wrong and what to write instead."""
    reason: str = "FieldValueInvalid"


class Problem(Model):
    """An RFC 9457 problem document."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str = ""
    instance: str | None = None
    errors: list[Violation] = []
    retryable: bool = False


class StatusCause(Model):
    """One cause inside a ``Status``."""

    reason: str
    message: str
    field: str = ""


class StatusDetails(Model):
    """Which object a ``Status`` is about, and why."""

    name: str = ""
    group: str = ""
    kind: str = ""
    uid: str = ""
    causes: list[StatusCause] = []
    retry_after_seconds: int | None = None


class Status(Model):
    """The answer of the resource API when it is not an object (Kubernetes ``metav1.Status``)."""

    kind: Literal["Status"] = "Status"
    api_version: Literal["v1"] = "v1"
    metadata: Json = {}
    status: Literal["Success", "Failure"] = "Failure"
    message: str = ""
    reason: str = ""
    details: StatusDetails | None = None
    code: int = 500


def problem(status: int, title: str, detail: str = "", **more: Any) -> Json:
    """A problem document as JSON values."""
    return Problem(status=status, title=title, detail=detail, **more).wire()
