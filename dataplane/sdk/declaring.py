"""Declare who may call a handler; the gateway enforces it before any module code runs.

A declaration is one attribute on the function: signature, name and behaviour stay, so FastAPI sees the handler
as it was written, and the decorator may stand above or below ``@router.get``.  `dataplane.runtime.collecting`
reads it, the control plane conjoins it with the manifest's floor.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

from schemas.policies import AuthLevel, AuthRequirement, Match

Handler = TypeVar("Handler", bound=Callable[..., Any])

ATTRIBUTE: Final = "__modplane_auth__"
"""Where a handler carries its `AuthRequirement`."""


def require_module_auth(
    auth_level: AuthLevel | str | None = None,
    permissions: Iterable[str] | str = (),
    roles: Iterable[str] | str = (),
    feature_flags: Iterable[str] | str = (),
    *,
    permissions_match: Match | str = Match.ALL,
    roles_match: Match | str = Match.ANY,
) -> Callable[[Handler], Handler]:
    """Declare what a caller of this handler has to prove.

    Without ``auth_level`` it follows from the words: PERMISSION with permissions, ROLE with roles, else BASIC.
    ``permissions_match`` and ``roles_match`` say whether ``any`` or ``all`` of the words are needed.
    ValueError if the words contradict each other (NONE with permissions, PERMISSION without).
    """
    requirement = _requirement(
        auth_level,
        _words("permissions", permissions),
        _words("roles", roles),
        _words("feature_flags", feature_flags),
        permissions_match,
        roles_match,
    )

    def declare(handler: Handler) -> Handler:
        if ATTRIBUTE in getattr(handler, "__dict__", {}):
            name = getattr(handler, "__qualname__", repr(handler))
            raise ValueError(f"{name} declares require_module_auth twice; write one declaration with all words")
        setattr(handler, ATTRIBUTE, requirement)
        return handler

    return declare


def declared(handler: object) -> AuthRequirement | None:
    """What a handler declares, or None; decorators that keep ``__dict__`` or ``__wrapped__`` hide nothing."""
    seen: object | None = handler
    while seen is not None:
        found = getattr(seen, ATTRIBUTE, None)
        if isinstance(found, AuthRequirement):
            return found
        seen = getattr(seen, "__wrapped__", None) or getattr(seen, "func", None)
    return None


@functools.lru_cache(maxsize=1024)
def _requirement(
    level: AuthLevel | str | None,
    permissions: tuple[str, ...],
    roles: tuple[str, ...],
    feature_flags: tuple[str, ...],
    permissions_match: Match | str,
    roles_match: Match | str,
) -> AuthRequirement:
    """Equal words are one requirement: a worker holds those of ten thousand routes."""
    requirement = AuthRequirement(
        level=_level(level, permissions, roles),
        permissions=list(permissions),
        permissions_match=_member(Match, "permissions_match", permissions_match),
        roles=list(roles),
        roles_match=_member(Match, "roles_match", roles_match),
        feature_flags=list(feature_flags),
    )
    _check(requirement)
    return requirement


def _level(given: AuthLevel | str | None, permissions: tuple[str, ...], roles: tuple[str, ...]) -> AuthLevel:
    if given is not None:
        return _member(AuthLevel, "auth_level", given.upper())
    if permissions:
        return AuthLevel.PERMISSION
    return AuthLevel.ROLE if roles else AuthLevel.BASIC


Member = TypeVar("Member", AuthLevel, Match)


def _member(kind: type[Member], argument: str, given: str) -> Member:
    try:
        return kind(given)
    except ValueError:
        allowed = ", ".join(member.value for member in kind)
        raise ValueError(f"{argument}={given!r} is not one of {allowed}") from None


def _words(argument: str, given: Iterable[str] | str) -> tuple[str, ...]:
    words = (given,) if isinstance(given, str) else tuple(given)
    for word in words:
        if not isinstance(word, str) or not word.strip():
            raise ValueError(f"{argument} holds {word!r}; each has to be a non-empty string")
    return words


def _check(requirement: AuthRequirement) -> None:
    level = requirement.level
    if level is AuthLevel.NONE and (requirement.permissions or requirement.roles):
        raise ValueError("auth_level NONE lets anybody in: drop permissions and roles, or the level")
    if level is AuthLevel.PERMISSION and not requirement.permissions:
        raise ValueError("auth_level PERMISSION needs permissions=[...]; for any valid token write BASIC")
    if level is AuthLevel.ROLE and not requirement.roles:
        raise ValueError("auth_level ROLE needs roles=[...]; for any valid token write BASIC")
