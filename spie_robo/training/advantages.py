"""Advantages within a group: an edit against the other edits of its own frame."""

from __future__ import annotations

from dataclasses import replace

import torch

from spie_robo.feedback.records import Feedback

_FLOOR = 1e-6


def within_groups(feedback: Feedback) -> Feedback:
    """Take each group's mean from its advantages, and scale them to deviation 1 over the batch.

    How good a frame can be made to look differs more from frame to frame than from edit to edit;
    left in, it would reward the edits of easy frames, whatever they are like. Rankings stay.

    Args:
        feedback: Of the whole (gathered) batch.
    """
    advantages = torch.zeros_like(feedback.advantages)
    counted = feedback.advantages[feedback.scorable]
    if len(counted):
        centred = counted - counted.mean(dim=1, keepdim=True)
        advantages[feedback.scorable] = centred / centred.std(correction=0).clamp(min=_FLOOR)
    return replace(feedback, advantages=advantages)
