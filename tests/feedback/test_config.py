from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from spie_robo.errors import ConfigError
from spie_robo.feedback.config import FeedbackConfig, embedded_layers
from spie_robo.settings.yaml_files import load_config

PHRASE = {
    "region": "phrase",
    "region_phrase": "the table",
    "detector": "a/b",
    "segmenter": "c/d",
}


def test_the_defaults_are_valid() -> None:
    config = FeedbackConfig()
    assert (config.structure, config.semantic, config.region) == ("simulator", "nearest", "frame")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"structure": "monoculer"}, "structure.*'monoculer'.*mean 'monocular'"),
        ({"semantic": "mean"}, "semantic.*'nearest', 'paper'"),
        ({"region": "mask"}, "region.*mean 'masks'"),
        ({"rec_lambda": -0.1}, "rec_lambda.*-0.1"),
        ({"semantic_weight": float("nan")}, "semantic_weight.*nan"),
        ({"structural_weight": float("inf")}, "structural_weight.*inf"),
        ({"structural_weight": 0.0, "semantic_weight": 0.0}, "one above 0"),
        ({"depth_judge": " "}, "depth_judge"),
        ({"patch_judge": ""}, "patch_judge"),
        ({"patch_judge": "embedded:stride7"}, "patch_judge.*stride7.*Did you mean"),
        ({"region": "names"}, "region_names.*got none"),
        ({"region": "names", "region_names": "cube"}, "list of object names"),
        ({"region": "names", "region_names": ("cube", "")}, "list of object names"),
        ({"region_names": ("cube",)}, "region is 'frame'.*'names'"),
        ({"region_phrase": "table"}, "region is 'frame'.*'phrase'"),
        ({**PHRASE, "detector": ""}, "detector: missing"),
        ({**PHRASE, "segmenter": " "}, "segmenter: missing"),
        ({**PHRASE, "region_phrase": ""}, "region_phrase: missing"),
    ],
)
def test_a_setting_out_of_range_is_named(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        FeedbackConfig(**settings)


def test_each_kind_of_region_can_be_configured() -> None:
    assert FeedbackConfig(region="names", region_names=("red cube",)).region_names == ("red cube",)
    FeedbackConfig(region="masks")
    FeedbackConfig(region="masks", region_names=("table",))
    FeedbackConfig(**PHRASE)


def test_layers_of_the_embedded_judge_have_names() -> None:
    assert embedded_layers("embedded") == ((16,), False)
    assert embedded_layers("embedded:stride8") == ((8,), False)
    assert embedded_layers("embedded:stride16+stride4") == ((4, 16), False)
    assert embedded_layers("embedded:color+stride16+stride4") == ((4, 16), True)


@pytest.mark.parametrize(
    "name",
    ["embedded:stride5", "embedded:", "embedded:stride4+stride4", "embedded:color"],
)
def test_unknown_layers_of_the_embedded_judge_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="patch_judge"):
        embedded_layers(name)


def test_it_can_be_read_from_yaml(tmp_path: Path) -> None:
    file = tmp_path / "feedback.yaml"
    file.write_text("structure: paper\nregion: names\nregion_names: [red cube, wooden table]\n")
    config = load_config(FeedbackConfig, file)
    assert config.region_names == ("red cube", "wooden table")


def test_the_configuration_needs_no_torch() -> None:
    code = "import sys, spie_robo.feedback; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_public_names_are_found_on_first_use() -> None:
    import spie_robo.feedback as feedback

    for name in feedback.__all__:
        assert getattr(feedback, name) is not None
    with pytest.raises(AttributeError, match="attribute nothing"):
        _ = feedback.nothing
