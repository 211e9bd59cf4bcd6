"""Errors say what happened and what to do, and whether a retry can help."""

import pytest

from controlplane import errors
from schemas.problems import Violation

CASES = [
    (errors.NotFound("Module", "a"), "Module 'a' does not exist", False),
    (errors.AlreadyExists("Module", "a"), "replace, patch or apply it instead", False),
    (errors.Conflict("changed meanwhile"), "changed meanwhile", True),
    (errors.Compacted(7), "starts at revision 7; list again", False),
    (errors.Fenced(1, 2), "led under epoch 1, but the lease stands at 2", False),
    (errors.StoreBusy("locked"), "locked", True),
    (errors.StoreClosed(), "the store is closed", False),
    (errors.SourceNotFound("shop"), "put shop.py or a folder shop/ there", False),
    (errors.PortInUse("127.0.0.1", 7400, "--control-port"), "choose another port with --control-port", False),
    (errors.PortInUse("127.0.0.1", 7400), "127.0.0.1:7400 is already in use", False),
    (errors.Unreachable("NATS does not answer"), "NATS does not answer", True),
    (
        errors.Invalid([Violation(pointer="/spec/a", message="no"), Violation(pointer="", message="x")]),
        "/spec/a: no; x",
        False,
    ),
    (errors.Invalid([]), "invalid", False),
    (errors.StillNeeded("FeatureFlag", "f", "Module a"), "required by Module a, whose routes would be closed", False),
]


@pytest.mark.parametrize(("error", "says", "retryable"), CASES)
def test_an_error_says_what_to_do(error: errors.ModplaneError, says: str, retryable: bool) -> None:
    assert says in str(error)
    assert error.message == str(error)
    assert error.retryable is retryable


def test_a_conflict_of_owners_names_them() -> None:
    assert errors.OwnershipConflict("spec.version is owned by ann", {"spec.version": "ann"}).owners == {
        "spec.version": "ann"
    }
