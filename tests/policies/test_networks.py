from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from spie_robo.errors import ConfigError
from spie_robo.policies.base import Augmentation, PolicySpec, build_policy, spec_from_json
from spie_robo.policies.dataset import WindowBatch
from spie_robo.policies.encoder import SpatialSoftmax, color_jitter, random_shift
from spie_robo.policies.normalizer import Normalizer


def spec(algorithm: str, **changes: object) -> PolicySpec:
    settings = {
        "observation_horizon": 2,
        "horizon": 6,
        "action_steps": 3,
        "image_size": 16,
        "width": 8,
        "hidden": 128,
    }
    return PolicySpec(algorithm, ("a.b", "c"), ("state",), 3, 2, **{**settings, **changes})


def batch(count: int = 4) -> WindowBatch:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (count, 2, 16, 16, 3), np.uint8)
    return WindowBatch(
        {"a.b": torch.from_numpy(image), "c": torch.from_numpy(255 - image)},
        torch.from_numpy(rng.normal(size=(count, 2, 3)).astype(np.float32)),
        torch.from_numpy(rng.uniform(-5, 5, (count, 6, 2)).astype(np.float32)),
    )


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("algorithm", ["bc", "diffusion"])
def test_learns_a_batch_by_heart_and_acts_in_its_units(algorithm: str) -> None:
    torch.manual_seed(0)
    policy, windows = build_policy(spec(algorithm)), batch()
    policy.action_normalizer.fit(windows.action.numpy().reshape(-1, 2))
    optimizer = torch.optim.AdamW(policy.parameters(), lr=3e-3)
    losses = []
    for step in range(200):
        loss, metrics = policy.loss(windows, generator(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert metrics and np.mean(losses[-20:]) < 0.4 * np.mean(losses[:20])
    policy.eval()
    chunk = policy.act_chunk(windows.images, windows.state, generator())
    assert chunk.shape == (4, 3, 2)
    # The executed actions begin at the newest observation, the second of a window.
    error = (chunk - windows.action[:, 1:4]).abs().mean()
    others = (chunk.roll(1, 0) - windows.action[:, 1:4]).abs().mean()
    assert error < 0.5 * others
    again = policy.act_chunk(windows.images, windows.state, generator())
    torch.testing.assert_close(again, chunk, rtol=0, atol=0)


@pytest.mark.parametrize("algorithm", ["bc", "diffusion"])
def test_every_weight_gets_a_gradient(algorithm: str) -> None:
    policy = build_policy(spec(algorithm))
    loss, _ = policy.loss(batch(), generator(), Augmentation(shift=2, color=0.2))
    loss.backward()
    assert [n for n, p in policy.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_works_without_cameras_and_without_a_state() -> None:
    windows = batch()
    blind = build_policy(dataclasses.replace(spec("bc"), cameras=()))
    assert torch.isfinite(blind.loss(windows, generator())[0])
    camera_only = build_policy(dataclasses.replace(spec("bc"), state_keys=(), state_dim=0))
    nothing = dataclasses.replace(windows, state=torch.empty(4, 2, 0))
    assert torch.isfinite(camera_only.loss(nothing, generator())[0])


def test_diffusion_needs_an_even_horizon() -> None:
    with pytest.raises(ConfigError, match="even number"):
        build_policy(spec("diffusion", horizon=5))


def test_normalizer_maps_ranges_and_keeps_constants() -> None:
    values = np.array([[0, 10, 7], [4, 20, 7], [1, 12, 7]], np.float32)
    normalizer = Normalizer(3)
    normalizer.fit(values)
    scaled = normalizer.normalize(torch.from_numpy(values))
    torch.testing.assert_close(scaled[:2], torch.tensor([[-1.0, -1, 0], [1, 1, 0]]))
    torch.testing.assert_close(normalizer.unnormalize(scaled), torch.from_numpy(values))
    wild = normalizer.unnormalize(torch.full((1, 3), 3.0))
    assert wild[0, 2] == 7
    other = Normalizer(3)
    other.load_state_dict(normalizer.state_dict())
    torch.testing.assert_close(other.normalize(torch.from_numpy(values)), scaled)


def test_spatial_softmax_finds_a_bright_pixel() -> None:
    maps = torch.zeros(1, 2, 5, 9)
    maps[0, 0, 4, 0] = maps[0, 1, 2, 8] = 50
    torch.testing.assert_close(SpatialSoftmax()(maps), torch.tensor([[-1.0, 1.0, 1.0, 0.0]]))


def test_random_shift_moves_all_steps_of_a_window_alike() -> None:
    images = torch.arange(16.0).expand(5, 2, 3, 16, 16).contiguous()
    shifted = random_shift(images, 3, generator())
    torch.testing.assert_close(shifted[:, 0], shifted[:, 1])
    moves = (shifted - images)[:, 0, 0, 8, 8]
    assert moves.abs().max() <= 3 and len(moves.unique()) > 1
    assert random_shift(images, 0, generator()) is images


def test_color_jitter_is_one_gain_and_offset_a_window() -> None:
    images = torch.rand(3, 2, 3, 8, 8, generator=generator()) * 0.2 - 0.1
    changed = color_jitter(images, 0.3, generator())
    differences = changed[:, 0] - changed[:, 1]
    gains = differences / (images[:, 0] - images[:, 1])
    torch.testing.assert_close(gains, gains[..., :1, :1].expand_as(gains), atol=1e-2, rtol=1e-2)
    assert 0.02 < float((gains[..., 0, 0] - 1).abs().max()) <= 0.31
    assert color_jitter(images, 0.0, generator()) is images


def test_spec_survives_json_and_refuses_nonsense() -> None:
    import json

    record = json.loads(json.dumps(dataclasses.asdict(spec("bc"))))
    assert spec_from_json(record) == spec("bc")
    with pytest.raises(ConfigError, match="algorithm: expected one of bc, diffusion, got 'ppo'"):
        spec_from_json({**record, "algorithm": "ppo"})
    with pytest.raises(ConfigError):
        spec_from_json({**record, "horizon": 1})
