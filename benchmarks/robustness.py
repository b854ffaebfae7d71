"""What editing training frames buys a policy, and what it costs: NVIDIA's Isaac Lab Mimic table.

Policies learn from the same demonstrations, seen in several ways (the columns), and act under
changes of look (the rows): of these, domain randomisation has seen such colours and textures, and
no training the last, the photoreal twin of a lab. Five twin photos of it are what histogram
matching and the editors get.

    python benchmarks/robustness.py --tasks Reach --steps 600 --seeds 0 1 2
    python benchmarks/robustness.py --table       # only read what is there, draw table and plot
    python benchmarks/robustness.py --color 0.3 --out runs/robustness_color ...   # another table
    python benchmarks/robustness.py --lab steel-bench --out runs/steel --name robustness_steel ...

Every cell is one JSON file in ``runs/robustness``: started again, finished ones are kept; several
processes can share the work by seeds (``--seeds 0``, ``--seeds 1``).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium
import torch
from harness import RESULTS, ROOT, limit_threads, report
from robustness_plot import draw_all, draw_overview
from robustness_table import robustness_table

from spie_robo.commands.record import RecordCommand, record
from spie_robo.data import (
    EpisodeStore,
    EpisodeWriter,
    StoreMetadata,
    record_episodes,
)
from spie_robo.data.conversion.convert import convert_store
from spie_robo.editing.guarded_editor import GuardedEditor
from spie_robo.editor import Editor
from spie_robo.editor.photo_check import load_references
from spie_robo.envs.appearance import RandomizationConfig
from spie_robo.envs.experts import make_expert
from spie_robo.envs.perturbations import PERTURBATIONS, PerturbationWrapper
from spie_robo.envs.randomization import DomainRandomizationWrapper
from spie_robo.envs.tabletop_env import tabletop
from spie_robo.envs.twin import TwinWrapper
from spie_robo.errors import StoreError
from spie_robo.evaluation.baselines import HistogramEditor
from spie_robo.guard import GeometryGuard
from spie_robo.policies import PolicyTrainConfig, load_policy, train_policy
from spie_robo.policies.policy import ActingPolicy
from spie_robo.pretraining.labs import photograph, photograph_labs
from spie_robo.settings.yaml_files import load_config
from spie_robo.training.config import TrainConfig
from spie_robo.training.run import post_train
from spie_robo.types import ImageEditor, References
from spie_robo.wrappers import RealismWrapper

MIXTURES = {
    "mixed": ("raw", "edited"),
    "randomized-raw": ("randomized", "raw"),
    "randomized-mixed": ("randomized", "edited"),
    "randomized-post-trained": ("randomized", "post-trained"),
    "randomized-labs": ("randomized", "edited-labs"),
    "raw-labs": ("raw", "edited-labs"),
}
"""Columns that learn from several stores, in equal shares."""
COLUMNS = (
    "raw", "randomized", "matched", "edited", "edited-labs", "post-trained", *MIXTURES, "twin",
)  # fmt: skip
KEPT = ("robustness", "robustness_color", "robustness_steel", "robustness_pickplace")
"""Results that the plots show."""

TWIN, EDITED_SIM, POST_TRAINED_SIM = "twin", "sim-edited", "sim-post-trained"
ROWS = ("vanilla", *PERTURBATIONS, TWIN)
PROXY_ROWS = (EDITED_SIM, POST_TRAINED_SIM)
DEMONSTRATIONS = 100
ACTION_STEPS = {"Reach": 2, "Push": 4, "PickPlace": 4}
STEPS_AT_MOST = {"Reach": 12, "Push": 60, "PickPlace": 80}
FIRST_TEST_SEED = 1_000_000
TWIN_SIZE = 64
LOOKS = RandomizationConfig(front_camera=0.0, wrist_camera=0.0)
"""No row moves a camera, and a store holds one lens a camera."""


@dataclasses.dataclass(frozen=True)
class Study:
    """One task in one lab.

    Attributes:
        task: Reach, Push or PickPlace.
        lab: Name of a twin style that no training saw.
        out: Folder of everything.
        steps: Optimiser steps of a policy.
        episodes: Test episodes of a cell.
        color: Colour augmentation of every policy's training, 0 to 1.
    """

    task: str
    lab: str
    out: Path
    steps: int
    episodes: int
    color: float = 0.0

    @property
    def env_id(self) -> str:
        """Gymnasium's."""
        return f"SpieRobo/{self.task}-v0"

    def store(self, column: str) -> Path:
        """Demonstrations as a column sees them."""
        return self.out / self.task / f"{column}.zarr"

    def photos(self) -> Path:
        """The five references."""
        return self.out / f"{self.lab}_photos"

    def adapter(self) -> Path:
        """The post-trained editor."""
        return self.out / self.task / f"{self.lab}_adapter"

    def policy(self, column: str, seed: int) -> Path:
        """A trained policy."""
        return self.out / self.task / "policies" / f"{column}_{seed}"

    def cell(self, column: str, seed: int, row: str) -> Path:
        """The result of a policy in a row."""
        return self.out / self.task / "cells" / f"{column}_{seed}_{row}.json"


