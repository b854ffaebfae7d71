"""The words that the embedded editor understands: its tokenizer and its training instructions."""

from __future__ import annotations

import json

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from spie_robo.envs.twin import describe, sample_style

DEFAULT_INSTRUCTION = "make it look like a photo of the lab"

GENERIC_INSTRUCTIONS = (
    DEFAULT_INSTRUCTION,
    "make it look like a photo of my lab",
    "make it look real",
    "turn the simulation into a photo",
    "make it a realistic photo of the lab in the reference",
    "make it look like the reference photo",
)

MAX_TOKENS = 48
_CORPUS_STYLES = 2000
_VOCABULARY = 900


def build_tokenizer() -> CLIPTokenizer:
    """A CLIP tokenizer whose merges were learned from the training instructions.

    Byte-level, so that any text has tokens; words that no instruction uses cost more of them.
    """
    corpus = [describe(sample_style(seed)) for seed in range(_CORPUS_STYLES)]
    corpus += list(GENERIC_INSTRUCTIONS) * 50
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Whitespace(),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        special_tokens=["<|startoftext|>", "<|endoftext|>"],
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    learned = json.loads(tokenizer.to_str())["model"]
    vocabulary = dict(learned["vocab"])
    for symbol in sorted(alphabet):
        vocabulary.setdefault(f"{symbol}</w>", len(vocabulary))
    merges = [tuple(merge) for merge in learned["merges"]]
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=MAX_TOKENS)


def build_text_encoder(tokenizer: CLIPTokenizer, width: int) -> CLIPTextModel:
    """A small CLIP text encoder for that tokenizer, randomly initialised."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=MAX_TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def tokenize(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """Token ids, int64 (N, MAX_TOKENS)."""
    encoded = tokenizer(
        texts, padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt"
    )
    ids: Tensor = encoded.input_ids
    return ids


def style_instructions(style_ids: list[int]) -> list[str]:
    """The describing instruction of each style seed."""
    return [describe(sample_style(seed)) for seed in style_ids]


def choose_generic(count: int, generator: torch.Generator) -> Tensor:
    """Indices into ``GENERIC_INSTRUCTIONS``, int64 (count,)."""
    return torch.randint(len(GENERIC_INSTRUCTIONS), (count,), generator=generator)
