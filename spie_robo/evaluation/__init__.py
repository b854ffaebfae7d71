"""Measure edits: distances to a target, realism, sharpness and flicker, beside baselines.

Import the modules by name, because most of them need torch:
``from spie_robo.evaluation.distances import perceptual_distance``.
"""

from __future__ import annotations
