"""What a worker that has heard of nothing decides with: everything closed, and publishing keeps the rest."""

from dataplane.gateway import hosting, standing
from schemas.principals import Principal

ADA = Principal(issuer="https://issuer.example", subject="ada", organisation="acme", expires=2_000_000_000.0)


def test_flags_are_off_and_nobody_is_admitted() -> None:
    now = standing.Standing()
    assert now.flags.evaluate("beta", ADA, 0.0) == standing.Evaluation(on=False, reason="FlagUnknown")
    assert not now.tenants.admits("analytics-core", ADA).allowed
    assert now.revocations.revoked(ADA, 0.0) is None


def test_publishing_standing_makes_a_new_picture_and_keeps_the_routes() -> None:
    host = hosting.Host()
    before = host.snapshot
    now = standing.Standing()
    host.stand(now)
    assert host.snapshot.standing is now
    assert host.snapshot.number == before.number + 1
    assert host.snapshot.table is before.table
    assert host.snapshot.without("nobody").standing is now
