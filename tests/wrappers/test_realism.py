from __future__ import annotations

import json

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict
from gymnasium.wrappers import RecordEpisodeStatistics

import spie_robo.guard
from spie_robo.editing.by_name import load_default_guard
from spie_robo.errors import ConfigError, EditorError, EnvError, FrameError
from spie_robo.types import EditResult, Geometry, GuardedEdit
from spie_robo.wrappers import RealismWrapper
from spie_robo.wrappers.cameras import find_cameras


def wrap(env, toys, **kwargs):
    kwargs.setdefault("guard", None)
    return RealismWrapper(env, kwargs.pop("editor", toys.NegativeEditor()), **kwargs)


def no_geometry(env, observation, info):
    return {}


def test_edits_the_image_and_keeps_the_space(toys):
    inner = toys.PlainImageEnv()
    env = wrap(inner, toys)
    assert env.observation_space == inner.observation_space

    for call in (lambda: env.reset(seed=1), lambda: env.step(1)[::4]):
        observation, info = call()
        raw, edit = info["raw"]["camera"], info["realism"]["camera"]
        assert observation in env.observation_space
        np.testing.assert_array_equal(raw, inner.observe())
        np.testing.assert_array_equal(observation, (255 - raw) ^ np.uint8(edit.seed % 13))
        assert isinstance(edit, GuardedEdit) and edit.edited and not edit.error


def test_leaves_the_rest_of_the_env_alone(toys):
    """Rewards and terminations depend on the env's random numbers, so these are untouched too."""
    plain, env = toys.DictImageEnv(), wrap(toys.DictImageEnv(), toys)
    plain.reset(seed=5), env.reset(seed=5)
    for _ in range(2):
        for action in (0, 1, 1):
            expected, reward, terminated, truncated, info = plain.step(action)
            got = env.step(action)
            assert got[1:4] == (reward, terminated, truncated)
            np.testing.assert_array_equal(got[0]["state"], expected["state"])
            np.testing.assert_array_equal(got[4]["raw"]["front"], expected["front"])
            assert got[4]["success"] == info["success"]
        plain.reset(), env.reset()


def test_finds_every_large_image_of_a_dict(toys):
    env = wrap(toys.DictImageEnv(), toys)
    observation, info = env.reset(seed=0)
    assert set(info["realism"]) == {"front", "sensors_wrist"}
    assert observation in env.observation_space
    assert observation["sensors"]["wrist"].min() > 130  # inverted
    assert observation["icon"].max() == 0 and observation["mask"].max() == 0


def test_edits_only_the_named_cameras_under_their_names(toys):
    env = wrap(toys.DictImageEnv(), toys, cameras={"hand": "sensors/wrist"}, geometry=no_geometry)
    observation, info = env.reset(seed=0)
    assert list(info["realism"]) == ["hand"]
    np.testing.assert_array_equal(observation["front"], env.unwrapped.observe()["front"])
    assert (observation["sensors"]["wrist"] != env.unwrapped.observe()["sensors"]["wrist"]).all()


def test_a_single_name_names_an_observation_that_is_the_image(toys):
    _, info = wrap(toys.PlainImageEnv(), toys, cameras=["front"]).reset(seed=0)
    assert list(info["raw"]) == ["front"]


def test_all_cameras_of_a_step_are_one_batch_with_one_seed(toys):
    editor = toys.NegativeEditor()
    _, info = wrap(toys.DictImageEnv(), toys, editor=editor).reset(seed=0)
    assert editor.batches == [["front", "sensors_wrist"]]
    assert len({edit.seed for edit in info["realism"].values()}) == 1


