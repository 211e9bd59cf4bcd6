"""The audit trail for those who may see it: one page after the other, and whether somebody touched it.

Reads only; administrators alone (`controlplane.api.authorising`).  Called by the routes of `controlplane.api.apps`.
"""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from controlplane.api import answering, asking, documenting, modelling, ports
from controlplane.audit.asking import Wanted
from schemas import audit, names

_Word = Annotated[str, Query(max_length=audit.TEXT_MAX)]


def router(auditor: ports.Auditor) -> APIRouter:
    """The routes below ``/api/v1/module-management/audit``."""
    routes = APIRouter(prefix=f"{names.MANAGEMENT_PREFIX}/audit", tags=["audit"])
    audits = Audit(auditor)
    for path, endpoint, model, codes in (
        ("", audits.records, modelling.AuditPage, (422,)),
        ("/verification", audits.verification, modelling.AuditVerification, ()),
    ):
        problems = documenting.problems(*codes)
        routes.add_api_route(path, endpoint, methods=["GET"], response_model=model, responses=problems)
    return routes


class Audit:
    """Handlers of the audit trail."""

    def __init__(self, auditor: ports.Auditor) -> None:
        self._auditor = auditor

    async def records(
        self,
        module: _Word = "",
        subject: _Word = "",
        organisation: _Word = "",
        outcome: Annotated[str, Query(pattern=f"^({'|'.join(audit.OUTCOMES)})?$")] = "",
        kind: Annotated[str, Query(pattern=f"^({'|'.join(audit.KINDS)})?$")] = "",
        writer: _Word = "",
        since: Annotated[asking.Moment | None, Query(description="From this moment on.")] = None,
        until: Annotated[asking.Moment | None, Query(description="Before this moment.")] = None,
        after: Annotated[int, Query(ge=0, lt=1 << 62, description="Only what came behind this id.")] = 0,
        before: Annotated[int, Query(ge=0, lt=1 << 62, description="Only what came before this id; 0: any.")] = 0,
        newest: Annotated[bool, Query(description="Begin with the newest page rather than the oldest.")] = True,
        limit: Annotated[int, Query(ge=1, le=10_000, description="How many records at most.")] = 100,
    ) -> Response:
        """Records of the audit trail, the oldest of a page first.

        ``next`` is the ``before`` (with ``newest=false``: the ``after``) of the next page; null when there is none.
        """
        wanted = Wanted(
            module=names.object_name(module),
            subject=subject,
            organisation=organisation,
            outcome=outcome,
            kind=kind,
            writer=writer,
            since=_moment(since),
            until=_moment(until),
            after=after,
            before=before,
            newest=newest,
            limit=limit,
        )
        found, more = await self._auditor.find(wanted)
        following = found[0 if newest else -1]["id"] if more else None
        return answering.answer({"records": found, "next": following})

    async def verification(self) -> Response:
        """Walk along the whole trail: ``ok``, or the first record that somebody touched."""
        return answering.answer(await self._auditor.verify())


def _moment(given: datetime | None) -> str:
    """As records have it."""
    if given is None:
        return ""
    aware = given if given.tzinfo else given.replace(tzinfo=UTC)
    try:
        return audit.moment(aware.timestamp())
    except (OverflowError, ValueError) as error:
        raise answering.Refusal(400, "since and until are moments that a calendar has") from error
