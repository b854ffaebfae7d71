"""The plug-in for LeRobot, with LeRobot itself: skipped where that is not installed."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from spie_robo.errors import ConfigError, FrameError
from spie_robo.types import Geometry

# Asked of the installation, not tried: a plug-in that is there and cannot be imported must fail.
if not all(importlib.util.find_spec(name) for name in ("lerobot", "lerobot_env_spie")):
    pytest.skip(
        "needs LeRobot and plugins/lerobot_env_spie, Python 3.12: docs/guides/lerobot.md",
        allow_module_level=True,
    )

import gymnasium as gym
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from lerobot.envs import EnvConfig, make_env, preprocess_observation
from lerobot.processor import PolicyProcessorPipeline, ProcessorStepRegistry

import lerobot_env_spie as plugin
from lerobot_env_spie import passengers, step
from lerobot_env_spie.environments import LeRobotNames

FRONT, WRIST = "observation.images.front", "observation.images.wrist"


class Shifted:
    """An editor whose edits show which seed they were made with, and that notes its frames."""

    id = "shifted"

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def edit(self, frames, references=None, instruction=None, seeds=None):
        from spie_robo.types import EditResult

        self.seen.extend(frames)
        return [
            EditResult(frame.rgb + np.uint8(seed % 251), seed, "", self.id, 1)
            for frame, seed in zip(frames, seeds, strict=True)
        ]


@pytest.fixture
def editor(monkeypatch: pytest.MonkeyPatch) -> Shifted:
    """Stands in for every editor that a step loads."""
    made = Shifted()
    monkeypatch.setattr(step, "load_editor", lambda name, device: made)
    return made


def realism(**settings: Any) -> Any:
    return plugin.RealismProcessorStep(guard=False, **settings)


def images(rows: int, *more: int, seed: int = 0) -> torch.Tensor:
    """Frames in 0..1, every number a whole 255th."""
    generator = torch.Generator().manual_seed(seed)
    shape = (rows, *more, 3, 24, 32)
    return torch.randint(0, 256, shape, generator=generator).float() / 255


def test_lerobot_finds_the_plug_in_by_its_name() -> None:
    names = [item.metadata["Name"] for item in metadata.distributions()]
    assert "lerobot_env_spie" in names
    assert ProcessorStepRegistry.get("spie_robo/realism") is plugin.RealismProcessorStep
    known = EnvConfig.get_known_choices()
    assert {"spie_robo", "realistic_spie_robo", "realistic_libero", "realistic_pusht"} <= set(known)
    assert not {"realistic_isaaclab_arena", "realistic_gym_manipulator"} & set(known)


@pytest.mark.parametrize("kind", ["pusht", "aloha", "libero", "metaworld"])
def test_a_realistic_type_is_the_type_with_one_more_setting(kind: str) -> None:
    plain = EnvConfig.get_choice_class(kind)()
    edited = EnvConfig.get_choice_class(f"realistic_{kind}")()
    assert edited.package_name == plain.package_name and edited.gym_id == plain.gym_id
    assert edited.features == plain.features and edited.features_map == plain.features_map
    before, after = edited.get_env_processors()
    own_before, own_after = plain.get_env_processors()
    assert [type(s) for s in before.steps] == [
        *(type(s) for s in own_before.steps),
        plugin.RealismProcessorStep,
    ]
    assert [type(s) for s in after.steps] == [type(s) for s in own_after.steps]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.uint8])
def test_tensors_come_back_with_their_shape_type_and_values(editor, dtype) -> None:
    frames = images(2)
    given = (frames * 255).to(dtype) if dtype == torch.uint8 else frames.to(dtype)
    state = torch.arange(6).reshape(2, 3)
    before = given.clone()
    looks = torch.from_numpy(passengers.pack_looks([3, 250])["spie_look"]).float()
    out = realism().observation(
        {
            FRONT: given,
            "observation.state": state,
            "task": ["a", "b"],
            "observation.spie_look": looks,
        }
    )
    assert set(out) == {FRONT, "observation.state", "task"}
    assert out["observation.state"] is state and torch.equal(given, before)
    assert out[FRONT].shape == given.shape and out[FRONT].dtype == dtype
    bytes_in = (frames * 255).round().to(torch.uint8)
    shifts = torch.tensor([3, 250], dtype=torch.uint8).reshape(2, 1, 1, 1)
    scale = 1 if dtype == torch.uint8 else 255
    np.testing.assert_allclose(
        out[FRONT].float() * scale, (bytes_in + shifts).float(), atol=0.13 if scale > 1 else 0
    )


def test_frames_of_a_window_share_the_look_of_their_row(editor) -> None:
    given = torch.zeros(2, 3, 3, 24, 32)
    looks = torch.from_numpy(passengers.pack_looks([7, 9])["spie_look"])
    out = realism().observation({FRONT: given, "observation.spie_look": looks})[FRONT]
    shown = (out * 255).round().int()
    assert shown[0].unique().tolist() == [7] and shown[1].unique().tolist() == [9]


def test_without_environments_the_look_changes_at_reset_and_only_there(editor) -> None:
    made = realism(seed=5)
    one, same = (made.observation({FRONT: torch.zeros(2, 3, 24, 32)})[FRONT] for _ in range(2))
    assert torch.equal(one, same) and not torch.equal(one[0], one[1])
    made.reset()
    assert not torch.equal(one, made.observation({FRONT: torch.zeros(2, 3, 24, 32)})[FRONT])
    again = realism(seed=5).observation({FRONT: torch.zeros(2, 3, 24, 32)})[FRONT]
    assert torch.equal(one, again)


def test_tasks_in_threads_that_share_a_step_keep_their_looks(editor) -> None:
    """``env.max_parallel_tasks`` does that."""
    made = realism()

    def shown(seed: int) -> set[int]:
        looks = torch.from_numpy(passengers.pack_looks([seed])["spie_look"])
        batch = {FRONT: torch.zeros(1, 3, 24, 32), "observation.spie_look": looks}
        runs = [made.observation(batch)[FRONT] * 255 for _ in range(30)]
        return {int(value) for run in runs for value in run.round().unique()}

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(shown, range(1, 9))) == [{seed} for seed in range(1, 9)]


def test_only_named_cameras_are_edited(editor) -> None:
    given = {FRONT: images(1), WRIST: images(1, seed=1), "observation.image": images(1, seed=2)}
    out = realism(cameras=["wrist", "image"], seed=1).observation(given)
    assert out[FRONT] is given[FRONT]
    assert not torch.equal(out[WRIST], given[WRIST])
    assert not torch.equal(out["observation.image"], given["observation.image"])
    with pytest.raises(ConfigError, match=r"\['front', 'image', 'wrist'\], got \['top'\]"):
        realism(cameras=["top"]).observation(given)


def test_an_observation_without_images_passes(editor) -> None:
    given = {"observation.state": torch.zeros(1, 2)}
    assert realism().observation(given) == given and not editor.seen


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (torch.zeros(2, 24, 32, 3), r"expected images of shape \(B, 3, height, width\)"),
        (torch.zeros(3, 24, 32), r"expected images of shape \(B, 3, height, width\)"),
        (torch.full((1, 3, 24, 32), -2.1), "before the step that normalises"),
        (torch.full((1, 3, 24, 32), torch.nan), "before the step that normalises"),
    ],
)
def test_what_is_no_picture_is_refused(editor, frames, message) -> None:
    with pytest.raises(FrameError, match=message):
        realism().observation({FRONT: frames})


def test_a_pipeline_with_the_step_is_saved_and_loaded_by_name(editor, tmp_path: Path) -> None:
    pipeline = PolicyProcessorPipeline(steps=[realism(editor="e", seed=3)], name="before")
    pipeline.save_pretrained(tmp_path)
    loaded = PolicyProcessorPipeline.from_pretrained(tmp_path, config_filename="before.json")
    assert loaded.steps[0].get_config() == pipeline.steps[0].get_config()
    batch = {FRONT: images(1), "action": torch.zeros(1, 4)}
    assert torch.equal(loaded(batch)[FRONT], pipeline(batch)[FRONT])


def test_a_preview_shows_raw_beside_edited_once_a_look(editor, tmp_path: Path) -> None:
    made = realism(preview=str(tmp_path / "new"))
    frames = images(1)
    for _ in range(2):
        edited = made.observation({FRONT: frames})[FRONT]
    made.reset()
    made.observation({FRONT: frames})
    paths = sorted((tmp_path / "new").iterdir())
    assert len(paths) == 2
    shown = [cv2.cvtColor(cv2.imread(str(p)), cv2.COLOR_BGR2RGB) for p in paths]
    raw = (frames[0].movedim(0, -1) * 255).round().to(torch.uint8).numpy()
    assert all(np.array_equal(image[:, :32], raw) for image in shown)
    made_of = (edited[0].movedim(0, -1) * 255).round().to(torch.uint8).numpy()
    assert any(np.array_equal(image[:, 32:], made_of) for image in shown)


def test_passengers_survive_lerobots_float32() -> None:
    rng = np.random.default_rng(0)
    seeds = [0, 2**31 - 2, 1234567891]
    geometries = [
        Geometry(
            depth=rng.random((4, 5), np.float32),
            segmentation=rng.integers(-1, 2**24, (4, 5), np.int32),
            names={-1: "nothing", 2**23: "cube" * (i + 1), i: "Möbel"},
        )
        for i in range(3)
    ]
    packed = passengers.pack_looks(seeds) | passengers.pack_geometry("front", geometries)
    seen = {key: value.astype(np.float32) for key, value in packed.items()}
    assert passengers.unpack_looks(seen["spie_look"]) == seeds
    for row, expected in enumerate(geometries):
        assert passengers.unpack_geometry(seen, "front", row) == expected
        assert passengers.unpack_geometry(seen, "wrist", row) is None


def vector_env(kind: str = "realistic_spie_robo", n: int = 2, **settings: Any) -> tuple[Any, Any]:
    config = EnvConfig.get_choice_class(kind)(width=32, height=32, episode_length=3, **settings)
    (envs,) = make_env(config, n_envs=n)[config.type].values()
    return config, envs


def look_of(observation: dict[str, Any]) -> list[int]:
    return passengers.unpack_looks(observation["spie_look"])


def test_every_reset_begins_a_look_and_equal_seeds_give_equal_looks() -> None:
    from spie_robo.wrappers import RealismWrapper

    _, envs = vector_env(task="Reach-v0")
    try:
        first = look_of(envs.reset(seed=[5, 6])[0])
        stepped = look_of(envs.step(envs.action_space.sample())[0])
        second = look_of(envs.reset(seed=None)[0])
        again = look_of(envs.reset(seed=[5, 6])[0])
        spread = look_of(envs.reset(seed=5)[0])
    finally:
        envs.close()
    assert first == stepped == again == spread and first[0] != first[1]
    assert not set(first) & set(second)
    single = RealismWrapper(gym.make("SpieRobo/Reach-v0"), Shifted(), guard=None)
    _, info = single.reset(seed=5)
    single.close()
    assert info["realism"]["front"].seed == first[0]


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_an_env_that_resets_itself_begins_a_look(mode: AutoresetMode) -> None:
    def make() -> Any:
        env = gym.make("SpieRobo/Reach-v0", width=32, height=32, max_episode_steps=2)
        return LeRobotNames(env, "reach")

    envs = plugin.LookSeedEnvs(SyncVectorEnv([make], autoreset_mode=mode))
    try:
        looks = [look_of(envs.reset(seed=[0])[0])]
        still = np.zeros((1, 4), np.float32)
        looks += [look_of(envs.step(still)[0]) for _ in range(3)]
    finally:
        envs.close()
    began = 2 if mode == AutoresetMode.SAME_STEP else 3
    changes = [i for i in range(1, 4) if looks[i] != looks[i - 1]]
    assert changes == [began]


def test_frames_and_true_geometry_reach_the_editor_through_lerobots_own_steps(editor) -> None:
    config, envs = vector_env(task="Push-v0", realism=plugin.RealismConfig(guard=False))
    try:
        raw, info = envs.reset(seed=[1, 2])
        pipeline, _ = config.get_env_processors()
        observation = preprocess_observation(raw)
        observation["task"] = list(envs.call("task_description"))
        out = pipeline(observation)
        looks = look_of(raw)
    finally:
        envs.close()
    assert out["task"] == ["push the cube onto the green goal"] * 2
    assert not [key for key in out if "spie_" in key]
    assert torch.equal(out["observation.state"], torch.from_numpy(raw["agent_pos"]))
    for camera in ("front", "wrist"):
        shifts = np.array([look % 251 for look in looks], np.uint8).reshape(2, 1, 1, 1)
        shown = (out[f"observation.images.{camera}"] * 255).round().to(torch.uint8)
        np.testing.assert_array_equal(shown.movedim(1, -1), raw["pixels"][camera] + shifts)
    assert [frame.camera for frame in editor.seen] == ["front", "front", "wrist", "wrist"]
    for i, frame in enumerate(editor.seen):
        expected = info["geometry"][frame.camera][i % 2]
        np.testing.assert_array_equal(frame.geometry.depth, expected.depth)
        np.testing.assert_array_equal(frame.geometry.segmentation, expected.segmentation)
        assert frame.geometry.names == dict(expected.names)


def test_an_unknown_task_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match="Reach-v0, Push-v0, PickPlace-v0, got 'Pull-v0'"):
        plugin.SpieRoboEnv(task="Pull-v0")


def save_random_policy(folder: Path) -> None:
    """A tiny ACT with random weights, as ``lerobot-train`` saves one."""
    from lerobot.configs import FeatureType, PolicyFeature
    from lerobot.policies import make_pre_post_processors
    from lerobot.policies.act.configuration_act import ACTConfig
    from lerobot.policies.act.modeling_act import ACTPolicy

    torch.manual_seed(0)
    image = PolicyFeature(type=FeatureType.VISUAL, shape=(3, 64, 64))
    config = ACTConfig(
        input_features={
            FRONT: image,
            WRIST: image,
            "observation.state": PolicyFeature(type=FeatureType.STATE, shape=(14,)),
        },
        output_features={"action": PolicyFeature(type=FeatureType.ACTION, shape=(4,))},
        pretrained_backbone_weights=None,
        dim_model=16,
        n_heads=2,
        dim_feedforward=16,
        n_encoder_layers=1,
        n_vae_encoder_layers=1,
        latent_dim=4,
        chunk_size=2,
        n_action_steps=1,
        device="cpu",
    )
    ACTPolicy(config).save_pretrained(folder)
    for pipeline in make_pre_post_processors(config, dataset_stats=None):
        pipeline.save_pretrained(folder)


def run_lerobot(command: str, *arguments: str) -> str:
    """What a command of LeRobot printed; it ends well or the test fails."""
    done = subprocess.run(
        [str(Path(sys.executable).parent / command), *arguments],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("use_async", ["false", "true"])
def test_lerobot_eval_sees_edited_frames_by_command_line_alone(tmp_path: Path, use_async) -> None:
    save_random_policy(tmp_path / "policy")
    output = run_lerobot(
        "lerobot-eval",
        f"--policy.path={tmp_path / 'policy'}",
        "--policy.device=cpu",
        "--env.type=realistic_spie_robo",
        "--env.task=Push-v0",
        "--env.width=64",
        "--env.height=64",
        "--env.episode_length=2",
        "--env.realism.editor=embedded-labs",
        f"--env.realism.preview={tmp_path / 'preview'}",
        "--eval.n_episodes=4",
        "--eval.batch_size=2",
        f"--eval.use_async_envs={use_async}",
        f"--output_dir={tmp_path / 'out'}",
    )
    info = json.loads((tmp_path / "out" / "eval_info.json").read_text())
    assert info["overall"]["n_episodes"] == 4
    # Two batches of two episodes of two steps, two cameras each.
    assert "of 16 frames edited" in output and "of 8 frames edited" in output
    pictures = sorted((tmp_path / "preview").glob("front_*.png"))
    assert len(pictures) == 2, "a new look at every reset"
    for path in pictures:
        raw, edited = np.hsplit(cv2.imread(str(path)).astype(int), 2)
        assert np.abs(raw - edited).mean() > 2
