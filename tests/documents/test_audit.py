"""The page of the audit trail names every field and every reason that a record may have."""

import re

from controlplane.audit import archives, noting
from dataplane.gateway import auditing, authenticating, authorising, tenants
from dataplane.gateway.standing import Admission
from schemas import audit, revocation
from schemas.flag import FlagReason
from schemas.kits import recorders, spools
from schemas.kits.tokens import refusing
from tests.doubles import pages


def reasons() -> set[str]:
    found = {reason.value for reason in refusing.Reason} | {reason.value for reason in FlagReason}
    found |= {each.reason for each in vars(tenants).values() if isinstance(each, Admission)}
    found |= {revocation.TOKEN, revocation.SUBJECT, revocation.ORGANISATION}
    found |= {authorising.ALLOWED, authorising.NO_CREDENTIALS, authorising.NOT_ADMIN}
    found |= {authorising.NO_ROLE, authorising.NO_PERMISSION}
    found |= {authenticating.SCHEME, authenticating.SEVERAL, authenticating.NOT_KNOWN, authenticating.PROVIDER}
    found |= {auditing.OPEN, auditing.CROWDED, auditing.BROKEN, auditing.UNKEPT}
    found |= {recorders.SPOOL_FULL, recorders.UNREADABLE, recorders.STOPPED, spools.CRASHED}
    return found | {archives.FORKED, archives.LOST, noting.UNCHANGED, noting.DONE}


def test_every_reason_of_a_record_is_told() -> None:
    words = set(pages.code_words(pages.reference("audit")))
    assert reasons() <= words


def test_every_field_of_a_record_is_told() -> None:
    rows = pages.rows(pages.section(pages.reference("audit"), "What is in it"))
    told = {word for row in rows for word in re.findall(r"`(\w+)`", row[0])}
    assert set(audit.FIELDS) <= told
