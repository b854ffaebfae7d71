"""Objectives of post-training: one file each, with settings, loss and objective.

To add one, write a file here, a line of :data:`spie_robo.training.setup.OBJECTIVES` and a field of
:class:`~spie_robo.training.config.TrainConfig` for its settings.
"""
