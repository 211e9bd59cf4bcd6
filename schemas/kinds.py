"""The catalogue of kinds: which exist, how they are called, who may write them, what ``get`` shows of them."""

from dataclasses import dataclass
from typing import Final

from schemas.events import ModuleEvent
from schemas.flag import FeatureFlag
from schemas.meta import Model
from schemas.module import Module
from schemas.organisation import ModuleAccess, Organisation
from schemas.reports import Worker
from schemas.revocation import Revocation


@dataclass(frozen=True, slots=True)
class Column:
    """One column of ``get``: a heading, a JSON path into the object, and when it is shown."""

    name: str
    path: str
    """Dotted path, such as ``.status.state``; a leading ``@`` names a computed cell (``@age``, ``@ready``)."""
    type: str = "string"
    """OpenAPI type, as the Kubernetes Table format wants it."""
    wide: bool = False
    """Only with ``-o wide``."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of object."""

    name: str
    plural: str
    singular: str
    short: tuple[str, ...]
    model: type[Model]
    writable: bool
    """Whether people write it; else only the control plane does."""
    columns: tuple[Column, ...]
    has_status: bool = True


AGE: Final = Column("Age", "@age", "date")

KINDS: Final[tuple[Kind, ...]] = (
    Kind(
        "Module",
        "modules",
        "module",
        ("mod",),
        Module,
        True,
        (
            Column("State", ".status.state"),
            Column("Ready", "@ready"),
            Column("Version", ".spec.version"),
            Column("Path", "@path"),
            Column("Workers", "@workers"),
            AGE,
            Column("Generation", ".metadata.generation", "integer", wide=True),
            Column("Serving", ".status.serving.generation", "integer", wide=True),
            Column("Type", ".spec.type", wide=True),
            Column("Reason", "@reason", wide=True),
        ),
    ),
    Kind(
        "Organisation",
        "organisations",
        "organisation",
        ("org",),
        Organisation,
        True,
        (
            Column("Display Name", ".spec.displayName"),
            Column("Enabled", ".spec.enabled", "boolean"),
            Column("Workers", "@confirmed"),
            AGE,
        ),
    ),
    Kind(
        "ModuleAccess",
        "moduleaccesses",
        "moduleaccess",
        ("access",),
        ModuleAccess,
        True,
        (
            Column("Organisation", ".spec.organisation"),
            Column("Module", ".spec.module"),
            Column("Enabled", ".spec.enabled", "boolean"),
            Column("Workers", "@confirmed"),
            AGE,
        ),
    ),
    Kind(
        "FeatureFlag",
        "featureflags",
        "featureflag",
        ("flag", "flags"),
        FeatureFlag,
        True,
        (
            Column("State", ".spec.state"),
            Column("Killed", ".spec.killSwitch", "boolean"),
            Column("Default", ".spec.defaultVariant"),
            Column("Rollout", "@rollout"),
            Column("Overrides", "@overrides", "integer"),
            Column("Workers", "@confirmed"),
            AGE,
            Column("Targeting", "@targeting", wide=True),
            Column("Owner", ".spec.owner", wide=True),
            Column("Expires", ".spec.expires", wide=True),
        ),
    ),
    Kind(
        "Revocation",
        "revocations",
        "revocation",
        ("rev",),
        Revocation,
        True,
        (
            Column("Revokes", "@revokes"),
            Column("Issuer", ".spec.issuer"),
            Column("Issued Before", ".spec.issuedBefore"),
            Column("Expires", ".spec.expires"),
            Column("Workers", "@confirmed"),
            AGE,
            Column("Reason", ".spec.reason", wide=True),
        ),
    ),
    Kind(
        "Worker",
        "workers",
        "worker",
        ("wk",),
        Worker,
        False,
        (
            Column("State", ".status.report.state"),
            Column("Lost", ".status.lost", "boolean"),
            Column("Modules", ".status.report.modules", "integer"),
            Column("Pending", "@pending", "integer"),
            Column("Rejected", "@rejected", "integer"),
            Column("Applied", ".status.report.appliedRevision", "integer"),
            Column("Address", ".status.report.address"),
            AGE,
            Column("Boot", ".status.report.boot", wide=True),
            Column("Epoch", ".status.report.appliedEpoch", "integer", wide=True),
            Column("Labels", "@labels", wide=True),
        ),
    ),
    Kind(
        "ModuleEvent",
        "moduleevents",
        "moduleevent",
        ("mev",),
        ModuleEvent,
        False,
        (
            Column("Module", ".spec.module"),
            Column("From", ".spec.from"),
            Column("To", ".spec.to"),
            Column("Reason", ".spec.reason"),
            Column("Generation", ".spec.generation", "integer"),
            AGE,
            Column("Message", ".spec.message", wide=True),
        ),
        has_status=False,
    ),
)

BY_NAME: Final = {kind.name: kind for kind in KINDS}
BY_PLURAL: Final = {kind.plural: kind for kind in KINDS}


def find(word: str) -> Kind | None:
    """The kind that a person means by ``word``: its name, plural, singular or short name, in any case."""
    word = word.lower()
    for kind in KINDS:
        if word in (kind.name.lower(), kind.plural, kind.singular, *kind.short):
            return kind
    return None


def words() -> list[str]:
    """Every word that `find` understands, for suggestions."""
    return [word for kind in KINDS for word in (kind.plural, kind.singular, *kind.short)]
