"""Analytics Core: who uses a product, how much, and whether that grows.

``data.py`` reads the data set that ships with the code, ``figures.py`` computes, ``module.py`` has the routes.
"""

from .module import AnalyticsCoreModule

__all__ = ["AnalyticsCoreModule"]
