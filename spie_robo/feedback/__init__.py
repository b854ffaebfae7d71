"""Score how well edits keep the scene and match the lab, and rank them.

``FeedbackInput + K edits -> FeedbackModel.score() -> Scores -> rank() -> Feedback``

The names below load torch on first use, not when the package is imported; ``FeedbackConfig``
needs none.
"""

import lazy_loader

# The names stand in __init__.pyi; each is imported when it is first asked for.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