def require_same(study: Study) -> None:
    """Stop if the folder holds stores, policies and cells of another study of this task."""
    settings = {
        key: value for key, value in dataclasses.asdict(study).items() if key not in ("out", "task")
    }
    file = study.out / study.task / "study.json"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(settings))
    begun = json.loads(file.read_text())
    if begun != settings:
        raise SystemExit(
            f"{file.parent} was begun with {begun}, this is {settings}. Choose another --out."
        )


def demonstrate(study: Study, column: str) -> None:
    """The store of a column: the same demonstrations, seen in its way."""
    path = study.store(column)
    for part in MIXTURES.get(column, ()):
        demonstrate(study, part)
    if column in MIXTURES or _finished(path):
        return
    if column not in ("raw", "randomized", "twin"):
        demonstrate(study, "raw")
    if column == "raw":
        record(RecordCommand(env=study.env_id, episodes=DEMONSTRATIONS, out=path))
    elif column == "randomized":
        env = gymnasium.make(study.env_id)
        _record_wrapped(DomainRandomizationWrapper(env, LOOKS), path)
    elif column == "twin":
        _record_wrapped(make_row(study, TWIN), path)
    else:
        editor, references = column_editor(study, column)
        guard = None if column == "matched" else GeometryGuard()
        convert_store(study.store("raw"), path, GuardedEditor(editor, guard, references))


def _finished(path: Path) -> bool:
    """Whether there is a store, and not only the begun conversion into one."""
    try:
        EpisodeStore.open(path)
    except StoreError:
        return False
    return True


def _record_wrapped(env: gymnasium.Env[Any, Any], path: Path) -> None:
    staged = path.with_suffix(".partial")
    shutil.rmtree(staged, ignore_errors=True)
    metadata = StoreMetadata(provenance={"benchmark": "robustness"})
    with EpisodeWriter.create(staged, metadata) as writer:
        record_episodes(env, make_expert(env), DEMONSTRATIONS, 0, writer)
    env.close()
    staged.rename(path)


def column_editor(study: Study, column: str) -> tuple[ImageEditor, References]:
    """What edits the frames of a column, and its references."""
    if column == "matched":
        return HistogramEditor(), list(load_references(study.photos()).images)
    if column == "edited-labs":
        return Editor.from_pretrained("embedded"), photograph_labs(study.out / "labs")
    name = "embedded" if column == "edited" else str(study.adapter())
    return Editor.from_pretrained(name), study.photos()


def make_adapter(study: Study) -> None:
    """Post-train the editor on the five photos and the raw demonstrations."""
    if (study.adapter() / "adapter_config.json").exists():
        return
    config = load_config(TrainConfig, ROOT / "configs" / "train" / "embedded.yaml")
    print(post_train(study.photos(), study.store("raw"), study.adapter(), config, resume=True))


def learn(study: Study, column: str, seed: int) -> ActingPolicy:
    """The policy of a column and a training seed."""
    folder = study.policy(column, seed)
    if not (folder / "config.json").exists():
        stores = tuple(study.store(part) for part in MIXTURES.get(column, (column,)))
        config = PolicyTrainConfig(
            stores=stores, out=folder, steps=study.steps,
            weights=(1 / len(stores),) * len(stores) if len(stores) > 1 else (),
            action_steps=ACTION_STEPS[study.task], seed=seed, resume=folder.exists(),
            threads=torch.get_num_threads(), cache="memory", color=study.color,
        )  # fmt: skip
        print(train_policy(config, progress=False), flush=True)
    return load_policy(folder)


