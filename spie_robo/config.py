"""One frozen dataclass per command: what can be set, the default, and what a setting may be.

Values come from the command line (:mod:`spie_robo.cli`), from a YAML file
(:mod:`spie_robo.settings.yaml_files`), or from Python. A record checks itself on construction, so
that code which receives one need not.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, final

from tyro import conf

from spie_robo.errors import ConfigError
from spie_robo.feedback.config import FeedbackConfig
from spie_robo.settings.locations import Location
from spie_robo.settings.ranges import require_at_least, require_between, require_seed

# What the help shows in place of a value.
Text: TypeAlias = Annotated[str, conf.arg(metavar="TEXT")]
OptionalText: TypeAlias = Annotated[str | None, conf.arg(metavar="TEXT")]
OptionalPath: TypeAlias = Annotated[Path | None, conf.arg(metavar="PATH")]
OptionalCount: TypeAlias = Annotated[int | None, conf.arg(metavar="N")]
Count: TypeAlias = Annotated[int, conf.arg(metavar="N")]
Names: TypeAlias = Annotated[tuple[str, ...], conf.arg(metavar="NAME ...")]
DataFormat: TypeAlias = Literal[
    "zarr", "diffusion-policy", "diffusion-policy-zip", "umi", "lerobot", "robomimic", "minari",
    "minari-jpeg",
]  # fmt: skip
Store: TypeAlias = Annotated[Path, conf.arg(metavar="STORE"), conf.Positional]


@final
@dataclass(frozen=True)
class EditConfig:
    """Which editor makes the edits, how, and whether a guard judges them."""

    editor: OptionalText = "embedded"
    """embedded, embedded-labs, a folder or a Hub id; None leaves the frames raw."""
    base: OptionalText = None
    """For an adapter: the base to use instead of the one it names."""
    references: OptionalPath = None
    """Reference photos: a folder or a file; unset: the editor's own."""
    instruction: OptionalText = None
    """Text for the editor; unset: its own."""
    seed: Count = 0
    """Seed of the run; each episode has its own (record: N, N + 1, ...)."""
    steps: OptionalCount = None
    """Denoising steps; unset: the editor's."""
    frames_per_pass: OptionalCount = None
    """Frames a pass; unset: the editor's."""
    guard: bool = True
    """Judge the edits, or accept all."""
    retries: Count = 1
    """Further seeds to try after a rejection."""
    protect: Names = ()
    """Objects whose colour must stay, by name, e.g. cube."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        require_here(self)
        require_seed(self.seed)
        require_at_least("retries", self.retries, 0)
        for name in ("steps", "frames_per_pass"):
            if getattr(self, name) is not None:
                require_at_least(name, getattr(self, name), 1)
        if self.editor is not None:
            _not_empty("editor", self.editor)


def _raw() -> EditConfig:
    return EditConfig(editor=None)


@final
@dataclass(frozen=True)
class DemoConfig:
    """Settings of ``spie-robo demo``."""

    out: Path
    """Folder for episodes.zarr and report.html."""
    env: Text = "SpieRobo/Push-v0"
    """Id of an environment with a scripted expert."""
    episodes: Count = 3
    """Episodes to record."""
    max_steps: Count = 60
    """Steps of an episode at most."""
    edit: EditConfig = field(default_factory=EditConfig)
    """How frames are edited."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        require_here(self)
        _not_empty("env", self.env)
        require_at_least("episodes", self.episodes, 1)
        require_at_least("max_steps", self.max_steps, 1)


