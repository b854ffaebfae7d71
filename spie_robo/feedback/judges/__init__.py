"""Frozen models that look at pictures: depth, patch features, and regions by phrase.

Each comes embedded or, through ``transformers``, from a local folder or a Hub id.
"""

from __future__ import annotations
