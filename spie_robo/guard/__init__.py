"""Does an edit still show every object where it was? Judge the picture, then the verdict.

``GeometryJudge`` reads depth and object classes off a picture; ``GeometryGuard`` compares what it
reads off an edit with the simulator's truth and returns a verdict within a ``GuardBudget``.
"""

import lazy_loader

# The names stand in __init__.pyi; each is imported when it is first asked for.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
