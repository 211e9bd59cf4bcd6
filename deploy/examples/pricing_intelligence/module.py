"""The routes of Pricing Intelligence, below ``/api/v1/modules/v1/pricing-intelligence``."""

from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, Field

from dataplane.sdk import BaseModuleRouter, ModuleMetadata, ModuleType, require_module_auth

from . import analysis, data

ANALYSE = "analyse_markets"


class ListedMarket(BaseModel):
    """One market, as the list shows it."""

    id: str
    name: str
    currency: str
    first_week: date
    last_week: date
    latest_price: float


class OfMarket(BaseModel, extra="forbid"):
    """A question about one of the markets here."""

    market: str
    weeks: data.Count = Field(52, ge=2, le=520, description="Only the last so many weeks.")

    def series(self) -> list[data.Observation]:
        """The observations that are meant, oldest first."""
        markets = data.load()
        if self.market not in markets:
            raise HTTPException(404, f"no market {self.market!r}; there are {', '.join(markets)}")
        return list(markets[self.market].observations[-self.weeks :])


class OfObservations(BaseModel, extra="forbid"):
    """A question about weeks of your own."""

    observations: Annotated[list[data.Observation], Field(min_length=2, max_length=520)]
    weeks: data.Count = Field(52, ge=2, le=520, description="Only the last so many weeks.")

    def series(self) -> list[data.Observation]:
        """The observations that are meant, oldest first."""
        return sorted(self.observations, key=lambda one: one.week)[-self.weeks :]


Question = OfMarket | OfObservations
"""Which series is meant."""


class Missing(BaseModel):
    """What is told of a market that there is not."""

    detail: str


MISSING: dict[int | str, dict[str, Any]] = {404: {"model": Missing, "description": "There is no such market."}}


class PricingIntelligenceModule(BaseModuleRouter):
    """Pricing Intelligence as the host sees it."""

    @classmethod
    def create_instance(cls) -> "PricingIntelligenceModule":
        """Say who this is."""
        return cls(
            ModuleMetadata(
                module_id="pricing_intelligence",
                name="Pricing Intelligence",
                version="1.0.0",
                module_type=ModuleType.AI_ML,
                permissions=[ANALYSE],
            )
        )

    async def on_startup(self) -> None:
        """Read the markets before the first request does."""
        data.load()

    def register_routes(self, router: APIRouter) -> None:
        """The list and a preview are open, the whole analysis wants the permission."""
        preview_weeks = int(self.config.get("previewWeeks", 8))

        @router.get("/markets")
        @require_module_auth("NONE")
        async def markets() -> list[ListedMarket]:
            """The markets that can be analysed."""
            return [
                ListedMarket(
                    id=market.id,
                    name=market.name,
                    currency=market.currency,
                    first_week=market.observations[0].week,
                    last_week=market.observations[-1].week,
                    latest_price=market.observations[-1].price,
                )
                for market in data.load().values()
            ]

        @router.post("/markets/preview", responses=MISSING)
        @require_module_auth("NONE")
        async def preview(question: Question) -> analysis.PriceStatistics:
            """How the prices of the last weeks are spread."""
            return analysis.statistics(question.series()[-preview_weeks:])

        @router.post("/markets/analyse", responses=MISSING)
        @require_module_auth(auth_level="PERMISSION", permissions=[ANALYSE])
        async def analyse(question: Question) -> analysis.Analysis:
            """Price statistics, trend, elasticity, and what follows from them."""
            return analysis.analyse(question.series())
