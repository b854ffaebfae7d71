"""Define the settings of an editor beside its weights, stored as ``settings.json``."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Literal

from spie_robo.editor.folder_check import read_mapping
from spie_robo.editor.guidance import Guidance
from spie_robo.errors import ConfigError, EditorError
from spie_robo.settings.wording import shortened

SamplerName = Literal["ddim", "euler_ancestral"]
SETTINGS_FILE = "settings.json"


@dataclass(frozen=True)
class EditorSettings:
    """Settings of an editor; an editor's folder may hold its own defaults.

    Attributes:
        instruction: Text to follow if ``edit`` is given none.
        steps: Number of denoising steps.
        guidance: Scales of the conditions.
        sampler: ``"ddim"``, ``"euler_ancestral"``, or None for the pipeline's own scheduler.
        eta: Noise of DDIM's steps, 0 (none) to 1 (DDPM).
        initial_noise: Standard deviation of the noise at the start of the chain, up to 1 as in
            training. Less makes edits cleaner and seeds more alike.
        frame_detail: Share of an edit's fine structure that comes from the frame under the edit's
            local colours, 0 to 1; see :func:`.resolution.hold_detail`.
        resolution: Side of a square with about as many pixels as the working image.
        batch_size: Frames in one forward pass. Only with 1 an edit is independent of other frames
            to the last bit; larger batches are faster and change single pixels by rounding.
        use_references: Follow the stored photos if ``edit`` is given none; False for an adapter
            that was trained without a visual prompt.
    """

    instruction: str = "make it look like a photo of a real lab"
    steps: int = 20
    guidance: Guidance = field(default_factory=Guidance)
    sampler: SamplerName | None = None
    eta: float = 0.0
    initial_noise: float = 1.0
    frame_detail: float = 0.0
    resolution: int = 512
    batch_size: int = 1
    use_references: bool = True

    def __post_init__(self) -> None:
        """Check every value."""
        for name, least in (("steps", 1), ("resolution", 16), ("batch_size", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                got = shortened(repr(value))
                raise ConfigError(f"{name}: expected a whole number >= {least}, got {got}.")
        if not isinstance(self.instruction, str):
            got = shortened(repr(self.instruction))
            raise ConfigError(f"instruction: expected text, got {got}.")
        if self.sampler not in (None, "ddim", "euler_ancestral"):
            raise ConfigError(
                "sampler: expected 'ddim', 'euler_ancestral' or nothing, got "
                f"{shortened(repr(self.sampler))}."
            )
        for name in ("eta", "initial_noise", "frame_detail"):
            share = getattr(self, name)
            if (
                isinstance(share, bool)
                or not isinstance(share, (int, float))
                or not 0 <= share <= 1
            ):
                got = shortened(repr(share))
                raise ConfigError(f"{name}: expected a number in [0, 1], got {got}.")
        if not isinstance(self.use_references, bool):
            got = shortened(repr(self.use_references))
            raise ConfigError(f"use_references: expected true or false, got {got}.")

    def save(self, folder: Path) -> None:
        """Write ``settings.json`` into a folder."""
        (folder / SETTINGS_FILE).write_text(json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> EditorSettings:
        """Read ``settings.json`` of a folder; the defaults if it has none.

        Raises:
            ConfigError: If it is not JSON, or holds unknown or invalid values.
        """
        path = folder / SETTINGS_FILE
        if not path.is_file():
            return cls()
        try:
            values = read_mapping(path)
            if "guidance" in values:
                values["guidance"] = Guidance(**values["guidance"])
            return cls(**values)
        except (ValueError, TypeError, EditorError) as error:
            names = ", ".join(f.name for f in fields(cls))
            reason = shortened(str(error), 400)
            raise ConfigError(f"{path}: {reason} Known settings: {names}.") from error
