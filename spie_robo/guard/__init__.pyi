from .budget import DEVIATION_NAMES, GuardBudget
from .guard import GeometryGuard
from .judge import GeometryEstimate, GeometryJudge, Judge

__all__ = [
    "DEVIATION_NAMES",
    "GeometryEstimate",
    "GeometryGuard",
    "GeometryJudge",
    "GuardBudget",
    "Judge",
]
