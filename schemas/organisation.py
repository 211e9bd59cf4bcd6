"""Kinds Organisation and ModuleAccess: tenants, and each one's right to a module."""

from typing import Annotated, Literal

from pydantic import StringConstraints

from schemas.meta import Json, Model, ObjectMeta

Word = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class OrganisationSpec(Model):
    """What is asked for a tenant."""

    display_name: Annotated[str, StringConstraints(max_length=256)] = ""
    description: Annotated[str, StringConstraints(max_length=4096)] = ""
    enabled: bool = True


class Organisation(Model):
    """A tenant."""

    api_version: Literal["modplane.dev/v1"] = "modplane.dev/v1"
    kind: Literal["Organisation"] = "Organisation"
    metadata: ObjectMeta = ObjectMeta()
    spec: OrganisationSpec = OrganisationSpec()
    status: Json = {}


class ModuleAccessSpec(Model):
    """One organisation's right to one module."""

    organisation: Word
    """The Organisation's name."""
    module: Word
    """The Module's name or id."""
    enabled: bool = True
    configuration: Json = {}
    """Handed to the module for this organisation's calls."""
    users_allowed: list[Word] = []
    """Token subjects; empty: every user of the organisation."""
    users_denied: list[Word] = []
    """Token subjects; wins over ``usersAllowed``."""


class DesiredAccess(Model):
    """One organisation's right to one module, as workers hold it."""

    enabled: bool = False
    configuration: Json = {}
    users_allowed: list[Word] = []
    users_denied: list[Word] = []


class DesiredOrganisation(Model):
    """The payload of an organisation's desired document: the tenant with all of its accesses."""

    enabled: bool = False
    """Whether it exists and is enabled; accesses may be written before their organisation is."""
    accesses: dict[str, DesiredAccess] = {}
    """By the module's name."""


class ModuleAccess(Model):
    """One organisation's right to one module."""

    api_version: Literal["modplane.dev/v1"] = "modplane.dev/v1"
    kind: Literal["ModuleAccess"] = "ModuleAccess"
    metadata: ObjectMeta = ObjectMeta()
    spec: ModuleAccessSpec
    status: Json = {}
