from __future__ import annotations

import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest

from spie_robo.data.conversion.convert import convert_store
from spie_robo.data.conversion.identity import ConversionConfig
from spie_robo.data.conversion.variants import Variants, edited_steps
from spie_robo.data.episode_seed import episode_seed
from spie_robo.data.formats import export_episodes, open_source
from spie_robo.data.look_provenance import provenance_of
from spie_robo.data.store.episode_store import EpisodeStore
from spie_robo.editing.guarded_editor import GuardedEditor
from spie_robo.errors import ConfigError, StoreError

nursery = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "nursery.py")))
EPISODES = 2


@pytest.fixture
def source(tmp_path) -> EpisodeStore:
    return EpisodeStore.open(nursery.write(tmp_path / "source.zarr", range(EPISODES)))


def edited(source, out, **named):
    guarded = GuardedEditor(nursery.SwapEditor(), nursery.EvenGuard())
    config = ConversionConfig(batch_size=2, seed=3, **named)
    return convert_store(source, out, guarded, config, progress=False)


@pytest.mark.parametrize("keep_raw", [False, True])
def test_every_episode_is_there_once_for_each_look(source, tmp_path, keep_raw):
    summary = edited(source, tmp_path / "out.zarr", variants=3, keep_raw=keep_raw)
    store = EpisodeStore.open(tmp_path / "out.zarr")
    copies = 3 + keep_raw
    assert len(store) == copies * EPISODES
    assert summary.frames == 3 * source.n_steps  # raw copies were not given to the editor
    assert store.seeds.tolist() == np.repeat(source.seeds, copies).tolist()
    for i, episode in enumerate(store):
        before = source[i // copies]
        raw = keep_raw and i % copies == 0
        assert (episode["synthetic"] == (not raw)).all()
        assert (episode["source_episode"] == i // copies).all()
        assert (episode["look_seed"] == (-1 if raw else episode_seed(3, i))).all()
        np.testing.assert_array_equal(episode["action"], before["action"])
        np.testing.assert_array_equal(episode["front_raw"], before["front_rgb"])
        if raw:
            np.testing.assert_array_equal(episode["front_rgb"], before["front_rgb"])
            assert not episode["realism_front_edited"].any()
            assert not episode["realism_front_attempts"].any()
        else:
            assert (episode["realism_front_attempts"] > 0).all()


def test_looks_of_one_episode_differ(source, tmp_path):
    edited(source, tmp_path / "out.zarr", variants=2)
    store = EpisodeStore.open(tmp_path / "out.zarr")
    seeds = {int(episode["look_seed"][0]) for episode in store}
    assert len(seeds) == 2 * EPISODES


def test_what_is_not_asked_for_changes_no_byte(source, tmp_path):
    edited(source, tmp_path / "out.zarr")
    assert "synthetic" not in EpisodeStore.open(tmp_path / "out.zarr").keys
    identity = EpisodeStore.open(tmp_path / "out.zarr").metadata.provenance["conversion"]
    assert "variants" not in identity


def test_another_number_of_looks_is_another_conversion(source, tmp_path):
    edited(source, tmp_path / "out.zarr", variants=2)
    with pytest.raises(StoreError, match="variants: 2 there, 3 now"):
        edited(source, tmp_path / "out.zarr", variants=3)


@pytest.mark.parametrize(
    ("named", "message"),
    [({"variants": 0}, "1 or more"), ({"keep_raw": True}, "expected variants with it")],
)
def test_numbers_that_make_no_sense_are_refused(named, message):
    with pytest.raises(ConfigError, match=message):
        ConversionConfig(**named)


def test_looks_need_an_editor(source, tmp_path):
    with pytest.raises(ConfigError, match="expected an editor"):
        convert_store(source, tmp_path / "o.zarr", None, ConversionConfig(variants=2))


def test_the_plan_counts_the_steps_that_are_edited(source):
    looks = Variants(source, 2, keep_raw=True)
    assert edited_steps(looks) == 2 * source.n_steps
    assert edited_steps(source) == source.n_steps


@pytest.mark.parametrize("name", ["lerobot", "robomimic", "minari", "diffusion-policy"])
def test_every_format_says_where_an_episode_comes_from(source, tmp_path, name):
    edited(source, tmp_path / "out.zarr", variants=1, keep_raw=True)
    store = EpisodeStore.open(tmp_path / "out.zarr")
    export_episodes(store, tmp_path / "x", name, progress=False)
    with open_source(tmp_path / "x") as result:
        assert provenance_of(result) == provenance_of(store)
        said = provenance_of(result)
    assert [row["synthetic"] for row in said] == [False, True] * EPISODES
    assert [row["source_episode"] for row in said] == [0, 0, 1, 1]
    assert said[0]["seed"] is None and said[1]["seed"] == episode_seed(3, 1)


def test_lerobot_gets_a_file_and_columns_that_it_reads(source, tmp_path):
    edited(source, tmp_path / "out.zarr", variants=1, keep_raw=True)
    store = EpisodeStore.open(tmp_path / "out.zarr")
    export_episodes(store, tmp_path / "x", "lerobot", progress=False)
    about = json.loads((tmp_path / "x/meta/provenance.json").read_text())
    assert about == {"editor": "swap@1", "episodes": provenance_of(store)}
    features = json.loads((tmp_path / "x/meta/info.json").read_text())["features"]
    assert features["synthetic"] == {"dtype": "bool", "shape": [1], "names": None}
    table = pq.read_table(tmp_path / "x/data/chunk-000/file-000.parquet")
    lengths = [store.episode_length(i) for i in range(len(store))]
    assert table["source_episode"].to_pylist() == np.repeat([0, 0, 1, 1], lengths).tolist()
    assert table["synthetic"].to_pylist() == np.repeat([False, True] * 2, lengths).tolist()
