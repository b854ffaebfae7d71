"""Tables about speed: conversion, reading windows, an epoch, and the same on a GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
from tables.markdown import median_of, share, table

LEFT_OUT = ("Ray", "process")
"""Ways whose CPU time is spent in processes that were not counted."""


def conversion_table(results: dict[str, Any]) -> str:
    """Each way of converting, held against the bare editor beside it."""
    ways = {name: row["costs"] for name, row in results.items() if "costs" in _keys(row)}
    every = [cost for costs in ways.values() for cost in costs]
    alone = 1 / float(np.median([cost["alone"] for cost in every]))
    rows = [["bare editor, frames in memory", f"{alone:.2f}", "100 %", f"{edit_ms(results):.0f}"]]
    for name, costs in ways.items():
        ratio = np.array([cost["alone"] / cost["wall"] for cost in costs])
        counted = not any(part in name for part in LEFT_OUT)
        work = f"{1e3 * np.median([cost['cpu'] for cost in costs]):.0f}" if counted else ""
        rows.append(
            [
                name,
                f"{1 / np.median([cost['wall'] for cost in costs]):.2f}",
                f"{share(float(np.median(ratio)))} "
                f"({100 * ratio.min():.0f} to {100 * ratio.max():.0f})",
                work,
            ]
        )
    head = ["way", "frames a second", "of the bare editor's (least to most)", "CPU ms a frame"]
    return table(head, rows)


def edit_ms(results: dict[str, Any]) -> float:
    """CPU milliseconds of an edit, measured beside every way."""
    every = [c for row in results.values() if "costs" in _keys(row) for c in row["costs"]]
    return 1e3 * float(np.median([cost["alone_cpu"] for cost in every]))


def lossy_table(results: dict[str, Any]) -> str:
    """What lossy outputs cost beside the edit."""
    names = {"lerobot": "LeRobot (H.264)", "minari-jpeg": "Minari with JPEG, quality 75"}
    edit = edit_ms(results)
    rows = [
        [names.get(name, name), f"{cost:.1f}", share(cost / edit, 1)]
        for name, cost in results["lossy_cpu_ms_a_frame"].items()
    ]
    return table(["written and read back", "CPU ms a frame", "of an edit"], rows)


def reading_table(results: dict[str, Any]) -> str:
    """Readers of training windows."""
    base = results["readers"]["zarr-python oindex"]["warm"]["median"]
    head = ["reader", "first open, s", "open, s", "cold, windows/s", "warm, windows/s",
            "against oindex"]  # fmt: skip
    return table(
        head,
        [
            [
                name,
                f"{row['first_open_s']:.2f}",
                f"{row['open_s']:.2f}",
                f"{row['cold']['median']:,.0f}" if "cold" in row else "all in memory",
                f"{row['warm']['median']:,.0f}",
                f"{row['warm']['median'] / base:.0f}",
            ]
            for name, row in results["readers"].items()
        ],
    )


def cost_table(results: dict[str, Any]) -> str:
    """An epoch of post-training against a straightforward implementation."""
    head = ["guidance scales", "way", "seconds an epoch", "faster", "peak memory, MB",
            "above loaded, MB"]  # fmt: skip
    rows = []
    for scales, ways in results.items():
        if scales == "settings":
            continue
        slow = np.median(ways["straightforward"]["seconds"])
        for way, row in ways.items():
            rows.append(
                [
                    scales,
                    way,
                    median_of(row["seconds"], 1),
                    f"{slow / np.median(row['seconds']):.1f}x",
                    f"{row['peak_megabytes']:.0f}",
                    f"{row['peak_megabytes'] - row['loaded_megabytes']:.0f}",
                ]
            )
    return table(head, rows)


def gpu_edit_table(results: dict[str, Any], frames: int = 8) -> str:
    """InstructPix2Pix at full size, ours and diffusers' own."""
    edits = {name: row for name, row in results["edits"].items() if name != "difference"}
    base = np.median(edits["diffusers, 3 branches, batch 1"][0])
    head = ["InstructPix2Pix at full size", "frames a second", "against diffusers, batch 1",
            "peak memory, GB"]  # fmt: skip
    rows = [
        [name, rates(seconds, frames), f"{base / np.median(seconds):.2f}x", f"{peak:.1f}"]
        for name, (seconds, peak) in edits.items()
    ]
    return table(head, rows)


def gpu_embedded_table(results: dict[str, Any]) -> str:
    """The embedded editor on the CPU and on the GPU."""
    found = {name: row for name, row in results["embedded"].items() if "batch" in name
             and "again" not in name}  # fmt: skip
    alone = np.median([found["cpu, batch 1"][2] / s for s in found["cpu, batch 1"][0]])
    rows = [
        [
            name.replace("cuda", "GPU").replace("cpu", "CPU, 16 threads"),
            rates(seconds, count),
            f"{np.median([count / s for s in seconds]) / alone:.1f}x",
        ]
        for name, (seconds, _, count) in found.items()
    ]
    return table(["the embedded editor", "frames a second", "against the CPU"], rows)


def gpu_training_table(results: dict[str, Any]) -> str:
    """Post-training at full size."""
    rows = [
        [name, ", ".join(f"{one:.1f}" for one in row["seconds"]), f"{row['peak']:.1f}"]
        for name, row in results["train"].items()
        if "seconds" in row
    ]
    return table(["post-training at full size", "seconds an epoch", "peak memory, GB"], rows)


def rates(seconds: list[float], frames: int) -> str:
    """Frames a second, with the slowest and the fastest repeat."""
    return median_of([frames / one for one in seconds])


def _keys(row: Any) -> tuple[str, ...]:
    return tuple(row) if isinstance(row, dict) else ()
