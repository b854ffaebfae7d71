"""The objectives of post-training: one file each, with its settings, its loss and its objective.

Adding one is a file here, a line of :data:`spie_robo.training.setup.OBJECTIVES` and a field of
:class:`~spie_robo.training.config.TrainConfig` for its settings.
"""