@pytest.mark.parametrize("seed_per", ["episode", "step"])
def test_equal_reset_seeds_give_equal_looks(toys, seed_per):
    def looks(env, reset_seed):
        seeds = []
        for seed in (reset_seed, None):
            seeds.append(env.reset(seed=seed)[1]["realism"]["camera"].seed)
            seeds += [env.step(0)[4]["realism"]["camera"].seed for _ in range(2)]
        return seeds

    env = wrap(toys.PlainImageEnv(), toys, seed_per=seed_per)
    first = looks(env, 3)
    assert looks(env, 3) == first
    assert looks(wrap(toys.PlainImageEnv(), toys, seed_per=seed_per), 3) == first
    assert looks(env, 4) != first
    assert len(set(first)) == (2 if seed_per == "episode" else 6)


def test_an_unseeded_first_reset_takes_the_seed_that_the_env_chose(toys):
    env = wrap(toys.PlainImageEnv(), toys)
    look = env.reset()[1]["realism"]["camera"].seed
    again = wrap(toys.PlainImageEnv(), toys).reset(seed=env.np_random_seed)[1]
    assert again["realism"]["camera"].seed == look
    assert wrap(toys.PlainImageEnv(), toys).reset()[1]["realism"]["camera"].seed != look


def test_a_rejected_edit_is_retried_and_then_the_raw_frame(toys):
    guard = toys.FakeGuard(lambda frame, edit: frame.camera == "front")
    env = wrap(toys.DictImageEnv(), toys, guard=guard, retries=2)
    observation, info = env.reset(seed=0)
    front, wrist = info["realism"]["front"], info["realism"]["sensors_wrist"]
    assert (front.edited, front.attempts) == (True, 1)
    assert (wrist.edited, wrist.attempts, wrist.verdict.accepted) == (False, 3, False)
    assert wrist.seed == front.seed + 2
    np.testing.assert_array_equal(observation["sensors"]["wrist"], info["raw"]["sensors_wrist"])


def test_a_failing_editor_raises_or_passes_the_raw_frame_through(toys):
    with pytest.raises(EditorError, match="out of memory"):
        wrap(toys.PlainImageEnv(), toys, editor=toys.BrokenEditor()).reset(seed=0)
    env = wrap(toys.PlainImageEnv(), toys, editor=toys.BrokenEditor(), on_error="passthrough")
    observation, info = env.reset(seed=0)
    np.testing.assert_array_equal(observation, info["raw"]["camera"])
    assert "out of memory" in info["realism"]["camera"].error


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda frame: frame.rgb, "returned ndarray, expected one spie_robo.types.EditResult"),
        (lambda frame: EditResult([[0]], 0, "", "e", 1), "returned list, expected one"),
        (lambda frame: None, "returned NoneType, expected one"),
    ],
)
def test_an_editor_that_returns_something_else_is_an_editor_error(toys, returned, message):
    class Wrong(toys.BrokenEditor):
        def edit(self, frames, references=None, instruction=None, seeds=None):
            return [returned(frame) for frame in frames]

    with pytest.raises(EditorError, match=message):
        wrap(toys.PlainImageEnv(), toys, editor=Wrong()).reset(seed=0)
    env = wrap(toys.PlainImageEnv(), toys, editor=Wrong(), on_error="passthrough")
    assert message in env.reset(seed=0)[1]["realism"]["camera"].error


def test_an_editor_that_returns_nothing_or_a_generator(toys):
    class Lazy(toys.NegativeEditor):
        def edit(self, *arguments, **named):
            return iter(super().edit(*arguments, **named))

    class Nothing(toys.BrokenEditor):
        def edit(self, *arguments, **named):
            return None

    env = wrap(toys.PlainImageEnv(), toys, editor=Lazy())
    assert env.reset(seed=0)[1]["realism"]["camera"].edited
    with pytest.raises(EditorError, match="'NoneType' object is not iterable"):
        wrap(toys.PlainImageEnv(), toys, editor=Nothing()).reset(seed=0)


