"""The editor: frames in, frames in the look of the reference photos out.

The names below load torch and diffusers on first use, not when the package is imported.
"""

import lazy_loader

# The names stand in __init__.pyi; each is imported when it is first asked for.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
