"""Whose tokens are believed, as operators say it: settings in, a verifier out, and a refusal of what is not safe.

`TokenOptions` are the settings that every process with a guard has; one issuer by single settings, more by a JSON list.
`verifier` reads key files and starts nothing; what has to run is `KeySource.run` of each issuer.  Called by the
`app` of a plane.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from schemas.kits.clocks import Clock
from schemas.kits.options import Options
from schemas.kits.tokens import development, fetching, keys, sources
from schemas.kits.tokens.claims import Expectation
from schemas.kits.tokens.keys import Algorithm
from schemas.kits.tokens.verifying import TYPES, Issuer, Verifier

Word = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Words = Annotated[str, StringConstraints(max_length=4_096)]

_SINGLE: Final = ("auth_audience", "auth_jwks_url", "auth_jwks_file", "auth_secret_file", "auth_organisations")


class SettingsRefused(ValueError):  # noqa: N818 - named for what happened, as in the rest of the house
    """Settings that make no sense or are not safe; the message names the setting and says what to write."""


class TokenOptions(Options):
    """What an operator may set about tokens."""

    auth_issuer: Words = ""
    """Whose tokens are believed: exactly what their ``iss`` says.  Default none: only routes of level NONE answer."""

    auth_audience: Words = ""
    """What ``aud`` of a token has to be or to hold.  No default: tokens that are meant for another service are not
    for this one, so an issuer without audience is refused."""

    auth_jwks_url: Words = ""
    """Where the issuer publishes its keys: https only.  Fetched in the background, kept on disk, no redirects."""

    auth_jwks_file: Path | None = None
    """A JWK Set on this machine instead, looked at every 2 s.  Replace the file to rotate keys."""

    auth_secret_file: Path | None = None
    """A file with the shared secret, for HS256, HS384 and HS512 only: at least as many random bytes as the hash has."""

    auth_algorithm: Algorithm = Algorithm.RS256
    """How the issuer signs: one algorithm, never the token's choice.  Default RS256, what most issuers use."""

    auth_types: Words = "jwt,at+jwt"
    """What ``typ`` of a token may be, with commas between.  Default ``jwt,at+jwt``; ``at+jwt`` alone shuts out ID
    tokens of issuers that follow RFC 9068."""

    auth_claim_organisation: Words = "org"
    """Which claim names the caller's Organisation: a name, or a JSON pointer such as ``/tenant/name``."""

    auth_organisations: Words = ""
    """For which Organisations the issuer may speak, with commas between: each of its tokens has to name one of them.
    Default none set: it may name any, or none.  Set it where an issuer belongs to a tenant."""

    auth_claim_roles: Words = "roles"
    """Which claim lists the caller's roles: strings in a list, or in one string with spaces between."""

    auth_claim_permissions: Words = "permissions"
    """Which claim lists the caller's permissions, in the same forms; ``scope`` works as well."""

    auth_issuers: Annotated[str, StringConstraints(max_length=65_536)] = ""
    """More issuers, as a JSON list of objects with ``issuer``, ``audience``, ``jwksUrl`` (or ``jwksFile`` or
    ``secretFile``), ``algorithm``, ``types``, ``claimOrganisation``, ``claimRoles``, ``claimPermissions``,
    ``organisations`` (a list), ``jwksPrivate``, ``jwksCaFile``.  Default none.  A key of one issuer never verifies a
    token of another."""

    auth_jwks_private: bool = False
    """Whether the host of ``AUTH_JWKS_URL`` may have an address that is not public.  Default false, so that no name
    leads the worker into your own network."""

    auth_jwks_ca_file: Path | None = None
    """Certificates that sign the key server's, as PEM.  Default: those that this machine trusts."""

    auth_jwks_max_age_seconds: Annotated[float, Field(ge=10, le=2_592_000)] = 86_400.0
    """How long keys are believed when their server does not answer.  Default one day; then tokens are refused."""

    auth_leeway_seconds: Annotated[float, Field(ge=0, le=60)] = 10.0
    """How far the issuer's clock may be from ours.  Default 10 s."""

    auth_lifetime_seconds: Annotated[float, Field(ge=1, le=31_536_000)] = 2_592_000.0
    """How long a token may be valid for, from ``iat`` to ``exp``; a longer one is refused.  Default 30 days."""

    auth_cache_ttl: Annotated[float, Field(ge=0, le=86_400)] = 300.0
    """Seconds for which a verified token and what it may do are remembered; never beyond ``exp``, and a revocation or
    a change of flags, accesses or keys counts at once.  Default 300; 0 verifies every request anew."""

    auth_cache_tokens: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """How many tokens are remembered; the one not used for longest goes first.  Default 10 000, some 30 MB."""

    auth_development: bool = False
    """Whether tokens of ``modplane token create`` are believed.  Default false; only ``modplane up`` sets it, and it
    is refused where no ``modplane up`` holds ``DATA_DIR``."""


