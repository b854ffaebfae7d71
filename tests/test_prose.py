"""Checks that docstrings open with a short, whole sentence."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

NOT_YET_CONVERTED: tuple[str, ...] = ()
"""Rooms whose prose still breaks a rule. This list may only shrink."""

MAX_WORDS = 25
BARE_OPENINGS = ("What", "Where", "How", "Which", "Whether", "Who", "When", "Of")
SECTION = re.compile(r"^ *(Args|Attributes):$")
SENTENCE_END = re.compile(r"(?<!e\.g)(?<!i\.e)[.:?!](?=\s|$)")
ATTRIBUTE_OWNERS = (ast.Module, ast.ClassDef)


def _modules() -> list[Path]:
    """List every module of the library, the simulators and the policies."""
    rooms = ("spie_robo", "envs", "policies")
    return sorted(path for room in rooms for path in (ROOT / room).rglob("*.py"))


def _is_converted(path: Path) -> bool:
    """Return whether the module stands outside the rooms not yet converted."""
    name = path.relative_to(ROOT)
    return not any(name.is_relative_to(room) for room in NOT_YET_CONVERTED)


def _docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and text of the docstrings of modules, classes, functions and attributes."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if not isinstance(node, documented):
            continue
        # An attribute's docstring is a string that follows its assignment.
        body = node.body if isinstance(node, ATTRIBUTE_OWNERS) else node.body[:1]
        for statement in body:
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                if isinstance(statement.value.value, str):
                    yield statement.lineno, statement.value.value


def _first_sentence(docstring: str) -> str:
    paragraph = " ".join(docstring.strip().split("\n\n")[0].split())
    return SENTENCE_END.split(paragraph, maxsplit=1)[0]


def _faults(docstring: str) -> Iterator[str]:
    """Yield one line for each rule that the docstring breaks."""
    sentence = _first_sentence(docstring)
    words = sentence.split()
    if words and words[0] in BARE_OPENINGS:
        yield f"opens with the bare clause {sentence!r}; write a sentence with a verb"
    if len(words) > MAX_WORDS:
        yield f"opens with a sentence of {len(words)} words (at most {MAX_WORDS}): {sentence!r}"
    # Arguments end at the next section or at the end of the docstring.
    within = False
    for line in docstring.splitlines():
        if SECTION.match(line):
            within = True
        elif re.match(r"^ *(Returns|Raises|Yields|Example|Examples|Note):$", line):
            within = False
        elif within and re.match(r"^ +\w+: Of ", line):
            yield f"has the fragment {line.strip()!r}; say what the argument is"


def _faults_of(source: str) -> list[str]:
    found = _docstrings(ast.parse(source))
    return [f"{line}: {fault}" for line, docstring in found for fault in _faults(docstring)]


@pytest.mark.parametrize(
    "path",
    [path for path in _modules() if _is_converted(path)],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_every_docstring_opens_with_a_short_whole_sentence(path: Path) -> None:
    faults = _faults_of(path.read_text(encoding="utf-8"))
    assert not faults, "\n".join(f"{path.relative_to(ROOT)}:{fault}" for fault in faults)


@pytest.mark.parametrize("room", NOT_YET_CONVERTED)
def test_a_room_that_is_listed_as_not_converted_exists_and_has_faults(room: str) -> None:
    paths = [path for path in _modules() if path.relative_to(ROOT).is_relative_to(room)]
    assert any(_faults_of(path.read_text(encoding="utf-8")) for path in paths), (
        f"{room} breaks no rule; take it off NOT_YET_CONVERTED"
    )


@pytest.mark.parametrize(
    ("docstring", "fault"),
    [
        ("What a frame holds.", "bare clause"),
        ("Return " + "one word " * 13 + "more.", "sentence of 28 words"),
        ("Return it.\n\n    Args:\n        x: Of the robot.\n", "fragment"),
    ],
)
def test_each_rule_finds_its_fault(docstring: str, fault: str) -> None:
    (found,) = _faults_of(f'def f(x):\n    """{docstring}"""\n')
    assert fault in found


def test_a_plain_docstring_passes_every_rule() -> None:
    source = 'x = 1\n"""Number of steps."""\n\n\ndef f():\n    """Return it. What else?"""\n'
    assert _faults_of(source) == []
