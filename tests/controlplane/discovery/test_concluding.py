"""What a scan means, over generated worlds."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.discovery.concluding import GONE, PINNED, Conclusion, Known, Note, conclude
from controlplane.discovery.looking import Root
from controlplane.discovery.sources import Found
from schemas import conditions

PATIENCE = 2.0


def module(name: str, **more: object) -> Known:
    return replace(
        Known(name=name, uid=f"uid-{name}", path=name, digest="sha256:old", made=True, declared=True),
        **more,  # type: ignore[arg-type]
    )


def world(count: int, gone: int) -> tuple[list[Known], dict[str, Found]]:
    """``count`` modules of discovery's, of which the code of the first ``gone`` is gone."""
    modules = [module(f"m{number}") for number in range(count)]
    found = {each.path: Found(each.digest) for each in modules[gone:]}
    return modules, {**found, **{each.path: Found() for each in modules[:gone]}}


PLACES = (Found("sha256:old"), Found("sha256:new"), Found(), Found(problem="linked"), Found(busy=True))
NOTES = (None, Note(GONE, "held"), Note(conditions.SOURCE_INVALID, "linked"))
SHAPES: list[dict[str, object]] = [
    {"digest": digest, "made": made, "others": others, "pinned_by": pinned, "deleting": deleting, "told": told}
    for digest, made, others, pinned, deleting, told in itertools.product(
        ("sha256:old", None), (True, False), ((), ("ann",)), ((), ("ann",)), (False, True), NOTES
    )
]
PLAIN: dict[str, object] = {"digest": "sha256:old"}
AGES = st.dictionaries(st.integers(0, 24), st.sampled_from([0.0, 1.9, 2.0, 5.0]), max_size=5)
ANY = st.tuples(st.sampled_from(SHAPES), st.sampled_from(PLACES))
USUAL = st.sampled_from([(PLAIN, PLACES[0]), (PLAIN, PLACES[2]), (PLAIN, PLACES[0]), (PLAIN, PLACES[0])])


def built(drawn: list[tuple[dict[str, object], Found]]) -> tuple[list[Known], dict[str, Found]]:
    modules = [module(f"m{number}", told_of=1, **shape) for number, (shape, _) in enumerate(drawn)]
    return modules, {each.path: place for each, (_, place) in zip(modules, drawn, strict=True)}


def worlds() -> st.SearchStrategy[tuple[list[Known], dict[str, Found]]]:
    return st.lists(ANY | USUAL, max_size=25).map(built)


@given(worlds(), st.sampled_from(Root), st.booleans(), AGES)
def test_the_rules_hold_in_every_world(
    known: tuple[list[Known], dict[str, Found]], root: Root, prune: bool, ages: dict[int, float]
) -> None:
    modules, found = known
    absent = {f"uid-m{number}": age for number, age in ages.items()}
    result = conclude(modules, found, root, prune=prune, absent=absent, patience=PATIENCE)
    by_name = {each.name: each for each in modules}
    living = [each for each in modules if not each.deleting]
    gone = [each for each in living if found[each.path] == Found() and each.digest]
    lost = [each for each in gone if each.made]

    for each in result.delete:
        assert each.made
        assert not each.deleting
        assert found[each.path] == Found()
    if root is Root.UNREADABLE:
        assert result == Conclusion()
    if not prune:
        over = len(lost) > 10 or len(lost) * 5 > sum(each.made for each in living)
        assert not (result.delete and (over or root is not Root.THERE))
        assert all(not each.others and absent.get(each.uid, 0) >= PATIENCE for each in result.delete)
        assert all(each.told is None or each.told.reason != GONE for each in result.delete)
    elif root is not Root.UNREADABLE:
        assert {each.name for each in result.delete} == {each.name for each in lost}
        assert result.prunable == []
    for name, digest in result.follow.items():
        assert not by_name[name].pinned_by
        assert digest == found[by_name[name].path].digest != by_name[name].digest
    assert set(result.prunable) <= set(result.missing) <= {each.name for each in gone}
    assert all(not by_name[name].deleting and not found[by_name[name].path].busy for name in result.notes)
    assert {each.name for each in result.delete}.isdisjoint(result.notes)


