"""A gateway without a server: a host, its pages and the dispatcher, with fake modules."""

from datetime import UTC, datetime
from typing import Any

import pytest

from dataplane.gateway import dispatching, hosting, pages, serving
from tests.doubles.clock import FakeClock
from tests.doubles.modules import FakeInstance, Register

NOW = datetime(2030, 1, 1, tzinfo=UTC)


class Gateway:
    """The gateway of one worker."""

    def __init__(self) -> None:
        self.host = hosting.Host(grace=5.0)
        self.facts: dict[str, Any] = {"ready": True, "state": "synced", "reason": "", "since": ""}
        self.pages = pages.Pages(self.host, ready=lambda: self.facts, info=lambda: {"plane": "data"}, version="1")
        self.clock = FakeClock()
        """Of the limits: nothing times out unless a test moves it."""
        self.app = dispatching.Dispatcher(self.host, self.pages, self.clock)

    async def install(self, register: Register, **more: Any) -> FakeInstance:
        """Build a fake module and take it into service."""
        instance = FakeInstance(register, **more)
        await self.host.install(serving.serve(instance, NOW))
        return instance

    def block(self, register: Register, *, retryable: bool = False, **more: Any) -> None:
        """A module that is known and cannot serve."""
        instance = FakeInstance(register, **more)
        trouble = serving.Trouble("ImportFailed", "shop.py:1: secret of the author", retryable)
        self.host.block(serving.broken(instance.name, instance.uid, 1, instance.desired, NOW, trouble))


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


@pytest.fixture
def now() -> datetime:
    return NOW
