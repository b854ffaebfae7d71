"""Write the model card of an adapter: data, seeds, scores and pictures before and after."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from spie_robo.editor.presets import HUB_PRESETS
from spie_robo.feedback.nearness import nearer, nearer_in_words
from spie_robo.training.checkpoint import Row
from spie_robo.training.config import TrainConfig
from spie_robo.training.preview import ACCEPTED, FLOOR, SEMANTIC

PICTURE = "preview.png"
_WITH_PHOTOS = (
    "`references.safetensors` holds the reference photos as latents. **They can be decoded back to "
    "pictures of your lab**: leave the file out before you publish the folder, or train with "
    "`--no-references`."
)
_WITHOUT_PHOTOS = "The reference photos are not in this folder: give `references=` when you edit."
_NO_PROMPT = "It was trained without a visual prompt, and edits without one: it needs no photos."
_HUB_ID = re.compile(r"[\w][\w.-]*/[\w.-]+")


def model_card(
    config: TrainConfig,
    *,
    photos: int,
    frames: int,
    before: Row,
    history: Sequence[Row],
    references: bool,
) -> str:
    """Return the text of ``README.md``.

    Args:
        config: The run's settings.
        photos: Number of reference photos.
        frames: Number of frames that epochs drew from.
        before: Scores of the base on the preview frames.
        history: One row an epoch.
        references: Whether the adapter folder holds the photos.
    """
    photos_note = _WITH_PHOTOS if references else _WITHOUT_PHOTOS
    if not config.use_references:
        photos_note = _NO_PROMPT
    return f"""---
{_base_line(config.editor)}library_name: peft
pipeline_tag: image-to-image
tags: [spie, lora, robotics, sim-to-real]
---

# An editor post-trained on a lab

Makes a simulator's frames look like one lab. Load it with
`spie_robo.Editor.from_pretrained("this/folder")`.

![raw frames, base, post-trained]({PICTURE})

Columns: raw frame, base editor, this editor; frames that training never saw.

- **Method**: SPIE post-training (arXiv 2504.12833), objective `{config.objective}`,
  {len(history)} epochs of {config.rollout.inputs} frames with {config.rollout.edits} edits each.
- **Data**: {photos} photos, {frames} simulator frames. Seed {config.seed}.
- **Feedback**: structure `{config.feedback.structure}` by `{config.feedback.depth_judge}`,
  semantics `{config.feedback.semantic}` by `{config.feedback.patch_judge}`, weights
  {config.feedback.structural_weight:g} and {config.feedback.semantic_weight:g}; region:
  {", ".join(config.feedback.region_names) or config.feedback.region}.
- **Optimiser**: learning rate {config.optimizer.learning_rate:g}, LoRA rank {config.adapter.rank}.
- **Photos**: {photos_note}

{_score_table([{"epoch": 0, **before}, *history])}

Lower is better, for both scores. It was trained on them, and not on the guard's verdicts: falling
acceptance shows what the scores miss, as the pictures do.{_floor_line(before)}
"""


def _base_line(editor: str) -> str:
    """Return the card's line for the base, which may only be a name on the Hub."""
    hub_id = HUB_PRESETS.get(editor, editor)
    named = _HUB_ID.fullmatch(hub_id) and not Path(hub_id).is_dir()
    return f"base_model: {hub_id}\n" if named else ""


def _floor_line(before: Row) -> str:
    if FLOOR not in before:
        return ""
    return f"\nTwo of the photos are {before[FLOOR]:.4f} apart, by the same score."


def _score_table(rows: Sequence[Row]) -> str:
    lines = [
        "| epoch | structural score | semantic score | nearer to the photos | guard accepts |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        if SEMANTIC not in row:
            continue
        share = nearer(rows[0][SEMANTIC], row[SEMANTIC])
        shown = [
            f"{int(row['epoch'])}",
            f"{row['preview_structural']:.4f}",
            f"{row[SEMANTIC]:.4f}",
            nearer_in_words(share),
            f"{row[ACCEPTED]:.0%}" if ACCEPTED in row else "",
        ]
        lines.append(f"| {' | '.join(shown)} |")
    return "\n".join(lines)