def make_row(study: Study, row: str) -> gymnasium.Env[Any, Any]:
    """The environment of a row."""
    if row == TWIN:  # at the size that policies see: path-tracing is most of the time
        size = {"width": TWIN_SIZE, "height": TWIN_SIZE}
        return TwinWrapper(gymnasium.make(study.env_id, **size), study.lab)
    env = gymnasium.make(study.env_id)
    if row in PERTURBATIONS:
        return PerturbationWrapper(env, row)
    if row in PROXY_ROWS:
        column = "edited" if row == EDITED_SIM else "post-trained"
        editor, references = column_editor(study, column)
        return RealismWrapper(env, editor, references=references)
    return env


def run_episode(
    env: gymnasium.Env[Any, Any], policy: ActingPolicy, seed: int, steps_at_most: int
) -> bool:
    """Whether the policy solves the episode; what it would not look at is not rendered."""
    observation, _ = env.reset(seed=seed)
    policy.reset(seed=seed)
    task = tabletop(env)
    for _ in range(steps_at_most):
        action = policy.act(observation)
        if policy.needs_observation:
            observation = env.step(action)[0]
        else:
            task.advance(action)
        if task.success():
            return True
    return False


def evaluate(study: Study, column: str, seed: int, rows: Sequence[str]) -> None:
    """Fill the cells of a policy."""
    missing = [row for row in rows if not study.cell(column, seed, row).exists()]
    if not missing:
        return
    policy = learn(study, column, seed)
    for row in missing:
        env, started = make_row(study, row), time.perf_counter()
        seeds = range(FIRST_TEST_SEED, FIRST_TEST_SEED + study.episodes)
        limit = STEPS_AT_MOST[study.task]
        solved = [run_episode(env, policy, one, limit) for one in seeds]
        env.close()
        cell = {
            **{key: value for key, value in dataclasses.asdict(study).items() if key != "out"},
            "column": column, "row": row, "seed": seed, "successes": sum(solved),
            "solved": solved, "seconds": time.perf_counter() - started,
        }  # fmt: skip
        path = study.cell(column, seed, row)
        path.parent.mkdir(parents=True, exist_ok=True)
        staged = path.with_suffix(".partial")
        staged.write_text(json.dumps(cell))
        staged.replace(path)
        print(study.task, column, seed, row, f"{sum(solved)}/{len(solved)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="+", default=["Reach", "Push", "PickPlace"])
    parser.add_argument("--columns", nargs="+", default=list(COLUMNS), choices=COLUMNS)
    parser.add_argument("--rows", nargs="+", default=[*ROWS, *PROXY_ROWS])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--lab", default="evening-desk")
    parser.add_argument("--steps", type=int, default=2000, help="of a policy's training")
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--color", type=float, default=0.0, help="augmentation; with its own --out")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "robustness")
    parser.add_argument("--name", help="of the results file; default: robustness, or _color")
    parser.add_argument("--data-only", action="store_true", help="stop when the stores are there")
    parser.add_argument("--table", action="store_true", help="compute nothing")
    options = parser.parse_args()
    limit_threads(options.threads)
    for task in options.tasks if not options.table else []:
        size = options.steps, options.episodes
        study = Study(task, options.lab, options.out, *size, options.color)
        require_same(study)
        photograph(study.lab, study.photos())
        for column in options.columns:
            if column == "post-trained":
                make_adapter(study)
            demonstrate(study, column)
        for seed in options.seeds if not options.data_only else []:
            for column in options.columns:
                evaluate(study, column, seed, options.rows)
    if options.data_only:
        return
    tell(options.out, options.name or ("robustness_color" if options.color else "robustness"))


def tell(out: Path, name: str) -> None:
    """Print the table of a folder's cells, keep them, and draw the plots of all that are kept."""
    cells = [json.loads(path.read_text()) for path in sorted(out.glob("*/cells/*.json"))]
    kept = {one: RESULTS / f"{one}.json" for one in (*KEPT, name)}
    if cells:
        report(name, 0, {"cells": cells}, robustness_table(cells, COLUMNS, ROWS))
    else:  # a clean checkout has only what was kept
        cells = json.loads(kept[name].read_text())["results"]["cells"]
        print(robustness_table(cells, COLUMNS, ROWS))
    drawn = [kept[one] for one in KEPT if kept[one].exists()]
    known = [json.loads(file.read_text())["results"]["cells"] for file in drawn]
    every = [cell for some in known for cell in some]
    images = ROOT / "docs" / "images"
    draw_overview(every, ROWS, images / "robustness.png")
    draw_all(every, COLUMNS, ROWS, images / "robustness_all.png")


if __name__ == "__main__":
    main()
