"""Full disks, flipped bits, deleted and truncated files: named errors, and never a wrong frame."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import faults_jobs as jobs
import numpy as np
from faults_jobs import Outcome

from spie_robo.data import EpisodeStore, EpisodeWriter, verify_store
from spie_robo.data.formats import export_episodes, open_source
from spie_robo.errors import SpieRoboError, StoreError

BLOCK = 4096
KINDS = ("flipped", "deleted", "cut short")
ROOM = 16 * 2**20


def full_disk(folder: Path, seed: int, trials: int) -> Outcome:
    """A file system with room for n more blocks, for many n: StoreError, earlier episodes valid."""
    return _fill(folder, trials, {"record": (_record_more, True), "convert": (_convert, True),
                                  "export": (_export, False)})  # fmt: skip


def full_disk_training(folder: Path, seed: int, trials: int) -> Outcome:
    """The same while post-training writes a checkpoint: TrainingError, earlier ones valid."""
    return _fill(folder, trials, {"train": (jobs.train, False)})


def full_disk_policy(folder: Path, seed: int, trials: int) -> Outcome:
    """The same for policy training."""
    return _fill(folder, trials, {"policy": (jobs.train_policy, False)})


def _record_more(out: Path) -> None:
    jobs.record(out, 6)


def _convert(out: Path) -> None:
    jobs.convert(out.parent.parent / "source.zarr", out)


def _export(out: Path) -> None:
    jobs.export(out.parent.parent / "source.zarr", out)


def _fill(folder: Path, trials: int, works: dict[str, tuple[Callable[..., Any], bool]]) -> Outcome:
    """Do each work on a small disk that is full after every possible number of blocks in turn."""
    jobs.finish(jobs.start(jobs.record, folder / "source.zarr"))
    done = kept = 0
    failures: list[str] = []
    for name, (work, is_store) in works.items():
        whole, disk = folder / f"whole_{name}" / "out", folder / "disk"
        whole.parent.mkdir()
        jobs.finish(jobs.start(work, whole))
        expected, needed = jobs.files(whole), _blocks(whole)
        per_work = max(1, trials // len(works))
        for blocks in np.linspace(1, needed * 2, per_work).astype(int):
            with _small_disk(disk):
                ballast = disk / "ballast"
                ballast.write_bytes(bytes(_free(disk) - int(blocks) * BLOCK))
                status = jobs.finish(jobs.start(_named, work, disk / "out"))
                if status == 0:
                    continue  # there was room enough
                done += 1
                # A finished store may not be there yet; what is there must be valid.
                good = status == 7 and (not is_store or jobs.ask(jobs.state, disk / "out")["ok"])
                ballast.unlink()
                good = good and jobs.finish(jobs.start(work, disk / "out")) == 0
                good = good and jobs.files(disk / "out") == expected
                kept += good
                failures += [] if good else [f"{name} at {blocks} blocks: {status}"]
    return Outcome(done, kept, "; ".join(failures[:3]) or f"tmpfs, {', '.join(works)}")


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
    detail = (
        f"verify found {found}; {harmless} changed nothing that is read (every array read back "
        f"right: {', '.join(f'{n} {what}' for what, n in unseen.most_common())}); {wrong} wrong"
    )
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


FOREIGN = ("zarr", "diffusion-policy", "diffusion-policy-zip", "robomimic", "minari")


def fuzz_readers(folder: Path, seed: int, trials: int) -> Outcome:
    """Random bytes in every format: data or a SpieRoboError, memory within 1 GiB, no crash."""
    done = kept = 0
    details = []
    for name in FOREIGN:
        answer = jobs.ask(_fuzz, folder / name, seed, max(1, trials // len(FOREIGN)), name)
        if answer is None:
            details.append(f"{name}: the reader died")
            done += 1
            continue
        n, good, peak, first = answer
        done, kept = done + n, kept + good
        details.append(f"{name} {good} of {n}, +{peak:.0f} MiB{first}")
    return Outcome(done, kept, "; ".join(details))


def _fuzz(folder: Path, seed: int, trials: int, name: str) -> tuple[int, int, float, str]:
    rng = np.random.default_rng([seed, len(name)])
    folder.mkdir(parents=True)
    source, path = folder / "source.zarr", folder / "data"
    jobs.record(source, 2)
    if name == "zarr":
        shutil.move(source, path)
    else:
        export_episodes(EpisodeStore.open(source), path, name, progress=False)
    names, first = sorted(jobs.files(path)), ""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    kept = 0
    for _ in range(trials):
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
            kept += 1
        except SpieRoboError:
            kept += 1
        except Exception as error:
            first = first or f" ({error!r:.120} from {file.name})"
        file.write_bytes(intact)
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return trials, kept if peak < 1024 else 0, peak, first