@final
@dataclass(frozen=True)
class RecordConfig:
    """Settings of ``spie-robo record``."""

    env: Text
    """Id of a Gymnasium environment."""
    episodes: Count
    """Episodes to record."""
    out: Path
    """The store to write; must not exist yet."""
    policy: Text = "expert"
    """What acts: "expert" (of SpieRobo's tasks), "random", or a policy's folder."""
    max_steps: OptionalCount = None
    """Steps of an episode at most; unset: the environment's limit."""
    image_size: OptionalCount = None
    """Side of the camera images in pixels; unset: the environment's."""
    other_env: bool = False
    """Let a learned policy act in another environment than its own."""
    zarr_format: Literal[2, 3] = 3
    """2 opens with Diffusion Policy's original ReplayBuffer."""
    edit: EditConfig = field(default_factory=_raw)
    """How frames are edited; without an editor they stay raw."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        require_here(self)
        _not_empty("env", self.env)
        require_at_least("episodes", self.episodes, 1)
        if self.policy not in ("expert", "random") and not Path(self.policy).is_dir():
            raise ConfigError(
                f"policy: expected 'expert', 'random' or a policy's folder, got {self.policy!r}."
            )
        if self.max_steps is not None:
            require_at_least("max_steps", self.max_steps, 1)
        if self.image_size is not None:
            require_at_least("image_size", self.image_size, 16)


@final
@dataclass(frozen=True)
class ConvertConfig:
    """Settings of ``spie-robo convert``."""

    source: Annotated[Path, conf.arg(metavar="IN"), conf.Positional]
    """A store, or a data set in a format of --to; s3://BUCKET/KEY too."""
    out: Annotated[Path, conf.arg(metavar="OUT"), conf.Positional]
    """What to write, s3:// too; what was cut off goes on."""
    to: Annotated[DataFormat, conf.arg(metavar="FORMAT")] = "zarr"
    """zarr (our store), diffusion-policy[-zip], umi, lerobot, robomimic, minari[-jpeg]."""
    cameras: Names = ()
    """Cameras to edit; unset: all of the store."""
    batch_size: Count = 8
    """Frames in one call of the editor; the result stays."""
    fps: OptionalCount = None
    """Steps a second, for lerobot."""
    engine: Literal["local", "ray"] = "local"
    """This process, or workers of Ray."""
    workers: OptionalCount = None
    """For ray; unset: one a GPU or core."""
    edit_timeout: Count = 3600
    """Seconds for a batch; more is a hang."""
    dry_run: bool = False
    """Print plan, time and size only."""
    edit: EditConfig = field(default_factory=EditConfig)
    """How frames are edited; --editor none changes the format alone."""

    def __post_init__(self) -> None:
        """Check the ranges, and that the two stores differ."""
        require_at_least("batch_size", self.batch_size, 1)
        require_at_least("edit_timeout", self.edit_timeout, 1)
        if self.fps is not None:
            require_at_least("fps", self.fps, 1)
        if self.workers is not None:
            require_at_least("workers", self.workers, 1)
            if self.engine != "ray":
                raise ConfigError("workers: expected --engine ray, got --engine local.")
        if self.source.resolve() == self.out.resolve():
            raise ConfigError(
                f"out: expected another path than the source, got {self.out} twice. "
                "A conversion never writes into the store that it reads."
            )


@final
@dataclass(frozen=True)
class EvaluateConfig:
    """Settings of ``spie-robo evaluate``."""

    frames: Annotated[Path, conf.arg(metavar="STORE")]
    """The store, or folder of pictures, to take raw frames from."""
    references: Annotated[Path, conf.arg(metavar="DIR")]
    """Photos of the lab that edits should look like."""
    editors: Names
    """Editors to compare: presets, folders, Hub ids, match-histograms, reinhard."""
    base: OptionalText = None
    """For adapters: the base to use instead of the one they name."""
    held_out: OptionalPath = None
    """Other photos of the lab: for KID, and the floor of the scores."""
    count: Count = 32
    """Frames to compare on."""
    seed: Count = 0
    """Seed of the choice of frames and of the edits."""
    instruction: OptionalText = None
    """Text for editors and text metrics; unset: the editors' own."""
    region_names: Names = ()
    """Objects that are to change, by name; adds L2 outside them."""
    json: OptionalPath = None
    """JSON file to write."""
    page: OptionalPath = None
    """HTML file to write: the table, and pictures side by side."""
    clip: OptionalText = None
    """CLIP model, folder or Hub id: text, direction and patches."""
    dino: OptionalText = None
    """DINOv2 model, folder or Hub id: patches."""
    pick_score: OptionalText = None
    """PickScore model, folder or Hub id."""
    dreamsim: bool = False
    """Compare patches with the package dreamsim."""
    hps: bool = False
    """Score with the package hpsv2."""
    image_reward: bool = False
    """Score with the package image-reward."""
    feedback: Annotated[FeedbackConfig, conf.Suppress] = field(default_factory=FeedbackConfig)
    """Judges and other regions, for a YAML file; both kinds of each score are measured."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        require_here(self)
        require_at_least("count", self.count, 2)
        require_seed(self.seed)
        if not self.editors:
            raise ConfigError("editors: expected one or more, got none.")
        for name in self.editors:
            _not_empty("editors", name)
        twice = sorted({name for name in self.editors if self.editors.count(name) > 1})
        if twice:
            raise ConfigError(f"editors: expected each once, got {', '.join(twice)} again.")


@final
@dataclass(frozen=True)
class TrainOptions:
    """Settings of ``spie-robo train``; the file holds those of :mod:`spie_robo.training.config`."""

    references: Annotated[Path, conf.arg(metavar="DIR")]
    """Folder of about five photos of the lab; they stay on this machine."""
    frames: Annotated[Path, conf.arg(metavar="STORE")]
    """The store, or folder of pictures, to take raw frames from."""
    out: Path
    """Folder of the adapter, its checkpoints and logs."""
    config: OptionalPath = None
    """Settings, see configs/train/; flags win."""
    editor: OptionalText = None
    """The base: preset, pipeline folder or Hub id; unset: the file's."""
    epochs: OptionalCount = None
    """Epochs (the paper's training steps); unset: the file's."""
    objective: Literal["spie", "nft", "draft"] | None = None
    """What the update maximises; unset: the file's."""
    seed: OptionalCount = None
    """Of everything that is random; unset: the file's."""
    resume: bool = False
    """Go on from the newest checkpoint in OUT."""
    no_references: bool = False
    """Do not let the photos travel with the adapter, as latents."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        require_here(self)
        if self.epochs is not None:
            require_at_least("epochs", self.epochs, 1)
        if self.seed is not None:
            require_seed(self.seed)


@final
@dataclass(frozen=True)
class InfoConfig:
    """Settings of ``spie-robo info``."""

    store: Store
    """The store to describe; s3://BUCKET/KEY too."""


