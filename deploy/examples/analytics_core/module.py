"""The routes of Analytics Core, below ``/api/v1/modules/v1/analytics-core``."""

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query
from pydantic import BaseModel

from dataplane.sdk import BaseModuleRouter, ModuleMetadata, ModuleType, require_module_auth

from . import data, figures

READ = "read_analytics"

Days = Annotated[int, Query(ge=1, le=28, description="Length of the period; the period before is compared.")]


class Users(BaseModel):
    """One page of users."""

    total: int
    """How many users match, on all pages."""
    items: list[figures.UserActivity]


class AnalyticsCoreModule(BaseModuleRouter):
    """Analytics Core as the host sees it."""

    @classmethod
    def create_instance(cls) -> "AnalyticsCoreModule":
        """Say who this is; where ``module.yaml`` says something else, that counts."""
        return cls(
            ModuleMetadata(
                module_id="analytics_core",
                name="Analytics Core",
                version="1.0.0",
                module_type=ModuleType.ANALYTICS,
                permissions=[READ],
            )
        )

    async def on_startup(self) -> None:
        """Read the data set before the first request does."""
        data.load()

    def register_routes(self, router: APIRouter) -> None:
        """One open route; the others want the permission."""
        window = int(self.config.get("windowDays", 7))

        @router.get("/summary")
        @require_module_auth("NONE")
        async def summary() -> figures.Summary:
            """How much data there is."""
            return figures.summary(data.load(), window)

        @router.get("/dashboard/overview")
        @require_module_auth(auth_level="PERMISSION", permissions=[READ])
        async def overview(days: Days = window) -> figures.Overview:
            """Sessions, active users and pages of the last days, compared with the days before."""
            return figures.overview(data.load(), days)

        @router.get("/users")
        @require_module_auth(auth_level="PERMISSION", permissions=[READ])
        async def users(
            country: str | None = None,
            plan: str | None = None,
            limit: Annotated[int, Query(ge=1, le=100)] = 20,
            offset: Annotated[int, Query(ge=0)] = 0,
        ) -> Users:
            """Users and what they did, the busiest first."""
            wanted = {"country": country, "plan": plan}
            found = figures.activity(data.load(), _matching(wanted))
            return Users(total=len(found), items=found[offset : offset + limit])

        @router.get("/users/{user_id}", responses={404: {"description": "There is no such user."}})
        @require_module_auth(auth_level="PERMISSION", permissions=[READ])
        async def user(user_id: str) -> figures.UserActivity:
            """One user."""
            found = figures.activity(data.load(), _matching({"id": user_id}))
            if not found:
                raise HTTPException(404, f"no user {user_id!r}")
            return found[0]


def _matching(wanted: dict[str, Any]) -> list[data.User]:
    """The users whose fields are as ``wanted``; None matches everything."""
    return [
        user
        for user in data.load().users
        if all(value is None or getattr(user, field) == value for field, value in wanted.items())
    ]
