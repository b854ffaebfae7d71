"""``spie-robo convert``: from names and numbers to an editor, a guard and a conversion."""

from __future__ import annotations

from spie_robo.config import ConvertConfig
from spie_robo.data import ConvertOptions, ConvertSummary, EpisodeStore, convert_store
from spie_robo.errors import ConfigError
from spie_robo.recording import load_edit_setup


def convert(config: ConvertConfig, *, progress: bool = True) -> ConvertSummary:
    """Edit the frames of a store as ``config`` says; resumes a conversion that was cut short.

    Raises:
        ConfigError: If no editor is named.
        EditorError: If there is no such editor, or it fails.
        StoreError: If a store cannot be read or written.
    """
    EpisodeStore.open(config.source)  # a wrong path is told before seconds go into loading weights
    setup = load_edit_setup(config.edit)
    if setup.editor is None:
        raise ConfigError("editor: expected an editor to convert with, got None. See --editor.")
    options = ConvertOptions(
        cameras=config.cameras,
        batch_size=config.batch_size,
        steps=config.edit.steps,
        seed=config.edit.seed,
        instruction=config.edit.instruction,
        references=config.edit.references,
        retries=config.edit.retries,
    )
    return convert_store(
        config.source, config.out, setup.editor, setup.guard, options, progress=progress
    )
