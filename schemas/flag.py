"""Kind FeatureFlag: a flag in the flagd definition format, with prerequisites, overrides and a rollout.

Source of the words: flagd's flag definitions (flagd.dev) and the OpenFeature glossary.  How a flag is decided, in nine
steps of which each has a reason, is told by `FlagReason`; `dataplane.gateway.flags` does it.
"""

from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import AwareDatetime, Field, StringConstraints

from schemas.meta import Json, Model, ObjectMeta

Word = Annotated[str, StringConstraints(min_length=1, max_length=256)]

PARTS: Final = 100_000
"""In how many parts a rollout divides its users or organisations: a thousandth of a percent each."""


class FlagReason(StrEnum):
    """Why a flag is what it is for a caller: the first of these that applies, from above."""

    UNKNOWN = "FlagUnknown"
    """No such flag: off."""
    KILLED = "FlagKilled"
    """``killSwitch``: off for everybody."""
    DISABLED = "FlagDisabled"
    """``state: DISABLED``: off for everybody."""
    PREREQUISITE = "FlagPrerequisite"
    """A flag in ``prerequisites`` is off for this caller, or requires this one itself: off."""
    USER = "FlagUserOverride"
    ORGANISATION = "FlagOrganisationOverride"
    TARGETING = "FlagTargeting"
    ROLLOUT = "FlagRollout"
    DEFAULT = "FlagDefault"
    """Nothing else said anything: ``defaultVariant``."""
    MALFORMED = "FlagMalformed"
    """The targeting cannot be evaluated, names no variant, or the variant's value is of another type: off."""


class FlagState(StrEnum):
    """Whether a flag is evaluated at all."""

    ENABLED = "ENABLED"
    DISABLED = "DISABLED"


class FlagOverride(Model):
    """One user's or organisation's fixed variant."""

    key: Word
    """Token subject, or Organisation name."""
    variant: Word
    expires: AwareDatetime | None = None
    """From this moment on the override is as if absent."""


class FlagOverrides(Model):
    """Fixed variants; a user's wins over the organisation's."""

    users: list[FlagOverride] = []
    organisations: list[FlagOverride] = []


class BucketBy(StrEnum):
    """What a rollout divides."""

    USER = "user"
    ORGANISATION = "organisation"


class FlagRollout(Model):
    """A share of all users, or of all organisations; a higher percentage only ever adds some."""

    variant: Word = "on"
    percentage: Annotated[float, Field(ge=0, le=100)] = 0
    """In steps of a thousandth; 100 takes in callers without a token or organisation, too."""
    bucket_by: BucketBy = BucketBy.USER


class FlagDefinition(Model):
    """What decides a flag: the payload of its desired document."""

    state: FlagState = FlagState.ENABLED
    variants: dict[str, Any] = {"on": True, "off": False}
    default_variant: Word = "off"
    targeting: Json = {}
    """JsonLogic with flagd's operators (``fractional``, ``sem_ver``, …) over ``targetingKey`` (the subject),
    ``issuer``, ``organisation``, ``roles``, ``permissions`` and ``claims``; null means that it says nothing."""
    rollout: FlagRollout | None = None
    """Asked when the targeting says nothing."""
    overrides: FlagOverrides = FlagOverrides()
    prerequisites: list[Word] = []
    """Flags that must be on for the caller, or this one is off."""
    kill_switch: bool = False
    """Off for everybody, before anything else is looked at."""


class FeatureFlagSpec(FlagDefinition):
    """What is asked for a flag."""

    description: Annotated[str, StringConstraints(max_length=4096)] = ""
    owner: Annotated[str, StringConstraints(max_length=256)] = ""
    permanent: bool = False
    """It is not meant to go: a kill switch, for example."""
    expires: AwareDatetime | None = None
    """Until when it should be gone; a reminder for people, the flag works on."""


class FeatureFlag(Model):
    """A feature flag."""

    api_version: Literal["modplane.dev/v1"] = "modplane.dev/v1"
    kind: Literal["FeatureFlag"] = "FeatureFlag"
    metadata: ObjectMeta = ObjectMeta()
    spec: FeatureFlagSpec = FeatureFlagSpec()
    status: Json = {}
