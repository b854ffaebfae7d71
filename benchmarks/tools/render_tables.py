"""Write the tables and figures of README and docs/results from benchmarks/results/*.json.

    python benchmarks/tools/render_tables.py            # after a benchmark: update the pages
    python benchmarks/tools/render_tables.py --check    # which pages are stale? exit 1 if any

A page marks where a table goes; what stands between the marks is replaced:

    <!-- table: editor -->
    <!-- end -->
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[1]
ROOT = BENCHMARKS.parent
sys.path.insert(0, str(BENCHMARKS))

from tables import (  # noqa: E402
    editing_tables,
    guard_tables,
    headlines,
    policy_tables,
    speed_tables,
    training_tables,
)
from tables.markdown import cells, load  # noqa: E402

PAGES = ("README.md", "docs/index.md", "docs/guard.md", "docs/results/*.md")
BLOCK = re.compile(r"(<!-- table: ([\w-]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)

MUJOCO_SUITES = {
    "fetch": "Fetch PickAndPlace",
    "kitchen": "FrankaKitchen",
    "aloha": "gym-aloha",
    "metaworld": "Meta-World pick-place",
    "robosuite": "robosuite Lift",
}

TABLES: dict[str, Callable[[], str]] = {
    "headlines": headlines.headline_table,
    "readme": headlines.readme_table,
    "editor": lambda: editing_tables.editor_table(load("editor")),
    "photos": lambda: editing_tables.photo_table(load("real_photos")),
    "sizes": lambda: editing_tables.size_table(load("editor_details")),
    "guard-limits": lambda: guard_tables.limit_table(load("guard_calibration")),
    "guard-harmless": lambda: guard_tables.false_reject_table(load("guard_calibration")),
    "guard-harmful-128": lambda: guard_tables.catch_table(load("guard_calibration"), 128, "with"),
    "guard-harmful-256": lambda: guard_tables.catch_table(load("guard_calibration"), 256, "with"),
    "guard-harmful-bare": lambda: guard_tables.catch_table(
        load("guard_calibration"), 128, "without"
    ),
    "guard-embedded": lambda: guard_tables.embedded_table(load("guard_calibration")),
    "guard-cost": lambda: guard_tables.cost_table(load("guard_calibration")),
    "flicker": lambda: editing_tables.flicker_table(load("editor_details")),
    "drift": lambda: editing_tables.drift_table(load("editor_details")),
    "experts": lambda: editing_tables.expert_table(load("envs")),
    "steps": lambda: editing_tables.step_table(load("envs")),
    "silhouettes": lambda: editing_tables.silhouette_table(load("envs")),
    "mujoco-silhouettes": lambda: editing_tables.mujoco_silhouette_table(
        {name: load(f"twin_mujoco_{suite}") for suite, name in MUJOCO_SUITES.items()}
    ),
    "epochs": lambda: training_tables.epoch_table(
        cells("post_training"), (0, 1, 5, 10, 20), ("default",)
    ),
    "objectives": lambda: training_tables.epoch_table(
        cells("post_training", "post_training_ranking", "post_training_ranking_spie"),
        (5, 12),
        ("default", "nft", "spie"),
    ),
    "ablations-counter": lambda: training_tables.ablation_table(_ablations(), "counter", 5),
    "ablations-wood": lambda: training_tables.ablation_table(_ablations(), "wood", 5),
    "true-picture": lambda: training_tables.true_picture_table(cells("post_training_twin")),
    "policies": policy_tables.overview_table,
    "reach": lambda: policy_tables.study_table("Reach", "evening-desk", 0.3),
    "reach-plain": lambda: policy_tables.study_table("Reach", "evening-desk", 0.0),
    "push": lambda: policy_tables.study_table("Push", "evening-desk", 0.3),
    "pickplace": lambda: policy_tables.study_table("PickPlace", "evening-desk", 0.3),
    "reach-second": lambda: policy_tables.study_table("Reach", "steel-bench", 0.3),
    "push-second": lambda: policy_tables.study_table("Push", "steel-bench", 0.3),
    "pickplace-second": lambda: policy_tables.study_table("PickPlace", "steel-bench", 0.3),
    "twin-distance": lambda: policy_tables.distance_table(load("twin_distance")),
    "proxy": policy_tables.proxy_table,
    "conversion": lambda: speed_tables.conversion_table(load("conversion")),
    "conversion-longer": lambda: speed_tables.conversion_table(load("conversion_longer")),
    "lossy": lambda: speed_tables.lossy_table(load("conversion_longer")),
    "reading": lambda: speed_tables.reading_table(load("policy_reading")),
    "epoch-cost": lambda: speed_tables.cost_table(load("training_cost")),
    "gpu-edits": lambda: speed_tables.gpu_edit_table(load("gpu_edits")),
    "gpu-embedded": lambda: speed_tables.gpu_embedded_table(load("gpu")),
    "gpu-training": lambda: speed_tables.gpu_training_table(load("gpu")),
}


def _ablations() -> list[training_tables.Cell]:
    return cells("post_training", "post_training_draft_ablations")


def render(text: str) -> str:
    """A page with its tables as the results have them now.

    Raises:
        KeyError: If the page asks for a table that there is not.
    """
    return BLOCK.sub(lambda block: f"{block[1]}\n{TABLES[block[2]]()}\n\n{block[4]}", text)


def stale_pages(write: bool) -> list[str]:
    """The pages whose tables were not up to date; they are now if ``write``."""
    found = []
    for page in sorted(path for pattern in PAGES for path in ROOT.glob(pattern)):
        text = page.read_text()
        wanted = render(text)
        if wanted != text:
            found.append(str(page.relative_to(ROOT)))
            if write:
                page.write_text(wanted)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 if stale")
    options = parser.parse_args()
    stale = stale_pages(write=not options.check)
    for page in stale:
        print(f"{page}: {'not up to date' if options.check else 'written'}")
    if stale and options.check:
        sys.exit(1)


if __name__ == "__main__":
    main()
