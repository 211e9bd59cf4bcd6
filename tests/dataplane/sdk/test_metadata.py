"""A module's own words."""

import pytest

from dataplane.sdk import ModuleMetadata, ModuleRouteConfig, ModuleType


def test_a_type_may_be_written_as_its_word() -> None:
    assert ModuleMetadata(module_id="a", module_type="ai_ml").module_type is ModuleType.AI_ML


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"module_id": ""}, "module_id is missing"),
        ({"module_id": "a", "module_type": "analytic"}, "not one of core, analytics"),
        ({"module_id": "a", "permissions": "read"}, "write a list"),
        ({"module_id": "a", "dependencies": "core"}, "write a list"),
    ],
)
def test_what_cannot_be_meant_is_refused(words: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModuleMetadata(**words)  # type: ignore[arg-type]


def test_routing_defaults_to_the_name_and_the_first_version() -> None:
    assert ModuleMetadata(module_id="a").routing == ModuleRouteConfig(api_version="v1", namespace=None)
