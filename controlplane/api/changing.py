"""Writing objects: create, replace, patch, apply (one or many) and delete, each a thin door to the one write path.

Always holds: admission and ownership are decided in `controlplane.writing`, the same for every door; a dry run goes
the same way.  Status is written by the reconciler alone.  Called by the routes of `controlplane.api.apps`.
"""

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from controlplane import intaking, planning, writing
from controlplane.admission import merging
from controlplane.api import answering, asking, authenticating, authorising, bodies, patching, showing
from schemas import kinds
from schemas.meta import Json

MAX_ITEMS = 10_000
"""Of one list."""


class Changer:
    """Handlers that write."""

    def __init__(self, writer: writing.Writer) -> None:
        self._writer = writer

    async def apply_list(self, request: Request) -> Response:
        """``POST /apply``: server-side apply of a list in one transaction, an answer per item."""
        manager, force, dry = (
            asking.manager(request, required=True),
            asking.flag(request, "force"),
            asking.dry_run(request),
        )
        bodies.expect(request, bodies.JSON)
        data = await bodies.read(request, bodies.MAX_LIST)
        body = await asyncio.to_thread(bodies.decode, data) if len(data) > 64 * 1024 else bodies.decode(data)
        items = body.get("items") if isinstance(body, dict) else None
        if not isinstance(items, list):
            raise answering.Refusal(400, 'the body has to be {"items": [manifest, …]}')
        if len(items) > MAX_ITEMS:
            raise answering.Refusal(413, f"at most {MAX_ITEMS:,} items at once, not {len(items):,}; send several lists")
        needed = authorising.needed_for(item.get("kind") for item in items if isinstance(item, dict))
        if request.state.role < needed:
            raise authenticating.missing(needed, request.state.caller, request.state.role)
        outcomes = await self._writer.apply(items, manager=manager, force=force, dry_run=dry)
        for outcome, item in zip(outcomes, items, strict=True):
            _note(request, outcome, item)
        results = [_item(outcome, item) for outcome, item in zip(outcomes, items, strict=True)]
        return answering.answer({"kind": "ApplyResult", "items": results})

    async def create(self, request: Request) -> Response:
        """``POST /{plural}``."""
        kind = asking.writable_kind(request)
        document = _addressed(await bodies.json_object(request), kind, None)
        request.state.name = _name(document)
        outcome = await self._writer.create(
            document, manager=asking.manager(request), dry_run=asking.dry_run(request), kind=kind.name
        )
        return _noted(request, outcome, 201)

    async def replace(self, request: Request) -> Response:
        """``PUT /{plural}/{name}``."""
        kind, name = asking.writable_kind(request), asking.name(request)
        document = _addressed(await bodies.json_object(request), kind, name)
        outcome = await self._writer.replace(
            document, manager=asking.manager(request), dry_run=asking.dry_run(request), where=(kind.name, name)
        )
        return _noted(request, outcome)

    async def patch(self, request: Request) -> Response:
        """``PATCH /{plural}/{name}``: merge patch, JSON patch or server-side apply, by content type."""
        kind, name = asking.writable_kind(request), asking.name(request)
        media = bodies.expect(request, *bodies.PATCHES)
        data = await bodies.read(request, bodies.MAX_OBJECT)
        if media in (bodies.APPLY_YAML, bodies.APPLY_JSON):
            return await self._apply(request, kind, name, bodies.applied_document(data))
        value = bodies.decode(data)
        if media == bodies.MERGE_PATCH and not isinstance(value, dict):
            raise answering.Refusal(400, "a merge patch is a JSON object")
        operations = patching.operations(value) if media == bodies.JSON_PATCH else []

        def change(document: Json) -> Json:
            if media == bodies.JSON_PATCH:
                return patching.apply(document, operations)
            return dict(merging.merge_patch(document, value))

        outcome = await self._writer.edit(
            kind.name, name, change, manager=asking.manager(request), dry_run=asking.dry_run(request)
        )
        return _noted(request, outcome)

    async def _apply(self, request: Request, kind: kinds.Kind, name: str, document: Json) -> Response:
        (outcome,) = await self._writer.apply(
            [_addressed(document, kind, name)],
            manager=asking.manager(request, required=True),
            force=asking.flag(request, "force"),
            dry_run=asking.dry_run(request),
            where=(kind.name, name),
        )
        if outcome.error is not None:
            raise outcome.error
        return _noted(request, outcome, 201 if outcome.verb == planning.Verb.CREATED.value else 200)

    async def delete(self, request: Request) -> Response:
        """``DELETE /{plural}/{name}``, with optional ``DeleteOptions``; ``?force=true``: also if others need it."""
        kind, name = asking.writable_kind(request), asking.name(request)
        data = await bodies.read(request, bodies.MAX_OBJECT)
        options: Json = {}
        if data:
            bodies.expect(request, bodies.JSON)
            value = bodies.decode(data)
            options = value if isinstance(value, dict) else {}
        preconditions = options.get("preconditions") or {}
        outcome = await self._writer.delete(
            kind.name,
            name,
            uid=str(preconditions.get("uid") or ""),
            revision=intaking.revision_of(preconditions.get("resourceVersion")),
            manager=asking.manager(request),
            force=asking.flag(request, "force"),
            dry_run=asking.dry_run(request, options),
        )
        assert outcome.record is not None
        if outcome.gone:
            _note(request, outcome, None)
            return answering.answer(answering.success(name, outcome.record.uid, kind))
        return _noted(request, outcome)

    async def refuse_status(self, request: Request) -> Response:
        """``PUT`` and ``PATCH`` of ``/status``: what is seen is written by the control plane alone."""
        kind = asking.kind(request)
        raise answering.Refusal(
            405,
            f"the status of {kind.plural} is written by the control plane only; change the spec, the status follows",
            headers={"allow": "GET"},
        )

    async def refuse_collection(self, request: Request) -> Response:
        """``DELETE /{plural}``: a slip of one word must not empty the system."""
        kind = asking.kind(request)
        raise answering.Refusal(405, f"{kind.plural} are deleted one by one, by name", headers={"allow": "GET, POST"})


