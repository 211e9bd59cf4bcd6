"""Makes flags, tenants and revocations in the gateway what the held documents say: one swap of the snapshot for each.

    held documents ──note──▶ new sets, made in the agent's thread ──▶ one swap on the serving loop ──▶ acknowledged

Always: what a swap has not brought yet is not acknowledged (`Standings.busy`); changes that come while one is on its
way go together with the next; sets share what did not change.
Runs on the agent's loop; fed by `dataplane.agent.living`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar

from pydantic import ValidationError

from dataplane.errors import DocumentRefused
from dataplane.gateway import flags, tenants
from dataplane.gateway.standing import Standing
from schemas import names
from schemas.documents import DesiredDocument
from schemas.flag import FlagDefinition
from schemas.kits.clocks import Clock
from schemas.kits.tasks import Tasks
from schemas.organisation import DesiredOrganisation
from schemas.revocation import RevocationSet, RevocationSpec

T = TypeVar("T", FlagDefinition, DesiredOrganisation, RevocationSpec)

FLAG: Final = "FeatureFlag"
ORGANISATION: Final = "Organisation"
REVOCATION: Final = "Revocation"

LOOK_SECONDS: Final = 30.0
"""Between two looks for the secrets without which an organisation's access is closed."""

Content: TypeAlias = FlagDefinition | DesiredOrganisation | RevocationSpec
Noted: TypeAlias = Mapping[tuple[str, str], Content | None]
"""(kind, name) → what a document says of it; None: it is gone."""

_MODELS: Final[dict[str, type[FlagDefinition] | type[DesiredOrganisation] | type[RevocationSpec]]] = {
    FLAG: FlagDefinition,
    ORGANISATION: DesiredOrganisation,
    REVOCATION: RevocationSpec,
}
KEYS: Final = {FLAG: names.flag_key, ORGANISATION: names.organisation_key, REVOCATION: names.revocation_key}
"""Kind → the key of a name."""


@dataclass(frozen=True, slots=True)
class Known:
    """One document of these kinds, understood."""

    kind: str
    name: str
    content: Content


def known_of(key: str, document: DesiredDocument) -> Known | None:
    """What a document says, None if it is of another kind; DocumentRefused."""
    model = _MODELS.get(document.kind)
    if model is None:
        return None
    try:
        content = model.model_validate_json(document.payload)
    except ValidationError as error:
        raise DocumentRefused("PayloadUnreadable", f"{key}: {error.errors()[0]['msg']}") from error
    return Known(document.kind, document.name, content)


class Standings:
    """What the gateway decides by, kept as the documents say."""

    def __init__(
        self,
        stand: Callable[[Standing], Awaitable[None]],
        clock: Clock,
        *,
        changed: Callable[[], None],
        reveal: tenants.Reveal | None = None,
    ) -> None:
        """``stand`` publishes on the serving loop; ``changed`` is called when everything noted is in place.

        ``reveal`` puts secrets in place of their references in what organisations configure.
        """
        self._stand = stand
        self._changed = changed
        self._tasks = Tasks(clock)
        self._flags = flags.FlagSet()
        self._tenants = tenants.TenantSet() if reveal is None else tenants.TenantSet(reveal=reveal)
        self._revocations = RevocationSet()
        self._wanted = self._placed = Standing()
        self._clock = clock
        self._placing: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether something that was noted is not in place yet."""
        return self._wanted is not self._placed

    def note(self, changes: Noted) -> None:
        """Take in what documents say now."""
        if not changes:
            return
        if switched := _of(changes, FLAG, FlagDefinition):
            self._flags = self._flags.with_changes(switched)
        if moved := _of(changes, ORGANISATION, DesiredOrganisation):
            self._tenants = self._tenants.with_changes(moved)
            self._look()
        if revoked := _of(changes, REVOCATION, RevocationSpec):
            self._revocations = self._revocations.with_changes(revoked)
        self._want()

    def _want(self) -> None:
        self._wanted = Standing(flags=self._flags, tenants=self._tenants, revocations=self._revocations)
        if self._placing is None or self._placing.done():
            self._placing = self._tasks.start(self._place(), "place flags, tenants and revocations")

    def _look(self) -> None:
        """See to it that missing secrets are looked for again."""
        if self._tenants.lacking and (self._looking is None or self._looking.done()):
            self._looking = self._tasks.start(self._look_again(), "look for missing secrets")

    async def _look_again(self) -> None:
        while self._tenants.lacking:
            await self._clock.sleep(LOOK_SECONDS)
            found = self._tenants.again()
            if found is not self._tenants:
                self._tenants = found
                self._want()

    async def settle(self) -> None:
        """Wait until everything noted so far is in place."""
        if self._placing is not None:
            await asyncio.wait({self._placing})

    async def stop(self) -> None:
        """Publish nothing more; what is in place stays."""
        await self._tasks.stop()

    async def _place(self) -> None:
        while self.busy:
            wanted = self._wanted
            await self._stand(wanted)
            self._placed = wanted
        self._changed()


def _of(changes: Noted, kind: str, model: type[T]) -> dict[str, T | None]:
    """What changed of one kind."""
    return {
        name: content
        for (each, name), content in changes.items()
        if each == kind and (content is None or isinstance(content, model))
    }
