from __future__ import annotations

import runpy
import threading
from pathlib import Path

import numpy as np
import pytest

from spie_robo.data import (
    ConversionConfig,
    EpisodeStore,
    EpisodeWriter,
    StoreMetadata,
    convert_store,
)
from spie_robo.data.conversion.engine import Block, EditTask
from spie_robo.data.conversion.local_engine import BLOCKS_AHEAD, LocalEngine
from spie_robo.data.conversion.streams import WriteBehind
from spie_robo.editing.guarded_editor import GuardedEditor
from spie_robo.errors import EditorError, StoreError

shared = runpy.run_path(str(Path(__file__).parents[1] / "nursery.py"))
SwapEditor, EvenGuard, episode = (shared[n] for n in ("SwapEditor", "EvenGuard", "episode"))
TASK = EditTask(StoreMetadata(), ("front",), batch_size=2)


def blocks(count: int = 6):
    rng = np.random.default_rng(0)
    for i in range(count):
        yield Block(i, 0, {"front_rgb": rng.integers(0, 256, (3, 16, 16, 3), np.uint8)}, last=True)


def plain(edits):
    return [(e.rgb.tobytes(), e.edited, e.seed, e.attempts, repr(e.verdict)) for e in edits]


class Watching(SwapEditor):
    def __init__(self, fails_at: int = 10**9, error: type[BaseException] = RuntimeError) -> None:
        self.threads, self.left, self.error = set(), fails_at, error

    def edit(self, *arguments, **named):
        self.threads.add(threading.get_ident())
        self.left -= 1
        if self.left < 0:
            raise self.error("out of memory")
        return super().edit(*arguments, **named)


def test_edits_are_those_of_one_block_after_another_and_made_in_the_callers_thread():
    editor = Watching()
    found = list(LocalEngine(GuardedEditor(editor, EvenGuard(), retries=2)).edit(TASK, blocks()))
    guarded = GuardedEditor(SwapEditor(), EvenGuard(), retries=2)
    assert [block.episode for block, _ in found] == list(range(6))
    for (_, edits), block in zip(found, blocks(), strict=True):
        assert plain(edits["front"]) == plain(TASK.edit(guarded, block)["front"])
    assert editor.threads == {threading.get_ident()}
    assert any(edit.attempts == 3 for _, edits in found for edit in edits["front"])


def test_one_block_is_edited_while_the_one_before_is_judged():
    edited_second = threading.Event()

    class Patient(EvenGuard):
        def judge_batch(self, frames, edits):
            assert edited_second.wait(timeout=30), "the next block waited for the judge"
            return super().judge_batch(frames, edits)

    class Second(SwapEditor):
        calls = 0

        def edit(self, *arguments, **named):
            Second.calls += 1
            if Second.calls == 2:
                edited_second.set()
            return super().edit(*arguments, **named)

    assert (
        len(list(LocalEngine(GuardedEditor(Second(), Patient(), retries=2)).edit(TASK, blocks(3))))
        == 3
    )


def test_few_blocks_are_read_ahead():
    read = []

    def counted():
        for block in blocks():
            read.append(block.episode)
            yield block

    edited = LocalEngine(GuardedEditor(SwapEditor(), EvenGuard(), retries=2)).edit(TASK, counted())
    next(edited)
    assert len(read) == BLOCKS_AHEAD
    edited.close()
    assert len(read) == BLOCKS_AHEAD


@pytest.mark.parametrize(
    ("error", "raised"), [(RuntimeError, EditorError), (KeyboardInterrupt, KeyboardInterrupt)]
)
def test_an_error_and_ctrl_c_end_the_threads(error, raised):
    before = threading.active_count()
    with pytest.raises(raised, match="out of memory"):
        list(
            LocalEngine(GuardedEditor(Watching(4, error), EvenGuard(), retries=2)).edit(
                TASK, blocks()
            )
        )
    assert threading.active_count() == before


def test_an_episode_that_was_edited_is_written_though_the_next_fails(tmp_path):
    with EpisodeWriter.create(tmp_path / "sim.zarr") as writer:
        for i in range(4):
            writer.add_episode({"front_rgb": np.full((4, 16, 16, 3), i, np.uint8)}, seed=i)
    options = ConversionConfig(batch_size=2)
    with pytest.raises(EditorError):
        convert_store(
            tmp_path / "sim.zarr",
            tmp_path / "out.zarr",
            GuardedEditor(Watching(4)),
            options,
            progress=False,
        )
    assert len(EpisodeStore.open(tmp_path / "out.zarr", allow_unfinished=True)) == 2


class Sink:
    def __init__(self) -> None:
        self.done, self.n_episodes, self.fail = [], 0, False

    def begin_episode(self, seed=None):
        self.done.append(("begin", seed))

    def extend(self, rows):
        if rows["x"][0] == 13:
            raise StoreError("the disk is full")
        self.done.append(("extend", int(rows["x"][0])))

    def end_episode(self):
        self.done.append(("end", threading.get_ident()))


def test_nothing_is_written_after_a_failed_write():
    sink = Sink()
    with pytest.raises(StoreError, match="disk is full"), WriteBehind(sink) as writing:
        for episode_ in range(20):
            writing.begin_episode(episode_)
            writing.extend({"x": np.array([12 + episode_])})
            writing.end_episode()
    assert [name for name, _ in sink.done] == ["begin", "extend", "end", "begin"]
    assert sink.done[2][1] != threading.get_ident()


def test_what_waits_is_written_when_the_block_fails():
    sink = Sink()
    with pytest.raises(KeyboardInterrupt), WriteBehind(sink) as writing:
        writing.begin_episode(7)
        writing.end_episode()
        raise KeyboardInterrupt
    assert [name for name, _ in sink.done] == ["begin", "end"]
