"""Rendering many frames in worker processes that are replaced before they grow.

A path tracer that lives long grows: measured on 64x64 frames, a process takes 60 MB for textures
in its first twenty frames and 0.09 MB for every further one. ``FRAMES_PER_WORKER`` keeps that
below 50 MB, and the seconds that a new process needs to start below a few per cent of its work.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import TypeVar

from spie_robo.envs.scene_state import SceneState
from spie_robo.envs.twin.style import Style
from spie_robo.errors import ConfigError, EnvError
from spie_robo.types import RGB

FRAMES_PER_WORKER = 500

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")


@dataclass(frozen=True, eq=False)
class TwinJob:
    """One frame to render; see :meth:`spie_robo.envs.twin.TwinRenderer.render`.

    Attributes:
        state: What is where.
        camera: Name of one of the state's cameras.
        style: The lab.
        seed: Seed of the path tracer and of the sensor noise.
        samples: Samples per pixel before denoising.
        sensor_noise: Add the sensor's noise.
    """

    state: SceneState
    camera: str
    style: Style
    seed: int = 0
    samples: int = 4
    sensor_noise: bool = True


def render_many(
    jobs: Iterable[TwinJob], workers: int = 1, *, frames_per_worker: int = FRAMES_PER_WORKER
) -> Iterator[RGB]:
    """Render frames in worker processes.

    Call it from code under ``if __name__ == "__main__":``, since workers import the main module.

    Args:
        jobs: What to render; read a few batches ahead and no further.
        workers: Number of processes.
        frames_per_worker: Frames after which a process is replaced.

    Yields:
        uint8 (height, width, 3) for each job, in their order: the same bytes as
        ``TwinRenderer.render`` gives, whatever the number of workers.

    Raises:
        ConfigError: If ``workers`` or ``frames_per_worker`` is less than 1.
        MissingExtraError: If the ``photoreal`` extra is not installed.
        EnvError: If a worker was killed.
    """
    if frames_per_worker < 1:
        raise ConfigError(f"frames_per_worker: expected 1 or more, got {frames_per_worker}.")
    threads = max(1, (os.cpu_count() or 1) // max(workers, 1))
    batches = ((threads, batch) for batch in _batches(jobs, frames_per_worker))
    for images in run_in_fresh_processes(_render_batch, batches, workers):
        yield from images


def run_in_fresh_processes(
    function: Callable[[_Task], _Result], tasks: Iterable[_Task], workers: int
) -> Iterator[_Result]:
    """Call ``function`` on each task in a new process, at most ``workers`` at a time.

    Args:
        function: A function of a module; it, its argument and result must be picklable.
        tasks: Its arguments, read at most one ahead of the workers.
        workers: Number of processes.

    Yields:
        The results, in the order of the tasks.

    Raises:
        ConfigError: If ``workers`` is less than 1.
        EnvError: If a process was killed. What ``function`` raises is raised here.
    """
    if workers < 1:
        raise ConfigError(f"workers: expected 1 or more, got {workers}.")
    context = multiprocessing.get_context("spawn")
    # One task a process: with more, CPython 3.11's executor can wait for ever (gh-115634).
    pool = ProcessPoolExecutor(workers, context, max_tasks_per_child=1)
    waiting: deque[Future[_Result]] = deque()
    remaining = iter(tasks)
    try:
        while True:
            for task in itertools.islice(remaining, workers + 1 - len(waiting)):
                waiting.append(pool.submit(function, task))
            if not waiting:
                return
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise EnvError(
            "A rendering process was killed, most likely for want of memory. Use fewer workers "
            "or fewer frames a worker."
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _batches(jobs: Iterable[TwinJob], size: int) -> Iterator[list[TwinJob]]:
    remaining = iter(jobs)
    while batch := list(itertools.islice(remaining, size)):
        yield batch


def _render_batch(task: tuple[int, list[TwinJob]]) -> list[RGB]:
    from spie_robo.envs.twin.mitsuba_variant import mitsuba
    from spie_robo.envs.twin.renderer import TwinRenderer

    threads, jobs = task
    mitsuba()
    import drjit

    # Workers share the cores: a renderer that takes all of them in each process only waits.
    drjit.set_thread_count(threads)
    return [
        TwinRenderer(job.samples).render(
            job.state, job.camera, job.style, job.seed, job.sensor_noise
        )
        for job in jobs
    ]
