"""An auth provider that a worker comes with: keys for machines, of which only digests are stored.

``Authorization: ApiKey KEY``, with keys of 32 characters or more from a random source.  The file is JSON::

    {"keys": [{"sha256": "9f86d0...", "subject": "billing-job", "organisation": "acme",
               "roles": [], "permissions": ["read_analytics"], "expires": "2031-01-01T00:00:00Z"}]}

A SHA-256 is enough, since a random key cannot be guessed; a key that is found in the file's backup opens nothing.  The
file is looked at every 2 s; one that cannot be read leaves the last good keys in force.  An example for others: see
`dataplane.sdk.providing`.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Final

import structlog
from pydantic import AwareDatetime, BaseModel, ConfigDict, StringConstraints, ValidationError

from schemas.kits import watchedfiles
from schemas.kits.clocks import Clock, SystemClock
from schemas.principals import Principal

logger = structlog.get_logger("dataplane.gateway.apikeys")

KEY_CHARACTERS: Final = range(32, 513)
"""A shorter key was typed, not drawn."""
_NEVER: Final = datetime(9999, 1, 1, tzinfo=UTC)
_FILE_BYTES: Final = 16_777_216

Word = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class Key(BaseModel):
    """One key, as the file has it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    subject: Word
    organisation: Word | None = None
    roles: list[Word] = []
    permissions: list[Word] = []
    expires: AwareDatetime = _NEVER

    def principal(self) -> Principal:
        """The caller that the key stands for."""
        return Principal(
            issuer="api-keys",
            subject=self.subject,
            organisation=self.organisation,
            roles=frozenset(self.roles),
            permissions=frozenset(self.permissions),
            token_id=self.sha256[:16],
            expires=self.expires.timestamp(),
        )


class File(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    keys: list[Key]


class ApiKeys:
    """Knows callers by their keys."""

    scheme = "ApiKey"

    def __init__(self, options: Mapping[str, Any], clock: Clock | None = None) -> None:
        """``options``: ``file``, the path.  ValueError or OSError if there are no good keys in it."""
        if set(options) != {"file"} or not isinstance(options["file"], str):
            raise ValueError('api-keys takes one option: {"file": "/path/to/keys.json"}')
        path = Path(options["file"])
        self._file = watchedfiles.WatchedFile(path, _callers, clock or SystemClock(), most=_FILE_BYTES)

    @property
    def revision(self) -> int:
        """Changes when the keys change."""
        return self._file.revision

    async def authenticate(self, credentials: bytes) -> Principal | None:
        """Whose key this is."""
        if len(credentials) not in KEY_CHARACTERS:
            return None
        return self._file.content.get(sha256(credentials).hexdigest())

    async def run(self) -> None:
        """Look at the file from time to time."""
        await self._file.run(self._changed)

    async def look(self) -> None:
        """Look at the file now."""
        await self._file.look()

    def _changed(self, callers: Mapping[str, Principal]) -> None:
        logger.info("api keys changed", path=str(self._file.path), keys=len(callers))


def _callers(raw: bytes) -> dict[str, Principal]:
    """Callers by the digests of their keys; ValueError."""
    if len(raw) > _FILE_BYTES:
        raise ValueError(f"a file of keys may have {_FILE_BYTES} bytes")
    try:
        found = File.model_validate_json(raw).keys
    except ValidationError as error:
        raise ValueError(f"{error.errors()[0]['loc']}: {error.errors()[0]['msg']}") from None
    callers = {key.sha256: key.principal() for key in found}
    if len(callers) != len(found):
        raise ValueError("one key stands twice")
    return callers
