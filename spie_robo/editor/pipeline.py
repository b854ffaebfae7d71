"""Combine InstructPix2Pix and a visual prompt in one diffusers pipeline, :class:`SpiePipeline`.

On disk it is a stock InstructPix2Pix folder plus one subfolder, so that diffusers can open it::

    model_index.json  vae/  text_encoder/  tokenizer/  scheduler/
    unet/                      2C input channels
    spie/config.json           residual_latents, residual_mean, residual_std, image_latent_scale
    spie/conv_in.safetensors   the C style channels of the UNet's first convolution
    spie/visual_prompt/        the visual prompt
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, cast, final

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from spie_robo.editor.conv_in import grow_conv_in, shrink_conv_in
from spie_robo.editor.extras import EXTRAS, load_extras, save_extras
from spie_robo.editor.folder_check import read_mapping
from spie_robo.editor.guidance import Guidance
from spie_robo.editor.latents import LatentSpec, decode_target, encode_image, to_condition
from spie_robo.editor.noise_prediction import Conditioning, condition, denoiser
from spie_robo.editor.patch_autoencoder import PatchAutoencoder
from spie_robo.editor.samplers import build_sampler, draw_noise, sample, supported_scheduler
from spie_robo.editor.visual_prompt import VisualPrompt
from spie_robo.errors import EditorError, SpieRoboError
from spie_robo.files.permissions import share_weights
from spie_robo.files.quiet_loading import quiet_loading
from spie_robo.settings.wording import shortened

with quiet_loading():  # without torchvision, importing stock pipelines prints advice to install it
    import diffusers
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        DiffusionPipeline,
        EulerAncestralDiscreteScheduler,
        SchedulerMixin,
        StableDiffusionInstructPix2PixPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextModel, CLIPTokenizer

EXTRAS_CONFIG = "config.json"
MODEL_INDEX = "model_index.json"
TextEncoding: TypeAlias = Callable[[Sequence[str]], Tensor]
"""Function from B texts to the text encoder's states (B, T, D)."""
ModuleT = TypeVar("ModuleT", bound=nn.Module)
_OWN_SETTINGS = ("residual_latents", "residual_mean", "residual_std", "image_latent_scale")
# Errors that diffusers, transformers and safetensors raise for a broken folder.
_BROKEN_FOLDER = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RuntimeError,
    SafetensorError,
)


