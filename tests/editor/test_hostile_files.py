"""Photos and adapter folders made to do harm: refused by name, before they cost anything."""

from __future__ import annotations

import json
import math
import os
import shutil
import struct
import tracemalloc
import zlib
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from spie_robo.editor.folder_check import require_harmless
from spie_robo.editor.lora_config import read_lora_config
from spie_robo.editor.photo_check import check_photos
from spie_robo.editor.presets import find_folder, load_editor
from spie_robo.errors import ConfigError, EditorError, ReferencePhotoError


def png(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"")), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(
    ("size", "why"),
    [
        ((100_000, 100_000), "claims 100000x100000"),
        ((9_000, 9_000), "claims 9000x9000"),
        ((400, 400), "cannot be read"),
    ],
)
def test_a_photo_that_claims_too_much_or_lies_is_refused(tmp_path, size, why):
    (tmp_path / "desk.png").write_bytes(png(*size))
    with pytest.raises(ReferencePhotoError, match=rf"desk\.png.*{why}"):
        check_photos(tmp_path)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({"weight_map": {"a": "../../elsewhere.safetensors"}}, "names of files beside it"),
        ({"weight_map": {"a": "/etc/x.safetensors", "b": "x"}}, "names of files beside it"),
        ({"weight_map": {"a": 3}}, "names of files beside it"),
        ({"weight_map": []}, "weight_map"),
        ([], "expected a JSON object"),
    ],
)
def test_an_index_may_only_name_files_beside_it(tmp_path, content, why):
    index = tmp_path / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    index.parent.mkdir()
    index.write_text(json.dumps(content))
    with pytest.raises(EditorError, match=why):
        require_harmless(tmp_path)
    for name, text in (("model_index.json", "{}"), ("adapter_config.json", "{}")):
        (tmp_path / name).write_text(text)
    with pytest.raises(EditorError, match=why):
        load_editor(str(tmp_path))
    index.write_text(json.dumps({"weight_map": {"a": "one.safetensors"}}))
    with pytest.raises(EditorError, match="expected safetensors weights"):
        require_harmless(tmp_path)
    (tmp_path / "model_index.json").unlink()
    require_harmless(tmp_path)


@pytest.mark.parametrize(
    "name", ["adapter_config.json", "unet/config.json", "tokenizer/merges.txt"]
)
def test_a_text_that_is_too_large_is_refused_unread(tmp_path, name):
    (tmp_path / "model_index.json").write_text("{}")
    text = tmp_path / name
    text.parent.mkdir(exist_ok=True)
    text.touch()
    os.truncate(text, 2**40)
    with pytest.raises(EditorError, match=rf"{text.name}: expected at most .* found {2**40}"):
        load_editor(str(tmp_path))


def test_the_embedded_editor_passes():
    folder = find_folder("embedded")
    assert list(folder.rglob("*.safetensors"))
    require_harmless(folder)


@pytest.fixture
def pipeline(tmp_path) -> Path:
    """A copy of the embedded editor that a test may spoil; its largest file is a link."""
    embedded, folder = find_folder("embedded"), tmp_path / "pipeline"
    weights = Path("unet", "diffusion_pytorch_model.safetensors")

    def largest(place: str, names: list[str]) -> list[str]:
        return [weights.name] if Path(place) == embedded / weights.parent else []

    shutil.copytree(embedded, folder, ignore=largest)
    (folder / weights).symlink_to(embedded / weights)
    return folder


def change(path: Path, **values) -> None:
    found = json.loads(path.read_text())
    path.write_text(json.dumps({**found, **values}))


def refuse(folder: Path, match: str) -> None:
    """The folder is refused by name, and the refusal costs less than ten megabytes."""
    tracemalloc.start()
    with pytest.raises((EditorError, ConfigError), match=match) as caught:
        load_editor(str(folder))
    assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    tracemalloc.stop()
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "name",
    ["settings.json", "references.safetensors", "unet/config.json", "model_index.json",
     "spie/conv_in.safetensors", "tokenizer/tokenizer.json"],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["pipe", "device", "dangling", "folder"])
def test_what_is_no_plain_file_is_refused_and_never_opened(pipeline, name, kind):
    path = pipeline / name
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)  # opening it would wait for ever
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "dangling":
        path.symlink_to(pipeline / "nothing")
    else:
        path.mkdir()
    match = f"{path.name}: (expected a plain file|cannot be read)"
    refuse(pipeline, match if name != "model_index.json" else "is not an editor")


