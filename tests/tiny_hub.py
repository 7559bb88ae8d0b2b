"""Tiny repositories in the forms in which the hub holds the models of the presets."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TEXTS = [
    "The quick brown fox jumps over the lazy dog,\nand a b c is what a child says first.",
    "Once upon a time there was a machine that read the same eight stories again and again.",
]


@dataclass(frozen=True)
class Form:
    """How a repository looks: its weights' files, its tokenizer's kind, and what else lies in it."""

    weights: str  # safetensors | sharded | bin shards | safetensors and bin
    tokenizer: str  # sentencepiece | deepseek | llama3 | qwen | smollm2 | smollm2-instruct
    dtype: str = "bfloat16"
    others: tuple[str, ...] = ()

    @property
    def bos(self) -> str | None:
        """The token that the tokenizer puts before a text by itself."""
        return {"sentencepiece": "<s>", "deepseek": DEEPSEEK_BOS, "llama3": "<|begin_of_text|>"}.get(
            self.tokenizer
        )


DEEPSEEK_BOS, DEEPSEEK_EOS = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"  # noqa: RUF001 - its own marks
_LLAMA3 = Form("sharded", "llama3", others=("original/params.json", "original/consolidated.00.pth"))
_QWEN, _DEEPSEEK = Form("safetensors", "qwen"), Form("bin shards", "deepseek")

# As the hub's pages show them.
FORMS = {
    "tinyllama-1.1b": Form("safetensors and bin", "sentencepiece", dtype="float32"),
    "tinyllama-1.1b-instruct": Form("safetensors", "sentencepiece"),
    "deepseek-7b": Form("sharded", "deepseek"),
    "deepseek-7b-instruct": _DEEPSEEK,
    **dict.fromkeys(
        ("llama-3.1-8b", "llama-3.1-8b-instruct", "llama-3.1-70b", "llama-3.1-70b-instruct"), _LLAMA3
    ),
    **dict.fromkeys(
        ("qwen2.5-0.5b", "qwen2.5-0.5b-instruct", "qwen2.5-1.5b", "qwen2.5-1.5b-instruct"), _QWEN
    ),
    "smollm2-135m": Form("safetensors", "smollm2"),
    "smollm2-135m-instruct": Form("safetensors", "smollm2-instruct", others=("onnx/model.onnx",)),
}


def save_form(folder: Path, form: Form, *, seed: int) -> dict[str, Any]:
    """Write a repository of this form; returns the model's tensors by name."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config

    folder.mkdir(parents=True)
    vocabulary_size = _save_tokenizer(folder, form.tokenizer)
    torch.manual_seed(seed)
    kind = Qwen2Config if form.tokenizer == "qwen" else LlamaConfig
    config = kind(
        vocab_size=vocabulary_size,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        tie_word_embeddings=form.tokenizer in ("qwen", "smollm2", "smollm2-instruct"),
    )
    model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, form.dtype))
    weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    model.save_pretrained(folder, max_shard_size="8KB" if form.weights == "sharded" else "1GB")
    if "bin" in form.weights:
        _save_bins(folder, weights, 2 if "shards" in form.weights else 1)
    if form.weights == "bin shards":
        (folder / "model.safetensors").unlink()
    for name in form.others:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"of no use here")
    return weights


def _save_bins(folder: Path, weights: dict[str, Any], count: int) -> None:
    import torch

    names = list(weights)
    if count == 1:
        torch.save(weights, folder / "pytorch_model.bin")
        return
    places = {}
    for number in range(count):
        file = f"pytorch_model-{number + 1:05d}-of-{count:05d}.bin"
        mine = names[number::count]
        torch.save({name: weights[name] for name in mine}, folder / file)
        places |= dict.fromkeys(mine, file)
    index = {"metadata": {"total_size": sum(each.nbytes for each in weights.values())}, "weight_map": places}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))


def _save_tokenizer(folder: Path, kind: str) -> int:
    """Write tokenizer.json and tokenizer_config.json; returns the number of entries."""
    from tokenizers import processors

    said: dict[str, Any]
    if kind == "sentencepiece":
        tokenizer = _sentencepiece()
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
        )
        said = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "legacy": False}
        said |= {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    elif kind == "deepseek":
        tokenizer = _byte_level([DEEPSEEK_BOS, DEEPSEEK_EOS])
        said = {"tokenizer_class": "LlamaTokenizerFast", "add_bos_token": True, "add_eos_token": False}
        said |= {"bos_token": DEEPSEEK_BOS, "eos_token": DEEPSEEK_EOS}
    elif kind == "llama3":
        tokenizer = _byte_level(["<|begin_of_text|>", "<|end_of_text|>"])
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", 0)]
        )
        said = {"tokenizer_class": "PreTrainedTokenizerFast"}
        said |= {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"}
    elif kind == "qwen":
        tokenizer = _byte_level(["<|endoftext|>"])
        said = {"tokenizer_class": "Qwen2Tokenizer", "add_bos_token": False, "bos_token": None}
        said |= {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    else:
        tokenizer = _byte_level(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
        bos = "<|endoftext|>" if kind == "smollm2" else "<|im_start|>"
        said = {"tokenizer_class": "GPT2Tokenizer", "bos_token": bos, "unk_token": "<|endoftext|>"}
        said["eos_token"] = bos if kind == "smollm2" else "<|im_end|>"
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(said))
    return tokenizer.get_vocab_size()


def _byte_level(specials: list[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def _sentencepiece() -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    specials = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=340, special_tokens=specials, show_progress=False)
    )
    return tokenizer
