"""Modules may ask OpenFeature; it tells what the snapshot's flags are, and what a module does to it changes nothing."""

from collections.abc import Iterator
from typing import Any

import pytest
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import Reason

from dataplane.gateway import flags, providing
from dataplane.gateway.standing import NoFlags
from schemas.flag import FlagDefinition


@pytest.fixture
def held() -> Iterator[list[object]]:
    current: list[object] = [flags.FlagSet()]
    providing.register(lambda: current[0])
    yield current
    api.clear_providers()


@pytest.fixture
def client(held: list[object]) -> OpenFeatureClient:
    return api.get_client(providing.DOMAIN)


def put(held: list[object], **definitions: dict[str, Any]) -> None:
    made = {name: FlagDefinition.model_validate(spec) for name, spec in definitions.items()}
    held[0] = flags.FlagSet().with_changes(made)


def test_a_client_gets_what_the_flags_are_now(held: list[object], client: OpenFeatureClient) -> None:
    put(held, f={"targeting": {"if": [{"==": [{"var": "organisation"}, "acme"]}, "on", "off"]}})
    context = EvaluationContext("ann", {"organisation": "acme"})
    details = client.get_boolean_details("f", False, context)
    assert (details.value, details.variant, details.reason) == (True, "on", Reason.TARGETING_MATCH)
    assert details.flag_metadata == {"reason": "FlagTargeting"}
    assert not client.get_boolean_value("f", True, EvaluationContext("ann", {"organisation": "globex"}))
    put(held, f={"killSwitch": True})
    details = client.get_boolean_details("f", False, context)
    assert (details.value, details.reason) == (False, Reason.DISABLED)


@pytest.mark.parametrize(
    ("variants", "ask", "default", "value"),
    [
        ({"on": "a", "off": "b"}, "get_string_value", "z", "b"),
        ({"on": 1, "off": 2}, "get_integer_value", 9, 2),
        ({"on": 1.5, "off": 2.5}, "get_float_value", 9.0, 2.5),
        ({"on": {"x": 1}, "off": {"x": 2}}, "get_object_value", {}, {"x": 2}),
    ],
)
def test_values_of_every_type(
    held: list[object], client: OpenFeatureClient, variants: dict[str, Any], ask: str, default: Any, value: Any
) -> None:
    put(held, f={"variants": variants})
    assert getattr(client, ask)("f", default) == value
    assert client.get_boolean_details("f", False).error_code is ErrorCode.TYPE_MISMATCH


def test_what_is_not_there_or_wrong_is_the_default(held: list[object], client: OpenFeatureClient) -> None:
    put(held, bad={"targeting": {"log": 1}, "defaultVariant": "on"})
    assert client.get_boolean_details("none", False).error_code is ErrorCode.FLAG_NOT_FOUND
    assert client.get_boolean_details("bad", False).error_code is ErrorCode.PARSE_ERROR
    held[0] = NoFlags()
    assert client.get_boolean_details("bad", False).error_code is ErrorCode.FLAG_NOT_FOUND
