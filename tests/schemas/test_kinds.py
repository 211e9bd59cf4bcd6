"""The catalogue of kinds: every word finds its kind, every column has a place."""

import pytest

from schemas import kinds
from schemas.meta import Model


def test_words_are_told_apart() -> None:
    assert len(set(kinds.words())) == len(kinds.words())


@pytest.mark.parametrize("kind", kinds.KINDS, ids=lambda kind: kind.name)
def test_every_word_finds_its_kind_in_any_case(kind: kinds.Kind) -> None:
    for word in (kind.name, kind.plural, kind.singular, *kind.short):
        assert kinds.find(word) is kind
        assert kinds.find(word.upper()) is kind
    assert kinds.BY_NAME[kind.name] is kinds.BY_PLURAL[kind.plural] is kind


def test_other_words_find_nothing() -> None:
    assert kinds.find("pods") is None
    assert kinds.find("") is None


def _has(model: type[Model], path: str) -> bool:
    first, _, rest = path.lstrip(".").partition(".")
    for field in model.model_fields.values():
        if field.alias == first:
            if not rest:
                return True
            inner = [part for part in (field.annotation, *getattr(field.annotation, "__args__", ())) if part]
            return any(isinstance(part, type) and issubclass(part, Model) and _has(part, rest) for part in inner)
    return False


@pytest.mark.parametrize("kind", kinds.KINDS, ids=lambda kind: kind.name)
def test_every_column_shows_a_field_that_exists(kind: kinds.Kind) -> None:
    for column in kind.columns:
        assert column.path.startswith("@") or _has(kind.model, column.path), column.path


@pytest.mark.parametrize("kind", kinds.KINDS, ids=lambda kind: kind.name)
def test_the_model_says_which_kind_it_is(kind: kinds.Kind) -> None:
    assert kind.model.model_fields["kind"].default == kind.name
    assert ("status" in kind.model.model_fields) == kind.has_status
