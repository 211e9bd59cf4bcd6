"""What `modplane new module` writes.  Pure: names in, file contents out.

A test applies, serves and calls what is here, so that the first thing a person gets works.
"""

from dataclasses import dataclass
from string import Template
from typing import Final


@dataclass(frozen=True, slots=True)
class Words:
    """How a new module is called."""

    name: str
    """As an object: ``price-watch``."""
    source: str
    """As a Python package: ``price_watch``."""

    @property
    def title(self) -> str:
        """For people: ``Price Watch``."""
        return " ".join(part.capitalize() for part in self.name.split("-"))

    @property
    def kind(self) -> str:
        """The class: ``PriceWatchModule``."""
        return f"{self.title.replace(' ', '')}Module"


def files(words: Words, *, modeline: str) -> dict[str, str]:
    """Path inside the module's folder → content."""
    known = {"name": words.name, "source": words.source, "title": words.title, "kind": words.kind, "modeline": modeline}
    contents = {
        "__init__.py": _CODE,
        "module.yaml": _MANIFEST,
        "README.md": _README,
        f"tests/test_{words.source}.py": _TEST,
    }
    return {path: Template(text).substitute(known) for path, text in contents.items()}


_CODE: Final = '''\
"""$title: what it does, in one line."""

from dataplane.sdk import (
    BaseModuleRouter,
    CurrentPrincipal,
    ModuleMetadata,
    ModuleType,
    require_module_auth,
)
from fastapi import APIRouter


class $kind(BaseModuleRouter):
    """The routes of $title, below ``/api/v1/modules/v1/$name``."""

    @classmethod
    def create_instance(cls) -> "$kind":
        """Say who this module is; module.yaml wins where it says otherwise."""
        return cls(
            ModuleMetadata(
                module_id="$source",
                name="$title",
                version="0.1.0",
                module_type=ModuleType.CORE,
            )
        )

    def register_routes(self, router: APIRouter) -> None:
        """Add routes as to any FastAPI router."""

        @router.get("/hello")
        @require_module_auth("NONE")  # anybody may call it
        async def hello(name: str = "world") -> dict[str, str]:
            greeting = self.config.get("greeting", "hello")
            return {"message": f"{greeting} {name}"}

        @router.get("/whoami")  # declares nothing: callers need a valid token
        async def whoami(caller: CurrentPrincipal) -> dict[str, str]:
            return {"module": self.metadata.module_id, "caller": caller.subject}
'''

_MANIFEST: Final = """\
${modeline}apiVersion: modplane.dev/v1
kind: Module
metadata:
  name: $name
spec:
  entryPoint: $source:$kind
  version: 0.1.0
  type: core
  displayName: $title
  config: {greeting: hello}
  configSchema:
    type: object
    properties:
      greeting: {type: string, minLength: 1}
    additionalProperties: false
"""

_README: Final = """\
# $title

    modplane dev .               # serve it here, reloading on save; run in this folder
    pytest tests                 # its test, through the real loader and gateway
    modplane validate -f module.yaml
    modplane apply -f module.yaml --wait   # needs a running system that has this folder in its modules path

Its address is `/api/v1/modules/v1/$name`; `/hello` is open to anybody, `/whoami` needs a token.
`tests/` is not part of the deployed code.
"""

_TEST: Final = '''\
"""$title, through the real loader and the real gateway."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from dataplane import testing

MODULE = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def client() -> Iterator[testing.ModuleClient]:
    with testing.load(MODULE) as client:
        yield client


def test_it_greets_anybody(client: testing.ModuleClient) -> None:
    assert client.get("/hello").json() == {"message": "hello world"}
    answer = client.get("/hello", params={"name": "you"})
    assert answer.json() == {"message": "hello you"}


def test_who_declares_nothing_needs_a_caller(client: testing.ModuleClient) -> None:
    assert client.get("/whoami").status_code == 401
    ada = client.acting(testing.caller("ada", organisation="acme"))
    assert ada.get("/whoami").json() == {"module": "$source", "caller": "ada"}


def test_the_greeting_is_configuration() -> None:
    with testing.load(MODULE, config={"greeting": "salut"}) as client:
        assert client.get("/hello").json() == {"message": "salut world"}
'''
