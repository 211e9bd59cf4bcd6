"""What a series of prices and sales says.  Pure: observations in, answers out.

Elasticity is the slope of log(units) over log(price) by ordinary least squares, the constant-elasticity demand
curve of the textbooks (H. R. Varian, Intermediate Microeconomics, chapter 15).
"""

import math
from collections.abc import Sequence
from enum import StrEnum
from statistics import StatisticsError, correlation, fmean, linear_regression, median, pstdev, quantiles

from pydantic import BaseModel

from .data import Observation


class PriceStatistics(BaseModel):
    """How prices are spread."""

    weeks: int
    latest: float
    mean: float
    median: float
    lowest: float
    highest: float
    lower_quartile: float
    upper_quartile: float
    variation: float
    """Coefficient of variation: standard deviation over mean."""


class Direction(StrEnum):
    """Where prices go."""

    RISING = "rising"
    FALLING = "falling"
    FLAT = "flat"


class Trend(BaseModel):
    """The straight line through the prices."""

    direction: Direction
    """Flat: less than ``FLAT_PERCENT`` over the whole period."""
    per_week: float
    percent_over_period: float


class Sensitivity(StrEnum):
    """How buyers take a change of price."""

    ELASTIC = "elastic"
    INELASTIC = "inelastic"


class Elasticity(BaseModel):
    """How sales answer to prices."""

    value: float
    """Per cent of change in units for one per cent of price."""
    r_squared: float
    """How much of the movement of sales the price explains, 0 to 1."""
    sensitivity: Sensitivity
    revenue_if_price_rises_1_percent: float
    """Per cent of change in revenue."""


class Analysis(BaseModel):
    """Everything about one market."""

    prices: PriceStatistics
    trend: Trend
    elasticity: Elasticity | None
    """Null if prices did not move, so that nothing can be told."""
    revenue: float
    advice: str


FLAT_PERCENT = 1.0
STILL = 1.001
"""Prices that differ by less than this factor have not moved."""
WEAK = 0.3
"""Below this share of explained movement no advice is given."""


def analyse(weeks: Sequence[Observation]) -> Analysis:
    """Statistics, trend and elasticity of at least two weeks."""
    found = elasticity(weeks)
    return Analysis(
        prices=statistics(weeks),
        trend=trend(weeks),
        elasticity=found,
        revenue=round(sum(week.price * week.units for week in weeks), 2),
        advice=_advice(found),
    )


def statistics(weeks: Sequence[Observation]) -> PriceStatistics:
    """How the prices of at least two weeks are spread."""
    prices = [week.price for week in weeks]
    lower, _, upper = quantiles(prices, n=4, method="inclusive")
    return PriceStatistics(
        weeks=len(prices),
        latest=prices[-1],
        mean=round(fmean(prices), 2),
        median=round(median(prices), 2),
        lowest=min(prices),
        highest=max(prices),
        lower_quartile=round(lower, 2),
        upper_quartile=round(upper, 2),
        variation=round(pstdev(prices) / fmean(prices), 4),
    )


def trend(weeks: Sequence[Observation]) -> Trend:
    """The least-squares line through the prices of at least two weeks."""
    line = linear_regression(range(len(weeks)), [week.price for week in weeks])
    start = line.intercept if line.intercept > 0 else weeks[0].price
    percent = 100 * line.slope * (len(weeks) - 1) / start
    direction = Direction.RISING if percent > 0 else Direction.FALLING
    if abs(percent) < FLAT_PERCENT:
        direction = Direction.FLAT
    return Trend(direction=direction, per_week=round(line.slope, 4), percent_over_period=round(percent, 1))


def elasticity(weeks: Sequence[Observation]) -> Elasticity | None:
    """The price elasticity of demand; None if the prices hardly move."""
    if max(week.price for week in weeks) < min(week.price for week in weeks) * STILL:
        return None
    prices = [math.log(week.price) for week in weeks]
    units = [math.log(week.units) for week in weeks]
    try:
        value = linear_regression(prices, units).slope
        explained = correlation(prices, units) ** 2
    except StatisticsError:
        return None
    return Elasticity(
        value=round(value, 2),
        r_squared=round(explained, 2),
        sensitivity=Sensitivity.ELASTIC if value < -1 else Sensitivity.INELASTIC,
        revenue_if_price_rises_1_percent=round(100 * (1.01 ** (1 + value) - 1), 2),
    )


def _advice(found: Elasticity | None) -> str:
    if found is None:
        return "Prices did not move, so nothing can be told about buyers; try another price for some weeks."
    if found.r_squared < WEAK:
        return "Prices explain too little of the movement of sales; look for another cause before changing them."
    if found.sensitivity is Sensitivity.ELASTIC:
        return "Buyers mind the price: a lower price brings more revenue."
    return "Buyers hardly mind the price: a higher price brings more revenue."
