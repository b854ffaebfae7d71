"""Policies that learn from episode stores: behaviour cloning and Diffusion Policy.

Names are loaded on first use, so that importing this package does not import torch.
"""

import lazy_loader

# The names stand in __init__.pyi; each is imported when it is first asked for.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
