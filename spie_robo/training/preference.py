"""The public home of :func:`preference_loss`; the objective around it is in ``objectives.spie``."""

from spie_robo.training.objectives.spie import preference_loss as preference_loss
