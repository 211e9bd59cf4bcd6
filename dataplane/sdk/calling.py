"""Who calls, for a module's handlers: FastAPI dependencies over what the gateway put into the ASGI scope.

The caller never comes from a header: what a client writes about itself is dropped or ignored.  Written by
`dataplane.gateway.dispatching` before any module code runs.
"""

from typing import Annotated, Final

from fastapi import Depends, HTTPException
from fastapi.requests import HTTPConnection

from schemas.principals import Principal

PRINCIPAL: Final = "modplane.principal"
"""The scope's key of the caller; absent on a route that asks nobody who they are."""


def optional_principal(connection: HTTPConnection) -> Principal | None:
    """The caller, or None on a route that asks nobody who they are."""
    found: Principal | None = connection.scope.get(PRINCIPAL)
    return found


def current_principal(connection: HTTPConnection) -> Principal:
    """The caller; 401 on a route that asks nobody who they are and so has none."""
    found = optional_principal(connection)
    if found is None:
        raise HTTPException(401, "this call has no caller", {"www-authenticate": 'Bearer realm="modplane"'})
    return found


CurrentPrincipal = Annotated[Principal, Depends(current_principal)]
"""For a handler's signature: ``async def mine(caller: CurrentPrincipal)``."""
