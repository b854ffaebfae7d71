"""Make a simulator's camera frames look like a real lab while every object stays put."""

import lazy_loader

from spie_robo._version import __version__ as __version__

# The names stand in __init__.pyi; each is imported when it is first asked for: torch takes seconds.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