@final
@dataclass(frozen=True)
class VerifyConfig:
    """Settings of ``spie-robo verify``."""

    store: Store
    """The store to check; s3://BUCKET/KEY too."""


@final
@dataclass(frozen=True)
class ReportConfig:
    """Settings of ``spie-robo report``."""

    store: Store
    """The store to show, s3://BUCKET/KEY too, or the folder of a training run."""
    out: Path
    """The HTML file to write, or FILE.rrd for the Rerun viewer."""
    frames: Count = 40
    """Frames of an episode, or pictures of a run, to show at most."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        require_here(self, but=("store",))
        require_at_least("frames", self.frames, 2)


@final
@dataclass(frozen=True)
class ProxyConfig:
    """Settings of ``spie-robo evaluate-proxy``."""

    file: Annotated[Path, conf.arg(metavar="FILE.csv"), conf.Positional]
    """Columns policy, real, sim and further simulators, success in 0..1."""
    json: OptionalPath = None
    """JSON file to write."""
    seed: Count = 0
    """Seed of the bootstrap."""
    resamples: Count = 10_000
    """Resamples of the bootstrap."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        require_here(self)
        require_seed(self.seed)
        require_between("resamples", self.resamples, 100, 1_000_000)


@final
@dataclass(frozen=True)
class DoctorConfig:
    """Settings of ``spie-robo doctor``."""

    json: OptionalPath = None
    """JSON file to write."""
    no_self_test: bool = False
    """Do not edit a frame, which takes about ten seconds."""

    def __post_init__(self) -> None:
        """Check the path."""
        require_here(self)


@final
@dataclass(frozen=True)
class PretrainOptions:
    """Settings of ``spie-robo pretrain``, which go before those of its file."""

    config: Path
    """YAML file of a spie_robo.pretraining.config.PretrainConfig."""
    out: OptionalText = None
    """Folder of checkpoints, logs and weights; unset: the file's."""
    stage: OptionalText = None
    """pairs, judge, unet, refine, labs or all; unset: the file's."""
    threads: OptionalCount = None
    """CPU threads; unset: the file's."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        require_here(self)
        if self.threads is not None:
            require_at_least("threads", self.threads, 1)


def require_here(record: Any, but: tuple[str, ...] = ()) -> None:
    """Refuse addresses in object storage where a path of this machine is needed.

    Args:
        record: Settings; each of them that is a path, or several, is looked at.
        but: Settings that may be an address.

    Raises:
        ConfigError: If one is an address.
    """
    for item in fields(record):
        value = getattr(record, item.name)
        for path in value if isinstance(value, tuple) else (value,):
            place = Location.of(path) if isinstance(path, Path) else None
            if place is None or item.name in but:
                continue
            way_out = "Write it here first; `spie-robo convert PATH s3://...` sends a store."
            if item.name not in ("out", "json", "page"):
                way_out = f"Copy it here first: `spie-robo convert {place} PATH` does for a store."
            raise ConfigError(
                f"{item.name}: expected a path of this machine, got {place}. {way_out}"
            )


def _not_empty(name: str, value: str) -> None:
    if not value.strip():
        raise ConfigError(f"{name}: expected a name, got an empty text.")
