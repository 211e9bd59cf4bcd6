"""The flags as OpenFeature has them: a provider over the snapshot's flags, in a domain of its own.

A module that knows OpenFeature asks ``openfeature.api.get_client("modplane")`` with a context whose targeting key is
the user and whose attribute ``organisation`` is the tenant.  The gateway itself does not go through OpenFeature's
clients: hooks and providers there are the whole process's, so any module could answer for it.

Registered by `dataplane.app`; asks `dataplane.gateway.flags`.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from openfeature import api
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import FlagNotFoundError, ParseError, TypeMismatchError
from openfeature.flag_evaluation import FlagResolutionDetails, FlagValueType, Reason
from openfeature.provider import AbstractProvider, Metadata

from dataplane.gateway import flags
from schemas.flag import FlagReason

T = TypeVar("T")

DOMAIN: Final = "modplane"
"""Under which modules find this provider."""
_REASONS: Final = {
    FlagReason.KILLED: Reason.DISABLED,
    FlagReason.DISABLED: Reason.DISABLED,
    FlagReason.PREREQUISITE: Reason.DISABLED,
    FlagReason.ROLLOUT: Reason.SPLIT,
    FlagReason.DEFAULT: Reason.DEFAULT,
}


class FlagProvider(AbstractProvider):
    """OpenFeature's view of a set of flags that may be another one at each question."""

    def __init__(self, current: Callable[[], object], now: Callable[[], float] = time.time) -> None:
        """``current`` gives the flags of the moment; ``now`` the unix time."""
        super().__init__()
        self._current = current
        self._now = now

    def get_metadata(self) -> Metadata:
        """Who answers."""
        return Metadata(DOMAIN)

    def resolve_boolean_details(
        self, flag_key: str, default_value: bool, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[bool]:
        """A flag with booleans."""
        return self._details(flag_key, default_value, evaluation_context, (bool,))

    def resolve_string_details(
        self, flag_key: str, default_value: str, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[str]:
        """A flag with texts."""
        return self._details(flag_key, default_value, evaluation_context, (str,))

    def resolve_integer_details(
        self, flag_key: str, default_value: int, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[int]:
        """A flag with whole numbers."""
        return self._details(flag_key, default_value, evaluation_context, (int,))

    def resolve_float_details(
        self, flag_key: str, default_value: float, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[float]:
        """A flag with numbers."""
        return self._details(flag_key, default_value, evaluation_context, (int, float))

    def resolve_object_details(
        self,
        flag_key: str,
        default_value: Sequence[FlagValueType] | Mapping[str, FlagValueType],
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Sequence[FlagValueType] | Mapping[str, FlagValueType]]:
        """A flag with objects or lists."""
        return self._details(flag_key, default_value, evaluation_context, (dict, list))

    def _details(
        self, name: str, default: T, context: EvaluationContext | None, types: tuple[type, ...]
    ) -> FlagResolutionDetails[T]:
        current = self._current()
        if not isinstance(current, flags.FlagSet):
            raise FlagNotFoundError(f"this worker has heard of no flags yet, so not of {name!r}")
        found = current.resolve(name, context or flags.NOBODY, self._now())
        if found.reason is FlagReason.UNKNOWN:
            raise FlagNotFoundError(f"there is no flag {name!r}")
        if found.reason is FlagReason.MALFORMED:
            raise ParseError(f"flag {name!r} cannot be evaluated for this caller")
        metadata = {"reason": found.reason.value}
        reason = _REASONS.get(found.reason, Reason.TARGETING_MATCH)
        if found.variant is None:
            return FlagResolutionDetails(default, reason=reason, flag_metadata=metadata)
        _check(name, found.value, types)
        return FlagResolutionDetails(found.value, reason=reason, variant=found.variant, flag_metadata=metadata)


def register(current: Callable[[], object]) -> None:
    """Let this process's modules find the flags under `DOMAIN`."""
    api.set_provider_and_wait(FlagProvider(current), domain=DOMAIN)


def _check(name: str, value: Any, types: tuple[type, ...]) -> None:
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        raise TypeMismatchError(f"flag {name!r} has values of type {type(value).__name__}")
