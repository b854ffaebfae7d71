"""Edit blocks on many workers with Ray: one actor a GPU or core, each with its own editor.

``blocks, read here -> actors, one block at a time -> edits, back in order -> one writer, here``

The output has the bytes that one process would write. A block is cut by episode length and batch
size alone, its edits are a pure function of the block and the settings (:meth:`EditTask.edit`, the
code that the local engine also runs), and one writer in the driver commits the edits in the order
of the source. The result therefore does not depend on which worker made a block, when, or how often
a worker died; after a kill of the whole run the same command resumes it. On a CPU the last bit of a
sum depends on torch's number of threads: every actor uses the driver's number, which is the one
that the conversion was begun with.

Workers get their frames from the driver and need no access to the data set. They load the editor
and its photos by name: a folder must exist under the same path on every machine.
"""

from __future__ import annotations

import logging
import math
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, TypeAlias, final

from spie_robo.data.conversion.engine import Block, Edits, EditTask
from spie_robo.data.conversion.threads import set_threads, torch_threads
from spie_robo.editing.description import EditorDescription
from spie_robo.editing.guarded_editor import GuardedEditor
from spie_robo.errors import ConfigError, EditorError, MissingExtraError, SpieRoboError

Load: TypeAlias = Callable[[], GuardedEditor]

BLOCKS_PER_WORKER = 2
"""Blocks that a worker holds: one in work and one waiting."""
BLOCKS_IN_FLIGHT = 4
"""Blocks that are read and not yet written, for each worker."""
ATTEMPTS = 3
"""Number of workers that may die on a block before the conversion fails."""
START_SECONDS = 600.0
"""Time that a worker may take to start and load its editor, seconds."""


