"""How far a reader walks: files and depth of three jobs, import circles, names that stand twice.

    python benchmarks/tools/tree_walk.py
    python benchmarks/tools/tree_walk.py --tree ../other_clone --static   # only what imports say

A job runs with a stub editor and guard while every call of a function of this package is counted by
the file that it lies in; depth is the longest chain of such calls from one file into another.
"""

from __future__ import annotations

import argparse
import ast
import platform
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
ROOMS = {"spie_robo": "spie_robo", "envs": "spie_robo.envs", "policies": "spie_robo.policies"}


def modules(tree: Path) -> dict[str, Path]:
    """The modules of the package by name."""
    found = {}
    for room, package in ROOMS.items():
        for path in sorted((tree / room).rglob("*.py")):
            parts = path.relative_to(tree / room).with_suffix("").parts
            found[".".join([package, *(p for p in parts if p != "__init__")])] = path
    return found


def imported(name: str, path: Path, known: dict[str, Path]) -> set[str]:
    """Own modules that a module imports, for types too; imports inside functions do not count."""
    found: set[str] = set()
    for node in _statements(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {one for one in found if one in known and one != name}


def _statements(tree: ast.AST) -> Iterator[ast.stmt]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(node, ast.stmt):
            yield node
        yield from _statements(node)


def circles(imports: dict[str, set[str]]) -> list[set[str]]:
    """Groups of modules that import each other, faces of packages left out."""

    def reachable(start: str) -> set[str]:
        seen: set[str] = set()
        todo = [start]
        while todo:
            for one in imports.get(todo.pop(), ()):
                if one not in seen:
                    seen.add(one)
                    todo.append(one)
        return seen

    reach = {name: reachable(name) for name in imports}
    groups = {frozenset({a, *(b for b in reach[a] if a in reach[b])}) for a in imports}
    return [set(group) for group in groups if len(group) > 1]


def public_names(known: dict[str, Path]) -> dict[str, list[str]]:
    """Classes and functions without an underscore, by the modules that define them."""
    homes: dict[str, list[str]] = {}
    for name, path in known.items():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(name)
    return homes


def walk(job: Callable[[], object], tree: Path, verbose: bool = False) -> tuple[int, int]:
    """Own files that a job passes through, and the longest chain from file to file."""
    rooms = tuple(str(tree / room) for room in ROOMS)
    files: set[str] = set()
    chain: list[tuple[FrameType, bool]] = []
    depth = 0

    def profile(frame: FrameType, event: str, _: object) -> None:
        nonlocal depth
        file = frame.f_code.co_filename
        if not file.startswith(rooms):
            return
        if event == "call" and frame.f_code.co_name != "<module>":
            files.add(file)
            before = next((f for f, counted in reversed(chain) if counted), None)
            chain.append((frame, before is None or before.f_code.co_filename != file))
            depth = max(depth, sum(counted for _, counted in chain))
        elif event == "return" and chain and chain[-1][0] is frame:
            chain.pop()

    job()  # what is imported or loaded on first use does not count
    sys.setprofile(profile)
    try:
        job()
    finally:
        sys.setprofile(None)
    if verbose:
        print(*sorted(files), sep="\n")
    return len(files), depth


def jobs(folder: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """A step of the wrapper that records, a conversion, and what they need."""
    import gymnasium as gym
    import numpy as np

    from spie_robo.data import EpisodeWriter, convert_store
    from spie_robo.editing.guarded_editor import GuardedEditor
    from spie_robo.types import EditResult, GuardVerdict
    from spie_robo.wrappers import RealismWrapper

    class Negative:
        id = "negative"

        def edit(self, frames: Any, references: Any = None, instruction: Any = None,
                 seeds: Any = None) -> list[EditResult]:  # fmt: skip
            return [EditResult(255 - f.rgb, 0, "", self.id, 1) for f in frames]

    class Yes:
        def judge(self, frame: Any, edit: Any) -> GuardVerdict:
            return GuardVerdict(True, (), "", "none")

        def judge_batch(self, frames: Any, edits: Any) -> list[GuardVerdict]:
            return [self.judge(f, e) for f, e in zip(frames, edits, strict=True)]

    class Camera(gym.Env[Any, Any]):
        observation_space = gym.spaces.Dict(front=gym.spaces.Box(0, 255, (32, 32, 3), np.uint8))
        action_space = gym.spaces.Box(-1, 1, (2,), np.float32)

        def reset(self, **settings: Any) -> Any:
            super().reset(seed=settings.get("seed"))
            return {"front": np.zeros((32, 32, 3), np.uint8)}, {}

        def step(self, action: Any) -> Any:
            return {"front": np.ones((32, 32, 3), np.uint8)}, 0.0, False, False, {}

    env = RealismWrapper(Camera(), Negative(), guard=Yes(), record=folder / "recorded.zarr")
    env.reset(seed=0)
    yield "RealismWrapper.step with record=", lambda: env.step(np.zeros(2, np.float32))
    env.close()

    source = folder / "sim.zarr"
    with EpisodeWriter.create(source) as writer:
        rng = np.random.default_rng(0)
        frames = rng.integers(0, 256, (4, 32, 32, 3), np.uint8)
        writer.add_episode({"front_rgb": frames, "action": rng.random((4, 2), np.float32)}, 0)
    count = iter(range(10**6))
    guarded = GuardedEditor(Negative(), Yes())
    yield (
        "convert_store",
        lambda: convert_store(source, folder / f"out_{next(count)}.zarr", guarded, progress=False),
    )
    yield "an epoch of train", _epoch(folder)


def _epoch(folder: Path) -> Callable[[], object]:
    """An epoch on the embedded editor: two inputs, two edits."""
    import numpy as np

    from spie_robo.editor.photo_check import CheckedPhotos
    from spie_robo.training.config import OptimizerConfig, RolloutConfig, TrainConfig
    from spie_robo.training.preview import SEMANTIC
    from spie_robo.training.run import build_trainer
    from spie_robo.training.setup import prepare
    from spie_robo.types import Frame

    rng = np.random.default_rng(0)
    photos = tuple(rng.integers(0, 256, (2, 128, 128, 3), np.uint8))
    names = tuple(Path(f"{i}.png") for i in range(2))
    frames = [Frame(rng.integers(0, 256, (64, 64, 3), np.uint8)) for _ in range(4)]
    config = TrainConfig(
        epochs=10**6,
        frames=2,
        preview=1,
        rollout=RolloutConfig(inputs=2, edits=2),
        optimizer=OptimizerConfig(updates=1),
    )
    run = prepare(config, CheckedPhotos(names, photos, ()), frames)
    trainer = build_trainer(run, None, {SEMANTIC: 0.0})
    return lambda: trainer.run_epoch(0)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tree", type=Path, default=ROOT, help="a clone of this repository")
    parser.add_argument("--static", action="store_true", help="run no job")
    parser.add_argument("--verbose", action="store_true", help="name the files of each job")
    options = parser.parse_args()
    known = modules(options.tree.resolve())
    imports = {name: imported(name, path, known) for name, path in known.items()}
    importers = Counter(one for found in imports.values() for one in found)
    twice = {name: homes for name, homes in public_names(known).items() if len(homes) > 1}
    print(f"{platform.machine()}, Python {platform.python_version()}, {options.tree}")
    print(f"modules: {len(known)}, imported by one other: "
          f"{sum(importers[name] == 1 for name in known)}")  # fmt: skip
    print(f"import circles: {[sorted(group) for group in circles(imports)] or 'none'}")
    print(f"public names in two modules: {len(twice)}")
    for name, homes in sorted(twice.items()):
        print(f"  {name}: {', '.join(homes)}")
    if options.static:
        return
    print("job | own files | depth")
    with tempfile.TemporaryDirectory() as folder:
        for name, job in jobs(Path(folder)):
            files, depth = walk(job, options.tree.resolve(), options.verbose)
            print(f"{name} | {files} | {depth}")


if __name__ == "__main__":
    main()
