"""Declare who may call a handler; the gateway enforces it before any module code runs.

A declaration is one attribute on the function: signature, name and behaviour stay, so FastAPI sees the handler
as it was written, and the decorator may stand above or below ``@router.get``.  `dataplane.runtime.collecting`
reads it, the control plane conjoins it with the manifest's floor.
"""

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
    permission_words = _words("permissions", permissions)
    role_words = _words("roles", roles)
    requirement = AuthRequirement(
        level=_level(auth_level, permission_words, role_words),
        permissions=permission_words,
        permissions_match=_member(Match, "permissions_match", permissions_match),
        roles=role_words,
        roles_match=_member(Match, "roles_match", roles_match),
        feature_flags=_words("feature_flags", feature_flags),
    )
    _check(requirement)

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


def _level(given: AuthLevel | str | None, permissions: list[str], roles: list[str]) -> AuthLevel:
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


def _words(argument: str, given: Iterable[str] | str) -> list[str]:
    words = [given] if isinstance(given, str) else list(given)
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
