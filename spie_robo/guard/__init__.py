"""Does an edit still show every object where it was?

``GeometryGuard`` compares an edit with its own raw frame and the simulator's truth, and returns a
verdict within a ``GuardBudget``. ``GeometryJudge``, which reads depth and object classes off a
picture, serves the feedback of post-training; the guard does not ask it.
"""

import lazy_loader

# The names stand in __init__.pyi; each is imported when it is first asked for.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