def test_an_editor_that_writes_into_frames_changes_neither_raw_nor_what_it_is_judged_by(toys):
    class InPlace(toys.NegativeEditor):
        def edit(self, frames, references=None, instruction=None, seeds=None):
            for frame in frames:
                frame.rgb[:] = 0
            return [EditResult(frame.rgb, 0, "", self.id, 1) for frame in frames]

    guard = toys.FakeGuard(lambda frame, edit: not frame.rgb.any())
    inner = toys.PlainImageEnv()
    observation, info = wrap(inner, toys, editor=InPlace(), guard=guard).reset(seed=0)
    assert guard.frames[0].rgb.any() and not info["realism"]["camera"].edited
    np.testing.assert_array_equal(info["raw"]["camera"], inner.observe())
    np.testing.assert_array_equal(observation, inner.observe())


def test_an_editor_may_use_its_buffer_again(toys):
    class Buffered(toys.NegativeEditor):
        buffer = np.zeros((toys.size, toys.size, 3), np.uint8)

        def edit(self, frames, references=None, instruction=None, seeds=None):
            self.buffer[:] = 255 - frames[0].rgb
            return [EditResult(self.buffer, 0, "", self.id, 1)]

    env = wrap(toys.PlainImageEnv(), toys, editor=Buffered())
    first = env.reset(seed=0)[1]["realism"]["camera"].rgb
    kept = first.copy()
    env.step(0)
    np.testing.assert_array_equal(first, kept)


def test_cameras_whose_names_coincide_are_refused(toys):
    class Twice(toys.PlainImageEnv):
        box = gym.spaces.Box(0, 255, (toys.size, toys.size, 3), np.uint8)
        observation_space = gym.spaces.Dict(a=gym.spaces.Dict(b=box), a_b=box)

    for cameras in (None, ["a/b", "a_b"], ["a/b", "a/b"]):
        with pytest.raises(EnvError, match=r"each camera once, got \['a_b'\] again"):
            wrap(Twice(), toys, cameras=cameras)
    with pytest.raises(EnvError, match=r"each camera once, got \['a_b'\]"):
        wrap(Twice(), toys, cameras={"one": "a_b", "two": "a_b"})
    env = wrap(Twice(), toys, cameras={"one": "a/b", "two": "a_b"})
    assert [camera.name for camera in env._moments.cameras] == ["one", "two"]


def test_an_env_that_resets_itself_gets_a_new_look_for_each_episode(toys):
    inner = gym.wrappers.Autoreset(toys.PlainImageEnv())
    env = wrap(inner, toys)
    seeds = [env.reset(seed=0)[1]["realism"]["camera"].seed]
    seeds += [env.step(0)[4]["realism"]["camera"].seed for _ in range(8)]
    first, second, third = seeds[0], seeds[4], seeds[8]
    assert seeds == [*[first] * 4, *[second] * 4, third]
    assert len({first, second, third}) == 3


def test_an_editor_whose_id_fails_with_it_is_named_by_its_class(toys):
    """One by name loads its weights for its id, which fails again where loading failed."""

    class Lost(toys.BrokenEditor):
        failed = False

        @property
        def id(self):
            if self.failed:
                raise RuntimeError("no GPU")
            return "lost"

        def edit(self, frames, references=None, instruction=None, seeds=None):
            self.failed = True
            raise RuntimeError("out of memory")

    with pytest.raises(EditorError, match=r"Lost failed.*out of memory"):
        wrap(toys.PlainImageEnv(), toys, editor=Lost()).reset(seed=0)
    env = wrap(toys.PlainImageEnv(), toys, editor=Lost(), on_error="passthrough")
    assert "Lost failed" in env.reset(seed=0)[1]["realism"]["camera"].error


def test_drawing_into_an_observation_changes_no_info(toys):
    env = wrap(toys.PlainImageEnv(), toys, guard=toys.FakeGuard(lambda frame, edit: False))
    observation, info = env.reset(seed=0)
    before = info["raw"]["camera"].copy()
    observation[:] = 0
    np.testing.assert_array_equal(info["raw"]["camera"], before)
    np.testing.assert_array_equal(info["realism"]["camera"].rgb, before)