class IssuerOptions(BaseModel):
    """One issuer."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)

    issuer: Annotated[str, StringConstraints(min_length=1)]
    audience: Annotated[str, StringConstraints(min_length=1)]
    jwks_url: str = ""
    jwks_file: Path | None = None
    secret_file: Path | None = None
    algorithm: Algorithm = Algorithm.RS256
    types: list[str] = sorted(TYPES)
    claim_organisation: str = "org"
    claim_roles: str = "roles"
    claim_permissions: str = "permissions"
    organisations: Annotated[list[Word], Field(min_length=1, max_length=10_000)] | None = None
    jwks_private: bool = False
    jwks_ca_file: Path | None = None

    @model_validator(mode="after")
    def _safe(self) -> "IssuerOptions":
        given = [bool(self.jwks_url), self.jwks_file is not None, self.secret_file is not None]
        if sum(given) != 1:
            raise ValueError("an issuer has one of jwksUrl, jwksFile and secretFile")
        if self.algorithm.symmetric is not (self.secret_file is not None):
            raise ValueError("HS256, HS384 and HS512 take secretFile, the others jwksUrl or jwksFile")
        if self.issuer == development.ISSUER:
            raise ValueError(f"{development.ISSUER} is the issuer of `modplane up` and cannot be configured")
        if self.jwks_url:
            _check_url(self.jwks_url)
        return self


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        raise ValueError(f"{url!r} is not an https URL; for keys on this machine write jwksFile")
    if parts.username or parts.password or parts.fragment:
        raise ValueError(f"{url!r} has a user, a password or a fragment; leave them out")


@dataclass(frozen=True, slots=True)
class Ground:
    """What a process stands on."""

    clock: Clock
    kept: Path | None
    """Folder for the last good key sets; None: they are not kept."""
    data_dir: Path


def verifier(options: TokenOptions, ground: Ground) -> Verifier:
    """The verifier that the settings ask for; SettingsRefused if they are not safe."""
    found = [_issuer(each, options, ground) for each in configured(options)]
    if options.auth_development:
        found.append(_development(options, ground))
    return Verifier(found)


def configured(options: TokenOptions) -> list[IssuerOptions]:
    """Every issuer that the settings name, the single one first; SettingsRefused."""
    found = [*_single(options), *_listed(options)]
    names = [each.issuer for each in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise SettingsRefused(f"MODPLANE_AUTH_ISSUERS: {min(twice)!r} stands twice; an issuer has one set of keys")
    return found


def _single(options: TokenOptions) -> Iterator[IssuerOptions]:
    if not options.auth_issuer:
        if lost := [name for name in _SINGLE if getattr(options, name)]:
            raise SettingsRefused(f"MODPLANE_{lost[0].upper()} is set without MODPLANE_AUTH_ISSUER")
        return
    given = {
        "issuer": options.auth_issuer,
        "audience": options.auth_audience,
        "jwks_url": options.auth_jwks_url,
        "jwks_file": options.auth_jwks_file,
        "secret_file": options.auth_secret_file,
        "algorithm": options.auth_algorithm,
        "types": [word.lower() for word in _words(options.auth_types)],
        "claim_organisation": options.auth_claim_organisation,
        "claim_roles": options.auth_claim_roles,
        "claim_permissions": options.auth_claim_permissions,
        "organisations": _words(options.auth_organisations) if options.auth_organisations else None,
        "jwks_private": options.auth_jwks_private,
        "jwks_ca_file": options.auth_jwks_ca_file,
    }
    yield _validated("MODPLANE_AUTH_ISSUER", given)


def _words(text: str) -> list[str]:
    return [word for each in text.split(",") if (word := each.strip())]


def _listed(options: TokenOptions) -> Iterator[IssuerOptions]:
    if not options.auth_issuers:
        return
    try:
        found = json.loads(options.auth_issuers)
    except ValueError as error:
        raise SettingsRefused(f"MODPLANE_AUTH_ISSUERS is not JSON: {error}") from None
    if not isinstance(found, list):
        raise SettingsRefused("MODPLANE_AUTH_ISSUERS is not a list; write [{...}, {...}]")
    for place, each in enumerate(found):
        yield _validated(f"MODPLANE_AUTH_ISSUERS, entry {place}", each)


def _validated(where: str, given: Any) -> IssuerOptions:
    try:
        return IssuerOptions.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        at = ".".join(str(step) for step in first["loc"])
        raise SettingsRefused(f"{where}: {at + ': ' if at else ''}{first['msg']}") from None


def _issuer(each: IssuerOptions, options: TokenOptions, ground: Ground) -> Issuer:
    expected = Expectation(
        each.issuer,
        each.audience,
        options.auth_leeway_seconds,
        options.auth_lifetime_seconds,
        each.claim_organisation,
        each.claim_roles,
        each.claim_permissions,
        None if each.organisations is None else frozenset(each.organisations),
    )
    return Issuer(expected, each.algorithm, _source(each, options, ground), frozenset(map(str.lower, each.types)))


def _source(each: IssuerOptions, options: TokenOptions, ground: Ground) -> sources.KeySource:
    try:
        if each.secret_file is not None:
            return sources.FixedKeys(keys.of_secret(each.secret_file.read_bytes().strip(), each.algorithm))
        if each.jwks_file is not None:
            return sources.FileKeys(each.jwks_file, each.algorithm, ground.clock)
    except (OSError, keys.KeysRefused) as error:
        raise SettingsRefused(f"keys of {each.issuer}: {each.secret_file or each.jwks_file}: {error}") from error
    address = fetching.Address(each.jwks_url, each.jwks_private, each.jwks_ca_file)
    return fetching.FetchedKeys(
        address, each.algorithm, ground.clock, hard_age=options.auth_jwks_max_age_seconds, kept=ground.kept
    )


def _development(options: TokenOptions, ground: Ground) -> Issuer:
    if not development.is_held(ground.data_dir):
        raise SettingsRefused(
            f"MODPLANE_AUTH_DEVELOPMENT is set, but no `modplane up` holds {ground.data_dir}: outside of it name an "
            "issuer of your own with MODPLANE_AUTH_ISSUER"
        )
    expected = Expectation(
        development.ISSUER,
        development.AUDIENCE,
        options.auth_leeway_seconds,
        options.auth_lifetime_seconds,
        "org",
        "roles",
        "permissions",
    )
    file = development.key_set(ground.data_dir)
    try:
        source = sources.FileKeys(file, development.ALGORITHM, ground.clock, development=True)
    except (OSError, keys.KeysRefused) as error:
        raise SettingsRefused(f"the development keys cannot be read: {file}: {error}") from error
    return Issuer(expected, development.ALGORITHM, source)