@final
class SpiePipeline(DiffusionPipeline):  # type: ignore[misc]  # diffusers is untyped
    """A pipeline that edits images by an instruction and a reference photo.

    With stock InstructPix2Pix weights (style channels zero, plain latents) it computes the same as
    diffusers' ``StableDiffusionInstructPix2PixPipeline``.

    Args:
        vae: Autoencoder with C latent channels; the embedded editor's is linear.
        text_encoder: CLIP text model.
        tokenizer: Tokenizer of the text model.
        unet: UNet with 3C input channels: noisy latents, image latents, visual prompt.
        scheduler: DDIM or Euler ancestral scheduler.
        visual_prompt: Network of the visual prompt.
        residual_latents: Diffuse the standardised difference to the input's latents.
        residual_mean: C means of that difference, in unscaled latents; required with
            ``residual_latents``.
        residual_std: C standard deviations of that difference.
        image_latent_scale: Factor on the image and style latents that condition the networks.

    Raises:
        EditorError: If the channels of the parts do not match.
        ConfigError: If the residual statistics are incomplete.
    """

    model_cpu_offload_seq = "text_encoder->visual_prompt->unet->vae"

    def __init__(
        self,
        vae: AutoencoderKL | PatchAutoencoder,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        unet: UNet2DConditionModel,
        scheduler: DDIMScheduler | EulerAncestralDiscreteScheduler,
        visual_prompt: VisualPrompt,
        residual_latents: bool = False,
        residual_mean: Sequence[float] | None = None,
        residual_std: Sequence[float] | None = None,
        image_latent_scale: float = 1.0,
    ) -> None:
        """Register the parts and check that their channels match."""
        super().__init__()
        self.register_modules(
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            unet=unet,
            scheduler=scheduler,
            visual_prompt=visual_prompt,
        )
        self.register_to_config(
            residual_latents=residual_latents,
            residual_mean=None if residual_mean is None else [float(x) for x in residual_mean],
            residual_std=None if residual_std is None else [float(x) for x in residual_std],
            image_latent_scale=float(image_latent_scale),
        )
        self._check_channels()

    @property
    def latent_spec(self) -> LatentSpec:
        """Conversion of latents to diffusion targets and conditions."""
        residual = self.config.residual_latents
        return LatentSpec(
            scaling_factor=self.vae.config.scaling_factor,
            image_latent_scale=self.config.image_latent_scale,
            residual_mean=tuple(self.config.residual_mean) if residual else None,
            residual_std=tuple(self.config.residual_std) if residual else None,
        )

    @property
    def vae_scale_factor(self) -> int:
        """Image pixels in one latent pixel, along one side."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def size_multiple(self) -> int:
        """Number that height and width of images must be multiples of."""
        return int(self.vae_scale_factor * 2 ** (len(self.unet.config.block_out_channels) - 1))

    def encode_text(self, instructions: Sequence[str]) -> Tensor:
        """Return the text encoder's states (B, T, D); tokens after the T-th are cut off."""
        longest: int = self.text_encoder.config.max_position_embeddings
        tokens = self.tokenizer(
            list(instructions),
            padding="max_length",
            max_length=min(self.tokenizer.model_max_length, longest),
            truncation=True,
            return_tensors="pt",
        )
        return cast(Tensor, self.text_encoder(tokens.input_ids.to(self.text_encoder.device))[0])

    def condition(
        self,
        input_latents: Tensor,
        style_latents: Tensor | None,
        instructions: Sequence[str],
        encode_text: TextEncoding | None = None,
    ) -> Conditioning:
        """Compute the conditioning of a batch of edits.

        Args:
            input_latents: (B, C, h, w), unscaled VAE latents of the frames.
            style_latents: (B, C, h, w), unscaled VAE latents of the photos; None: no prompt.
            instructions: B texts.
            encode_text: Function to use instead of :meth:`encode_text`, e.g. one with a cache.
        """
        encode, spec = encode_text or self.encode_text, self.latent_spec
        distinct = list(dict.fromkeys(instructions))
        rows = [distinct.index(instruction) for instruction in instructions]
        return condition(
            self.visual_prompt,
            to_condition(input_latents, spec),
            None if style_latents is None else to_condition(style_latents, spec),
            encode(distinct)[rows],
            encode([""]).expand(len(rows), -1, -1),
        )

    @torch.no_grad()
    def __call__(
        self,
        images: Tensor,
        instructions: Sequence[str],
        generators: Sequence[torch.Generator],
        style_latents: Tensor | None = None,
        guidance: Guidance | None = None,
        steps: int = 10,
        eta: float = 0.0,
        initial_noise: float = 1.0,
        encode_text: TextEncoding | None = None,
    ) -> Tensor:
        """Edit a batch of images.

        Args:
            images: (B, 3, H, W) in [-1, 1]; H and W multiples of :attr:`size_multiple`.
            instructions: B texts.
            generators: B CPU generators, one for all random draws of an image.
            style_latents: (B, C, h, w), unscaled VAE latents of the reference photos.
            guidance: Scales of the conditions; None: the paper's.
            steps: Number of denoising steps.
            eta: Noise of DDIM's steps.
            initial_noise: Standard deviation of the noise at the start of the chain.
            encode_text: Function to use instead of :meth:`encode_text`.

        Returns:
            (B, 3, H, W) in [-1, 1].
        """
        # Encode the images and compute their conditioning.
        self._check_size(images)
        sampler = build_sampler(self.scheduler, steps, eta)
        input_latents = encode_image(self.vae, images.to(self.device))
        conditioning = self.condition(input_latents, style_latents, instructions, encode_text)
        # Denoise and decode.
        noise = draw_noise(input_latents.shape[1:], generators, input_latents)
        denoise = denoiser(self.unet, conditioning, guidance or Guidance())
        clean, _ = sample(denoise, sampler, initial_noise * noise, generators)
        edited = decode_target(self.vae, clean, input_latents, self.latent_spec)
        return edited.float().clamp(-1, 1)

    @classmethod
    def from_instruct_pix2pix(
        cls, pipeline: StableDiffusionInstructPix2PixPipeline
    ) -> SpiePipeline:
        """Add style channels and a visual prompt to a stock pipeline, whose parts are reused.

        Raises:
            EditorError: If the UNet is not InstructPix2Pix's.
        """
        grow_conv_in(pipeline.unet)
        return cls(
            vae=pipeline.vae,
            text_encoder=pipeline.text_encoder,
            tokenizer=pipeline.tokenizer,
            unet=pipeline.unet,
            scheduler=supported_scheduler(pipeline.scheduler),
            visual_prompt=VisualPrompt.from_unet(pipeline.unet),
        )

    def save_pretrained(  # the base class would need its own code to load the parts
        self, save_directory: str | Path, dtype: torch.dtype | None = None
    ) -> None:
        """Write the folder that this module's docstring describes, with safetensors only.

        A pipeline on residual latents has the class name ``SpiePipeline`` in ``model_index.json``,
        so that stock code refuses it instead of decoding its latents to noise.

        Args:
            save_directory: Folder to write, made if missing.
            dtype: Stored type of the weights, e.g. ``torch.float16``; None keeps theirs.

        Raises:
            EditorError: If the UNet has an unmerged LoRA.
        """
        # Write the stock pipeline.
        folder = Path(save_directory)
        unet, style_weight = shrink_conv_in(self.unet)
        stock = StableDiffusionInstructPix2PixPipeline(
            vae=_as_dtype(self.vae, dtype),
            text_encoder=_as_dtype(self.text_encoder, dtype),
            tokenizer=self.tokenizer,
            unet=_as_dtype(unet, dtype),
            scheduler=self.scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        stock.save_pretrained(folder)
        # Add the parts that stock InstructPix2Pix does not have.
        if self.config.residual_latents:
            index = json.loads((folder / MODEL_INDEX).read_text())
            index["_class_name"] = type(self).__name__
            (folder / MODEL_INDEX).write_text(json.dumps(index, indent=2) + "\n")
        style_weight = style_weight.to(dtype or style_weight.dtype)
        save_extras(folder, style_weight, _as_dtype(self.visual_prompt, dtype))
        own_config = json.dumps(self._own_config(), indent=2) + "\n"
        (folder / EXTRAS / EXTRAS_CONFIG).write_text(own_config)
        share_weights(folder)

    @classmethod
    def from_pretrained(  # the style channels are stored beside the stock UNet
        cls,
        pretrained_model_name_or_path: str | Path,
        dtype: torch.dtype = torch.float32,
    ) -> SpiePipeline:
        """Load a local folder of this pipeline or of stock InstructPix2Pix.

        Args:
            pretrained_model_name_or_path: The folder. For names and Hub ids use
                :func:`spie_robo.editor.presets.resolve`.
            dtype: Type of the weights in memory.

        Raises:
            EditorError: If a part is missing, broken or belongs to another model.
        """
        folder = Path(pretrained_model_name_or_path)
        _require_safetensors(folder)
        try:
            parts = _load_stock_parts(folder)
            if (folder / EXTRAS).is_dir():
                style_weight, parts["visual_prompt"] = load_extras(folder)
                grow_conv_in(parts["unet"], style_weight)
                parts |= _own_settings(folder / EXTRAS / EXTRAS_CONFIG)
            else:
                grow_conv_in(parts["unet"])
                with torch.random.fork_rng(devices=[]):  # the same folder gives the same weights
                    torch.default_generator.manual_seed(0)
                    parts["visual_prompt"] = VisualPrompt.from_unet(parts["unet"])
            pipeline = cls(**parts)
        except SpieRoboError:
            raise
        except _BROKEN_FOLDER as error:
            raise EditorError(
                f"Cannot load a pipeline from {folder}: {error} Expected a folder in diffusers' "
                "layout with safetensors weights (model_index.json, unet/, vae/, text_encoder/, "
                "tokenizer/, scheduler/)."
            ) from error
        for module in (pipeline.vae, pipeline.text_encoder, pipeline.unet, pipeline.visual_prompt):
            nn.Module.to(module, dtype=dtype).eval()  # diffusers' own `to` warns about each cast
        return pipeline

    def _own_config(self) -> dict[str, Any]:
        return {name: self.config[name] for name in _OWN_SETTINGS}

    def _check_channels(self) -> None:
        channels = self.vae.config.latent_channels
        got = (self.unet.config.in_channels, self.unet.config.out_channels)
        if got != (3 * channels, channels):
            raise EditorError(
                f"UNet: expected {3 * channels} input and {channels} output channels for a VAE "
                f"with {channels} latent channels, got {got[0]} and {got[1]}. Stock pipelines "
                "come in through SpiePipeline.from_instruct_pix2pix."
            )
        if self.visual_prompt.config.latent_channels != channels:
            raise EditorError(
                f"Visual prompt: expected {channels} latent channels like the VAE, got "
                f"{self.visual_prompt.config.latent_channels}."
            )
        if self.config.residual_latents and len(self.config.residual_mean or ()) != channels:
            raise EditorError(
                f"residual_latents: expected residual_mean and residual_std of {channels} "
                f"channels, got {self.config.residual_mean} and {self.config.residual_std}."
            )

    def _check_size(self, images: Tensor) -> None:
        multiple = self.size_multiple
        if images.ndim != 4 or images.shape[1] != 3 or any(n % multiple for n in images.shape[2:]):
            raise EditorError(
                f"Images: expected shape (B, 3, H, W) with H and W multiples of {multiple}, got "
                f"{tuple(images.shape)}."
            )


def _own_settings(path: Path) -> dict[str, Any]:
    values = read_mapping(path)
    if strange := sorted(values.keys() - set(_OWN_SETTINGS)):
        raise EditorError(
            f"{path}: expected {', '.join(_OWN_SETTINGS)}, got {shortened(strange[0])!r}."
        )
    return values


def load_autoencoder(folder: Path) -> AutoencoderKL | PatchAutoencoder:
    """Load only the autoencoder of a pipeline's folder.

    Raises:
        EditorError: If the autoencoder is broken.
    """
    place = folder / "vae"
    try:
        with quiet_loading():
            return _vae_class(place).from_pretrained(
                place, use_safetensors=True, local_files_only=True
            )
    except _BROKEN_FOLDER as error:
        raise EditorError(f"Cannot load the autoencoder in {place}: {error}") from error


def _load_stock_parts(folder: Path) -> dict[str, Any]:
    safe: dict[str, Any] = {"use_safetensors": True, "local_files_only": True}
    with quiet_loading():
        return {
            "vae": load_autoencoder(folder),
            "text_encoder": CLIPTextModel.from_pretrained(folder / "text_encoder", **safe),
            "tokenizer": CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True),
            "unet": UNet2DConditionModel.from_pretrained(folder / "unet", **safe),
            "scheduler": supported_scheduler(
                _scheduler_class(folder).from_pretrained(folder / "scheduler")
            ),
        }


