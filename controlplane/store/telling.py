"""What workers have to know of objects that need no reconciling, made in the transaction that stores the object.

  FeatureFlag ──▶ flag.<name>    Revocation ──▶ revocation.<name>    Organisation, ModuleAccess ──▶ organisation.<name>

What always holds: after each unit the desired rows of these kinds are a function of the objects; an organisation's
document has all of its accesses, is written once a unit, and stays within what a message may hold; an organisation or
access whose deletion was asked for gives no right any more.
Called by `controlplane.store.transactions`; goes to `controlplane.store.desiring`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import bindparam, select

from controlplane import errors
from controlplane.store import desiring, encoding
from controlplane.store.ledgers import Ledger
from controlplane.store.readings import Reading
from controlplane.store.records import DesiredRow, Record
from controlplane.store.tables import OBJECTS
from schemas import names
from schemas.documents import canonical_json, payload_digest
from schemas.flag import FlagDefinition
from schemas.meta import Json, Model
from schemas.organisation import DesiredAccess
from schemas.problems import Violation
from schemas.revocation import RevocationSpec

MAX_BYTES: Final = 384 * 1024
"""Of an organisation's accesses together: with their quotes escaped they fit into 1 MiB, what NATS takes unasked."""

ACCESS: Final = "ModuleAccess"
ORGANISATION: Final = "Organisation"

_ACCESSES: Final = select(*encoding.OBJECT_COLUMNS).where(OBJECTS.c.about == bindparam("about"))


