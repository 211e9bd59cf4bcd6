"""Pricing Intelligence: what the prices of a market say, and what a change of price would do.

``data.py`` reads the markets that ship with the code, ``analysis.py`` computes, ``module.py`` has the routes.
"""

from .module import PricingIntelligenceModule

__all__ = ["PricingIntelligenceModule"]
