"""Answers of real small models: their texts are those of `generate`, their predictions those of plain forward passes."""

from __future__ import annotations

import pydoc_data.topics
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rayfit.ask.answering import DIFFERENT_TOKENIZERS, answers
from rayfit.ask.blocked import block_rows
from rayfit.ask.request import Answer, Request
from rayfit.ask.subjects import subjects_of
from rayfit.decoding import Decoding
from rayfit.errors import RayfitError
from rayfit.records.storage import Storage
from tests.unit.ask.conftest import SENTENCES, WINDOW, Models

TRIAL = "local-n8-0123456789ab"
PROMPT = "The cat sat"


def ask(storage: Storage, *named: tuple[str, str], **options: Any) -> tuple[list[Answer], list[str]]:
    settings = {"prompts": (PROMPT,), "decoding": Decoding(num_new_tokens=20), **options}
    request = Request(named=named, storage=storage, **settings)
    return answers(request, subjects_of(request), lambda _: None)


def refusal(storage: Storage, *named: tuple[str, str], **options: Any) -> str:
    with pytest.raises(RayfitError) as caught:
        ask(storage, *named, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def loaded(path: Path) -> tuple[Any, Any]:
    return AutoTokenizer.from_pretrained(path), AutoModelForCausalLM.from_pretrained(path).eval()


def greedy(path: Path, prompt: str, count: int) -> tuple[list[int], list[int]]:
    """(prompt with BOS, continuation), the whole text run anew for every token."""
    tokenizer, model = loaded(path)
    context = [tokenizer.bos_token_id, *tokenizer(prompt, add_special_tokens=False)["input_ids"]]
    text = list(context)
    for _ in range(count):
        with torch.no_grad():
            logits = model(torch.tensor([text])).logits[0, -1]
        logits[tokenizer.bos_token_id] = -torch.inf
        text.append(int(logits.argmax()))
    return context, text[len(context) :]


def test_before_and_after_are_each_models_own_greedy_text(storage: Storage, models: Models) -> None:
    (answer,), notes = ask(storage, ("trial", TRIAL))
    assert notes == [] and answer.prompt == PROMPT and answer.predictions == ()
    for text, path in zip(answer.texts, (models.original, models.trained), strict=True):
        context, new = greedy(path, PROMPT, 20)
        tokenizer, _ = loaded(path)
        assert (
            "".join(text.pieces)
            == tokenizer.decode([*context, *new], skip_special_tokens=True)[len(PROMPT) :]
        )
        assert len(text.pieces) == len(text.repeated_runs) == 20
        assert text.num_distinct == len(set(new))
        assert (text.steps_banned, text.steps_changed, text.longest_cited) == (None, None, None)


def test_predictions_are_those_of_every_prefix_alone(storage: Storage, models: Models) -> None:
    (answer,), _ = ask(storage, ("trial", TRIAL), top=3)
    context, new = greedy(models.trained, PROMPT, 20)  # both models are asked along the last one's text
    whole = [*context, *new]
    assert answer.num_prompt_tokens == len(context) - 1
    for predictions, path in zip(answer.predictions, (models.original, models.trained), strict=True):
        tokenizer, model = loaded(path)
        assert len(predictions) == len(whole) - 1
        for place, prediction in enumerate(predictions, start=1):
            with torch.no_grad():
                masses = model(torch.tensor([whole[:place]])).logits[0, -1].double().softmax(0)
            ranked = sorted(range(len(masses)), key=lambda token: -masses[token])
            assert prediction.probability == pytest.approx(float(masses[whole[place]]), rel=1e-3)
            assert prediction.rank == 1 + int((masses > masses[whole[place]]).sum())
            assert [mass for _, mass in prediction.best] == pytest.approx(
                [float(masses[token]) for token in ranked[:3]], rel=1e-3
            )
            shown = [tokenizer.decode([token]).replace(" ", "␣").replace("\n", "⏎") for token in ranked[:3]]
            if "�" not in "".join(shown) and tokenizer.bos_token_id not in ranked[:3]:
                assert [token for token, _ in prediction.best] == shown


def test_a_prompt_is_answered_the_same_alone_and_among_others(storage: Storage) -> None:
    decoding = Decoding("nucleus", num_new_tokens=12, temperature=1.5, seed=5)
    prompts = ("A list", PROMPT, "Every morning the baker opens")
    together, _ = ask(storage, ("trial", TRIAL), prompts=prompts, decoding=decoding)
    for answer in together:
        (alone,), _ = ask(storage, ("trial", TRIAL), prompts=(answer.prompt,), decoding=decoding)
        assert alone == answer
    (other,), _ = ask(storage, ("trial", TRIAL), decoding=replace(decoding, seed=6))
    assert other.texts != together[1].texts


def longest_common_run(new: list[int], rows: list[list[int]]) -> int:
    spans = {tuple(row[i:j]) for row in rows for i in range(len(row)) for j in range(i + 1, len(row) + 1)}
    return max(
        (j - i for i in range(len(new)) for j in range(i + 1, len(new) + 1) if tuple(new[i:j]) in spans),
        default=0,
    )


@pytest.mark.parametrize("source", ["rows", "file", "default"])
def test_a_blocked_text_cites_no_long_run(
    storage: Storage, models: Models, tmp_path: Path, source: str
) -> None:
    tokenizer, _ = loaded(models.trained)
    if source == "file":
        path = tmp_path / "text.txt"
        path.write_text(SENTENCES[0])
        block, rows = str(path), [tokenizer(SENTENCES[0], add_special_tokens=False)["input_ids"]]
    else:
        block = "local-n9" if source == "rows" else None
        frame = pl.read_parquet(storage.folder("rows", "some-rows") / "rows.parquet")
        rows = [row[1:] for row in frame["token_ids"].to_list()]
    blocked = Decoding.parse("greedy:block=W0,block_run=2,num_new_tokens=20")
    (answer,), _ = ask(storage, ("trial", TRIAL), block=block, decoding=blocked)
    text = answer.texts[1]
    assert text.steps_banned is not None and text.steps_changed is not None
    assert text.steps_banned >= text.steps_changed > 0  # unblocked it cites, as it learned these sentences
    _, free = greedy(models.trained, PROMPT, 20)
    assert longest_common_run(free, rows) > 2
    assert text.longest_cited == 2


def test_a_preset_blocks_its_own_domain(storage: Storage, models: Models) -> None:
    tokenizer, _ = loaded(models.original)
    request = Request(
        prompts=(PROMPT,),
        named=(("model", str(models.original)),),
        decoding=Decoding(),
        storage=storage,
        block="topics",
    )
    (subject,) = subjects_of(request)
    rows = block_rows(request, subject, None, tokenizer)
    texts = pydoc_data.topics.topics
    assert len(rows) == len(texts)
    assert rows[0] == tokenizer(texts[min(texts)], add_special_tokens=False)["input_ids"]


def test_blocks_that_cannot_be(storage: Storage, models: Models, tmp_path: Path) -> None:
    blocked = Decoding.parse("greedy:block=W1,num_new_tokens=5")
    model = ("model", str(models.original))
    assert "the decoding's blocker needs texts" in refusal(storage, model, decoding=blocked)
    message = refusal(storage, model, decoding=blocked, block="nowhere")
    assert message.startswith("--block: there is no file and no trial 'nowhere'")
    stranger = ("model", str(models.stranger))
    message = refusal(storage, stranger, decoding=blocked, block=TRIAL)
    assert f"the rows of {TRIAL} are of another tokenizer than {models.stranger}" in message
    message = refusal(storage, model, decoding=blocked, block="fiction")
    assert message.startswith("--block: fiction is a dataset of the hub")
    (tmp_path / "empty.txt").write_text("\n\n")
    message = refusal(storage, model, decoding=blocked, block=str(tmp_path / "empty.txt"))
    assert message.endswith("holds no text")
    (storage.folder("rows", "some-rows") / "rows.parquet").unlink()
    assert "are not in" in refusal(storage, model, decoding=blocked, block=TRIAL)


def test_a_broken_tokenizer_is_named(storage: Storage, models: Models, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(models.original, broken)
    (broken / "tokenizer.json").write_text("{}")
    message = refusal(storage, ("model", str(broken)))
    assert message.startswith(f"{broken} has no tokenizer or config that can be loaded")


def test_tokenizers_that_differ(storage: Storage, models: Models) -> None:
    both = (("model", str(models.original)), ("model", str(models.stranger)))
    (answer,), notes = ask(storage, *both)
    assert notes == [DIFFERENT_TOKENIZERS] and len(answer.texts) == 2
    message = refusal(storage, *both, top=1)
    assert message.startswith("--top: the two models' tokenizers differ")


def test_prompts_that_do_not_fit(storage: Storage, models: Models) -> None:
    model = ("model", str(models.original))
    assert f"fill the context window of {models.original}, {WINDOW} tokens" in refusal(
        storage, model, prompts=("cat " * WINDOW,)
    )
    tokenizer, _ = loaded(models.original)
    used = len(tokenizer(PROMPT)["input_ids"])  # with the BOS that it puts in front
    message = refusal(storage, model, decoding=Decoding(num_new_tokens=WINDOW))
    assert message.endswith(f"at most --num-new-tokens {WINDOW - used} fits")
    ask(storage, model, decoding=Decoding(num_new_tokens=WINDOW - used))
    message = refusal(storage, model, prompts=(PROMPT, "cat " * WINDOW))
    assert message.startswith("--prompts, prompt 2 of 2: ")


def broken(models: Models, target: Path, **weights: Any) -> Path:
    """The original with some weights replaced by what a function makes of them."""
    tokenizer, model = loaded(models.original)
    with torch.no_grad():
        for name, change in weights.items():
            change(model.get_parameter(name.replace("__", ".")))
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    return target


def test_nan_logits_are_an_error_that_names_the_prompt(
    storage: Storage, models: Models, tmp_path: Path
) -> None:
    tokenizer, _ = loaded(models.original)
    dog = tokenizer(" dog", add_special_tokens=False)["input_ids"][0]

    def spoil(weight: torch.Tensor) -> None:
        weight[dog] = torch.nan

    path = broken(models, tmp_path / "nan", model__embed_tokens__weight=spoil)
    prompts = ("The dog " + "ran home " * 8, "The dog")
    message = refusal(storage, ("model", str(path)), prompts=prompts[:1])
    assert "the model's logits are NaN at new token 1 of context 'The dog ran home" in message
    assert "…" in message  # a prompt is long, an error is a line
    assert "of context 'The dog'" in refusal(storage, ("model", str(path)), prompts=prompts[1:])


def test_a_prompt_with_tokens_the_model_does_not_have(
    storage: Storage, models: Models, tmp_path: Path
) -> None:
    tokenizer, model = loaded(models.original)
    tokenizer.add_tokens(["Brobdingnag"])  # and the embedding is not resized
    model.save_pretrained(tmp_path / "small")
    tokenizer.save_pretrained(tmp_path / "small")
    message = refusal(storage, ("model", str(tmp_path / "small")), prompts=("in Brobdingnag",))
    assert f"token id {len(tokenizer) - 1}, outside the model's vocabulary of {len(tokenizer) - 1}" in message
