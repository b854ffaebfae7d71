"""Load the judges of an evaluation by the names of their models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from spie_robo.evaluation.embeddings import Clip
from spie_robo.evaluation.measure import Judges
from spie_robo.evaluation.preferences import (
    HumanPreferenceScore,
    ImageReward,
    PickScore,
    PreferenceModel,
)
from spie_robo.feedback.config import DREAMSIM, FeedbackConfig
from spie_robo.feedback.judges.depth import load_depth_judge
from spie_robo.feedback.judges.patches import load_patch_judge
from spie_robo.feedback.semantic import SemanticScore
from spie_robo.feedback.structural import StructuralScore
from spie_robo.guard import GeometryGuard


@final
@dataclass(frozen=True)
class JudgeNames:
    """The further models that judge edits; a model is used only if it is named.

    Attributes:
        clip: Folder or Hub id of a CLIP model.
        dino: Folder or Hub id of a DINOv2 model.
        dreamsim: Whether to use the package ``dreamsim``.
        hps: Whether to use the package ``hpsv2``.
        image_reward: Whether to use the package ``image-reward``.
        pick_score: Folder or Hub id of PickScore.
    """

    clip: str | None = None
    dino: str | None = None
    dreamsim: bool = False
    hps: bool = False
    image_reward: bool = False
    pick_score: str | None = None


def load_judges(
    names: JudgeNames | None = None, feedback: FeedbackConfig | None = None, device: str = "cpu"
) -> Judges:
    """Load all judges of an evaluation.

    Args:
        names: Further models; None: only the judges that ship.
        feedback: Settings with the names of the depth and the patch judge; both kinds of each
            score are measured, whichever the settings name. None uses the defaults.
        device: Device of the judges.

    Raises:
        ConfigError: If a model does not exist or is incomplete.
        MissingExtraError: If a model needs a package that is not installed.
    """
    names, feedback = names or JudgeNames(), feedback or FeedbackConfig()
    preferences: list[PreferenceModel] = []
    if names.hps:  # first load what may not be installed, so that an error comes early
        preferences.append(HumanPreferenceScore())
    if names.image_reward:
        preferences.append(ImageReward(device))
    dreamsim = load_patch_judge(DREAMSIM, device) if names.dreamsim else None
    if names.pick_score is not None:
        preferences.append(PickScore(names.pick_score, device))
    depth = load_depth_judge(feedback.depth_judge, device)
    patches = load_patch_judge(feedback.patch_judge, device)
    return Judges(
        monocular=StructuralScore(depth, "monocular", depth.scale),
        simulator=StructuralScore(depth, "simulator", depth.scale),
        nearest=SemanticScore(patches, "nearest", feedback.rec_lambda),
        paper=SemanticScore(patches, "paper", feedback.rec_lambda),
        guard=GeometryGuard(),
        clip=None if names.clip is None else Clip(names.clip, device),
        dino=None if names.dino is None else load_patch_judge(names.dino, device),
        dreamsim=dreamsim,
        preferences=tuple(preferences),
    )