@given(worlds(), st.sampled_from(Root))
def test_what_was_told_is_not_told_again(known: tuple[list[Known], dict[str, Found]], root: Root) -> None:
    modules, found = known
    first = conclude(modules, found, root)
    left = [each for each in modules if each not in first.delete]
    told = [replace(each, told=first.notes.get(each.name, each.told), told_of=1) for each in left]
    followed = [replace(each, digest=first.follow.get(each.name, each.digest)) for each in told]
    second = conclude(followed, found, root)
    assert second.notes.keys() <= {each.name for each in followed if first.held != second.held}
    assert second.delete == []
    assert second.follow == {}


@pytest.mark.parametrize(
    ("count", "gone", "deleted"),
    [(6, 1, 1), (5, 1, 1), (10, 2, 2), (4, 1, 0), (4, 3, 0), (10, 3, 0), (50, 10, 10), (100, 10, 10), (100, 11, 0)],
)
def test_a_few_may_go_and_many_may_not(count: int, gone: int, deleted: int) -> None:
    modules, found = world(count, gone)
    result = conclude(modules, found, Root.THERE)
    assert len(result.delete) == deleted
    assert len(result.prunable) == gone - deleted
    if not deleted:
        assert result.held == f"{gone} of {count} discovered modules are gone at once"
    assert len(conclude(modules, found, Root.THERE, prune=True).delete) == gone


@pytest.mark.parametrize("root", [Root.EMPTY, Root.MISSING])
def test_an_empty_or_missing_modules_path_deletes_nothing_until_a_person_prunes(root: Root) -> None:
    modules, found = world(20, 20)
    result = conclude(modules, found, root)
    assert (result.delete, result.held) == ([], f"the modules path {root.value}")
    (note, *_) = result.notes.values()
    assert note is not None
    assert "so nothing was deleted by itself" in note.message
    assert "`modplane discover --prune`" in note.message
    assert len(conclude(modules, found, root, prune=True).delete) == 20


def test_what_was_held_stays_until_its_code_is_back_or_a_person_prunes() -> None:
    modules, found = world(10, 1)
    held = Note(GONE, "4 of 10 went at once")
    modules[0] = replace(modules[0], told=held, told_of=1)
    result = conclude(modules, found, Root.THERE)
    assert (result.delete, result.notes, result.prunable) == ([], {}, ["m0"])
    found["m0"] = Found("sha256:old")
    assert conclude(modules, found, Root.THERE).notes == {"m0": None}


def test_what_a_person_made_or_wrote_to_is_only_reported() -> None:
    modules, found = world(10, 2)
    modules[0] = replace(modules[0], made=False)
    modules[1] = replace(modules[1], others=("ann",))
    result = conclude(modules, found, Root.THERE)
    assert (result.delete, result.missing, result.prunable) == ([], ["m0", "m1"], ["m1"])
    made, wrote = (result.notes[name] for name in ("m0", "m1"))
    assert made is not None
    assert wrote is not None
    assert "discovery did not make it" in made.message
    assert "ann wrote fields of it" in wrote.message
    assert [each.name for each in conclude(modules, found, Root.THERE, prune=True).delete] == ["m1"]


def test_code_that_went_a_moment_ago_may_come_back() -> None:
    modules, found = world(10, 1)
    result = conclude(modules, found, Root.THERE, absent={"uid-m0": 1.9}, patience=PATIENCE)
    assert (result.delete, result.notes, result.missing, result.waits) == ([], {}, [], True)
    assert conclude(modules, found, Root.THERE, absent={"uid-m0": 2.0}, patience=PATIENCE).delete == modules[:1]


def test_new_code_is_followed_and_a_pinned_digest_is_only_reported() -> None:
    modules = [module("free"), module("kept", pinned_by=("ann",))]
    found = {each.path: Found("sha256:new") for each in modules}
    result = conclude(modules, found, Root.THERE)
    assert (result.follow, result.pinned) == ({"free": "sha256:new"}, ["kept"])
    note = result.notes["kept"]
    assert note is not None
    assert note.reason == PINNED
    assert "ann pinned other code" in note.message


def test_a_note_follows_the_generation_and_goes_with_its_cause() -> None:
    note = Note(conditions.SOURCE_INVALID, "linked")
    each = module("m", told=note, told_of=1, generation=2)
    assert conclude([each], {"m": Found(problem="linked")}, Root.THERE).notes == {"m": note}
    assert conclude([replace(each, told_of=2)], {"m": Found(problem="linked")}, Root.THERE).notes == {}
    assert conclude([each], {"m": Found("sha256:old")}, Root.THERE).notes == {"m": None}


def test_a_module_that_never_had_code_is_not_gone() -> None:
    result = conclude([module("m", digest=None)], {"m": Found()}, Root.THERE)
    assert result == Conclusion()
