"""Language instructions of foreign episodes, from texts to ``task_index`` and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Instructions:
    """The instruction of every step.

    Attributes:
        tasks: The texts; an episode without one has the empty text.
        numbers: For each episode, int64 (steps,): the place of each step's text in ``tasks``.
    """

    tasks: tuple[str, ...]
    numbers: tuple[NDArray[np.int64], ...]

    def first_texts(self) -> list[str]:
        """Return the text of the first step of every episode."""
        return [self.tasks[int(numbers[0])] for numbers in self.numbers]


def number_instructions(
    texts: Sequence[Sequence[str]], lengths: Sequence[int]
) -> Instructions | None:
    """Give every text its number, in the order in which they appear.

    Args:
        texts: For each episode one text, or one a step; none or an empty one where it has none.
        lengths: Steps of each episode.

    Returns:
        The instructions, or None if no episode has any.
    """
    if not any(text for of_episode in texts for text in of_episode):
        return None
    places: dict[str, int] = {}
    numbers = []
    for of_episode, length in zip(texts, lengths, strict=True):
        steps = list(of_episode[:length])
        if len(steps) < length:  # one text for all, or the last one goes on
            steps += [steps[-1] if steps else ""] * (length - len(steps))
        numbers.append(np.array([places.setdefault(t, len(places)) for t in steps], np.int64))
    return Instructions(tuple(places), tuple(numbers))


def missing_note(instructions: Instructions) -> tuple[str, ...]:
    """Return a note for people if some episodes have no instruction."""
    lacking = sum(not text for text in instructions.first_texts())
    if not lacking:
        return ()
    return (f"{lacking} of {len(instructions.numbers)} episodes have no instruction: their text is "
            "empty.",)  # fmt: skip
