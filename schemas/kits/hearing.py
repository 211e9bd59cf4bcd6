"""Hearing a subject of NATS: for one session, or for as long as one likes.

Always: what is subscribed is let go of when nobody hears it any more, unless its session is over; what comes between
two sessions is heard by nobody.  Called by both planes; goes to `schemas.kits.natslink`.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, TypeAlias

from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from schemas.kits.clocks import Clock
from schemas.kits.natslink import LinkError, NatsLink, Session

logger = logging.getLogger(__name__)

PACE_SECONDS: Final = 1.0
"""Between two attempts to subscribe."""

Heard: TypeAlias = Callable[[Msg], Awaitable[None]]
"""Takes a message; it must not raise, nor take long."""


@contextlib.asynccontextmanager
async def subscribed(session: Session, subject: str, heard: Heard) -> AsyncIterator[None]:
    """While inside, every message of ``subject`` is handed to ``heard``; NatsError, OSError."""
    subscription = await session.client.subscribe(subject, cb=heard)
    try:
        yield
    finally:
        if session.alive:
            with contextlib.suppress(NatsError, OSError):
                await subscription.unsubscribe()


async def lasting(link: NatsLink, clock: Clock, subject: str, heard: Heard) -> None:
    """Hand every message of ``subject`` to ``heard``, on every session anew, until cancelled."""
    while True:
        session = await link.session()
        try:
            async with subscribed(session, subject, heard):
                await asyncio.wait({session.ended})
        except (LinkError, NatsError, OSError) as trouble:
            reason = f"{type(trouble).__name__}: {trouble}"[:200]
            logger.info("subject not heard", extra={"subject": subject, "reason": reason})
            await clock.sleep(PACE_SECONDS)