def test_observation_edits_outside_of_a_step(toys):
    env = wrap(toys.PlainImageEnv(), toys)
    reset_observation, _ = env.reset(seed=0)
    np.testing.assert_array_equal(env.observation(env.unwrapped.observe()), reset_observation)


@pytest.mark.parametrize("name", ["test/PlainImage-v0", "test/DictImage-v0"])
@pytest.mark.parametrize("seed_per", ["episode", "step"])
def test_check_env_is_clean(toys, name, seed_per):
    env = gym.make(name, disable_env_checker=True)
    toys.check_env(RealismWrapper(env, "by-name", guard=None, seed_per=seed_per))


def test_check_env_is_clean_with_verdicts(toys):
    env = wrap(toys.DictImageEnv(), toys, guard=toys.FakeGuard())
    toys.check_env(env, skip_render_check=True)


def test_the_spec_rebuilds_the_wrapper(toys):
    env = RealismWrapper(
        gym.make("test/DictImage-v0"), "by-name", guard=None, cameras=["front"], seed_per="step"
    )
    spec = RecordEpisodeStatistics(env).spec
    assert type(spec).from_json(spec.to_json()) == spec
    rebuilt = gym.make(spec)
    for (one, info), (other, other_info) in (
        (env.reset(seed=9), rebuilt.reset(seed=9)),
        (env.step(1)[::4], rebuilt.step(1)[::4]),
    ):
        np.testing.assert_array_equal(one["front"], other["front"])
        assert list(info["realism"]) == list(other_info["realism"]) == ["front"]
    assert toys.LoadableEditor.loaded == ["by-name"]  # one editor for both, loaded when needed


def test_a_loaded_editor_is_recorded_by_id(toys, monkeypatch):
    monkeypatch.setattr(toys.NegativeEditor, "__module__", "spie_robo.editor.editor")
    editor = toys.LoadableEditor.from_pretrained("by-name")
    env = RealismWrapper(gym.make("test/PlainImage-v0"), editor, guard=None)
    assert env.spec.additional_wrappers[-1].kwargs["editor"] == "negative@1"
    assert gym.make(env.spec).reset(seed=0)[0] in env.observation_space
    assert toys.LoadableEditor.loaded == ["by-name", "negative@1"]


@pytest.mark.parametrize("argument", ["editor", "guard", "geometry"])
def test_the_spec_of_a_live_object_says_that_it_cannot_be_rebuilt(toys, argument):
    live = {
        "editor": toys.NegativeEditor(),
        "guard": toys.FakeGuard(),
        "geometry": toys.FakeGuard().judge,
    }[argument]
    kwargs = {"editor": "by-name", "guard": None, argument: live}
    spec = RealismWrapper(gym.make("test/PlainImage-v0"), **kwargs).spec
    json.loads(spec.to_json())
    with pytest.raises(EnvError, match=f"{argument}.*{type(live).__name__}.*wrap it again"):
        gym.make(spec)


def test_wrapping_loads_no_editor(toys):
    env = RealismWrapper(gym.make("test/PlainImage-v0"), "by-name", guard=None)
    assert toys.LoadableEditor.loaded == []
    env.reset(seed=0)
    assert toys.LoadableEditor.loaded == ["by-name"]


def test_the_default_guard_is_loaded_with_the_first_frame(toys, monkeypatch):
    made, protected = [], []

    def make_guard(protect):
        made.append(toys.FakeGuard())
        protected.append(protect)
        return made[-1]

    monkeypatch.setitem(vars(spie_robo.guard), "GeometryGuard", make_guard)
    load_default_guard.cache_clear()
    try:
        envs = [RealismWrapper(toys.PlainImageEnv(), toys.NegativeEditor()) for _ in range(2)]
        assert made == []
        for env in envs:
            assert env.reset(seed=0)[1]["realism"]["camera"].verdict.accepted
        assert len(made) == 1 and len(made[0].frames) == 2
        careful = toys.NegativeEditor()
        careful.protect = ("cube",)
        RealismWrapper(toys.PlainImageEnv(), careful).reset(seed=0)
        assert protected == [(), ("cube",)]  # it measures what the editor protects
    finally:
        load_default_guard.cache_clear()


