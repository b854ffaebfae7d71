"""Reports of an episode store and of a training run: a page each, and a Rerun recording.

``store -> collect -> content (records) -> page (template.html, style.css, script.js) -> one file``
``run -> run_collect -> run_content -> curves, run_page (run.html, style.css, run.js) -> one file``
``store -> rerun_recording -> one file for the Rerun viewer``
"""

import lazy_loader

# The names stand in __init__.pyi; each is imported when it is first asked for.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
