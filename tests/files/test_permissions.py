from __future__ import annotations

import os
import stat

import pytest
import torch
from safetensors.torch import save_file

from spie_robo.files.permissions import share_weights


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077, 0o002])
def test_weights_get_the_permissions_of_any_other_new_file(tmp_path, umask):
    before = os.umask(umask)
    try:
        folder = tmp_path / "run"
        (folder / "inside").mkdir(parents=True)
        save_file({"a": torch.zeros(3)}, folder / "inside" / "w.safetensors")
        (folder / "settings.json").write_text("{}")
        share_weights(folder)
        modes = [
            stat.S_IMODE((folder / name).stat().st_mode)
            for name in ("inside/w.safetensors", "settings.json")
        ]
        assert modes == [0o666 & ~umask] * 2
    finally:
        os.umask(before)
