"""Gymnasium wrappers that edit the camera frames of an environment as they come.

``env -> cameras (find, read) -> GuardedEditor -> cameras (replace) -> agent``, and, with
``record=``, to an episode store on the way. Nothing here loads an editor before the first frame.
"""

from __future__ import annotations

from spie_robo.wrappers.geometry_sources import GeometryInfo, GeometryKeys
from spie_robo.wrappers.realism import RealismWrapper
from spie_robo.wrappers.vector import VectorRealismWrapper

__all__ = ["GeometryInfo", "GeometryKeys", "RealismWrapper", "VectorRealismWrapper"]
