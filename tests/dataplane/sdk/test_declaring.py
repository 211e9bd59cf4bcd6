"""What handlers declare of their callers."""

import functools
import inspect

import pytest

from dataplane.sdk import AuthLevel, declaring, require_module_auth
from schemas.policies import AuthRequirement, Match


def test_the_signature_and_the_function_itself_stay() -> None:
    async def handler(item: int, q: str = "") -> dict[str, int]:
        return {"item": item}

    before = inspect.signature(handler)
    after = require_module_auth(auth_level="PERMISSION", permissions=["read"])(handler)
    assert after is handler
    assert inspect.signature(after) == before


@pytest.mark.parametrize("level", ["PERMISSION", "permission", AuthLevel.PERMISSION])
def test_levels_are_strings_in_any_case_or_members(level: str) -> None:
    @require_module_auth(auth_level=level, permissions=["read"])
    def handler() -> None: ...

    assert declaring.declared(handler) == AuthRequirement(level=AuthLevel.PERMISSION, permissions=["read"])


@pytest.mark.parametrize(
    ("words", "level"),
    [
        ({}, AuthLevel.BASIC),
        ({"permissions": "read"}, AuthLevel.PERMISSION),
        ({"roles": ["editor"]}, AuthLevel.ROLE),
        ({"roles": ["editor"], "permissions": ["read"]}, AuthLevel.PERMISSION),
        ({"feature_flags": ["new"]}, AuthLevel.BASIC),
    ],
)
def test_without_a_level_the_words_tell_it(words: dict[str, list[str]], level: AuthLevel) -> None:
    def handler() -> None: ...

    require_module_auth(**words)(handler)  # type: ignore[arg-type]
    requirement = declaring.declared(handler)
    assert requirement is not None
    assert requirement.level is level


def test_any_and_all_are_kept() -> None:
    @require_module_auth(permissions=["a", "b"], permissions_match="any", roles=["x"], roles_match=Match.ALL)
    def handler() -> None: ...

    requirement = declaring.declared(handler)
    assert requirement is not None
    assert (requirement.permissions_match, requirement.roles_match) == (Match.ANY, Match.ALL)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"auth_level": "NONE", "permissions": ["a"]}, "lets anybody in"),
        ({"auth_level": "PERMISSION"}, "needs permissions"),
        ({"auth_level": "ROLE"}, "needs roles"),
        ({"auth_level": "OWNER"}, "not one of NONE, BASIC"),
        ({"permissions": [""]}, "non-empty string"),
        ({"roles_match": "some"}, "not one of any, all"),
    ],
)
def test_contradictions_are_refused_where_they_are_written(words: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        require_module_auth(**words)  # type: ignore[arg-type]


def test_a_second_declaration_is_refused() -> None:
    @require_module_auth()
    def handler() -> None: ...

    with pytest.raises(ValueError, match="twice"):
        require_module_auth(roles=["admin"])(handler)


def test_wrappers_and_partials_hide_no_declaration() -> None:
    @require_module_auth(roles=["editor"])
    def handler(item: int) -> int:
        return item

    @functools.wraps(handler)
    def wrapped(item: int) -> int:
        return handler(item)

    assert declaring.declared(wrapped) == declaring.declared(handler)
    assert declaring.declared(functools.partial(handler, 1)) == declaring.declared(handler)
    assert declaring.declared(print) is None
