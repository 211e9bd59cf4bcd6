"""Callers without tokens: an auth provider that believes what the Authorization header says."""

from schemas.principals import Principal


class Believer:
    """``Authorization: Test ann@acme`` is the user ann of the organisation acme; ``Test ann`` is of none."""

    scheme = "Test"
    revision = 1

    async def authenticate(self, credentials: bytes) -> Principal | None:
        """Whoever is named."""
        subject, _, organisation = credentials.decode().partition("@")
        return Principal(issuer="test", subject=subject, organisation=organisation or None, expires=4e9)

    async def run(self) -> None:
        """Nothing to keep fresh."""


def header(who: str) -> dict[str, str]:
    """The headers of a request by ``ann@acme``."""
    return {"authorization": f"Test {who}"}
