"""Who owns which part of an object: server-side apply, by field group.

A group is ``metadata.labels``, ``metadata.annotations`` or one top-level field of the spec; ``spec.source`` is
two (``path``, ``digest``), and kubectl's own annotation is one.  Always holds: a group has an owner only while
somebody asks for its value; equal values share it; `names.MANAGER_DISCOVERY` yields to everybody and takes
nothing from anybody; a write that changes nothing leaves ``managedFields`` as they are, times included.
Called by the write path with full (defaulted) specs; what comes out is validated again as a whole.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from controlplane.admission import defaulting, diffing
from schemas.meta import Json, now_text
from schemas.names import MANAGER_DISCOVERY

APPLY: Final = "Apply"
UPDATE: Final = "Update"

LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
LABELS: Final = "metadata.labels"
ANNOTATIONS: Final = "metadata.annotations"
SOURCE_PATH: Final = "spec.source.path"
DIGEST: Final = "spec.source.digest"

_SPEC_PARTS: Final = {"source": ("path", "digest")}


@dataclass(frozen=True, slots=True)
class Content:
    """What managers own pieces of: the part of an object that is asked for."""

    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    spec: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Applied:
    """What an apply makes of an object; with conflicts, everything else is as it was."""

    labels: dict[str, str]
    annotations: dict[str, str]
    spec: Json
    """Full: defaults are filled in."""
    managed_fields: list[Json]
    conflicts: dict[str, list[str]] = field(default_factory=dict)
    """Group → the other managers that own it with another value."""
    yielded: tuple[str, ...] = ()
    """Groups that discovery asked for and others own."""
    changed: bool = False
    """Whether anything is to be stored at all."""
    spec_changed: bool = False
    """Whether this is a new generation."""


def apply(
    current: Content,
    managed_fields: Iterable[Json],
    document: Json,
    *,
    kind: str,
    name: str,
    manager: str,
    now: datetime,
    force: bool = False,
) -> Applied:
    """Server-side apply of ``document`` (normalised, maybe partial) by ``manager``.

    Groups that the manager applied before and no longer sends go back to their default, unless somebody else
    owns them too.  A group that others own with another value is a conflict, or, with ``force``, taken.
    """
    before = _groups(current)
    asked = _asked(document, kind, name)
    owners = _Owners(managed_fields)
    conflicts: dict[str, list[str]] = {}
    yielded: list[str] = []
    after = dict(before)
    for group, value in asked.items():
        others = owners.others(group, manager)
        if others and manager == MANAGER_DISCOVERY:
            yielded.append(group)
            continue
        if others and not diffing.same(before.get(group, {}), value):
            strong = [other for other in others if other != MANAGER_DISCOVERY]
            if strong and not force:
                conflicts[group] = strong
                continue
            owners.drop(group, others)
        after[group] = value
    if conflicts:
        return _refused(current, managed_fields, conflicts)
    kept = [group for group in asked if group not in yielded]
    for group in owners.applied(manager) - set(kept):
        if not owners.others(group, manager):
            after.pop(group, None)
    owners.apply(manager, kept)
    return _outcome(current, after, owners, kind, name, now, tuple(yielded))


def update(
    current: Content,
    managed_fields: Iterable[Json],
    desired: Content,
    *,
    kind: str,
    name: str,
    manager: str,
    now: datetime,
) -> Applied:
    """Create, replace or patch: ``desired`` is the whole content; what it changes is the manager's from now on.

    Groups that it gives as they are keep their owners; groups that it leaves out go back to their default.
    """
    before, after = _groups(current), _groups(desired)
    owners = _Owners(managed_fields)
    for group in {*before, *after}:
        if group not in after:
            owners.drop(group, owners.all(group))
        elif group not in before or not diffing.same(before[group], after[group]):
            owners.drop(group, owners.all(group))
            owners.update(manager, group)
    return _outcome(current, after, owners, kind, name, now, ())


def put_digest(
    current: Content, managed_fields: Iterable[Json], digest: str, *, manager: str, now: datetime
) -> Applied:
    """Set `DIGEST` for good, beside what the manager applies; one that others own is yielded.

    ``current`` is full, and no default follows from a digest: the rest of the spec is taken as it is.
    """
    owners = _Owners(managed_fields)
    if owners.others(DIGEST, manager):
        return _told(current, current, owners, now, (DIGEST,))
    if DIGEST not in owners.applied(manager):
        owners.update(manager, DIGEST)
    source = {**current.spec["source"], "digest": digest}
    content = Content(current.labels, current.annotations, {**current.spec, "source": source})
    return _told(current, content, owners, now, ())


def owners_of(managed_fields: Iterable[Json], group: str) -> list[str]:
    """Who owns a group."""
    return _Owners(managed_fields).all(group)


class _Owners:
    """``managedFields`` taken apart: (manager, operation) → groups."""

    def __init__(self, managed_fields: Iterable[Json]) -> None:
        self.before = [entry for entry in managed_fields if entry.get("manager")]
        self._groups: dict[tuple[str, str], set[str]] = {}
        for entry in self.before:
            key = (str(entry["manager"]), str(entry.get("operation", APPLY)))
            self._groups.setdefault(key, set()).update(entry.get("fields", ()))

    def all(self, group: str) -> list[str]:
        return sorted({manager for (manager, _), groups in self._groups.items() if group in groups})

    def others(self, group: str, manager: str) -> list[str]:
        return [other for other in self.all(group) if other != manager]

    def applied(self, manager: str) -> set[str]:
        return set(self._groups.get((manager, APPLY), ()))

    def drop(self, group: str, managers: Iterable[str]) -> None:
        for manager in managers:
            for operation in (APPLY, UPDATE):
                self._groups.get((manager, operation), set()).discard(group)

    def apply(self, manager: str, groups: Iterable[str]) -> None:
        self._groups[manager, APPLY] = set(groups)
        self._groups.get((manager, UPDATE), set()).difference_update(groups)

    def update(self, manager: str, group: str) -> None:
        self._groups.setdefault((manager, UPDATE), set()).add(group)

    def wire(self, now: datetime) -> list[Json]:
        """As stored: an entry whose groups are the same is the same, time included; empty ones are gone."""
        before = {(entry["manager"], entry.get("operation", APPLY)): entry for entry in self.before}
        entries: list[Json] = []
        for (manager, operation), groups in sorted(self._groups.items()):
            old = before.get((manager, operation))
            if old is not None and set(old.get("fields", ())) == groups:
                entries.append(defaulting.copied(old))
            elif groups:
                fields = sorted(groups)
                entries.append({"manager": manager, "operation": operation, "fields": fields, "time": now_text(now)})
        return entries


def _asked(document: Json, kind: str, name: str) -> dict[str, Any]:
    """Group → value of what a (partial) document gives, each filled with its inner defaults."""
    metadata = document.get("metadata") or {}
    given = document.get("spec") or {}
    asked = _groups(
        Content(
            labels=metadata.get("labels") or {},
            annotations=metadata.get("annotations") or {},
            spec=defaulting.default_groups(kind, name, given),
        )
    )
    for part in ("labels", "annotations"):
        if metadata.get(part) == {}:
            asked.setdefault(f"metadata.{part}", {})
    for key, parts in _SPEC_PARTS.items():
        for piece in parts:
            if piece not in (given.get(key) or {}):
                asked.pop(f"spec.{key}.{piece}", None)
    return asked


def _groups(content: Content) -> dict[str, Any]:
    """Content by group; empty labels and annotations are no group."""
    groups: dict[str, Any] = {}
    if content.labels:
        groups[LABELS] = dict(content.labels)
    annotations = dict(content.annotations)
    if LAST_APPLIED in annotations:
        groups[f"{ANNOTATIONS}.{LAST_APPLIED}"] = annotations.pop(LAST_APPLIED)
    if annotations:
        groups[ANNOTATIONS] = annotations
    for key, value in content.spec.items():
        if key in _SPEC_PARTS and isinstance(value, dict):
            groups.update((f"spec.{key}.{piece}", item) for piece, item in value.items())
        else:
            groups[f"spec.{key}"] = value
    return groups


def _content(groups: dict[str, Any]) -> Content:
    """`_groups` undone; the values are still those of the groups."""
    content = Content()
    for group, value in groups.items():
        where, _, key = group.partition(".")
        if where == "spec":
            top, _, piece = key.partition(".")
            if piece:
                content.spec.setdefault(top, {})[piece] = value
            else:
                content.spec[top] = value
        elif group == LABELS:
            content.labels.update(value)
        elif group == ANNOTATIONS:
            content.annotations.update(value)
        else:
            content.annotations[LAST_APPLIED] = value
    return content


def _outcome(
    current: Content,
    groups: dict[str, Any],
    owners: _Owners,
    kind: str,
    name: str,
    now: datetime,
    yielded: tuple[str, ...],
) -> Applied:
    _forget_derived(current, groups, owners)
    content = _content(groups)
    full = Content(content.labels, content.annotations, defaulting.default(kind, name, content.spec))
    return _told(current, full, owners, now, yielded)


def _told(current: Content, content: Content, owners: _Owners, now: datetime, yielded: tuple[str, ...]) -> Applied:
    """What it means that ``current`` becomes ``content``, which is full."""
    managed = owners.wire(now)
    spec_changed = not diffing.same(current.spec, content.spec)
    return Applied(
        labels=content.labels,
        annotations=content.annotations,
        spec=content.spec,
        managed_fields=managed,
        yielded=yielded,
        changed=spec_changed
        or current.labels != content.labels
        or current.annotations != content.annotations
        or _claims(owners.before) != _claims(managed),
        spec_changed=spec_changed,
    )


def _forget_derived(current: Content, groups: dict[str, Any], owners: _Owners) -> None:
    """A source path that nobody asked for follows the entry point when that moves."""
    derived = str(current.spec.get("entryPoint", "")).partition(":")[0].partition(".")[0]
    if groups.get(SOURCE_PATH) == derived and not owners.all(SOURCE_PATH):
        del groups[SOURCE_PATH]


def _claims(managed_fields: Iterable[Json]) -> set[tuple[str, str, str]]:
    return {
        (str(entry.get("manager")), str(entry.get("operation", APPLY)), group)
        for entry in managed_fields
        for group in entry.get("fields", ())
    }


def _refused(current: Content, managed_fields: Iterable[Json], conflicts: dict[str, list[str]]) -> Applied:
    return Applied(
        labels=dict(current.labels),
        annotations=dict(current.annotations),
        spec=defaulting.copied(current.spec),
        managed_fields=[defaulting.copied(entry) for entry in managed_fields],
        conflicts=conflicts,
    )
