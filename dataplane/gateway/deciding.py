"""Who may go on, remembered: a known caller at a known route costs a digest and a few look-ups.

A caller is remembered by the digest of its Authorization header, for no longer than its token, its issuer's keys and
``AUTH_CACHE_TTL`` allow; what it may do by the requirement that was decided.  Each decision knows the revisions of what
it read, so a change of flags, accesses or revocations counts with the next request, and any other change leaves it
warm.  Refusals are never remembered.  Only credentials in their one canonical form are ever believed, so no second
spelling of a revoked token has a place here.

Called by `dataplane.gateway.entering` on the serving loop, before any module code runs.

The digest is BLAKE2b (RFC 7693), which is the interpreter's own: among the other work of a request, where nothing of a
library is in the processor's caches, OpenSSL's SHA-256 of a token costs 5 µs more, though in a loop of its own it wins.
"""

from collections import OrderedDict
from hashlib import blake2b
from typing import Any, Final

from dataplane.gateway import authenticating, authorising
from dataplane.gateway.authenticating import Authenticated, Authenticator
from dataplane.gateway.authorising import Requirement, Verdict
from dataplane.gateway.snapshots import Snapshot
from schemas.kits.clocks import Clock
from schemas.kits.tokens.verifying import Verifier

TTL_SECONDS: Final = 300.0
TOKENS: Final = 10_000
_DECISIONS: Final = 128
"""What is remembered of one caller; one who does more is decided anew now and then."""


class Decision:
    """A permission, and what it was decided by."""

    __slots__ = ("revisions", "turn", "verdict")

    def __init__(self, verdict: Verdict, revisions: tuple[int, ...], turn: int) -> None:
        self.verdict = verdict
        self.revisions = revisions
        self.turn = turn
        """Of the standing with which the revisions were last compared."""


class Session:
    """A caller that is known."""

    __slots__ = ("_source", "caller", "decisions", "expires", "revision", "stale")

    def __init__(self, caller: Authenticated, stale: float) -> None:
        self.caller = caller
        self._source = caller.source
        self.revision = caller.source.revision
        self.expires = caller.principal.expires
        """Unix time."""
        self.stale = min(stale, caller.until)
        """Monotonic time."""
        self.decisions: dict[str, Decision] = {}
        """By the key of the requirement."""

    def lives(self, now: float, monotonic: float) -> bool:
        """Whether the caller is still who it was."""
        if now >= self.expires or monotonic >= self.stale:
            return False
        revision = self._source.revision
        if revision != self.revision:
            if not self.caller.holds():
                return False
            self.revision = revision
        return True


class Gate:
    """Decides for each request that asks who its caller is."""

    def __init__(
        self, authenticator: Authenticator, clock: Clock, *, ttl: float = TTL_SECONDS, tokens: int = TOKENS
    ) -> None:
        """``ttl``: seconds for which a caller is remembered.  ``tokens``: how many of them."""
        self.challenges = authenticator.challenges
        self._authenticator = authenticator
        self._unix = clock.unix
        self._monotonic = clock.monotonic
        self._ttl = ttl
        self._tokens = tokens
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()
        self._hits = 0
        self._decided = 0
        self._unknown = 0
        self._evicted = 0

    def known(self, shown: tuple[bytes, ...], asked: Requirement, snapshot: Snapshot) -> Verdict | None:
        """The verdict, if it takes no waiting; None: `learn` has to find out who calls.

        ``shown``: the values of the request's Authorization header.
        """
        now = self._unix()
        if len(shown) != 1:
            if shown:
                return Verdict(401, authenticating.SEVERAL)
            self._decided += 1
            return authorising.decide(asked, None, 0.0, snapshot.standing, now)
        key = blake2b(shown[0]).digest()
        session = self._sessions.get(key)
        if session is None:
            return None
        if not session.lives(now, self._monotonic()):
            del self._sessions[key]
            return None
        self._sessions.move_to_end(key)
        return self._verdict(session, asked, snapshot, now)

    async def learn(self, shown: tuple[bytes, ...], asked: Requirement, snapshot: Snapshot) -> Verdict:
        """The verdict about a caller that is not known yet."""
        (value,) = shown
        now = self._unix()
        self._unknown += 1
        try:
            caller = await self._authenticator.authenticate(value, now)
        except authenticating.Refused as refused:
            return Verdict(401, refused.reason)
        session = Session(caller, self._monotonic() + self._ttl)
        if self._ttl and session.lives(now, self._monotonic()):
            self._sessions[blake2b(value).digest()] = session
            while len(self._sessions) > self._tokens:
                self._sessions.popitem(last=False)
                self._evicted += 1
        return self._verdict(session, asked, snapshot, now)

    def _verdict(self, session: Session, asked: Requirement, snapshot: Snapshot, now: float) -> Verdict:
        decision = session.decisions.get(asked.key)
        if decision is not None and decision.verdict.until > now:
            if decision.turn == snapshot.turn:
                self._hits += 1
                return decision.verdict
            if decision.revisions == authorising.revisions(asked, snapshot.standing):
                decision.turn = snapshot.turn
                self._hits += 1
                return decision.verdict
        self._decided += 1
        caller = session.caller
        verdict = authorising.decide(asked, caller.principal, caller.issued_at, snapshot.standing, now)
        if verdict.allowed:
            if len(session.decisions) >= _DECISIONS:
                session.decisions.clear()
            revisions = authorising.revisions(asked, snapshot.standing)
            session.decisions[asked.key] = Decision(verdict, revisions, snapshot.turn)
        elif decision is not None:
            del session.decisions[asked.key]
        return verdict

    def wire(self) -> dict[str, Any]:
        """What ``/modules/system/info`` shows."""
        return {
            "tokens": len(self._sessions),
            "tokensMax": self._tokens,
            "ttlSeconds": self._ttl,
            "remembered": self._hits,
            "decided": self._decided,
            "unknown": self._unknown,
            "evicted": self._evicted,
        }


def closed(clock: Clock) -> Gate:
    """A gate that believes nobody."""
    return Gate(Authenticator(Verifier([])), clock)
