"""What a worker has counted since its boot, as it tells it: of each route, and of each organisation's calls.

    subject modplane.metrics.<worker> ─▶ stream MODPLANE_METRICS ─▶ whoever merges

Every number is a sum since the boot began and only grows.  So of two messages the one with the higher sequence says
all that the other said of a series: a repeated one changes nothing, a lost one is made good by the next.

Versions: a field keeps its meaning for ever.  What is to be told otherwise gets another name, so that a reader takes
from an older or newer worker what both know, and the counts in any case.  Bounds are those of what can be kept and
shown, however a worker came to its numbers.
"""

from typing import Annotated, Final

from pydantic import Field

from schemas.kits import sketches
from schemas.meta import Model

OTHER: Final = "_other"
"""The route of calls that no route answers, and the method of calls with a method that HTTP does not know."""
CHUNK_BYTES: Final = 256 * 1024
"""No message is larger."""

MOST: Final = 2**53
"""Counts are exact up to here, in JSON of every language."""

Count = Annotated[int, Field(ge=0, le=MOST)]
Seconds = Annotated[float, Field(ge=0, le=MOST)]
Moment = Annotated[float, Field(ge=0, le=253_402_300_799)]
"""Seconds since 1970, before the year 10000."""


class RouteMeasure(Model):
    """The calls of one route with one method."""

    number: Count
    """Tells the series of one boot apart; never given twice."""
    module: Annotated[str, Field(max_length=63)]
    uid: Annotated[str, Field(max_length=63)] = ""
    """Of the module's object: a module that was made anew begins at zero."""
    version: Annotated[str, Field(max_length=128)]
    """The module's own."""
    method: Annotated[str, Field(max_length=16)]
    route: Annotated[str, Field(max_length=2_048)]
    """Template below the module's namespace."""
    calls: Count
    client_errors: Count = 0
    """Answered 4xx by the module, or by its limits."""
    server_errors: Count = 0
    """Answered 5xx by the module, or not at all."""
    refused: Count = 0
    """Answered by the gateway before the module was called: 401, 403, 503."""
    timeouts: Count = 0
    """Cut off, for the module took too long."""
    seconds: Seconds
    """How long all of them took together."""
    received: Count = 0
    """Bytes of bodies that were handed to the module."""
    sent: Count = 0
    """Bytes of bodies that were answered."""
    last: Moment
    """When the last of them ended."""
    inside: Count = 0
    """How many are under way: the one number that falls, too."""
    durations: Annotated[str, Field(max_length=sketches.TEXT_MOST, pattern=sketches.PATTERN)] = sketches.text({})
    """How long each of them took, as `schemas.kits.sketches.text`: checked here, taken apart by who asks for it."""


class AccessMeasure(Model):
    """The calls of one organisation to one module that were let in."""

    organisation: Annotated[str, Field(max_length=63)]
    module: Annotated[str, Field(max_length=63)]
    calls: Count
    last: Moment
    """When the last of them began."""


class Measures(Model):
    """One message: what changed since the last one, and now and then what did not."""

    worker: Annotated[str, Field(max_length=63)]
    boot: Annotated[str, Field(max_length=63)]
    sequence: Count
    """Counts the messages of a boot."""
    at: Moment
    """When it was counted; never less than in the message before."""
    routes: list[RouteMeasure] = []
    accesses: list[AccessMeasure] = []
