"""Batches of shuffled windows over one or several stores: what a policy trains on."""

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
"""What a policy does and what comes of it: no observation has these keys."""


@final
@dataclass(frozen=True, eq=False)
class WindowBatch:
    """Some windows. B windows, To observation steps, H steps in all.

    Attributes:
        images: By name of the camera: uint8, (B, To, side, side, 3).
        state: float32, (B, To, S); S is 0 without a state.
        action: float32, (B, H, A), as the store has them.
    """

    images: Mapping[str, Tensor]
    state: Tensor
    action: Tensor

    def to(self, device: torch.device) -> WindowBatch:
        """The same on another device."""
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

    Without weights, an epoch is every window once. With weights it is as many windows, of which
    each store gives its share: the windows of a store with a large share come several times, those
    of a store with a small one are a new random part in every epoch. The order is a function of
    seed and epoch, so that a resumed run needs only the number of its next batch.

    Args:
        stores: Folders of stores.
        shape: Lengths of the windows.
        cameras: Keys such as ``front_rgb``, ``front_raw`` or ``img``, or the names of cameras
            (``front`` is ``front_rgb``); None takes all ``<camera>_rgb``, or else all images. A
            store of raw frames has no ``<camera>_raw``: there its ``_rgb`` stands for it.
        state: Keys whose numbers, one after the other, make the state; may be empty.
        image_size: Side that frames are resized to, pixels.
        weights: Share of each store; None takes all windows alike.
        cache: Folder for decoded frames, see :mod:`spie_robo.policies.cache`; None keeps them
            in memory.

    Attributes:
        cameras: Store key of each camera, by the camera's name in an environment.
        state_keys: Keys of the state.
        state_dim: Numbers of a state.
        action_dim: Numbers of an action.
        env_id: The environment that the stores name; empty if they name none, or several.
        notes: What a user should know of the stores before training on them.

    Raises:
        ConfigError: If there are no stores, weights do not fit them, or a key of the state is none
            of observations.
        StoreError: If a store lacks a key, has no or too short episodes, or a key holds another
            count of numbers than in the first store.
        StoreCorruptError: If a store is damaged.

    Example:
        >>> data = WindowDataset([Path("sim.zarr")], WindowShape(1, 8, 8))  # doctest: +SKIP
        >>> data.batch(0, 64, seed=0).images["front"].shape  # doctest: +SKIP
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
        """Open the stores, and decode what is not in the cache yet."""
        if not stores:
            raise ConfigError("stores: expected one or more, got none.")
        self.shape, self.state_keys, self.image_size = shape, tuple(state), image_size
        self.weights = _shares(weights, len(stores))
        sources = [open_windows(Path(store)) for store in stores]
        indices = [index_windows(s.episode_ends, shape, str(s.path)) for s in sources]
        self.cameras = {camera_name(key): key for key in _camera_keys(sources[0], cameras)}
        if not self.cameras and not self.state_keys:
            raise ConfigError("A policy needs a camera or a state, got neither.")
        if unseen := [key for key in self.state_keys if key in _OUTCOMES]:
            raise ConfigError(
                f"state: expected keys of observations, got {', '.join(unseen)}, which a policy "
                "that acts does not see. Leave it out of --state."
            )
        for key in (*self.state_keys, ACTION):
            _require_equal_sizes(key, sources)
        plain = [_numbers(source, self.state_keys) for source in sources]
        self._parts = [
            _Part(source, self._images(source, cache), *arrays, index)
            for source, arrays, index in zip(sources, plain, indices, strict=True)
        ]
        self._offsets = np.cumsum([0, *(len(index) for index in indices)])
        self._epoch: tuple[tuple[int, int], NDArray[np.int64]] | None = None
        self.state_dim, self.action_dim = plain[0][0].shape[1], plain[0][1].shape[1]
        named = sorted({source.env_id for source in sources} - {""})
        self.env_id = named[0] if len(named) == 1 else ""
        others = () if cameras else _other_cameras(sources, self.cameras)
        self.notes = (*others, *_notes(sources[0], self.cameras, named, self.actions))

    def __len__(self) -> int:
        """Number of windows of all stores together, which is also the length of an epoch."""
        return int(self._offsets[-1])

    @property
    def states(self) -> NDArray[np.float32]:
        """Every state, float32, (steps, S)."""
        return np.concatenate([part.state for part in self._parts])

    @property
    def actions(self) -> NDArray[np.float32]:
        """Every action, float32, (steps, A)."""
        return np.concatenate([part.action for part in self._parts])

    def digest(self) -> str:
        """Hex digits that change when the numbers, the episodes' bounds or the pictures do.

        Of each camera a few frames are looked at, not all.
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
        """Whole batches that an epoch gives, at least 1."""
        return max(1, len(self) // batch_size)

    def batch(self, number: int, batch_size: int, *, seed: int) -> WindowBatch:
        """Batch ``number`` of an endless sequence of shuffled epochs.

        The last windows of an epoch that do not fill a batch are left out; where there are fewer
        windows than a batch, they are repeated.
        """
        epoch, place = divmod(number, self.batches_in_epoch(batch_size))
        order = self._order(seed, epoch)
        chosen = np.resize(order, batch_size) if len(order) < batch_size else order
        return self.windows(chosen[place * batch_size : (place + 1) * batch_size])

    def windows(self, numbers: NDArray[np.int64]) -> WindowBatch:
        """Windows by number; those of the first store come first, in the order of its rows."""
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
        """The windows of an epoch in the order of training, int64, (len(self),)."""
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
    """What an environment calls the camera whose frames a store keeps under ``key``."""
    for suffix in (fields.rgb_key(""), fields.raw_key("")):
        if key.endswith(suffix) and key != suffix:
            return key.removesuffix(suffix)
    return key


def _camera_keys(source: Source, wanted: Sequence[str] | None) -> list[str]:
    """Keys of the cameras, as the first store has them."""
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
    """``key``, or in a store of raw frames the one that stands for it."""
    raw = fields.raw_key("")
    if key.endswith(raw) and key not in source.shapes:
        stand_in = fields.rgb_key(key.removesuffix(raw))
        return stand_in if stand_in in source.shapes else key
    return key


def _numbers(
    source: Source, state_keys: Sequence[str]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """States (steps, S) and actions (steps, A) of a store."""
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


def _notes(
    first: Source,
    cameras: Mapping[str, str],
    env_ids: Sequence[str],
    actions: NDArray[np.float32],
) -> tuple[str, ...]:
    notes = []
    if (np.ptp(actions, axis=0) < SMALLEST_RANGE).all():
        notes.append(
            f"All actions are the same to within {SMALLEST_RANGE:g}: the policy will do just that, "
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
    """A note of each store that shows more than the policy sees."""
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
    """``count`` in whole parts as near to ``shares`` as can be (largest remainders)."""
    exact = [count * share for share in shares]
    parts = [int(value) for value in exact]
    by_remainder = sorted(range(len(parts)), key=lambda i: parts[i] - exact[i])
    for i in by_remainder[: count - sum(parts)]:
        parts[i] += 1
    return parts
