"""Secrets come by reference: what is no proper reference is told, and a secret itself is refused and not repeated."""

from typing import Any

import pytest

from controlplane.admission import referring, validating
from schemas.problems import Violation

CANARY = "c4n4ryc4n4ryc4n4ryc4n4ryc4n4ryc4n4ryc4n4ryc4n4ryc4n4ryc4n4ryc4n4ry"
INLINE = {
    "a private key": f"-----BEGIN RSA PRIVATE KEY-----\n{CANARY}\n-----END RSA PRIVATE KEY-----\n",
    "a private key ": f"x\n-----BEGIN PRIVATE KEY-----\n{CANARY}",
    "a private key  ": f"-----BEGIN OPENSSH PRIVATE KEY-----\n{CANARY}",
    "a GitHub token": f"ghp_{CANARY}",
    "a GitHub token ": f"github_pat_{CANARY}",
    "a GitLab token": f"glpat-{CANARY}",
    "a Slack token": f"xoxb-1234567890-{CANARY}",
    "a Stripe key": f"sk_live_{CANARY}",
    "an npm token": f"npm_{CANARY[:36]}",
    "a PyPI token": f"pypi-AgEIcHlwaS5vcmc{CANARY}",
}
HARMLESS = [
    "-----BEGIN PUBLIC KEY-----\nMIIB",
    "-----BEGIN CERTIFICATE-----\nMIIB",
    "how to make a PRIVATE KEY",
    "sk_test_1234567890123456789012",
    "ghp_short",
    "npm_config_cache",
    "pypi-mirror.example.com",
    "https://user:password@example.com",
    "secret",
    "secret:a",
    "AKIAIOSFODNN7EXAMPLE",
]


def faults(config: Any, schema: Any = None) -> list[Violation]:
    spec = {"entryPoint": "thing:Thing", "config": config, "configSchema": schema or {}}
    document = {"apiVersion": "modplane.dev/v1", "kind": "Module", "metadata": {"name": "thing"}, "spec": spec}
    return validating.validate(document)[1]


def test_a_reference_may_stand_wherever_a_text_may() -> None:
    assert faults({"a": "secret://api-key", "b": [{"c": ["secret://other"]}]}) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("secret://", "the secret's name, which must not be empty"),
        ("secret://API_KEY", "but is 'API_KEY'; try 'api-key'"),
        ("secret://a.b", "must not contain dots"),
        ("secret://../../etc/passwd", "must not contain dots"),
        ("secret://а", "U+0430 CYRILLIC"),
        ("secret://" + "x" * 64, "at most 63"),
        ("SECRET://key", "in lower case"),
        ("postgresql://user:secret://pw@host", "a reference is the whole text"),
        (" secret://key", "a reference is the whole text"),
    ],
)
def test_what_is_no_proper_reference_is_told_at_its_place(text: str, words: str) -> None:
    (found,) = faults({"list": [1, {"a/b": text}]})
    assert (found.pointer, found.reason) == ("/spec/config/list/1/a~1b", "FieldValueInvalid")
    assert words in found.message


@pytest.mark.parametrize("what", INLINE)
def test_a_secret_itself_is_refused_and_not_repeated(what: str) -> None:
    # a schema that it does not satisfy either would show it
    (found,) = faults({"deep": {"key": INLINE[what]}}, {"properties": {"deep": {"additionalProperties": False}}})
    assert (found.pointer, found.reason) == ("/spec/config/deep/key", referring.REASON)
    assert f"holds {what.strip()}, which" in found.message
    assert "write secret://NAME here" in found.message
    assert "c4n4ry" not in found.message


@pytest.mark.parametrize("text", HARMLESS)
def test_what_may_be_something_else_is_let_through(text: str) -> None:
    assert faults({"a": text}) == []


def test_an_organisations_configuration_is_held_to_the_same() -> None:
    document = {
        "apiVersion": "modplane.dev/v1",
        "kind": "ModuleAccess",
        "spec": {
            "organisation": "acme",
            "module": "thing",
            "configuration": {"good": "secret://fine", "bad": "secret://Bad", "worse": INLINE["a Stripe key"]},
        },
    }
    found = {each.pointer: each.reason for each in validating.validate(document)[1]}
    assert found == {"/spec/configuration/bad": "FieldValueInvalid", "/spec/configuration/worse": referring.REASON}


SCHEMA = {
    "properties": {
        "key": {"type": "string", "pattern": "^sk-", "minLength": 40},
        "url": {"anyOf": [{"type": "string", "pattern": "^https:"}, {"type": "null"}]},
        "mode": {"enum": ["a", "b"]},
        "number": {"type": "integer"},
        "either": {"oneOf": [{"type": "integer"}, {"type": "null"}]},
    },
    "additionalProperties": False,
}


def test_of_a_reference_the_schema_asks_only_that_a_text_may_stand_there() -> None:
    assert faults({"key": "secret://k", "url": "secret://u", "mode": "secret://m"}, SCHEMA) == []
    found = {each.pointer for each in faults({"number": "secret://n", "either": "secret://e"}, SCHEMA)}
    assert found == {"/spec/config/number", "/spec/config/either"}
    assert {each.pointer for each in faults({"key": "short", "url": "ftp:", "mode": "c"}, SCHEMA)} == {
        "/spec/config/key",
        "/spec/config/url",
        "/spec/config/mode",
    }
    assert [each.pointer for each in faults({"other": "secret://o"}, SCHEMA)] == ["/spec/config"]