def _told(model: type[Model], *, but: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """The wire names of a model's fields."""
    return tuple(info.alias or name for name, info in model.model_fields.items() if name not in but)


_ALONE: Final = {
    "FeatureFlag": (names.flag_key, _told(FlagDefinition)),
    "Revocation": (names.revocation_key, _told(RevocationSpec, but=frozenset({"reason"}))),
}
"""Kinds with a document for each object: its key, and what of the spec decides anything."""
_ACCESS_FIELDS: Final = _told(DesiredAccess)
KINDS: Final = (*_ALONE, ORGANISATION, ACCESS)
"""Every kind that workers are told of here."""


@dataclass(slots=True)
class _Tenant:
    """An organisation's accesses, as the unit leaves them."""

    accesses: dict[str, tuple[str, Json, int]] = field(default_factory=dict)
    """Name of the ModuleAccess → module, what workers hold of it, and its size in bytes."""

    @property
    def size(self) -> int:
        return sum(size for _, _, size in self.accesses.values())

    def payload(self, organisation: Record | None) -> str:
        enabled = organisation is not None and not organisation.deleting and bool(organisation.spec.get("enabled"))
        accesses = {module: access for module, access, _ in self.accesses.values()}
        return canonical_json({"enabled": enabled, "accesses": accesses})


class Board:
    """What one unit has to tell."""

    def __init__(self, ledger: Ledger, epoch: Callable[[], int]) -> None:
        self._ledger = ledger
        self._epoch = epoch
        self._tenants: dict[str, _Tenant] = {}
        self._moved: set[str] = set()

    def check(self, record: Record) -> None:
        """Before anything of ``record`` is written.  errors.Invalid: the organisation's accesses would be too much."""
        if record.kind != ACCESS:
            return
        organisation = _organisation_of(record)
        tenant = self._tenant(organisation)
        before = tenant.accesses.get(record.name)
        size = tenant.size + _entry(record)[2] - (before[2] if before else 0)
        if size > MAX_BYTES:
            message = (
                f"the accesses of organisation {organisation!r} would have {size:,} bytes together, "
                f"but {MAX_BYTES:,} are allowed; make the configurations smaller"
            )
            raise errors.Invalid([Violation(pointer="/spec/configuration", message=message)])

    def put(self, old: Record | None, new: Record) -> None:
        """An object was stored."""
        if new.kind in _ALONE:
            key, payload = _document(new)
            self._desire(key, new, payload)
        elif new.kind == ORGANISATION:
            self._moved.add(new.name)
        elif new.kind == ACCESS:
            if old is not None and _organisation_of(old) != _organisation_of(new):
                self._drop(old)
            organisation = _organisation_of(new)
            self._tenant(organisation).accesses[new.name] = _entry(new)
            self._moved.add(organisation)

    def remove(self, record: Record) -> None:
        """An object is gone."""
        if record.kind in _ALONE:
            desiring.withdraw(self._ledger, self._epoch(), _document(record)[0])
        elif record.kind == ORGANISATION:
            self._moved.add(record.name)
        elif record.kind == ACCESS:
            self._drop(record)

    def settle(self) -> None:
        """Write the documents of the organisations that moved; at the end of the unit."""
        for name in sorted(self._moved):
            row = self._ledger.stored(ORGANISATION, name)
            organisation = None if row is None else encoding.record(row)
            tenant = self._tenant(name)
            if organisation is None and not tenant.accesses:
                desiring.withdraw(self._ledger, self._epoch(), names.organisation_key(name))
            else:
                self._desire(names.organisation_key(name), organisation, tenant.payload(organisation), name)
        self._moved = set()

    def retell(self, record: Record) -> None:
        """Have what workers know of a stored object set right."""
        if record.kind == ACCESS:
            self._moved.add(_organisation_of(record))
        else:
            self.put(record, record)

    def _desire(self, key: str, record: Record | None, payload: str, name: str = "") -> None:
        desiring.desire(
            self._ledger,
            self._epoch(),
            key=key,
            kind=ORGANISATION if record is None else record.kind,
            name=name if record is None else record.name,
            uid="" if record is None else record.uid,
            generation=0 if record is None else record.generation,
            payload=payload,
        )

    def _drop(self, access: Record) -> None:
        organisation = _organisation_of(access)
        self._tenant(organisation).accesses.pop(access.name, None)
        self._moved.add(organisation)

    def _tenant(self, organisation: str) -> _Tenant:
        """The accesses of an organisation; read before the first of them is written in this unit."""
        tenant = self._tenants.get(organisation)
        if tenant is None:
            self._ledger.flush(OBJECTS)
            found = self._ledger.ask(_ACCESSES, {"about": encoding.about_organisation(organisation)})
            tenant = _Tenant({record.name: _entry(record) for record in map(encoding.record, found)})
            self._tenants[organisation] = tenant
        return tenant


def key_of(record: Record) -> str:
    """The key of the desired set under which workers are told of an object of one of `KINDS`."""
    if record.kind in _ALONE:
        return _ALONE[record.kind][0](record.name)
    return names.organisation_key(_organisation_of(record) if record.kind == ACCESS else record.name)


def untold(reading: Reading) -> list[Record]:
    """The objects of which workers are not told as they should be: for a store from before they were told of them."""
    rows = {row.key: row for row in reading.desired()}
    found = [record for kind in _ALONE for record in reading.list(kind) if not _is_told(rows, *_document(record))]
    organisations = {record.name: record for record in reading.list(ORGANISATION)}
    tenants = {name: _Tenant() for name in organisations}
    anybody: dict[str, Record] = dict(organisations)
    for record in reading.list(ACCESS):
        tenants.setdefault(_organisation_of(record), _Tenant()).accesses[record.name] = _entry(record)
        anybody.setdefault(_organisation_of(record), record)
    for name, tenant in tenants.items():
        if not _is_told(rows, names.organisation_key(name), tenant.payload(organisations.get(name))):
            found.append(anybody[name])
    return found


def _is_told(rows: dict[str, DesiredRow], key: str, payload: str) -> bool:
    row = rows.get(key)
    return row is not None and not row.deleted and row.digest == payload_digest(payload)


def _document(record: Record) -> tuple[str, str]:
    """Key and payload of a kind that has a document for each object."""
    key, fields = _ALONE[record.kind]
    return key(record.name), canonical_json({part: record.spec[part] for part in fields if part in record.spec})


def _organisation_of(access: Record) -> str:
    return str(access.spec.get("organisation", ""))


def _entry(access: Record) -> tuple[str, Json, int]:
    module = names.object_name(str(access.spec.get("module", "")))
    told = {part: access.spec[part] for part in _ACCESS_FIELDS if part in access.spec}
    if access.deleting:
        told["enabled"] = False
    return module, told, len(module) + len(canonical_json(told).encode())
