"""Full disks, flipped bits, deleted and truncated files: named errors, and never a wrong frame."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import faults_jobs as jobs
import numpy as np
from faults_jobs import Outcome

from spie_robo.data import EpisodeStore, EpisodeWriter, verify_store
from spie_robo.data.formats import FORMATS, export_episodes, open_source
from spie_robo.errors import SpieRoboError, StoreError

BLOCK = 4096
KINDS = ("flipped", "deleted", "cut short")
ROOM = 16 * 2**20

Work: TypeAlias = tuple[Callable[..., Any], bool]
"""What fills the disk, and whether it leaves a store."""


def full_disk(folder: Path, seed: int, trials: int) -> Outcome:
    """A file system with room for n more blocks, for many n: StoreError, earlier episodes valid."""
    return _fill(folder, seed, trials, {
        "record": (_record_more, True), "convert": (_convert, True), "export": (_export, False),
    })  # fmt: skip


def full_disk_exports(folder: Path, seed: int, trials: int) -> Outcome:
    """The same while a data set is written in each foreign format: nothing is left, and none dies.

    HDF5 wants some room beside what it writes, to close a file: it is refused earlier.
    """
    works: dict[str, Work] = {name: (partial(_export, name=name), False) for name in FORMATS}
    return _fill(folder, seed, trials, works, clean=True)


def two_exports(folder: Path, seed: int, trials: int) -> Outcome:
    """Three processes write one output at once, in each foreign format: one does, two are told."""
    jobs.finish(jobs.start(jobs.record, folder / "source.zarr"))
    kept, failures = 0, []
    for trial in range(trials):
        name = list(FORMATS)[trial % len(FORMATS)]
        out = folder / f"out_{trial}"
        children = [jobs.start(_told, folder / "source.zarr", out, name) for _ in range(3)]
        found = sorted(jobs.finish(child) for child in children)
        # Who comes when the first has finished is told that the output is there.
        left = [p.name for p in folder.glob(f".{out.name}*")]
        good = found == [0, 7, 7] and out.exists() and not left
        kept += good
        failures += [] if good else [f"{name}: {found}, {left}"]
    return Outcome(trials, kept, "; ".join(["three at a time, every format", *failures[:3]]))


def _told(source: Path, out: Path, name: str) -> int:
    try:
        export_episodes(EpisodeStore.open(source), out, name, progress=False)
    except StoreError as error:
        return 7 if "process" in str(error) or "already exists" in str(error) else 8
    return 0


def full_disk_training(folder: Path, seed: int, trials: int) -> Outcome:
    """The same while post-training writes a checkpoint: TrainingError, earlier ones valid."""
    return _fill(folder, seed, trials, {"train": (jobs.train, False)})


def full_disk_policy(folder: Path, seed: int, trials: int) -> Outcome:
    """The same for policy training."""
    return _fill(folder, seed, trials, {"policy": (jobs.train_policy, False)})


def _record_more(out: Path) -> None:
    jobs.record(out, 6)


def _convert(out: Path) -> None:
    jobs.convert(out.parent.parent / "source.zarr", out)


def _export(out: Path, name: str = "diffusion-policy") -> None:
    jobs.export(out.parent.parent / "source.zarr", out, name)


def _fill(
    folder: Path, seed: int, trials: int, works: dict[str, Work], *, clean: bool = False
) -> Outcome:
    """Do each work on a disk that has room for a random part of what it needs.

    ``clean``: nothing at all may be left on the disk when it was too full.
    """
    rng = np.random.default_rng(seed)
    jobs.finish(jobs.start(jobs.record, folder / "source.zarr"))
    done = kept = tries = 0
    failures: list[str] = []
    for name, (work, is_store) in works.items():
        whole = folder / f"whole_{name}" / "out"
        whole.parent.mkdir()
        jobs.finish(jobs.start(work, whole))
        expected, limit = jobs.files(whole), 2 * _blocks(whole)
        wanted = max(1, trials // len(works))
        for _ in range(6 * wanted + 20):
            tries += 1
            blocks = int(rng.integers(1, limit + 1))
            status, good = _filled(folder / "disk", blocks, work, is_store, expected, clean)
            if status == 0:  # there was room enough: no trial, and more room would be none either
                limit = max(blocks, round(0.9 * limit))
                continue
            wanted, done, kept = wanted - 1, done + 1, kept + good
            failures += [] if good else [f"{name} at {blocks} blocks: {status}"]
            if not wanted:
                break
    detail = f"tmpfs, {', '.join(works)}; {tries - done} had room enough"
    return Outcome(done, kept, "; ".join([detail, *failures[:3]]))


def _filled(
    disk: Path,
    blocks: int,
    work: Callable[..., Any],
    is_store: bool,
    expected: dict[str, bytes],
    clean: bool,
) -> tuple[int, bool]:
    """Work with room for so many blocks: its status, and whether all promises were kept."""
    with _small_disk(disk):
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(_free(disk) - blocks * BLOCK))
        status = jobs.finish(jobs.start(_named, work, disk / "out"))
        # A finished store may not be there yet; what is there must be valid.
        good = status == 7 and (not is_store or jobs.ask(jobs.state, disk / "out")["ok"])
        good = good and (not clean or [p.name for p in disk.iterdir()] == ["ballast"])
        ballast.unlink()
        good = good and jobs.finish(jobs.start(work, disk / "out")) == 0
        return status, good and jobs.files(disk / "out") == expected


def _named(work: Callable[..., Any], out: Path) -> int:
    try:
        work(out)
    except SpieRoboError as error:
        return 7 if "space" in str(error).lower() else 8
    return 0


def _blocks(path: Path) -> int:
    found = [p for p in (path, *path.rglob("*"))]
    return sum(-(-max(1, p.stat().st_size) // BLOCK) for p in found)


def _free(disk: Path) -> int:
    status = os.statvfs(disk)
    return status.f_bavail * status.f_frsize


@contextmanager
def _small_disk(path: Path) -> Iterator[None]:
    """A tmpfs of 16 MiB at ``path``; needs the right to mount."""
    path.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(path)]
    subprocess.run(mount, check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(path)], check=True, capture_output=True)


def damage(folder: Path, seed: int, trials: int) -> Outcome:
    """Flip, delete and truncate files of a store: verify tells, and no read is wrong."""
    answers = [jobs.ask(_damage, folder / f"v{v}", seed, trials // 2, v) for v in (2, 3)]
    if None in answers:
        return Outcome(trials, 0, "the reader died")
    done, found, harmless, wrong = (sum(answer[i] for answer in answers) for i in range(4))
    unseen = sum((Counter(answer[4]) for answer in answers), Counter[str]())
    names = ", ".join(f"{n} {what}" for what, n in unseen.most_common())
    unread = f"; {harmless} changed nothing that is read (every array read back right: {names})"
    detail = f"verify found {found}{unread if harmless else ''}; {wrong} wrong"
    return Outcome(done, found + harmless, detail)


def _damage(path: Path, seed: int, trials: int, zarr_format: int) -> tuple[Any, ...]:
    rng = np.random.default_rng([seed, zarr_format])
    EpisodeWriter.create(path, zarr_format=zarr_format).close()  # type: ignore[arg-type]
    jobs.record(path, 5)
    expected = list(EpisodeStore.open(path))
    fingerprint = EpisodeStore.open(path).fingerprint()
    names = sorted(jobs.files(path))
    found = harmless = wrong = 0
    unseen: Counter[str] = Counter()
    for trial in range(trials):
        file = path / names[int(rng.integers(len(names)))]
        intact = file.read_bytes()
        mutate(file, intact, trial % 3, rng)
        report_ok = _verified(path)
        right = _reads_right(path, expected, fingerprint)
        if right is False:
            wrong += 1
        elif not report_ok:
            found += 1
        elif right is True:
            harmless += 1
            unseen[f"{KINDS[trial % 3]} {file.name}"] += 1
        else:
            wrong += 1  # a read was refused that verify did not warn of
        file.write_bytes(intact)
    assert verify_store(path).ok
    return trials, found, harmless, wrong, dict(unseen)


def mutate(file: Path, intact: bytes, kind: int, rng: np.random.Generator) -> None:
    """Flip one bit, delete the file, or cut it short."""
    if kind == 1:
        file.unlink()
        return
    position = int(rng.integers(max(1, len(intact))))
    if kind == 2:
        file.write_bytes(intact[:position])
        return
    flipped = bytearray(intact)
    if flipped:
        flipped[position] ^= 1 << int(rng.integers(8))
    file.write_bytes(flipped)


def _verified(path: Path) -> bool:
    try:
        return verify_store(path).ok
    except StoreError:
        return False


def _reads_right(path: Path, expected: list[dict[str, Any]], fingerprint: str) -> bool | None:
    """Whether every episode reads as it was; None if a read is refused by a named error."""
    try:
        store = EpisodeStore.open(path)
        if len(store) != len(expected) or store.fingerprint() != fingerprint:
            return False
        found = list(store)
    except StoreError:
        return None
    return all(
        f.keys() == e.keys()
        and all(f[k].dtype == e[k].dtype and np.array_equal(f[k], e[k]) for k in e)
        for f, e in zip(found, expected, strict=True)
    )


FOREIGN = ("zarr", "diffusion-policy", "diffusion-policy-zip", "robomimic", "minari", "lerobot")
CAP_MIB = 1024
TRIAL_SECONDS = 60


def fuzz_readers(folder: Path, seed: int, trials: int) -> Outcome:
    """Random bytes in every format: data or a SpieRoboError, memory within 1 GiB, no crash."""
    done = kept = 0
    details = []
    for name in FOREIGN:
        (folder / name).mkdir(parents=True)
        lines = _fuzzed(folder / name, seed, max(1, trials // len(FOREIGN)), name)
        good = sum(not line["error"] for line in lines)
        peak = max(line["peak"] for line in lines)
        first = next((f" ({line['error']})" for line in lines if line["error"]), "")
        done, kept = done + len(lines), kept + good
        details.append(f"{name} {good} of {len(lines)}, +{peak:.0f} MiB{first}")
    return Outcome(done, kept, "; ".join(details))


def _fuzzed(folder: Path, seed: int, trials: int, name: str) -> list[dict[str, Any]]:
    """One line a trial: its error, and the memory of the child that did it.

    A child that dies over a trial, by a crash of a library in it or because it takes longer than
    a minute, costs that trial; the next child goes on after it.
    """
    intact, tally = folder / "intact", folder / "tally"
    assert jobs.finish(jobs.start(_foreign, folder, intact, name), 10 * TRIAL_SECONDS) == 0
    lines: list[dict[str, Any]] = []
    while len(lines) < trials:
        tally.write_text("")
        child = jobs.start(
            _fuzz, intact, folder / "broken", tally, (seed, len(lines), trials), name
        )
        status = jobs.finish(child, TRIAL_SECONDS * trials)
        lines += [json.loads(line) for line in tally.read_text().splitlines()]
        if status != 0:
            lines.append({"error": f"the reader died: {status}", "peak": 0})
    return lines


def _foreign(folder: Path, path: Path, name: str) -> None:
    """Write a data set of two episodes in a format."""
    source = path if name == "zarr" else folder / "source.zarr"
    jobs.record(source, 2)
    if name != "zarr":
        export_episodes(EpisodeStore.open(source), path, name, progress=False)


def _fuzz(intact: Path, path: Path, tally: Path, span: tuple[int, int, int], name: str) -> None:
    """Do the trials of a span, seed first, and write what came of each; ends beyond the cap."""
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(intact, path) if intact.is_dir() else shutil.copyfile(intact, path)
    seed, begin, end = span
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for trial in range(begin, end):
        signal.alarm(TRIAL_SECONDS)  # ends the child
        error = _read_broken(path, name, np.random.default_rng([seed, FOREIGN.index(name), trial]))
        peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        error = error or ("memory beyond the cap" if peak >= CAP_MIB else "")
        with tally.open("a") as file:
            file.write(json.dumps({"error": error, "peak": peak}) + "\n")
        if peak >= CAP_MIB:
            return


def _read_broken(path: Path, name: str, rng: np.random.Generator) -> str:
    """Change up to four bytes of a file, read everything, put them back; the error, if unnamed."""
    names = sorted(jobs.files(path))
    file = path / names[int(rng.integers(len(names)))] if path.is_dir() else path
    intact = file.read_bytes()
    broken = bytearray(intact)
    for _ in range(int(rng.integers(1, 5))):
        if broken:
            broken[int(rng.integers(len(broken)))] = int(rng.integers(256))
    file.write_bytes(broken)
    try:
        for _ in open_source(path, name):
            pass
    except SpieRoboError:
        pass
    except Exception as error:
        return f"{error!r:.120} from {file.name}"
    finally:
        file.write_bytes(intact)
    return ""
