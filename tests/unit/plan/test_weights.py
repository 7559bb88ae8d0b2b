from __future__ import annotations

import pytest

from rayfit.plan.weights import Weights, deciding_files, find_weights, small_files

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
BINS = (
    "pytorch_model-00001-of-00003.bin",
    "pytorch_model-00002-of-00003.bin",
    "pytorch_model-00003-of-00003.bin",
)


@pytest.mark.parametrize(
    ("names", "format_", "files"),
    [
        (
            ("model.safetensors", "pytorch_model.bin", "adapter.safetensors"),
            "safetensors",
            ("model.safetensors",),
        ),
        ((*SHARDS, "original/model.safetensors"), "safetensors", SHARDS),
        (("model.safetensors", *SHARDS), "safetensors", ("model.safetensors",)),
        (("pytorch_model.bin", *BINS[:1]), "bin", ("pytorch_model.bin",)),
        (
            ("pytorch_model.bin", "adapter_model.safetensors", "training_args.bin"),
            "bin",
            ("pytorch_model.bin",),
        ),
        (BINS, "bin", BINS),
        (("weights.safetensors", "optimizer.bin"), "safetensors", ("weights.safetensors",)),
    ],
)
def test_a_model_s_own_weights_are_found(
    names: tuple[str, ...], format_: str, files: tuple[str, ...]
) -> None:
    found = find_weights(names)
    assert found is not None and (found.format, found.files, found.missing) == (format_, files, 0)


@pytest.mark.parametrize("names", [(), ("config.json", "training_args.bin"), ("onnx/model.safetensors",)])
def test_there_may_be_none(names: tuple[str, ...]) -> None:
    assert find_weights(names) is None


def test_shards_that_are_not_there_are_counted() -> None:
    assert Weights("safetensors", SHARDS[:1]).missing == 1
    assert Weights("bin", BINS[1:2]).missing == 2
    assert Weights("bin", ("pytorch_model.bin",)).missing == 0


def test_what_decides_and_what_is_fetched() -> None:
    names = [
        "config.json",
        "chat_template.jinja",
        "tokenizer.model",
        "model.safetensors",
        "README.md",
        "a/b.json",
    ]
    assert deciding_files(names) == ["config.json", "model.safetensors", "tokenizer.model"]
    assert small_files(names) == ["chat_template.jinja", "config.json", "tokenizer.model"]
