"""Compute advantages within a group: an edit against the other edits of its own frame."""

from __future__ import annotations

from dataclasses import replace

import torch

from spie_robo.feedback.records import Feedback

_FLOOR = 1e-6


def within_groups(feedback: Feedback) -> Feedback:
    """Centre each group's advantages, and scale them to deviation 1 over the batch.

    Frames differ more in how well they can be edited than the edits of one frame differ. Without
    this, edits of easy frames would be rewarded whatever they are like. Rankings do not change.

    Args:
        feedback: Feedback of the whole batch, gathered over all processes.
    """
    advantages = torch.zeros_like(feedback.advantages)
    counted = feedback.advantages[feedback.scorable]
    if len(counted):
        centred = counted - counted.mean(dim=1, keepdim=True)
        advantages[feedback.scorable] = centred / centred.std(correction=0).clamp(min=_FLOOR)
    return replace(feedback, advantages=advantages)
