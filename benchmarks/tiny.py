"""A model so small that everything but the model is measured."""

from __future__ import annotations

import sysconfig
from pathlib import Path

# A trial of one update on eight rows, measured on a few texts.
OPTIONS: tuple[str, ...] = (
    "--learning-rate",
    "1e-3",
    "--contexts",
    "4",
    "--validation-rows",
    "8",
    "--num-new-tokens",
    "8",
)
OPTIONS += ("--arms", "constant updates", "--samples", "8", "--num-updates", "1", "--sequence-length", "64")


def write_model(target: Path) -> None:
    """A tiny Llama whose tokenizer knows the library's sources."""
    from tokenizers import processors
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from rayfit.train.make import BOS, train_tokenizer

    library = Path(sysconfig.get_path("stdlib"))
    texts = [path.read_text(encoding="utf-8", errors="ignore") for path in sorted(library.glob("*.py"))[:80]]
    tokenizer = train_tokenizer(2048, texts)
    bos = tokenizer.token_to_id(BOS)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, bos)])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BOS).save_pretrained(target)
    config = LlamaConfig(
        vocab_size=2048,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=1,
        bos_token_id=bos,
        eos_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(target)


def options(folder: Path) -> list[str]:
    """What makes a sweep on the embedded text one of tiny trials; the model is written into the folder."""
    model = folder / "model"
    if not model.exists():
        write_model(model)
    return [*OPTIONS, "--model", str(model), "--dataset", "pydoc"]
