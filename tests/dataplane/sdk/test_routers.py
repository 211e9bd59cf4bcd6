"""The class that authors subclass."""

import pytest
from fastapi import APIRouter

from dataplane.sdk import BaseModuleRouter, IModuleRouter, ModuleMetadata


class Named(BaseModuleRouter):
    metadata = ModuleMetadata(module_id="named")

    def register_routes(self, router: APIRouter) -> None:
        del router


class Nameless(BaseModuleRouter):
    def register_routes(self, router: APIRouter) -> None:
        del router


def test_the_class_attribute_is_enough_to_make_an_instance() -> None:
    made = Named.create_instance()
    assert isinstance(made, IModuleRouter)
    assert made.metadata.module_id == "named"
    assert made.config == {}


def test_a_module_that_does_not_say_who_it_is_hears_how_to() -> None:
    with pytest.raises(TypeError, match="Nameless does not say who it is: set the class attribute"):
        Nameless.create_instance()


async def test_hooks_do_nothing_by_default() -> None:
    made = Named.create_instance()
    await made.on_startup()
    await made.on_shutdown()
    assert await made.check_health() is True
    assert made.exception_handlers() == {}
