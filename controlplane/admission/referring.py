"""Secrets in a configuration: references are well written, and nobody writes the secret itself.

Always holds: only what can be nothing else is taken for a secret (a private key, a token whose issuer gave it a form of
its own), and no message repeats it.  Pure.  Called by the rules of kinds that carry a configuration.
"""

import re
from collections.abc import Iterator
from typing import Final

from controlplane.admission import naming, pointers, ruling
from controlplane.admission.ruling import Draft
from schemas import references
from schemas.problems import Violation

REASON: Final = "FieldValueSecret"

_SHAPES: Final = (
    ("a private key", r"-----BEGIN (?:[A-Z]{2,9} ){0,2}PRIVATE KEY-----"),
    ("a GitHub token", r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{60,})"),
    ("a GitLab token", r"\bglpat-[A-Za-z0-9_-]{20,}"),
    ("a Slack token", r"\bxox[abeprs]-[0-9]{8,}-[A-Za-z0-9-]{10,}"),
    ("a Stripe key", r"\b[rs]k_live_[A-Za-z0-9]{20,}"),
    ("an npm token", r"\bnpm_[A-Za-z0-9]{36}\b"),
    ("a PyPI token", r"\bpypi-AgEIcHlwaS[A-Za-z0-9_-]{50,}"),
)
"""What is a secret beyond doubt.  Source: the issuers' own pages on the forms of their tokens, made for scanners."""
_SECRET: Final = re.compile("|".join(f"({shape})" for _, shape in _SHAPES))
_QUICK: Final = re.compile(r"PRIVATE KEY|gh[pousr]_|github_pat_|glpat-|xox[abeprs]-|_live_|npm_|pypi-")


def secrets(draft: Draft, pointer: str) -> Iterator[Violation]:
    """What is wrong with the texts of the configuration at ``pointer``."""
    for place, text in references.texts(ruling.json_at(draft, pointer)):
        found = _fault(text)
        if found is not None:
            where = pointer + pointers.join(place)
            yield Violation(pointer=where, message=f"{pointers.dotted(where)} {found[0]}.", reason=found[1])


def _fault(text: str) -> tuple[str, str] | None:
    """(the end of a sentence, reason), or None."""
    if ":" in text and references.SCHEME in text.casefold():
        if references.name_of(text) is not None:
            return None
        return _reference_fault(text), "FieldValueInvalid"
    if not _QUICK.search(text):
        return None
    match = _SECRET.search(text)
    if match is None or match.lastindex is None:
        return None
    what = _SHAPES[match.lastindex - 1][0]
    sentence = (
        f"holds {what}, which everybody who can read this object could read; write {references.SCHEME}NAME here, and "
        f"give the value to the workers as {references.ENVIRONMENT}NAME or as the file NAME in MODPLANE_SECRETS_DIR"
    )
    return sentence, REASON


def _reference_fault(text: str) -> str:
    if not text.casefold().startswith(references.SCHEME):
        return (
            f"has '{references.SCHEME}' in the middle, but a reference is the whole text; put all of the text into "
            "the secret"
        )
    name = text[len(references.SCHEME) :]
    if not text.startswith(references.SCHEME):
        return f"must begin with '{references.SCHEME}' in lower case"
    return f"must be '{references.SCHEME}' and the secret's name, which {naming.name_fault(name)}"
