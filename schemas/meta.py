"""The grammar of every kind: metadata, conditions and the two ways of reading.

Models are tolerant: a field they do not know is ignored, so that an older reader survives a newer writer.
Admission reads the same models strictly (``extra="forbid"``, ``strict=True``); see `controlplane.admission`.
"""

import functools
import inspect
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, StringConstraints
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema

from schemas.kits import docstrings

Json: TypeAlias = dict[str, Any]
"""A JSON object as Python holds it."""

Name: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
"""A DNS label (RFC 1123): 1 to 63 of ``a-z 0-9 -``, alphanumeric at both ends, no dots."""


class Model(BaseModel):
    """Base of everything on the wire: camelCase names, immutable once read."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        extra="ignore",
        use_enum_values=False,
    )

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> Json:
        """With the docstrings of the fields as their descriptions.

        Pydantic would read them itself (``use_attribute_docstrings``), but whenever the class is made: half of the time
        that takes, in every process, while few of them ever print a schema.
        """
        schema = super().__get_pydantic_json_schema__(core_schema, handler)
        properties = handler.resolve_ref_schema(schema).get("properties", {})
        for name, field in cls.model_fields.items():
            text = _docstring(cls, name) if field.description is None else None
            key = name if name in properties else field.alias
            if text is not None and key in properties:
                properties[key]["description"] = text
        return schema

    def wire(self) -> Json:
        """This model as JSON values under wire names, without fields that are unset or null."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """A copy that shares no list or object.

        Pydantic asks for one of each default that it fills in; expecting only JSON and models takes a tenth of the
        time of `copy.deepcopy`.
        """
        made = self.__class__.__new__(self.__class__)
        object.__setattr__(made, "__dict__", {name: _own(value) for name, value in self.__dict__.items()})
        object.__setattr__(made, "__pydantic_fields_set__", set(self.__pydantic_fields_set__))
        object.__setattr__(made, "__pydantic_extra__", None)
        object.__setattr__(made, "__pydantic_private__", None)
        return made


def _docstring(model: type[BaseModel], field: str) -> str | None:
    """What stands below a field, in the class that says last what the field is."""
    for each in model.__mro__:
        if field in inspect.get_annotations(each):
            return docstrings.below_attributes(each).get(field)
    return None


def _own(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _own(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_own(item) for item in value]
    return value.__deepcopy__() if isinstance(value, Model) else value


class ConditionStatus(StrEnum):
    """What is known about a condition; an absent condition is `UNKNOWN`."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(Model):
    """One observation about an object (the Kubernetes API convention ``metav1.Condition``)."""

    type: str
    status: ConditionStatus
    reason: str
    """CamelCase, for programs."""
    message: str = ""
    """For people: what happened, where, what to do next."""
    observed_generation: int = 0
    last_transition_time: datetime
    """When ``status`` last changed; a condition that stays as it is keeps it."""


class ManagedField(Model):
    """Which top-level field groups of the spec one manager owns (server-side apply, by group)."""

    manager: str
    operation: str = "Apply"
    fields: list[str] = []
    """Paths of owned groups, such as ``spec.routing`` or ``metadata.labels``."""
    time: datetime | None = None


class ObjectMeta(Model):
    """The metadata of a stored object, Kubernetes words and meanings."""

    name: str = ""
    uid: str = ""
    generation: int = 0
    """Counts changes of the spec; starts at 1 for each uid."""
    resource_version: str = ""
    """The store's revision of the last write, as an opaque string."""
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    finalizers: list[str] = []
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    managed_fields: list[ManagedField] = []


@functools.lru_cache(maxsize=256)
def now_text(moment: datetime) -> str:
    """``moment`` as RFC 3339 in UTC with microseconds, the one spelling of time in stored objects."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
