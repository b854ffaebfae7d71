from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from spie_robo.errors import ConfigError, MissingExtraError
from spie_robo.feedback.judges.depth import load_depth_judge
from spie_robo.feedback.judges.patches import load_patch_judge


def test_absent_weights_name_the_folder(save_model) -> None:
    folder: Path = save_model("dinov2")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match=f"weights in folder '{folder}'.*model.safetensors"):
        load_patch_judge(str(folder))


def test_pickled_weights_are_not_read(save_model) -> None:
    folder: Path = save_model("dinov2")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="safetensors"):
        load_patch_judge(str(folder))


def test_weights_that_were_cut_short_are_refused(save_model) -> None:
    folder: Path = save_model("depth_anything")
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ConfigError, match=f"weights in folder '{folder}'"):
        load_depth_judge(str(folder))


def test_a_missing_tensor_is_not_replaced_by_random_numbers(save_model) -> None:
    folder: Path = save_model("dinov2")
    weights = load_file(folder / "model.safetensors")
    del weights["layernorm.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"lack 1 tensors, e\.g\. 'layernorm\.weight'"):
        load_patch_judge(str(folder))


def test_weights_of_another_width_are_refused(save_model) -> None:
    folder: Path = save_model("dinov2")
    weights = load_file(folder / "model.safetensors")
    weights["layernorm.weight"] = weights["layernorm.weight"][:4].clone()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=f"'{folder}'"):
        load_patch_judge(str(folder))


@pytest.mark.parametrize("content", [None, "", "not json", '{"model_type": "no such model"}', "{}"])
def test_a_broken_config_names_the_folder(save_model, content: str | None) -> None:
    folder: Path = save_model("dinov2")
    (folder / "config.json").unlink()
    if content is not None:
        (folder / "config.json").write_text(content)
    with pytest.raises(ConfigError, match=f"'{folder}'"):
        load_patch_judge(str(folder))


def test_a_missing_preprocessor_names_the_folder(save_model) -> None:
    folder: Path = save_model("depth_anything")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(ConfigError, match=f"preprocessor in folder '{folder}'"):
        load_depth_judge(str(folder))


def test_a_model_of_another_kind_is_refused(save_model) -> None:
    with pytest.raises(ConfigError, match=r"Depth judge.*depth_anything, got 'dinov2'"):
        load_depth_judge(str(save_model("dinov2")))
    with pytest.raises(ConfigError, match=r"Patch judge.*dinov2_with_registers, got 'depth_anyth"):
        load_patch_judge(str(save_model("depth_anything")))


@pytest.mark.parametrize("name", ["./missing/folder", "/missing/folder", "a b/c", "justaname"])
def test_what_is_neither_folder_nor_hub_id_is_not_looked_up(name: str) -> None:
    with pytest.raises(ConfigError, match="no such folder, and it is no Hub id"):
        load_patch_judge(name)


def test_a_folder_may_start_at_home(save_model, monkeypatch) -> None:
    folder: Path = save_model("dinov2")
    monkeypatch.setenv("HOME", str(folder.parent))
    judge = load_patch_judge(f"~/{folder.name}")
    grey = np.full((64, 64, 3), 128, np.uint8)
    at_home, named = (each.patches([grey])[0] for each in (judge, load_patch_judge(str(folder))))
    assert torch.equal(at_home, named)


def test_a_hub_model_that_cannot_be_had_says_so(monkeypatch) -> None:
    from transformers import AutoConfig

    def offline(name, **_):
        raise OSError(f"We couldn't connect to the Hub for {name}.\nMore lines follow")

    monkeypatch.setattr(AutoConfig, "from_pretrained", offline)
    with pytest.raises(ConfigError, match=r"no such folder.*'facebook/dinov2-base'.*couldn't") as e:
        load_patch_judge("facebook/dinov2-base")
    assert "More lines" not in str(e.value)


def test_a_processor_that_needs_more_packages_names_the_extra(save_model, monkeypatch) -> None:
    from transformers import AutoImageProcessor

    folder: Path = save_model("dinov2")

    def needs(name, **_):
        raise ImportError("BitImageProcessor requires torchvision.")

    monkeypatch.setattr(AutoImageProcessor, "from_pretrained", needs)
    with pytest.raises(MissingExtraError, match=r"requires torchvision.*spie-robo\[models\]"):
        load_patch_judge(str(folder))