@pytest.mark.parametrize(
    ("file", "values", "match"),
    [
        ("settings.json", {"resolution": 10**9}, "resolution: expected a number of at most 4096"),
        ("settings.json", {"steps": 10**7}, "steps: expected a number of at most"),
        ("settings.json", {"batch_size": 10**9}, "batch_size"),
        ("settings.json", {"steps": True}, "steps: expected a whole number"),
        ("settings.json", {"eta": "0.5"}, "eta: expected a number"),
        ("settings.json", {"use_references": "no"}, "use_references: expected true or false"),
        ("settings.json", {"guidance": {"image": "much"}}, "guidance.image"),
        ("settings.json", {"instruction": "a" * 10**5}, "instruction: expected at most"),
        ("text_encoder/config.json", {"max_position_embeddings": 10**9}, "max_position_embed"),
        ("text_encoder/config.json", {"max_position_embeddings": 4000}, "position_embedding"),
        ("text_encoder/config.json", {"hidden_size": 4096}, "as its weights have it"),
        ("text_encoder/config.json", {"num_hidden_layers": 60}, "expected 2 layers"),
        ("tokenizer/tokenizer_config.json", {"model_max_length": 10**9}, "model_max_length"),
        ("unet/config.json", {"layers_per_block": 10**6}, "layers_per_block"),
        ("unet/config.json", {"block_out_channels": [10**7] * 3}, "block_out_channels"),
        ("unet/config.json", {"block_out_channels": [8192] * 3}, "Cannot load a pipeline"),
        ("vae/config.json", {"patch": 2**40}, "patch"),
        ("vae/config.json", {"_class_name": ["x"]}, "Cannot load the autoencoder"),
        ("spie/visual_prompt/config.json", {"text_dim": 2**16}, "Cannot load a pipeline"),
        ("spie/config.json", {"residual_mean": [float("inf")] * 12}, "residual_mean"),
        ("spie/config.json", {"vae": "other"}, "expected residual_latents.*got 'vae'"),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": 10**10}, "num_train_timest"),
        ("model_index.json", {"scheduler": ["diffusers", "UNet2DConditionModel"]}, "schedulers"),
        ("model_index.json", {"scheduler": 3}, "Cannot load a pipeline"),
    ],
)
def test_absurd_settings_are_refused_before_anything_is_made(pipeline, file, values, match):
    change(pipeline / file, **values)
    refuse(pipeline, match)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "{", "[]", "\xff", '{"a":' * 900 + "1" + "}" * 900]
)
@pytest.mark.parametrize("file", ["settings.json", "unet/config.json", "spie/config.json"])
def test_texts_that_are_no_settings_are_refused(pipeline, file, text):
    (pipeline / file).write_bytes(text.encode("latin-1"))
    refuse(pipeline, Path(file).name)


def test_latents_of_absurd_number_or_size_are_refused_by_their_header(pipeline):
    path = pipeline / "references.safetensors"
    for shape in ([10**6, 12, 1, 1], [1, 12, 4096, 4096], [2000, 60, 500, 500], [3]):
        size = 2 * math.prod(shape)
        entry = {"dtype": "F16", "shape": shape, "data_offsets": [0, size]}
        header = json.dumps({"latents": entry}).encode()
        path.write_bytes(len(header).to_bytes(8, "little") + header)
        os.truncate(path, 8 + len(header) + size)  # sparse: it takes no room on the disk
        refuse(pipeline, "expected latents of shape")
    path.write_bytes((2**40).to_bytes(8, "little") + b"{}")
    refuse(pipeline, "list of tensors")


def lora(folder: Path, **values) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "adapter_config.json"
    plain = {
        "peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["to_q"], "bias": "none",
        "base_model_name_or_path": "embedded", "runtime_config": {"a": False}, "eva_config": None,
    }  # fmt: skip
    path.write_text(json.dumps({**plain, **values}))
    return path


@pytest.mark.parametrize(
    "values",
    [
        {"target_modules": "(a+)+$"},
        {"target_modules": ["(a+)+$"]},
        {"target_modules": []},
        {"exclude_modules": ".*"},
        {"rank_pattern": {"(a+)+$": 4}},
        {"rank_pattern": {"to_q": 10**6}},
        {"alpha_pattern": {"to_.*": 4}},
        {"r": 10**9},
        {"r": "8"},
        {"r": None},
        {"lora_alpha": [1]},
        {"init_lora_weights": "pissa"},
        {"init_lora_weights": ["x"]},
        {"use_dora": "yes"},
        {"layers_pattern": "(a+)+$"},
        {"modules_to_save": ["conv_in"]},
        {"target_parameters": ["x"]},
        {"layer_replication": [[0, 10**6]]},
        {"bias": "all"},
        {"peft_type": "VERA"},
        {"peft_type": {"a": "b" * 10**5}},
    ],
)
def test_a_lora_has_plain_names_and_numbers_within_bounds(tmp_path, values):
    with pytest.raises(EditorError) as caught:
        read_lora_config(lora(tmp_path / "adapter", **values))
    assert len(str(caught.value)) < 600


def test_a_plain_lora_is_read_as_peft_reads_it(tmp_path):
    from peft import LoraConfig

    values = {"target_modules": ["to_q", "to_out.0"], "rank_pattern": {"mid_block.to_q": 4}}
    path = lora(tmp_path, **values, use_rslora=True, alpha_pattern={"to_q": 3}, runtime_config={})
    ours, theirs = read_lora_config(path), LoraConfig.from_pretrained(str(tmp_path))
    for name in ("r", "lora_alpha", "target_modules", "rank_pattern", "alpha_pattern",
                 "use_rslora", "use_dora", "bias", "exclude_modules"):  # fmt: skip
        assert getattr(ours, name) == getattr(theirs, name), name


@pytest.mark.parametrize("change", ["rank", "name", "wide"])
def test_lora_weights_that_do_not_go_with_their_settings_are_refused_unread(tmp_path, change):
    import torch

    from spie_robo.editor.folder_check import require_lora_tensors

    path = tmp_path / "adapter_model.safetensors"
    name, shape = "base_model.model.mid.to_q.lora_A.weight", (2, 16)
    if change == "rank":
        shape = (64, 16)
    elif change == "name":
        name = "base_model.model.conv_in.weight"
    else:
        shape = (2, 2**18)
    save_file({name: torch.zeros(shape)}, path)
    with pytest.raises(EditorError, match=path.name):
        require_lora_tensors(path, 2)
    assert load_file(path)


def test_a_folder_of_thousands_of_files_is_refused(pipeline):
    for number in range(1001):
        (pipeline / "unet" / f"{number}").touch()
    refuse(pipeline, "expected the few files of an editor")
