"""Offer :func:`preference_loss` under its public name; ``objectives.spie`` holds the objective."""

from spie_robo.training.objectives.spie import preference_loss as preference_loss