def _addressed(document: Json, kind: kinds.Kind, name: str | None) -> Json:
    """The document with what the address says already, where it is left out."""
    metadata = document.get("metadata")
    if name is not None and isinstance(metadata, dict) and "name" not in metadata:
        document = {**document, "metadata": {**metadata, "name": name}}
    return {"apiVersion": kind.model.model_fields["api_version"].default, "kind": kind.name, **document}


def _note(request: Request, outcome: writing.Outcome, document: Any) -> None:
    """Have the audit trail know what became of an object; one that stays as it is changes nothing."""
    asked, record = asking.noted(request), outcome.record
    if outcome.error is not None:
        kind = document.get("kind") if isinstance(document, dict) else None
        resource = f"{kind}/{_name(document)}"
        asked.refused(answering.code_of(outcome.error), answering.reason_of(outcome.error), resource)
    elif record is not None and outcome.verb != planning.Verb.UNCHANGED.value:
        resource = f"{record.kind}/{record.name}"
        asked.changed(outcome.verb, resource, revision=record.revision, generation=record.generation)


def _noted(request: Request, outcome: writing.Outcome, code: int = 200) -> Response:
    assert outcome.record is not None
    _note(request, outcome, None)
    return answering.answer(showing.shown(outcome.record.document()), code)


def _name(document: Any) -> str:
    """The name that a document gives itself, for messages."""
    metadata = document.get("metadata") if isinstance(document, dict) else None
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return name[:80] if isinstance(name, str) else ""


def _item(outcome: writing.Outcome, document: Any) -> Json:
    error = None
    if outcome.error is not None:
        kind = kinds.BY_NAME.get(str(document.get("kind"))) if isinstance(document, dict) else None
        error = answering.status_of(outcome.error, name=_name(document), kind=kind)
    return {
        "result": outcome.verb,
        "object": None if outcome.record is None else showing.shown(outcome.record.document()),
        "error": error,
    }