def test_an_env_without_images_says_what_it_has(toys):
    with pytest.raises(EnvError, match=r"no camera images.*shape=\(4,\).*AddRenderObservation"):
        wrap(gym.make("CartPole-v1"), toys)


@pytest.mark.parametrize(
    ("box", "advice"),
    [
        (Box(0, 1, (32, 32, 3), np.float32), "0 to 255 of dtype uint8"),
        (Box(0, 255, (3, 32, 32), np.uint8), "Move channels last"),
        (Box(0, 255, (32, 32, 1), np.uint8), "after this wrapper"),
        (Box(0, 255, (4, 32, 32, 3), np.uint8), "after this wrapper"),
    ],
)
def test_images_of_another_form_have_their_own_way_out(box, advice):
    with pytest.raises(EnvError, match=advice):
        find_cameras(Dict(sensors=Dict(front=box)))


@pytest.mark.parametrize(
    ("cameras", "message"),
    [
        (["fron"], "Did you mean 'front'"),
        (["mask"], r"expected one of the images \['front', 'icon', 'sensors/wrist'\]"),
        (["icon"], "at least 16x16 pixels, got 8x8"),
        ("front", "expected a list of names"),
        ([], "at least one name"),
    ],
)
def test_a_wrong_camera_name(toys, cameras, message):
    with pytest.raises(EnvError, match=message):
        wrap(toys.DictImageEnv(), toys, cameras=cameras)


def test_images_that_are_all_too_small(toys):
    env = gym.wrappers.TransformObservation(
        toys.DictImageEnv(), lambda o: o["icon"], toys.DictImageEnv.observation_space["icon"]
    )
    with pytest.raises(EnvError, match="too small"):
        wrap(env, toys)


@pytest.mark.parametrize(
    ("lie", "message"),
    [
        (lambda image: image.astype(np.float32) / 255, "dtype float32"),
        (lambda image: np.moveaxis(image, 2, 0), r"shape \(3, 24, 24\)"),
    ],
)
def test_an_observation_that_breaks_its_space(toys, lie, message):
    inner = toys.PlainImageEnv()
    env = gym.wrappers.TransformObservation(inner, lie, inner.observation_space)
    with pytest.raises(FrameError, match=message):
        wrap(env, toys).reset(seed=0)


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"seed_per": "frame"}, ConfigError, "seed_per"),
        ({"retries": -1}, ConfigError, "retries"),
        ({"on_error": "ignore"}, ConfigError, "on_error"),
        ({"guard": "strict"}, EnvError, "guard: expected 'default'"),
        ({"guard": object()}, EnvError, "judge_batch"),
        ({"editor": 3}, EnvError, "editor: expected a name"),
        ({"geometry": 3}, EnvError, "geometry: expected None"),
        ({"geometry": {"deep": "x"}}, EnvError, "fields of GeometryKeys"),
    ],
)
def test_wrong_settings_are_named_when_wrapping(toys, kwargs, error, message):
    with pytest.raises(error, match=message):
        wrap(toys.PlainImageEnv(), toys, **kwargs)


def test_records_compare_by_value():
    """``check_env`` compares the infos of two equal steps."""
    geometry = Geometry(depth=np.array([[1.0, np.nan]], np.float32), names={1: "cube"})
    same = Geometry(depth=np.array([[1.0, np.nan]], np.float32), names={1: "cube"})
    assert geometry == same
    assert geometry != Geometry(depth=np.array([[1.0, 2.0]], np.float32), names={1: "cube"})
    assert geometry != Geometry(names={1: "cube"})
