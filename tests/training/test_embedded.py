"""The embedded editor, trained for an epoch: the path that users take."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from spie_robo.cli import main
from spie_robo.editor.editor import Editor
from spie_robo.editor.noise_prediction import denoiser
from spie_robo.editor.presets import PRESETS, load_editor
from spie_robo.editor.samplers import step_log_prob
from spie_robo.feedback.config import FeedbackConfig
from spie_robo.training.config import AdapterConfig, RolloutConfig, TrainConfig
from spie_robo.training.inputs import epoch_inputs, gather_data
from spie_robo.training.rollout import condition_rows, roll_out
from spie_robo.training.setup import build_chain
from spie_robo.training.trained_editor import TrainedEditor
from spie_robo.types import Frame

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (PRESETS["embedded"] / "model_index.json").is_file(), reason="weights not built"
    ),
]


@pytest.mark.parametrize("steps", [4, 10])
def test_recomputed_log_probs_equal_those_of_the_rollout(tiny, steps):
    loaded = load_editor("embedded")
    data = gather_data(
        loaded.pipeline, tiny.frames(2, 64), tiny.photos(1), photo_regions=[None],
        feedback=FeedbackConfig(), segmenter=None, resolution=64, instruction="a lab",
    )  # fmt: skip
    policy = TrainedEditor(loaded.pipeline, AdapterConfig())
    config = RolloutConfig(inputs=2, edits=2, steps=steps, batch_size=4)
    settings = TrainConfig(objective="spie", rollout=config)
    chain = build_chain(loaded.pipeline, settings, loaded.settings)
    inputs = epoch_inputs(data, 2, seed=0, epoch=0)
    rollout = roll_out(policy, inputs, config, chain, seed=0, epoch=0, record=True)
    assert rollout.clean.isfinite().all()
    denoise = denoiser(
        loaded.pipeline.unet, condition_rows(loaded.pipeline, inputs, [1, 1]), chain.guidance
    )
    for i in range(steps - 1):
        again = step_log_prob(
            denoise, chain.sampler, rollout.latents[1, :, i], rollout.latents[1, :, i + 1], i
        )
        torch.testing.assert_close(again, rollout.log_probs[1, :, i], atol=1e-5, rtol=0)
    torch.testing.assert_close(rollout.log_probs, rollout.reference_log_probs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("objective", ["nft", "spie"])
def test_the_command_trains_and_the_adapter_loads(
    tiny, photo_folder, frame_folder, tmp_path, objective
):
    file = tmp_path / "train.yaml"
    file.write_text(
        f"objective: {objective}\nframes: 2\npreview: 1\nepochs: 1\n"
        "rollout: {inputs: 1, edits: 2, steps: 3}\n"
    )
    out = tmp_path / "lab"
    words = ["train", "--config", str(file), "--references", str(photo_folder)]
    assert main([*words, "--frames", str(frame_folder), "--out", str(out)]) == 0
    frame = Frame(np.ascontiguousarray(cv2.imread(str(frame_folder / "0.png"))[..., ::-1]))
    editor = Editor.from_pretrained(out)
    edit, plain = (
        one.edit([frame], seeds=[1])[0].rgb for one in (editor, Editor.from_pretrained("embedded"))
    )
    assert editor.settings == Editor.from_pretrained("embedded").settings
    assert edit.shape == frame.rgb.shape and not np.array_equal(edit, plain)
