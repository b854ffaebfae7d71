from .config import PolicyEvaluateConfig, PolicyTrainConfig
from .dataset import WindowBatch, WindowDataset
from .evaluate import EvaluationResult, evaluate_policy, wilson_interval
from .policy import ActingPolicy, load_policy
from .training import PolicyTrainSummary, train_policy
from .windows import WindowShape

__all__ = [
    "ActingPolicy",
    "EvaluationResult",
    "PolicyEvaluateConfig",
    "PolicyTrainConfig",
    "PolicyTrainSummary",
    "WindowBatch",
    "WindowDataset",
    "WindowShape",
    "evaluate_policy",
    "load_policy",
    "train_policy",
    "wilson_interval",
]
