"""Griffe extension: what docstrings spell in other ways than Markdown and Google's sections."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

ROLE = re.compile(r":(?:func|class|mod|meth|data|attr|exc):`[~.]*([^`]+)`")
QUOTED = re.compile(r"(?<!`)``([^`]+)``(?!`)")
LITERAL = re.compile(r"::$", re.MULTILINE)
EXAMPLE = re.compile(r"^( *)Example:$", re.MULTILINE)


class DocstringMarkdown(Extension):
    """Turns ``:func:`convert``` into code, and a section called Example into one of examples."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Rewrite the docstring of one object."""
        if obj.docstring:
            text = ROLE.sub(r"`\1`", obj.docstring.value)
            text = LITERAL.sub(":", QUOTED.sub(r"`\1`", text))
            obj.docstring.value = EXAMPLE.sub(r"\1Examples:", text)
