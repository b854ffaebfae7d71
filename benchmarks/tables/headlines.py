"""The ten headline figures: question, figure, where it was measured, and the page with the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tables.markdown import RESULTS, cells, load, record, table
from tables.policy_tables import success, without_twin
from tables.training_tables import gap_closed, minutes, true_change

LABS = ("evening-desk", "steel-bench")
TASKS = ("Reach", "Push", "PickPlace")


@dataclass(frozen=True)
class Headline:
    """One row of the page.

    Attributes:
        question: What a reader wants to know.
        figure: Computes the answer from the kept results.
        source: The file of results that names the machine.
        command: What measures it.
        page: Where the whole table stands, relative to ``docs/results``.
    """

    question: str
    figure: Callable[[], str]
    source: str
    command: str
    page: str


def editor() -> str:
    rows = load("editor")
    ours, best = rows["embedded, 1 steps"]["psnr"], rows["Reinhard"]["psnr"]
    return (
        f"**{ours:.1f} dB** PSNR to the path-traced target; the best of three plain methods "
        f"reaches {best:.1f}, the raw frame {rows['raw frame']['psnr']:.1f}"
    )


def guarded() -> str:
    rejected = load("guard_calibration")["rejected"]["all, 128 px, with"]
    light, removed = rejected["relit"], rejected["removed / relit"]
    moved, small = rejected["shifted 2 % / relit"], rejected["inserted, own colour / relit"]
    return (
        f"seven simulators: **{light[0]} of {light[1]}** frames in another light are rejected; "
        f"**{removed[0]} of {removed[1]}** removed objects are caught, {moved[0]} of {moved[1]} "
        f"moved by 2 % of the width, {small[0]} of {small[1]} added in the table's own colour"
    )


def lab_gap() -> str:
    every = [cell for cell in cells("post_training") if cell["variant"] == "default"]
    parts = []
    for lab in ("counter", "wood"):
        mine = [cell for cell in every if cell["lab"] == lab]
        shares = 100 * np.array(gap_closed(mine, 10))
        parts.append(f"**{shares.mean():.0f} ± {shares.std():.0f} %** (`{lab}`)")
    return (
        f"{' and '.join(parts)} of the gap between edits and held-out photos closes in ten epochs, "
        f"{minutes(every, 10):.0f} minutes on one core"
    )


def true_picture() -> str:
    every = cells("post_training_twin")
    front, wrist = (true_change(every, "default", camera) for camera in ("front", "wrist"))
    return (
        f"**no**: {front:+.2f} dB in the front camera, {wrist:+.1f} dB in the wrist camera, by the "
        "path-traced frame of the same moment"
    )


def unseen_lab() -> str:
    """Success in the path-traced twins of two labs."""
    parts = []
    for task in TASKS:
        ours, raw, randomized = (
            " and ".join(f"{100 * success(task, lab, column, 'twin'):.0f}" for lab in LABS)
            for column in ("raw-labs", "raw", "randomized")
        )
        parts.append(f"{task} **{ours} %** (raw frames {raw}, domain randomisation {randomized})")
    return f"solved, in two labs: {'; '.join(parts)}"


def unchanged() -> str:
    """Success on the simulator's own frames."""
    parts = []
    for task in TASKS:
        ours, raw, randomized = (
            100 * success(task, LABS[0], column, "vanilla")
            for column in ("raw-labs", "raw", "randomized")
        )
        parts.append(
            f"{task} **{ours:.0f} %** (raw frames {raw:.0f}, domain randomisation {randomized:.0f})"
        )
    return f"solved: {'; '.join(parts)}"


