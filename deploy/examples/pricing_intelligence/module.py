"""The routes of Pricing Intelligence, below ``/api/v1/modules/v1/pricing-intelligence``."""

from datetime import date
from typing import Annotated, Self

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, Field, model_validator

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


class Question(BaseModel):
    """Which series is meant: one of the markets here, or weeks of your own."""

    market: str | None = None
    observations: Annotated[list[data.Observation], Field(min_length=2, max_length=520)] | None = None
    weeks: Annotated[int, Field(ge=2, le=520, description="Only the last so many weeks.")] = 52

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.market is None) == (self.observations is None):
            raise ValueError("name a market, or send observations: one of both")
        return self

    def series(self) -> list[data.Observation]:
        """The observations that are meant, oldest first."""
        if self.observations is not None:
            return sorted(self.observations, key=lambda one: one.week)[-self.weeks :]
        markets = data.load()
        if self.market not in markets:
            raise HTTPException(404, f"no market {self.market!r}; there are {', '.join(markets)}")
        return list(markets[self.market].observations[-self.weeks :])


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

        @router.post("/markets/preview")
        @require_module_auth("NONE")
        async def preview(question: Question) -> analysis.PriceStatistics:
            """How the prices of the last weeks are spread."""
            return analysis.statistics(question.series()[-preview_weeks:])

        @router.post("/markets/analyse")
        @require_module_auth(auth_level="PERMISSION", permissions=[ANALYSE])
        async def analyse(question: Question) -> analysis.Analysis:
            """Price statistics, trend, elasticity, and what follows from them."""
            return analysis.analyse(question.series())
