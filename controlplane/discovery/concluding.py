"""What a scan means for the modules that are stored: whose code is new, whose is gone, and what may be deleted.

    Known (what is stored) + Found (what lies at its path) ──conclude──▶ follow · delete · Notes (for people)

Pure.  Always holds: only what discovery made is ever deleted, and by itself only when nobody else wrote a field of it;
nothing is deleted while the modules path is missing, empty or unreadable, or when more than a fifth or more than
`SOME` of discovery's modules are gone at once; what was kept once stays until its code is back or a person prunes.
Called by `controlplane.discovery.discovering`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from controlplane.discovery.looking import Root
from controlplane.discovery.sources import Found
from schemas import conditions

SOME: Final = 10
"""How many modules may go at once without a word."""
SHARE: Final = 5
"""One in how many of discovery's modules may go at once without a word."""

GONE: Final = "SourceGone"
PINNED: Final = "DigestPinned"


@dataclass(frozen=True, slots=True)
class Note:
    """Why a module does not run the code that lies in the modules path."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Known:
    """What is stored of one module, as far as a scan needs it."""

    name: str
    uid: str
    path: str
    """Of its source."""
    digest: str | None
    generation: int = 1
    revision: int = 0
    made: bool = False
    """Whether discovery made it, and nobody else asked for its entry point since."""
    declared: bool = False
    """Whether discovery asks for its entry point, alone or beside somebody."""
    others: tuple[str, ...] = ()
    """Who else wrote fields of it."""
    pinned_by: tuple[str, ...] = ()
    deleting: bool = False
    told: Note | None = None
    """What its condition says now."""
    told_of: int = 0
    """Of which generation."""


@dataclass(slots=True)
class Conclusion:
    """What is to be done, and what to tell; modules by name."""

    follow: dict[str, str] = field(default_factory=dict)
    """New code that is taken: the digest."""
    delete: list[Known] = field(default_factory=list)
    notes: dict[str, Note | None] = field(default_factory=dict)
    """Conditions that are to be changed; None: it goes."""
    pinned: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """Their code is gone, and they stay and serve on."""
    prunable: list[str] = field(default_factory=list)
    """Those of them that a prune deletes."""
    held: str = ""
    """Why none of these is deleted by itself; empty: each has a reason of its own, or there is none."""
    waits: bool = False
    """Whether code has not been gone for long enough to say anything."""


def conclude(
    modules: Iterable[Known],
    found: Mapping[str, Found],
    root: Root,
    *,
    prune: bool = False,
    absent: Mapping[str, float] | None = None,
    patience: float = 0.0,
) -> Conclusion:
    """What ``found`` (by source path, for every module's path) means.

    ``absent``: for how many seconds the code of a module (by uid) has been gone; what has been gone for less than
    ``patience`` may come back.  ``prune``: a person says that what is gone shall go.
    """
    result = Conclusion()
    living = [module for module in modules if not module.deleting]
    gone = []
    for module in living:
        place = found[module.path]
        if place.busy:
            continue
        if place.digest is None and not place.problem and root is not Root.UNREADABLE and module.digest is not None:
            gone.append(module)
        elif root is not Root.UNREADABLE:
            _tell(result, module, _present(result, module, place))
    result.held = _held(gone, sum(module.made for module in living), root)
    for module in gone:
        _missed(result, module, prune=prune, young=(absent or {}).get(module.uid, 0.0) < patience)
    result.held = result.held if result.prunable else ""
    return result


def _present(result: Conclusion, module: Known, place: Found) -> Note | None:
    """Code lies there, or none ever did."""
    if place.problem:
        return Note(conditions.SOURCE_INVALID, place.problem)
    if place.digest is None or place.digest == module.digest:
        return None
    if not module.pinned_by:
        result.follow[module.name] = place.digest
        return None
    result.pinned.append(module.name)
    return Note(
        PINNED,
        f"{_listed(module.pinned_by)} pinned other code than lies at {module.path!r} ({place.digest[:19]}…); "
        "take spec.source.digest out to follow the code, or pin what lies there",
    )


def _held(gone: list[Known], made: int, root: Root) -> str:
    lost = sum(module.made for module in gone)
    if not lost:
        return ""
    if root is not Root.THERE:
        return f"the modules path {root.value}"
    if lost > SOME or lost * SHARE > made:
        return f"{lost} of {made} discovered modules are gone at once"
    return ""


def _missed(result: Conclusion, module: Known, *, prune: bool, young: bool) -> None:
    """The code of a module is gone."""
    if module.made and prune:
        result.delete.append(module)
        return
    fresh = module.told is None or module.told.reason != GONE
    if fresh and young:
        result.waits = True
        return
    if module.made and fresh and not result.held and not module.others:
        result.delete.append(module)
        return
    result.missing.append(module.name)
    if module.made:
        result.prunable.append(module.name)
    _tell(result, module, _kept(result, module))


def _kept(result: Conclusion, module: Known) -> Note:
    """Why a module stays whose code is gone."""
    lost = f"no code lies at {module.path!r} below the modules path any more; the module serves on. Put the code back, "
    if not module.made:
        return Note(GONE, f"{lost}or delete the module: discovery did not make it")
    prune = "or delete all that is gone with `modplane discover --prune`"
    if module.others:
        return Note(GONE, f"{lost}{prune}: {_listed(module.others)} wrote fields of it, so it is not deleted by itself")
    if not result.held and module.told is not None:
        return module.told
    return Note(GONE, f"{lost}{prune}: {result.held}, so nothing was deleted by itself")


def _tell(result: Conclusion, module: Known, note: Note | None) -> None:
    """Change the condition if it says something else, or says it of an older generation."""
    if note != module.told or (note is not None and module.told_of != module.generation):
        result.notes[module.name] = note


def _listed(managers: Iterable[str]) -> str:
    return ", ".join(managers)
