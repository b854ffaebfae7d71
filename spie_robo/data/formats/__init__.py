"""Data sets in the formats of others: found by looking, read step by step, written and checked.

``path -> detect -> reader (an EpisodeSource) -> ... -> writer -> read back and compare``

Names are loaded on first use, so that importing this package imports no format's library.
"""

import lazy_loader

# The names stand in __init__.pyi; each is imported when it is first asked for.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
