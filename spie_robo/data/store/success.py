"""Decide which steps of an episode solved its task, if some steps do not report it.

Stable-Baselines3's envs put ``is_success`` into the last info of an episode alone: a step without
it has not solved the task, and an episode in which no step has it does not say.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

SUCCESS = "success"


def as_the_store_expects(
    row: Mapping[str, NDArray[Any]], keys: Collection[str]
) -> dict[str, NDArray[Any]]:
    """A row with success, if the store has it and a later step may still say it.

    Args:
        row: The first of an episode.
        keys: Keys of the store; none in a new one.
    """
    return {**({SUCCESS: np.array(False)} if SUCCESS in keys else {}), **row}


@final
class SuccessColumn:
    """Collects the success of each step apart from its row, and adds it when all are known.

    Example:
        >>> import numpy as np
        >>> column = SuccessColumn()
        >>> rows = [column.split({"reward": np.array(0.0)}) for _ in range(2)]
        >>> _ = column.split({"reward": np.array(1.0), "success": np.array(True)})
        >>> blocks = [{"reward": np.zeros(2)}, {"reward": np.ones(1)}]
        >>> [block["success"].tolist() for block in column.added_to(blocks)]
        [[False, False], [True]]
    """

    def __init__(self) -> None:
        """Start an episode."""
        self._steps: list[bool | None] = []

    def clear(self) -> None:
        """Start the next episode."""
        self._steps = []

    def split(self, row: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Remember the success of a row, and return the row without it."""
        rest = dict(row)
        success = rest.pop(SUCCESS, None)
        self._steps.append(None if success is None else bool(success))
        return rest

    @property
    def solved(self) -> bool:
        """True if some step solved the task."""
        return any(self._steps)

    def added_to(
        self, blocks: Iterable[Mapping[str, NDArray[Any]]]
    ) -> Iterator[dict[str, NDArray[Any]]]:
        """Give blocks of steps the column, if any step of the episode said something.

        Args:
            blocks: The rows that :meth:`split` returned, as arrays (steps, ...), in order.
        """
        said = any(step is not None for step in self._steps)
        start = 0
        for block in blocks:
            count = len(next(iter(block.values())))
            steps = np.array([bool(step) for step in self._steps[start : start + count]], np.bool_)
            start += count
            yield {**block, SUCCESS: steps} if said else dict(block)
