"""What a run will cost, before it runs."""

from glassgpt.plan.cost import plan
from glassgpt.plan.family import family

__all__ = ["family", "plan"]
