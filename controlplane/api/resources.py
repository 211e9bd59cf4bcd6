"""Reading objects: get and list, in pages, by selector, as objects or as a Table; and the way into a watch.

Always holds: a list tells the revision from which a watch misses nothing; all pages of one list tell the first
page's.  Reading and encoding happen on the store's reading threads, the event loop only sends.  Called by the routes of
`controlplane.api.apps`; asks `controlplane.store`.
"""

from starlette.requests import Request
from starlette.responses import Response

from controlplane import errors
from controlplane.api import answering, asking, finding, selecting, watching
from controlplane.store import readings, stores
from schemas import kinds
from schemas.kits.clocks import Clock
from schemas.meta import Json

CHUNK = 500
"""How many rows are looked at in one step while a selector is searching."""


class Reader:
    """Handlers that read."""

    def __init__(self, store: stores.Store, clock: Clock, watches: watching.Watches) -> None:
        self._store = store
        self._clock = clock
        self._watches = watches

    async def get(self, request: Request) -> Response:
        """``GET /{plural}/{name}`` and its ``/status``."""
        kind, name = asking.kind(request), asking.name(request)
        form = asking.form(request, kind, self._clock.now())
        record = await self._store.read(lambda reading: reading.get(kind.name, name))
        if record is None:
            return answering.refused(errors.NotFound(kind.name, name), request.url.path, name=name, kind=kind)
        return answering.answer(form.one(record.document()))

    async def list(self, request: Request) -> Response:
        """``GET /{plural}``: a list, or with ``watch=true`` the stream of its changes."""
        kind = asking.kind(request)
        if asking.flag(request, "watch"):
            return self._watches.open(request, kind)
        form, selector = asking.form(request, kind, self._clock.now()), asking.selector(request, kind)
        limit, page = asking.limit(request), asking.page(request)
        wanted = asking.resource_version(request) if page is None else None
        exact = request.query_params.get("resourceVersionMatch") == "Exact"

        def read(reading: readings.Reading) -> bytes:
            revision = _revision(reading, page, wanted, exact)
            documents, more = _page(reading, kind, selector, limit, page.after if page else "")
            after = asking.Page(revision, documents[-1]["metadata"]["name"]).token() if more else None
            return answering.encode(form.many(documents, revision, after))

        body = await self._store.read(read)
        return Response(body, media_type="application/json", headers={"cache-control": "no-cache, private"})


def _revision(reading: readings.Reading, page: asking.Page | None, wanted: int | None, exact: bool) -> int:
    """The revision that this page of a list tells; raises when what is asked for cannot be had any more."""
    if page is not None:
        if page.revision < reading.oldest_change():
            raise errors.Compacted(reading.oldest_change())
        return page.revision
    if wanted is not None and (wanted > reading.revision or (exact and wanted != reading.revision)):
        raise answering.Refusal(
            410, f"only the present, revision {reading.revision}, can be listed; leave resourceVersion out"
        )
    return reading.revision


def _page(
    reading: readings.Reading, kind: kinds.Kind, selector: selecting.Selector, limit: int | None, after: str
) -> tuple[list[Json], bool]:
    """At most ``limit`` selected objects behind the name ``after``, and whether there may be more."""
    few = finding.candidates(reading, kind, selector)
    if few is not None:
        return [document for record in few if selector.matches(document := record.document())], False
    documents: list[Json] = []
    while True:
        step = None if limit is None else (max(CHUNK, limit) if selector else limit + 1)
        records = reading.list(kind.name, after_name=after, limit=step)
        for record in records:
            if limit is not None and len(documents) == limit:
                return documents, True
            document = record.document()
            if selector.matches(document):
                documents.append(document)
        if step is None or len(records) < step:
            return documents, False
        after = records[-1].name
