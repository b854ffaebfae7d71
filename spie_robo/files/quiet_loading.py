"""Model files are loaded without the libraries' own bars and advice.

A user who starts a command waits for its result. That 36 tensors were read, or that a class which
nobody asked for would like torchvision, is not part of it. Errors are raised as ever.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_loading() -> Iterator[None]:
    """While it lasts, transformers and diffusers load models in silence.

    Bars of downloads from the Hub stay: those take longer than a moment. Afterwards everything is
    as it was, for programs that show the libraries' bars on purpose.

    Example::

        with quiet_loading():
            model = CLIPTextModel.from_pretrained(folder)
    """
    from diffusers.utils import logging as of_diffusers
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )
    from transformers.utils import logging as of_transformers

    downloads_shown = not are_progress_bars_disabled()
    libraries = (of_transformers, of_diffusers)
    before = [(library.is_progress_bar_enabled(), library.get_verbosity()) for library in libraries]
    for library in libraries:
        library.disable_progress_bar()
        library.set_verbosity(logging.ERROR)
    restore_downloads = enable_progress_bars if downloads_shown else disable_progress_bars
    restore_downloads()  # transformers switches the Hub's bars together with its own
    try:
        yield
    finally:
        for library, (bars, verbosity) in zip(libraries, before, strict=True):
            if bars:
                library.enable_progress_bar()
            library.set_verbosity(verbosity)
        restore_downloads()
