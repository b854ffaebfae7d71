"""What stands between a command and its result is ours alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from spie_robo.files.quiet_loading import quiet_loading

OWN_BAR = re.compile(r"(record|convert)[^:]*: .*")


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """A command of ours in a process of its own, with nothing silenced from outside."""
    loud = {"TRANSFORMERS_VERBOSITY", "HF_HUB_DISABLE_PROGRESS_BARS", "PYTHONWARNINGS"}
    environment = {key: value for key, value in os.environ.items() if key not in loud}
    return subprocess.run(
        [sys.executable, *words],
        env={**environment, "OMP_NUM_THREADS": "1"},
        cwd="/",  # in the repository, spie_robo lacks the rooms that lie at its top level
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_stderr_of_a_command_holds_only_our_bar(tmp_path: Path) -> None:
    """Editor, guard, simulator and store are loaded on the way."""
    words = "record --env SpieRobo/Reach-v0 --episodes 1 --max-steps 2 --image-size 64".split()
    done = run("-m", "spie_robo.cli", *words, "--editor", "embedded", "--out", f"{tmp_path}/s.zarr")
    assert done.returncode == 0, done.stderr
    lines = [line for line in re.split(r"[\r\n]+", done.stderr) if line.strip()]
    assert lines and not [line for line in lines if not OWN_BAR.fullmatch(line)]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_loading_an_editor_from_python_is_silent(dtype: str) -> None:
    code = (
        "import torch\n"
        "from spie_robo import Editor\n"
        f"Editor.from_pretrained('embedded', dtype=torch.{dtype})"
    )
    done = run("-c", code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(("bars", "verbosity"), [(True, 30), (False, 10)])
def test_the_libraries_are_as_loud_as_before_afterwards(bars: bool, verbosity: int) -> None:
    from diffusers.utils import logging as of_diffusers
    from huggingface_hub import utils as of_hub
    from transformers.utils import logging as of_transformers

    libraries = (of_transformers, of_diffusers)
    before = [(library.is_progress_bar_enabled(), library.get_verbosity()) for library in libraries]
    hub_before = of_hub.are_progress_bars_disabled()
    try:
        for library in libraries:
            (library.enable_progress_bar if bars else library.disable_progress_bar)()
            library.set_verbosity(verbosity)
        of_hub.enable_progress_bars()
        with pytest.raises(RuntimeError), quiet_loading():
            assert not any(library.is_progress_bar_enabled() for library in libraries)
            assert not of_hub.are_progress_bars_disabled()
            raise RuntimeError
        for library in libraries:
            assert library.is_progress_bar_enabled() == bars
            assert library.get_verbosity() == verbosity
        assert not of_hub.are_progress_bars_disabled()
    finally:
        for library, (enabled, level) in zip(libraries, before, strict=True):
            (library.enable_progress_bar if enabled else library.disable_progress_bar)()
            library.set_verbosity(level)
        (of_hub.disable_progress_bars if hub_before else of_hub.enable_progress_bars)()