def proxy() -> str:
    whole = [
        record(f"proxy_fidelity_{task}")["results"]["simulators"] for task in ("reach", "push")
    ]
    raw, edited = (simulator.pearson for simulator in
                   without_twin(RESULTS / "proxy_policies_push.csv").simulators)  # fmt: skip
    said = ", ".join(
        f"{task} r = {sims[1]['pearson']:.2f} (raw {sims[0]['pearson']:.2f})"
        for task, sims in zip(("Reach", "Push"), whole, strict=True)
    )
    return (
        f"**not over all policies**: {said}. Without policies that learnt in that very lab, Push "
        f"r = {edited:.2f} (raw {raw:.2f})"
    )


def conversion() -> str:
    costs = load("conversion_longer")["convert, guard in a process"]
    ratio = np.array(costs["ratio"])
    rate = 1 / np.median([cost["wall"] for cost in costs["costs"]])
    return (
        f"**{rate:.0f} frames** of 128 x 128 a second on two cores, every edit checked; "
        f"{100 * np.median(ratio):.0f} % of the bare editor's speed"
    )


def faults() -> str:
    kinds = [row for row in load("faults").values() if isinstance(row, dict) and "kept" in row]
    trials, kept = (sum(int(row[name]) for row in kinds) for name in ("trials", "kept"))
    return f"**{kept} of {trials}** injected faults of {len(kinds)} kinds left what was promised"


def gpu() -> str:
    seconds, _, frames = load("gpu")["embedded"]["cuda, batch 64"]
    edits = load("gpu_edits")["edits"]["spie_robo, 4 branches, batch 8"][0]
    return (
        f"**{frames / np.median(seconds):.0f} frames** a second (embedded editor, 128 x 128); "
        f"InstructPix2Pix, 512 x 512, 20 steps: {8 / np.median(edits):.1f}, with random weights"
    )


HEADLINES = (
    Headline("Do edits look like the lab?", editor, "editor",
             "benchmarks/editor.py --render --steps 1 10", "editor.md"),
    Headline("Does the guard see what moved?", guarded, "guard_calibration",
             "benchmarks/guard_calibration.py", "../guard.md"),
    Headline("What do five photos of a lab change?", lab_gap, "post_training",
             "benchmarks/post_training.py", "post_training.md"),
    Headline("Are trained edits nearer to the true picture?", true_picture, "post_training_twin",
             "benchmarks/post_training_twin.py", "post_training.md#against-the-true-picture"),
    Headline("Do policies trained on half raw, half edited frames work in an unseen lab?",
             unseen_lab, "robustness_color",
             "benchmarks/robustness.py", "policies.md"),
    Headline("What do the same policies lose when nothing changes?", unchanged, "robustness_color",
             "benchmarks/robustness.py", "policies.md"),
    Headline("Does success in the edited simulator predict success there?", proxy,
             "proxy_fidelity_push", "benchmarks/proxy_fidelity.py", "proxy.md"),
    Headline("How fast is a conversion?", conversion, "conversion_longer",
             "benchmarks/conversion.py", "speed.md"),
    Headline("What survives a kill, a full disk, damage?", faults, "faults",
             "benchmarks/faults.py", "../reliability.md"),
    Headline("How fast is it on a GPU?", gpu, "gpu", "benchmarks/gpu.py", "gpu.md"),
)  # fmt: skip

IN_README = (editor, guarded, unseen_lab, unchanged, conversion)
"""The five that README shows."""


def headline_table() -> str:
    """All ten, as ``docs/results/index.md`` shows them."""
    rows = [
        [
            f"[{line.question}]({line.page})",
            line.figure(),
            _machine(line.source),
            f"`python {line.command}`",
        ]
        for line in HEADLINES
    ]
    return table(["question", "figure", "machine", "command"], rows)


def readme_table() -> str:
    """The five of README."""
    rows = [[line.question, line.figure()] for line in HEADLINES if line.figure in IN_README]
    return table(["question", "measured"], rows)


def _machine(source: str) -> str:
    found = record(source)
    gpu = found.get("results", {}).get("gpu")
    name = found["machine"].split(", Linux")[0].replace("(R)", "").replace(" Processor", "")
    return f"{gpu}; {name}" if gpu else name
