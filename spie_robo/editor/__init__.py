"""Edit frames in the look of reference photos.

The names of this package load torch and diffusers on first use, not on import.
"""

import lazy_loader

# The names stand in __init__.pyi; each is imported when it is first asked for.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
