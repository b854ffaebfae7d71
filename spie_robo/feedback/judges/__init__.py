"""Frozen models that judge pictures: depth, patch features, and regions by phrase.

Each is embedded or comes, through ``transformers``, from a local folder or a Hub id.
"""

from __future__ import annotations
