from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rayfit.errors import RayfitError
from rayfit.prepare import tokenizer as tokenizer_module
from rayfit.prepare.model_check import check_model
from rayfit.prepare.tokenizer import known_tokenizer, load_tokenizer
from rayfit.records.storage import Storage


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A directory as of a small Llama, with a tokenizer and without weights, which are not looked at."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import LlamaConfig, PreTrainedTokenizerFast

    folder = tmp_path / "model"
    LlamaConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=3).save_pretrained(
        folder
    )
    words = Tokenizer(models.WordLevel({"<s>": 0, "a": 1, "b": 2}, unk_token="a"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>").save_pretrained(folder)
    return folder


def _edit(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def _with_config(folder: Path, **changes: Any) -> Path:
    _edit(folder / "config.json", **changes)
    return folder


def test_a_model_that_predicts_the_next_token_is_fine(model: Path) -> None:
    check_model(model)
    tokenize, bos_id = load_tokenizer(model)
    assert (tokenize("b"), bos_id) == ([2], 0)


@pytest.mark.parametrize(("stated", "bos_id"), [(True, 0), (False, None)])
def test_what_a_tokenizer_says_of_bos_counts_more_than_what_it_does(
    model: Path, stated: bool, bos_id: int | None
) -> None:
    _edit(model / "tokenizer_config.json", add_bos_token=stated)
    assert load_tokenizer(model)[1] == bos_id


def test_a_bos_that_a_tokenizer_has_and_does_not_add_is_none(model: Path) -> None:
    _edit(model / "tokenizer.json", post_processor=None)
    assert load_tokenizer(model)[1] is None
    _edit(model / "tokenizer_config.json", add_bos_token=True)
    assert load_tokenizer(model)[1] == 0, "transformers drops the key, and the model means it all the same"


def test_a_tokenizer_that_loses_spaces_is_refused(model: Path) -> None:
    _edit(model / "tokenizer.json", pre_tokenizer={"type": "CharDelimiterSplit", "delimiter": " "})
    check_model(model)
    _edit(model / "tokenizer.json", decoder={"type": "Replace", "pattern": {"String": "b"}, "content": "b"})
    with pytest.raises(
        RayfitError, match=r"'a b' becomes 'ab' under transformers 5\..*install transformers 5\.22"
    ):
        check_model(model)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"model_type": "xyzzy"}, "xyzzy"),
        ({"model_type": "t5"}, "'t5'"),
        ({"model_type": "bert"}, "'bert'"),
        ({"hidden_size": "wide"}, "hidden_size"),
        ({"model_type": "xyzzy", "auto_map": {"AutoConfig": "code.Config"}}, "never run"),
    ],
)
def test_a_model_that_cannot_be_built_is_refused(model: Path, changes: dict[str, Any], part: str) -> None:
    with pytest.raises(RayfitError) as caught:
        check_model(_with_config(model, **changes))
    assert str(caught.value).startswith("--model: ") and part in str(caught.value)


def test_code_that_comes_with_a_model_is_not_run(model: Path, tmp_path: Path) -> None:
    mark = tmp_path / "was-run"
    (model / "code.py").write_text(f"open({str(mark)!r}, 'w')\n")
    with pytest.raises(RayfitError, match="never run"):
        check_model(_with_config(model, model_type="xyzzy", auto_map={"AutoConfig": "code.Config"}))
    assert not mark.exists()


@pytest.mark.parametrize("content", ["{", "[]", '{"model": {"type": "Nope"}}', "\x00"])
def test_a_broken_tokenizer_is_refused(model: Path, content: str) -> None:
    (model / "tokenizer.json").write_text(content)
    with pytest.raises(RayfitError, match=r"--model: the tokenizer of .* cannot be loaded"):
        check_model(model)


def test_a_missing_tokenizer_is_refused(model: Path) -> None:
    for file in model.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(RayfitError, match=r"--model: the tokenizer of .* cannot be loaded"):
        check_model(model)


def test_what_a_tokenizer_json_does_alone_is_remembered_and_then_needs_no_transformers(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage(tmp_path / "runs")
    known_tokenizer(model, storage)
    monkeypatch.setattr(tokenizer_module, "_by_transformers", lambda _: pytest.fail("loaded again"))
    tokenize, bos_id = known_tokenizer(model, storage)
    assert (tokenize("b a b"), bos_id) == ([2, 1, 2], 0)


def test_a_tokenizer_that_cuts_or_fills_up_does_neither_to_spans(model: Path, tmp_path: Path) -> None:
    cuts = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    _edit(model / "tokenizer.json", truncation=cuts)
    for _ in range(2):
        tokenize, _ = known_tokenizer(model, Storage(tmp_path / "runs"))
        assert tokenize("b a b a") == [2, 1, 2, 1] == load_tokenizer(model)[0]("b a b a")


def test_where_transformers_makes_another_tokenizer_of_it_it_is_asked_every_time(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tokenizers import normalizers

    storage, by_transformers = Storage(tmp_path / "runs"), tokenizer_module._by_transformers

    def changed(path: Path) -> Any:
        tokenizer = by_transformers(path)
        tokenizer.backend_tokenizer.normalizer = normalizers.Replace("c", "b")
        return tokenizer

    monkeypatch.setattr(tokenizer_module, "_by_transformers", changed)
    for _ in range(2):
        assert known_tokenizer(model, storage)[0]("c") == [2]


def test_a_changed_tokenizer_is_looked_at_again(model: Path, tmp_path: Path) -> None:
    storage = Storage(tmp_path / "runs")
    known_tokenizer(model, storage)
    _edit(model / "tokenizer_config.json", add_bos_token=False)
    assert known_tokenizer(model, storage)[1] is None
