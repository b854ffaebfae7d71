"""Draw batches of shuffled windows from one or several stores, to train a policy."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spie_robo.data.store import fields
from spie_robo.errors import ConfigError, StoreError
from spie_robo.policies.cache import cached_images, read_numbers
from spie_robo.policies.normalizer import SMALLEST_RANGE
from spie_robo.policies.source import Source, open_windows
from spie_robo.policies.windows import WindowIndex, WindowShape, index_windows

ACTION = "action"
_OUTCOMES = (ACTION, "reward", "success")
"""Keys of actions and their results, which no observation has."""


@final
@dataclass(frozen=True, eq=False)
class WindowBatch:
    """A batch of B windows, with To observation steps and H steps in all.

    Attributes:
        images: By camera, uint8, (B, To, side, side, 3).
        state: float32, (B, To, S); S is 0 without a state.
        action: float32, (B, H, A), in the units of the store.
    """

    images: Mapping[str, Tensor]
    state: Tensor
    action: Tensor

    def to(self, device: torch.device) -> WindowBatch:
        """Return the batch on another device."""
        images = {name: image.to(device) for name, image in self.images.items()}
        return WindowBatch(images, self.state.to(device), self.action.to(device))


@final
@dataclass(frozen=True, eq=False)
class _Part:
    """One store: its decoded arrays and its windows."""

    source: Source
    images: Mapping[str, NDArray[np.uint8]]
    state: NDArray[np.float32]
    action: NDArray[np.float32]
    windows: WindowIndex


@final
class WindowDataset:
    """Windows over stores of ``record``, ``convert`` or the original Diffusion Policy tools.

    Without weights, an epoch has every window once. With weights it has as many windows, and each
    store gives its share: windows of a store with a large share repeat, and a store with a small
    share gives a new random part in every epoch. The order is a function of seed and epoch, so
    that a resumed run needs only the number of its next batch.

    Args:
        stores: Folders of stores.
        shape: Lengths of the windows.
        cameras: Keys such as ``front_rgb``, ``front_raw`` or ``img``, or names of cameras
            (``front`` is ``front_rgb``); None takes all ``<camera>_rgb``, or else all images. A
            store of raw frames has no ``<camera>_raw``: its ``_rgb`` is used instead.
        state: Keys whose numbers are joined to the state; may be empty.
        image_size: Side of the resized frames, pixels.
        weights: Share of each store; None takes all windows alike.
        cache: Folder for decoded frames, see :mod:`spie_robo.policies.cache`; None keeps them
            in memory.

    Attributes:
        cameras: Store key of each camera, by the camera's name in an environment.
        state_keys: Keys of the state.
        state_dim: Number of values in a state.
        action_dim: Number of values in an action.
        env_id: Environment of the stores; empty if they name none, or several.
        notes: Notes about the stores for the user.

    Raises:
        ConfigError: If there are no stores, weights do not fit them, or a key of the state does
            not belong to observations.
        StoreError: If a store lacks a key, has no or too short episodes, or a key holds another
            number of values than in the first store.
        StoreCorruptError: If a store is damaged.

    Example:
        >>> import tempfile, numpy as np
        >>> from spie_robo.data import EpisodeWriter
        >>> from spie_robo.policies import WindowDataset, WindowShape
        >>> path = Path(tempfile.mkdtemp()) / "sim.zarr"
        >>> with EpisodeWriter.create(path) as writer:
        ...     images = np.zeros((9, 96, 96, 3), np.uint8)
        ...     actions, states = np.ones((9, 4), np.float32), np.ones((9, 14), np.float32)
        ...     rows = {"front_rgb": images, "action": actions, "state": states}
        ...     writer.add_episode(rows, seed=0)
        >>> data = WindowDataset([path], WindowShape(1, 8, 8))
        >>> data.batch(0, 64, seed=0).images["front"].shape
        torch.Size([64, 1, 64, 64, 3])
    """

    def __init__(
        self,
        stores: Sequence[str | Path],
        shape: WindowShape,
        *,
        cameras: Sequence[str] | None = None,
        state: Sequence[str] = ("state",),
        image_size: int = 64,
        weights: Sequence[float] | None = None,
        cache: Path | None = None,
    ) -> None:
        """Open the stores, and decode the arrays that are not in the cache."""
        # Read the settings, and index the windows of each store.
        if not stores:
            raise ConfigError("stores: expected one or more, got none.")
        self.shape, self.state_keys, self.image_size = shape, tuple(state), image_size
        self.weights = _shares(weights, len(stores))
        sources = [open_windows(Path(store)) for store in stores]
        indices = [index_windows(s.episode_ends, shape, str(s.path)) for s in sources]
        self.cameras = {camera_name(key): key for key in _camera_keys(sources[0], cameras)}
        if not self.cameras and not self.state_keys:
            raise ConfigError("A policy needs a camera or a state, got neither.")
        # Refuse keys that an acting policy cannot see, and stores that do not fit together.
        if unseen := [key for key in self.state_keys if key in _OUTCOMES]:
            raise ConfigError(
                f"state: expected keys of observations, got {', '.join(unseen)}, which a policy "
                "that acts does not see. Leave it out of --state."
            )
        for key in (*self.state_keys, ACTION):
            _require_equal_sizes(key, sources)
        _require_continuous_actions(sources)
        # Decode the arrays.
        plain = [_numbers(source, self.state_keys) for source in sources]
        self._parts = [
            _Part(source, self._images(source, cache), *arrays, index)
            for source, arrays, index in zip(sources, plain, indices, strict=True)
        ]
        self._offsets = np.cumsum([0, *(len(index) for index in indices)])
        self._epoch: tuple[tuple[int, int], NDArray[np.int64]] | None = None
        self.state_dim, self.action_dim = plain[0][0].shape[1], plain[0][1].shape[1]
        # Collect the notes for the user.
        named = sorted({source.env_id for source in sources} - {""})
        self.env_id = named[0] if len(named) == 1 else ""
        others = () if cameras else _other_cameras(sources, self.cameras)
        self.notes = (*others, *_notes(sources[0], self.cameras, named, self.actions))

    def __len__(self) -> int:
        """Return the number of windows of all stores, which is also the length of an epoch."""
        return int(self._offsets[-1])

    @property
    def states(self) -> NDArray[np.float32]:
        """All states, float32, (steps, S)."""
        return np.concatenate([part.state for part in self._parts])

    @property
    def actions(self) -> NDArray[np.float32]:
        """All actions, float32, (steps, A)."""
        return np.concatenate([part.action for part in self._parts])

    def digest(self) -> str:
        """Return hex digits that change with the numbers, the episodes' bounds or the pictures.

        Only some frames of each camera are hashed.
        """
        found = hashlib.sha256()
        for part in self._parts:
            for numbers in (part.source.episode_ends, part.state, part.action):
                found.update(numbers.tobytes())
            for name, frames in sorted(part.images.items()):
                found.update(name.encode())
                found.update(frames[:: 1 + len(frames) // 100].tobytes())
        return found.hexdigest()

    def batches_in_epoch(self, batch_size: int) -> int:
        """Return the number of whole batches in an epoch, at least 1."""
        return max(1, len(self) // batch_size)

    def batch(self, number: int, batch_size: int, *, seed: int) -> WindowBatch:
        """Return batch ``number`` of an endless sequence of shuffled epochs.

        The last windows of an epoch that do not fill a batch are left out; if there are fewer
        windows than a batch, they repeat.
        """
        epoch, place = divmod(number, self.batches_in_epoch(batch_size))
        order = self._order(seed, epoch)
        chosen = np.resize(order, batch_size) if len(order) < batch_size else order
        return self.windows(chosen[place * batch_size : (place + 1) * batch_size])

    def windows(self, numbers: NDArray[np.int64]) -> WindowBatch:
        """Return windows by index; indices follow the order of the stores and their rows."""
        numbers = np.asarray(numbers, np.int64)
        horizon, seen, side = self.shape.horizon, self.shape.observation_horizon, self.image_size
        count = len(numbers)
        images = {n: np.empty((count, seen, side, side, 3), np.uint8) for n in self.cameras}
        state = np.empty((count, seen, self.state_dim), np.float32)
        action = np.empty((count, horizon, self.action_dim), np.float32)
        homes = np.searchsorted(self._offsets, numbers, side="right") - 1
        for home in np.unique(homes):
            part, places = self._parts[home], np.flatnonzero(homes == home)
            rows = part.windows.rows(numbers[places] - self._offsets[home], horizon)
            action[places] = part.action[rows]
            state[places] = part.state[rows[:, :seen]]
            for name, frames in part.images.items():
                images[name][places] = frames[rows[:, :seen]]
        return WindowBatch(
            {name: torch.from_numpy(image) for name, image in images.items()},
            torch.from_numpy(state),
            torch.from_numpy(action),
        )

    def _images(self, source: Source, cache: Path | None) -> dict[str, NDArray[np.uint8]]:
        keys = {name: _key_in(source, key) for name, key in self.cameras.items()}
        return {n: cached_images(source, key, self.image_size, cache) for n, key in keys.items()}

    def _order(self, seed: int, epoch: int) -> NDArray[np.int64]:
        if self._epoch is None or self._epoch[0] != (seed, epoch):
            self._epoch = ((seed, epoch), self._draw(seed, epoch))
        return self._epoch[1]

    def _draw(self, seed: int, epoch: int) -> NDArray[np.int64]:
        """Draw the order of an epoch's windows, int64, (len(self),)."""
        generator = np.random.default_rng((seed, epoch))
        if self.weights is None:
            return generator.permutation(len(self))
        chosen = []
        for number, count in enumerate(_deal(len(self), self.weights)):
            first, last = int(self._offsets[number]), int(self._offsets[number + 1])
            rounds = -(-count // (last - first))
            shuffled = [first + generator.permutation(last - first) for _ in range(rounds)]
            chosen += [np.concatenate([*shuffled, np.empty(0, np.int64)])[:count]]
        order = np.concatenate(chosen).astype(np.int64)
        return generator.permutation(order)


def camera_name(key: str) -> str:
    """Return the environment's name of the camera whose frames a store keeps under ``key``."""
    for suffix in (fields.rgb_key(""), fields.raw_key("")):
        if key.endswith(suffix) and key != suffix:
            return key.removesuffix(suffix)
    return key


def _camera_keys(source: Source, wanted: Sequence[str] | None) -> list[str]:
    """Return the keys of the cameras in the first store."""
    if wanted is None:
        recorded = [fields.rgb_key(camera) for camera in fields.cameras_of(source.shapes)]
        return recorded or [
            key for key, shape in sorted(source.shapes.items()) if len(shape) == 4 and shape[3] == 3
        ]
    keys = []
    for name in wanted:
        key = name if name in source.shapes else fields.rgb_key(name)
        keys.append(key if key in source.shapes else name)
    names = [camera_name(key) for key in keys]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(
            f"cameras: expected each once, got {twice} again. To mix raw and edited frames, mix "
            "their stores."
        )
    return keys


def _key_in(source: Source, key: str) -> str:
    """Return ``key``, or its counterpart in a store of raw frames."""
    raw = fields.raw_key("")
    if key.endswith(raw) and key not in source.shapes:
        stand_in = fields.rgb_key(key.removesuffix(raw))
        return stand_in if stand_in in source.shapes else key
    return key


def _numbers(
    source: Source, state_keys: Sequence[str]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Read the states (steps, S) and actions (steps, A) of a store."""
    states = [read_numbers(source, key) for key in state_keys]
    nothing = np.empty((source.n_steps, 0), np.float32)
    return np.concatenate([nothing, *states], axis=1), read_numbers(source, ACTION)


def _require_equal_sizes(key: str, sources: Sequence[Source]) -> None:
    for source in sources:
        source.require(key)
    sizes = [math.prod(source.shapes[key][1:]) for source in sources]
    for source, size in zip(sources, sizes, strict=True):
        if size != sizes[0]:
            raise StoreError(
                f"{source.path}: expected {key!r} of {sizes[0]} numbers as in {sources[0].path}, "
                f"got {size}. Mix stores of the same robot and environment only."
            )


def _require_continuous_actions(sources: Sequence[Source]) -> None:
    """Refuse actions that are choices: the mean of two choices is a third one.

    Raises:
        StoreError: Naming the store and the type of its actions.
    """
    for source in sources:
        dtype = source.dtype(ACTION)
        if dtype.kind in "biu":
            raise StoreError(
                f"{source.path}: expected actions that are continuous numbers, got {dtype}, as an "
                "action space of choices (Discrete, MultiDiscrete, MultiBinary) gives them. The "
                "policies here move smoothly: record an environment whose action space is a Box. "
                "Whole numbers that do mean amounts can be stored as float32."
            )


def _notes(
    first: Source,
    cameras: Mapping[str, str],
    env_ids: Sequence[str],
    actions: NDArray[np.float32],
) -> tuple[str, ...]:
    notes = []
    if (np.ptp(actions, axis=0) < SMALLEST_RANGE).all():
        notes.append(
            f"All actions are the same to within {SMALLEST_RANGE:g}: the policy will do the same, "
            "whatever it sees."
        )
    if len(env_ids) > 1:
        notes.append(
            f"The stores are of several environments ({', '.join(env_ids)}): whether the policy is "
            "used in one of them is not checked."
        )
    unseen = {key: shape for key, shape in first.shapes.items() if len(shape) == 4}
    if not cameras and unseen:
        notes.append(
            f"{first.path}: the policy sees no pictures. {unseen} are not of shape (steps, height, "
            "width, 3)."
        )
    return tuple(notes)


def _other_cameras(sources: Sequence[Source], cameras: Mapping[str, str]) -> Iterator[str]:
    """Yield a note for each store with more cameras than the policy sees."""
    for source in sources[1:]:
        more = sorted({camera_name(key) for key in _camera_keys(source, None)} - set(cameras))
        if cameras and more:
            yield (
                f"{source.path}: the policy does not see {', '.join(more)}, which the first store "
                "lacks."
            )


def _shares(weights: Sequence[float] | None, stores: int) -> tuple[float, ...] | None:
    if not weights:
        return None
    if len(weights) != stores:
        raise ConfigError(f"weights: expected one a store ({stores}), got {len(weights)}.")
    total = sum(weights)
    if not all(np.isfinite(weight) and weight >= 0 for weight in weights) or total <= 0:
        raise ConfigError(f"weights: expected 0 or more, one of them above, got {list(weights)}.")
    return tuple(weight / total for weight in weights)


def _deal(count: int, shares: Sequence[float]) -> list[int]:
    """Divide ``count`` into whole parts close to ``shares``, by largest remainders."""
    exact = [count * share for share in shares]
    parts = [int(value) for value in exact]
    by_remainder = sorted(range(len(parts)), key=lambda i: parts[i] - exact[i])
    for i in by_remainder[: count - sum(parts)]:
        parts[i] += 1
    return parts
