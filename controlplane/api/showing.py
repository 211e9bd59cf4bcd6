"""Objects as they go over the wire: what is stored, plus what Kubernetes clients expect around it.

Pure.  Stored ``managedFields`` name owned groups; on the wire each entry also has ``fieldsV1``, the form in which
`kubectl apply --server-side` reads ownership.  Called by every handler that answers with objects.
"""

from collections.abc import Iterable
from typing import Any

from schemas import kinds
from schemas.meta import Json
from schemas.names import API_VERSION


def shown(document: Json) -> Json:
    """An object as callers see it."""
    managed = document["metadata"].get("managedFields")
    if not managed:
        return document
    return {**document, "metadata": {**document["metadata"], "managedFields": [_entry(entry) for entry in managed]}}


def listed(kind: kinds.Kind, documents: Iterable[Json], revision: int, after: str | None = None) -> Json:
    """A list of objects, read at ``revision``; ``after`` is the token with which to go on."""
    metadata: Json = {"resourceVersion": str(revision)}
    if after:
        metadata["continue"] = after
    return {
        "kind": f"{kind.name}List",
        "apiVersion": API_VERSION,
        "metadata": metadata,
        "items": [shown(document) for document in documents],
    }


def _entry(entry: Json) -> Json:
    fields: dict[str, Any] = {}
    for group in entry.get("fields", ()):
        at = fields
        for part in _parts(group):
            at = at.setdefault(f"f:{part}", {})
    return {
        **{key: value for key, value in entry.items() if value is not None},
        "apiVersion": API_VERSION,
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
    }


def _parts(group: str) -> list[str]:
    """``spec.source.digest`` → its three parts; an annotation's own dots stay in its name."""
    top, _, rest = group.partition(".")
    if top != "metadata":
        return group.split(".")
    field, _, key = rest.partition(".")
    return [top, field, key] if key else [top, field]
