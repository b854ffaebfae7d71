"""Tables about edits: on unseen styles, on real photographs, by size, and the tasks themselves."""

from __future__ import annotations

from typing import Any

from tables.markdown import share, table, with_interval

METHODS = {
    "raw frame": "the simulator's frame",
    "match_histograms": "histogram matching",
    "Reinhard": "Reinhard colour transfer",
    "embedded, 1 steps": "the embedded editor, 1 step (default)",
    "embedded, 10 steps": "the embedded editor, 10 steps",
    "target itself": "*the targets themselves*",
    "embedded": "the embedded editor",
}


def editor_table(rows: dict[str, Any]) -> str:
    """Distances to the path-traced target, for each method."""
    head = [
        "method", "PSNR, dB", "perceptual distance", "KID x 1000", "KID x 1000, other network",
        "gradients kept", "guard accepts", "after one retry",
    ]  # fmt: skip
    return table(
        head,
        [
            [
                METHODS.get(name, name),
                with_interval(row, "psnr", 2),
                with_interval(row, "perceptual", 3),
                f"{1000 * row['kid']:.1f} ± {1000 * row['kid_deviation']:.1f}",
                f"{1000 * row['kid_other']:.1f} ± {1000 * row['kid_other_deviation']:.1f}",
                f"{row['gradients']:.2f}",
                share(row["accepted"], 1),
                share(row["accepted_after_retry"], 1),
            ]
            for name, row in rows.items()
            if isinstance(row, dict)
        ],
    )


def photo_table(results: dict[str, Any]) -> str:
    """Distances to held-out photos of each lab."""
    head = ["lab", "method", "KID x 1000 (embedding)", "KID (stride 8)", "gradients kept",
            "guard accepts"]  # fmt: skip
    return table(
        head,
        [
            [
                lab,
                METHODS.get(name, name),
                _with_deviation(row, "kid", 1000),
                _with_deviation(row, "kid_stride8", 1),
                f"{row['gradients']:.2f}",
                share(row["accepted"]),
            ]
            for lab, rows in results.items()
            if isinstance(rows, dict)
            for name, row in rows.items()
        ],
    )


def _with_deviation(row: dict[str, float], name: str, scale: float) -> str:
    deviation = row.get(f"{name}_deviation")
    value = f"{scale * row[name]:.0f}"
    return value if deviation is None else f"{value} ± {scale * deviation:.0f}"


def size_table(results: dict[str, Any]) -> str:
    """Seconds, gradients and acceptance for frames of several sizes."""
    head = ["frame", "seconds a frame", "raw gradients kept", "plainly enlarged", "guard accepts"]
    return table(
        head,
        [
            [
                name,
                f"{row['seconds']['median']:.2f} [{row['seconds']['p5']:.2f}, "
                f"{row['seconds']['p95']:.2f}]",
                f"{row['gradients']:.2f}",
                f"{row['gradients_enlarged']:.2f}",
                share(row["accepted"]),
            ]
            for name, row in results["sizes"].items()
        ],
    )


def flicker_table(results: dict[str, Any]) -> str:
    """Flicker in pixels that stand still."""
    rows = [[name, f"{value:.2f}"] for name, value in results["flicker"].items()]
    return table(["flicker in static pixels", "grey levels a step"], rows)


def warping_table(results: dict[str, Any]) -> str:
    """Warping error of the moving camera's edits; empty where it was not measured."""
    rows = [
        [name, f"{row['plain']:.1f}", f"{row['textured']:.2f}"]
        for name, row in results.get("warping", {}).items()
    ]
    return table(["wrist camera, warping ratio", "plain table", "textured table"], rows)


def drift_table(results: dict[str, Any]) -> str:
    """Chroma drift of an object, free and protected."""
    names = {"free": "free", "protected": '`protect=("cube",)`'}
    rows = [
        [names[name], f"{row['median']:.1f} [{row['p5']:.1f}, {row['p95']:.1f}]"]
        for name, row in results["chroma_drift"].items()
    ]
    return table(["the cube's chroma drift", "CIELAB, median [5 %, 95 %]"], rows)


def expert_table(results: dict[str, Any]) -> str:
    """How often the scripted experts solve the tasks."""
    return table(
        ["expert", "success", "Wilson 95 %", "steps, median (5 % to 95 %)"],
        [
            [
                name,
                f"{row['successes']}/{row['episodes']}",
                " to ".join(share(end, 1) for end in row["wilson_95"]),
                f"{row['steps_to_success']['median']:.0f} ({row['steps_to_success']['p5']:.0f} to "
                f"{row['steps_to_success']['p95']:.0f})",
            ]
            for name, row in results["experts"].items()
        ],
    )


def step_table(results: dict[str, Any]) -> str:
    """How long a step of the environment and a path-traced frame take."""
    return table(
        ["speed", "milliseconds, median (5 % to 95 %)"],
        [
            [
                name,
                f"{1000 * row['median']:.1f} ({1000 * row['p5']:.1f} to {1000 * row['p95']:.1f})",
            ]
            for name, row in results["speed"].items()
        ],
    )


def mujoco_silhouette_table(suites: dict[str, dict[str, Any]]) -> str:
    """How well path-traced silhouettes lie on MuJoCo's own, in others' environments.

    Args:
        suites: For each environment what ``twin_mujoco.py`` kept of it.
    """
    return table(
        ["environment", "MuJoCo", "role", "n", "median IoU", "least IoU"],
        [
            [name, results["mujoco"], role, str(row["n"]), f"{row['median']:.4f}",
             f"{row['lowest']:.4f}"]
            for name, results in suites.items()
            for role, row in results.items()
            if isinstance(row, dict)
        ],
    )  # fmt: skip


def silhouette_table(results: dict[str, Any]) -> str:
    """How well path-traced silhouettes lie on the simulator's."""
    return table(
        ["silhouettes", "n", "mean IoU", "least IoU", "most offset, pixels"],
        [
            [
                group,
                str(row["n"]),
                f"{row['iou_mean']:.3f}",
                f"{row['iou_min']:.3f}",
                f"{row['offset_max_pixels']:.2f}",
            ]
            for group, row in results["alignment"].items()
        ],
    )
