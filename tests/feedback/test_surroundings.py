from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from spie_robo.errors import ConfigError
from spie_robo.feedback.config import FeedbackConfig
from spie_robo.feedback.regions import frame_region
from spie_robo.feedback.surroundings import resolve_region, surface_names
from spie_robo.guard.roles import is_surface
from spie_robo.types import Frame

SURROUNDINGS = FeedbackConfig(region="surroundings", structural_weight=0.3)


@pytest.mark.parametrize(
    "name", ["table", "Table_Top", "wall-left 2", "floor/geom", "wooden table", "ground_plane"]
)
def test_surfaces_are_known_by_name(name: str) -> None:
    assert is_surface(name)


@pytest.mark.parametrize(
    "name", ["table lamp", "floor tile box", "cube", "panda", "top", "", "stable", "wall clock"]
)
def test_what_stands_on_a_surface_is_none(name: str) -> None:
    assert not is_surface(name)


def test_the_surfaces_that_all_frames_name_become_the_region(scene: Frame) -> None:
    config, note = resolve_region(SURROUNDINGS, [scene, scene])
    assert config == dataclasses.replace(
        SURROUNDINGS, region="names", region_names=("wall", "wooden_table")
    )
    assert "wooden_table" in note
    region = frame_region(scene, config)
    assert region is not None and region.sum() == 64 * 64 - 16 * 16


def test_frames_without_names_are_edited_whole_and_it_is_said(scene: Frame) -> None:
    bare = Frame(np.zeros((32, 32, 3), np.uint8), "front")
    config, note = resolve_region(SURROUNDINGS, [bare])
    assert config.region == "frame" and config.region_names == ()
    assert "whole frame" in note and "feedback.region" in note
    assert surface_names([scene, bare]) == ()  # decided once, for all frames alike
    assert surface_names([]) == ()


def test_another_region_stays_as_it_is(scene: Frame) -> None:
    config = FeedbackConfig(region="names", region_names=("red cube",))
    assert resolve_region(config, [scene]) == (config, "")


def test_a_region_that_was_not_resolved_is_no_region(scene: Frame) -> None:
    with pytest.raises(ConfigError, match="resolve_region"):
        frame_region(scene, SURROUNDINGS)
