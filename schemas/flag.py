"""Kind FeatureFlag: a flag in the flagd definition format, with overrides.

Source of the words: flagd's flag definitions (flagd.dev) and the OpenFeature glossary.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import StringConstraints

from schemas.meta import Json, Model, ObjectMeta

Word = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class FlagState(StrEnum):
    """Whether a flag is evaluated at all."""

    ENABLED = "ENABLED"
    DISABLED = "DISABLED"


class FlagOverride(Model):
    """One user's or organisation's fixed variant."""

    key: Word
    """Token subject, or Organisation name."""
    variant: Word
    expires: datetime | None = None
    """From this moment on the override is as if absent."""


class FlagOverrides(Model):
    """Fixed variants; a user's wins over the organisation's."""

    users: list[FlagOverride] = []
    organisations: list[FlagOverride] = []


class FeatureFlagSpec(Model):
    """What is asked for a flag."""

    state: FlagState = FlagState.ENABLED
    variants: dict[str, Any] = {"on": True, "off": False}
    default_variant: Word = "off"
    targeting: Json = {}
    """JsonLogic with flagd's operators (``fractional``, ``sem_ver``, …)."""
    overrides: FlagOverrides = FlagOverrides()
    kill_switch: bool = False
    """Off for everybody, before anything else is looked at."""
    description: Annotated[str, StringConstraints(max_length=4096)] = ""
    owner: Annotated[str, StringConstraints(max_length=256)] = ""
    permanent: bool = False
    expires: datetime | None = None


class FeatureFlag(Model):
    """A feature flag."""

    api_version: Literal["modplane.dev/v1"] = "modplane.dev/v1"
    kind: Literal["FeatureFlag"] = "FeatureFlag"
    metadata: ObjectMeta = ObjectMeta()
    spec: FeatureFlagSpec = FeatureFlagSpec()
    status: Json = {}
