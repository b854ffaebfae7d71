"""How good are edits? Distances to a target, realism, sharpness, flicker, and plain alternatives.

The modules are imported by name, as most of them need torch:
``from spie_robo.evaluation.distances import perceptual_distance``.
"""

from __future__ import annotations
