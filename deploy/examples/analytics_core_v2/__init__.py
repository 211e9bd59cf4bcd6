"""Analytics Core, version 2 of its routes: what version 1 answers, and where people are from, and who comes back.

Lives beside version 1 in the same namespace.  This package imports itself by its own name, version 1 by relative
names: a host runs both, also two versions of one package at a time.
"""

from analytics_core_v2.module import AnalyticsCoreV2Module

__all__ = ["AnalyticsCoreV2Module"]