@final
class RayEngine:
    """Edit on the workers of a Ray cluster, or of this machine; use it in a ``with`` block.

    It uses the cluster that is already connected, else that of ``RAY_ADDRESS``, else one on this
    machine that ends with the block.

    Args:
        load: Function that loads the guarded editor; it is sent to the workers, so it must be
            importable there.
        workers: Number of actors; None: one a GPU, or as many as the cores allow with the threads
            that torch uses here.
        timeout: Seconds that a call of the editor may take, on average over a block; None for no
            limit. A worker that takes longer is replaced.

    Raises:
        MissingExtraError: If Ray is not installed.
        ConfigError: If there is no cluster at ``RAY_ADDRESS``, or more workers than cores or GPUs.
        EditorError: If no worker starts.
    """

    def __init__(
        self, load: Load, workers: int | None = None, timeout: float | None = None
    ) -> None:
        """Store the settings; nothing is started yet."""
        if workers is not None and workers < 1:
            raise ConfigError(f"workers: expected 1 or more, got {workers}.")
        self._ray = _import_ray()
        self._load, self._asked, self._timeout = load, workers, timeout
        self._workers: list[_Worker] = []
        self._resources: dict[str, Any] = {}
        self._owner = False
        self._early_deaths = 0
        self._description: EditorDescription | None = None

    @property
    def description(self) -> EditorDescription:
        """Description of the workers' editor, guard and their use."""
        if self._description is None:
            raise ConfigError("RayEngine: expected to be used in a with block.")
        return self._description

    def __enter__(self) -> RayEngine:
        """Start the workers and wait until one has loaded its editor."""
        try:
            self._owner = _connect(self._ray)
            count, self._resources = _divide(
                self._ray.cluster_resources(), self._asked, torch_threads()
            )
            self._workers = [self._start() for _ in range(count)]
            while self._description is None:
                self._wait([])
            return self
        except BaseException:
            self._stop()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the workers, also after Ctrl-C."""
        self._stop()

    def edit(self, task: EditTask, blocks: Iterable[Block]) -> Iterator[tuple[Block, Edits]]:
        """Yield every block with its edits, in order.

        Raises:
            EditorError: If the editor fails, or three workers die on one block.
        """
        shared = self._ray.put(task)
        source = iter(blocks)
        window: deque[_Job] = deque()
        while True:
            room = BLOCKS_IN_FLIGHT * len(self._workers)
            while len(window) < room and (block := next(source, None)) is not None:
                window.append(_Job(block, limit=self._limit(task, block)))
            if not window:
                return
            self._hand_out(window, task, shared)
            if not window[0].over:
                self._wait([job for job in window if job.result is not None])
                continue
            job = window.popleft()
            if job.error is not None:  # raised only now, so that earlier blocks are kept
                raise job.error
            yield job.block, job.edits or {}

    def _hand_out(self, window: Iterable[_Job], task: EditTask, shared: Any) -> None:
        """Give waiting jobs, oldest first, to the workers with the fewest jobs."""
        for job in window:
            if job.over or job.result is not None:
                continue
            free = [w for w in self._workers if w.ready and len(w.jobs) < BLOCKS_PER_WORKER]
            if not free:
                return
            worker = min(free, key=lambda w: len(w.jobs))
            job.result = worker.actor.edit.remote(shared, task.inputs(job.block))
            if not worker.jobs:
                worker.since = time.monotonic()
            worker.jobs.append(job)

    def _limit(self, task: EditTask, block: Block) -> float:
        """Return the seconds that a block may take if all its frames are retried."""
        if self._timeout is None:
            return math.inf
        return self._timeout * task.calls(block, self.description.retries)

    def _wait(self, jobs: list[_Job]) -> None:
        """Wait for a job to end or a worker to start, and store the results.

        Raises:
            EditorError: If an editor failed, a block failed too often, or no worker starts.
        """
        starting = [w.started for w in self._workers if not w.ready]
        working = any(worker.ready for worker in self._workers)
        results = [job.result for job in jobs if job.result is not None]
        idle = not (working and results)
        left = START_SECONDS if idle else min(w.seconds_left() for w in self._workers)
        timeout = None if math.isinf(left) else left
        done, _ = self._ray.wait(results + starting, num_returns=1, timeout=timeout)
        if not done and idle:
            raise EditorError(
                f"Ray: no worker started within {START_SECONDS:.0f} s. Other programs may hold its "
                "cores or GPUs: see `ray status`, or ask for fewer --workers."
            )
        for worker in list(self._workers):
            self._take_in(worker, set(done))
        for worker in [w for w in self._workers if w.seconds_left() <= 0]:
            self._replace(worker, f"it gave no edits within {worker.jobs[0].limit:g} s.")

    def _take_in(self, worker: _Worker, done: set[Any]) -> None:
        try:
            if not worker.ready and worker.started in done:
                self._description = self._fetch(worker.started)
                worker.ready = True
            for job in [job for job in worker.jobs if job.result in done]:
                self._finish(worker, job)
        except _WorkerLostError as lost:
            self._replace(worker, str(lost))

    def _finish(self, worker: _Worker, job: _Job) -> None:
        try:
            job.edits = self._fetch(job.result)
        except SpieRoboError as error:
            job.error = error
        job.result = None
        worker.jobs.remove(job)
        worker.since = time.monotonic()

    def _fetch(self, result: Any) -> Any:
        errors = self._ray.exceptions
        try:
            return self._ray.get(result)
        except errors.RayTaskError as error:  # the editor's error and the worker's traceback
            cause = getattr(error, "cause", None)
            if isinstance(cause, SpieRoboError):
                raise cause from None
            raise EditorError(f"An editing worker failed: {cause!r}.") from error
        except errors.RayError as error:
            raise _WorkerLostError(" ".join(str(error).split())[:300]) from error

    def _replace(self, worker: _Worker, cause: str) -> None:
        """Start another worker and return the jobs of the lost one to the queue."""
        with suppress(Exception):  # the worker may be gone
            self._ray.kill(worker.actor)
        self._workers.remove(worker)
        for job in list(worker.jobs):  # some may have finished before it died
            if self._ray.wait([job.result], timeout=0)[0]:
                with suppress(_WorkerLostError):
                    self._finish(worker, job)
        if worker.jobs:
            suspect = worker.jobs[0]  # jobs run in order, so the others had not begun
            suspect.deaths += 1
            if suspect.deaths >= ATTEMPTS:
                suspect.error = EditorError(
                    f"{suspect.block}: {ATTEMPTS} workers died over it, the last with: {cause} "
                    "Episodes before it are kept. Give workers more memory, or fewer "
                    "--workers or a smaller --batch-size, and run the same command again."
                )
        elif not worker.ready:
            self._early_deaths += 1
            if self._early_deaths >= ATTEMPTS:
                raise EditorError(f"Ray: {ATTEMPTS} workers died while they started: {cause}")
        for job in worker.jobs:
            job.result = None
        self._workers.append(self._start())

    def _start(self) -> _Worker:
        remote = self._ray.remote(_EditActor).options(**self._resources)
        actor = remote.remote(self._load, torch_threads())
        return _Worker(actor, actor.describe.remote())

    def _stop(self) -> None:
        for worker in self._workers:
            with suppress(Exception):  # the worker may be gone
                self._ray.kill(worker.actor)
        self._workers = []
        if self._owner:
            self._ray.shutdown()
            self._owner = False


class _WorkerLostError(Exception):
    """A worker, or its result, is lost."""


@dataclass(eq=False)
class _Job:
    """A block to edit; it has no result while it waits for a worker."""

    block: Block
    limit: float = math.inf
    result: Any = None
    edits: Edits | None = None
    error: SpieRoboError | None = None
    deaths: int = 0

    @property
    def over(self) -> bool:
        """True if the job has edits or an error."""
        return self.edits is not None or self.error is not None


@dataclass(eq=False)
class _Worker:
    """An actor; ready once its editor is loaded."""

    actor: Any
    started: Any
    ready: bool = False
    jobs: list[_Job] = field(default_factory=list)
    since: float = 0.0

    def seconds_left(self) -> float:
        """Return the seconds until the first job of the worker must be done."""
        if not self.jobs:
            return math.inf
        return max(0.0, self.since + self.jobs[0].limit - time.monotonic())


@final
class _EditActor:
    """The actor that edits blocks in a Ray process."""

    def __init__(self, load: Load, threads: int) -> None:
        self._load, self._threads = load, threads
        self._guarded: GuardedEditor | None = None

    def describe(self) -> EditorDescription:
        return self._setup().description

    def edit(self, task: EditTask, block: Block) -> Edits:
        # Ray hands over read-only arrays, which an editor may not expect.
        rows = {key: array.copy() for key, array in block.rows.items()}
        guarded = self._setup()
        self._use_threads(task.threads)
        return task.edit(guarded, replace(block, rows=rows))

    def _setup(self) -> GuardedEditor:
        if self._guarded is None:
            os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
            self._guarded = self._load()
            self._use_threads(self._threads)
        return self._guarded

    def _use_threads(self, count: int | None) -> None:
        torch = sys.modules.get("torch")  # some editors do not use it
        if torch is not None and count is not None:
            set_threads(torch, count)


def _import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would send usage statistics
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise MissingExtraError(
            "--engine ray needs the package ray, which is not installed. Install it: "
            "pip install 'spie-robo[ray]'"
        ) from error
    return ray


def _connect(ray: Any) -> bool:
    """Join a cluster or start one on this machine; return whether it must be shut down."""
    if ray.is_initialized():
        return False
    address = os.environ.get("RAY_ADDRESS")
    os.environ.setdefault(
        "RAY_worker_niceness", "0"
    )  # else anything else on this machine goes first
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address:
            ray.init(address="auto", **quiet)
        else:
            ray.init(address="local", include_dashboard=False, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"RAY_ADDRESS: expected a running Ray cluster at {address!r}: {error} Check it "
            "with `ray status`, or unset RAY_ADDRESS to use this machine alone."
        ) from error
    return True


def _divide(
    resources: dict[str, float], workers: int | None, threads: int
) -> tuple[int, dict[str, Any]]:
    """Return the number of actors, and the resources that each reserves."""
    gpus, cores = int(resources.get("GPU", 0)), int(resources.get("CPU", 0))
    room, what = (gpus, "GPU") if gpus else (cores, "core")
    count = workers or gpus or max(1, cores // threads)
    if count > room:
        raise ConfigError(f"workers: expected at most {room}, one a {what}, got {count}.")
    return count, {"num_gpus": 1, "num_cpus": 0} if gpus else {"num_cpus": 1}
