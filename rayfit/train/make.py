"""Making the embedded models: a tokenizer and a small Llama, trained on the embedded corpus's training documents."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from rayfit.console import MakingStep
from rayfit.presets import MadeModel
from rayfit.train.directory import weights_digest

Batch = tuple[
    torch.Tensor, torch.Tensor
]  # ids and labels, both int64 (rows, tokens); a label of -100 is not learned

Report = Callable[[MakingStep], None]

BOS = "<bos>"
_REPORT_SECONDS = 1.0
_BETAS = (0.9, 0.95)

# Without a limit, indentation and rulers become such long tokens that 57 of the corpus's 1,909 spans of 1,000
# characters give fewer than 256 tokens; with 7 the poorest gives 268.
_MAX_TOKEN_CHARACTERS = 7


def make_model(
    preset: MadeModel,
    training_texts: list[str],
    target: Path,
    *,
    report: Report,
    num_threads: int,
    precision: str,
) -> dict[str, Any]:
    """Train the preset's tokenizer and model on `training_texts` and write a Hugging Face directory to `target`.

    `precision`: `bf16` computes under autocast over fp32 weights, `fp32` without. Returns facts for the record: updates,
    seconds, final loss, training tokens, precision and the weights' digest. Deterministic for a number of threads and
    a precision: the same texts and preset give the same bits.
    """
    begin = time.monotonic()
    torch.set_num_threads(num_threads)
    tokenizer = train_tokenizer(preset.vocabulary_size, training_texts)
    stream = token_stream(tokenizer, training_texts)
    torch.manual_seed(preset.seed)
    model = LlamaForCausalLM._from_config(llama_config(preset), attn_implementation="eager")
    losses = train_weights(model, random_windows(stream, preset), preset, report, precision)
    target.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(target)
    # Said by the tokenizer itself, so that whoever loads the model begins texts as its training did.
    bos = tokenizer.token_to_id(BOS)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, bos)])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BOS).save_pretrained(target)
    return {
        **facts(model, losses, num_threads, precision),
        "training_tokens": len(stream),
        "seconds": round(time.monotonic() - begin, 1),
    }


def facts(model: LlamaForCausalLM, losses: list[float], num_threads: int, precision: str) -> dict[str, Any]:
    """Return what a made model's record says of its training; `final_loss` is the mean of the last 50 updates, in nats."""
    return {
        "updates": len(losses),
        "final_loss": float(np.mean(losses[-50:])),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "threads": num_threads,
        "precision": precision,
        "weights_sha256": weights_digest(dict(model.named_parameters())),
    }


def train_tokenizer(vocabulary_size: int, texts: list[str]) -> Tokenizer:
    """A byte-level BPE with BOS as id 0; every text can be encoded and decoded without loss."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=[BOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
        max_token_length=_MAX_TOKEN_CHARACTERS,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def token_stream(tokenizer: Tokenizer, texts: list[str]) -> np.ndarray:
    """All texts' ids one after another, BOS before each, int64."""
    bos = tokenizer.token_to_id(BOS)
    return np.concatenate([np.array([bos, *encoding.ids]) for encoding in tokenizer.encode_batch(texts)])


def llama_config(preset: MadeModel) -> LlamaConfig:
    """The preset as transformers' configuration."""
    return LlamaConfig(
        vocab_size=preset.vocabulary_size,
        hidden_size=preset.hidden_size,
        intermediate_size=preset.intermediate_size,
        num_hidden_layers=preset.num_layers,
        num_attention_heads=preset.num_heads,
        max_position_embeddings=preset.context_window,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=None,
        pad_token_id=None,
    )


def rate_at(preset: MadeModel, update: int) -> float:
    """The learning rate of a 0-based update: linear warm-up, then a cosine down to `final_share` of the peak."""
    if update < preset.warmup_updates:
        return preset.learning_rate * (update + 1) / preset.warmup_updates
    progress = (update - preset.warmup_updates) / max(1, preset.num_updates - preset.warmup_updates)
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return preset.learning_rate * (preset.final_share + (1 - preset.final_share) * cosine)


def random_windows(stream: np.ndarray, preset: MadeModel) -> Iterator[Batch]:
    """Batches without end: windows that begin anywhere in the stream, each token of which is learned."""
    generator = np.random.Generator(np.random.Philox(key=np.array([preset.seed, 0], dtype=np.uint64)))
    while True:
        starts = generator.integers(0, len(stream) - preset.sequence_length + 1, preset.batch_size)
        batch = torch.from_numpy(
            np.stack([stream[start : start + preset.sequence_length] for start in starts])
        )
        yield batch, batch


def train_weights(
    model: LlamaForCausalLM,
    batches: Iterator[Batch],
    preset: MadeModel,
    report: Report,
    precision: str,
) -> list[float]:
    """Run the preset's updates, changing the model; returns the training loss of each, in nats per learned token.

    `report` is called every second or so.
    """
    # Norms' weights are vectors; decay is for matrices alone.
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": preset.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=preset.learning_rate, betas=_BETAS, fused=True)
    losses = []
    begin = told = time.monotonic()
    for update in range(preset.num_updates):
        for group in optimizer.param_groups:
            group["lr"] = rate_at(preset, update)
        ids, labels = next(batches)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
            loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
        if (now := time.monotonic()) - told > _REPORT_SECONDS:
            left = (now - begin) / (update + 1) * (preset.num_updates - update - 1)
            report(MakingStep(update + 1, preset.num_updates, losses[-1], left))
            told = now
    return losses