def _scheduler_class(folder: Path) -> type[SchedulerMixin]:
    name = read_mapping(folder / MODEL_INDEX)["scheduler"][1]
    found = getattr(diffusers, name, None) if isinstance(name, str) else None
    if not (isinstance(found, type) and issubclass(found, SchedulerMixin)):
        raise EditorError(
            f"{folder / MODEL_INDEX}: expected the name of one of diffusers' schedulers, got "
            f"{shortened(repr(name))}."
        )
    return found


def _require_safetensors(folder: Path) -> None:
    """Refuse a folder whose weights are there, but not in the form that is loaded.

    Raises:
        EditorError: Naming the part, what it has, and how to save it anew.
    """
    for part in ("unet", "vae", "text_encoder"):
        names = [file.name for file in (folder / part).glob("*")] if folder.is_dir() else []
        whole = [n for n in names if re.fullmatch(r"[a-z_]+(-\d+-of-\d+)?\.safetensors", n)]
        half = [n for n in names if re.search(r"\.fp16(-\d+-of-\d+)?\.safetensors$", n)]
        pickled = [n for n in names if n.endswith((".bin", ".ckpt", ".pt"))]
        if whole or not (half or pickled):
            continue
        found, option = (
            (half[0], "variant='fp16'") if half else (pickled[0], "use_safetensors=False")
        )
        why = (
            "only a half-precision variant" if half else "only pickled weights, which can run code"
        )
        raise EditorError(
            f"{folder / part}: expected weights in full as .safetensors, found {why} ({found}). "
            "Save the pipeline anew with diffusers: StableDiffusionInstructPix2PixPipeline."
            f"from_pretrained({str(folder)!r}, {option}, torch_dtype=torch.float32)"
            ".save_pretrained('a/new/folder')"
            + ("." if half else "; do that only with weights that you trust.")
        )


def _vae_class(folder: Path) -> type[AutoencoderKL] | type[PatchAutoencoder]:
    name = read_mapping(folder / EXTRAS_CONFIG).get("_class_name")
    if name == PatchAutoencoder.__name__:
        return PatchAutoencoder  # type: ignore[no-any-return]  # diffusers bases are untyped
    return cast("type[AutoencoderKL]", AutoencoderKL)


def _as_dtype(module: ModuleT, dtype: torch.dtype | None) -> ModuleT:
    if dtype is None:
        return module
    return nn.Module.to(copy.deepcopy(module), dtype=dtype)
