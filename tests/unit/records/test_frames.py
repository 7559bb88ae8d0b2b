from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rayfit.errors import RayfitError
from rayfit.identity import SCORE_VERSION
from rayfit.plan.measurements import Generation, TextScores, scores_of
from rayfit.records.frames import generations, scored_texts, scores
from rayfit.records.storage import MARK, Storage
from tests.finished import CONTEXTS, Finished
from tests.unit.plan.examples import plan_of


@pytest.fixture
def made(tmp_path: Path) -> Finished:
    """A trial and its original, of which the original's texts are generated and not scored."""
    storage = Storage(tmp_path / "runs")
    made = Finished(storage, plan_of(storage))
    made.train(made.plan.trials[0])
    for spec in made.plan.measurements:
        if not (isinstance(spec, TextScores) and spec.who == "original"):
            made.measure(spec, texts=[f"{spec.who} {place}" for place in range(CONTEXTS)])
    storage.folder("generations", "unfinished").mkdir()
    return made


def _generation(made: Finished, who: str) -> Generation:
    return next(spec for spec in made.plan.measurements if isinstance(spec, Generation) and spec.who == who)


def test_generations_with_what_they_belong_to_and_their_scores(made: Finished) -> None:
    frame = generations(made.storage.root)
    trained, original = _generation(made, "trained"), _generation(made, "original")
    assert frame["generation_id"].unique(maintain_order=True).to_list() == sorted([trained.id, original.id])
    for spec, ttr in ((trained, 0.6), (original, None)):
        own = frame.filter(generation_id=spec.id)
        assert own["trial_id"].to_list() == [spec.trial and spec.trial.id] * CONTEXTS
        assert own["model_name"].unique().to_list() == ["pydoc-1m"]
        assert own["decoding"].unique().to_list() == [spec.how.name]
        assert own["text"].to_list() == [f"{spec.who} {place}" for place in range(CONTEXTS)]
        assert own["context_ids"].to_list() == [[2, 3]] * CONTEXTS
        assert own["truth_ids"].to_list() == [[4, 5, 6]] * CONTEXTS
        assert own["ttr_last_96"].to_list() == [ttr] * CONTEXTS


def test_a_row_per_score_of_every_kind_of_measurement(made: Finished) -> None:
    frame = scores(made.storage.root)
    found = {(line["kind"], line["who"], line["score"]): line for line in frame.iter_rows(named=True)}
    assert found["scores", "trained", "ttr_last_96"]["value"] == 0.6
    assert found["scores", "trained", "ttr_last_96"]["decoding"] == _generation(made, "trained").how.name
    assert found["scores", "truth", "ttr_last_96"]["value"] == 0.66
    line = found["predictions", "trained", "validation_loss"]
    assert (line["value"], line["low"], line["decoding"], line["domain"]) == (8.0, 7.98, None, "pydoc")
    assert line["trial_id"] == made.plan.trials[0].id and line["num_texts"] == CONTEXTS
    assert found["comparisons", "trained", "top_1_agreement"]["value"] == 0.3
    assert ("scores", "original", "ttr_last_96") not in found


def test_texts_that_are_not_scored_have_no_frame_of_scored_texts(made: Finished) -> None:
    specs = {spec.who: spec for spec in made.plan.measurements if isinstance(spec, TextScores)}
    assert scored_texts(made.storage, specs["original"].id) is None
    assert scored_texts(made.storage, None) is None
    frame = scored_texts(made.storage, specs["trained"].id)
    assert frame is not None and {"text", "token_ids", "ttr_last_96"} <= set(frame.columns)


def test_the_latest_version_of_scores_counts(made: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    (spec,) = (spec for spec in made.plan.measurements if (spec.kind, spec.who) == ("scores", "trained"))
    assert isinstance(spec, TextScores)
    for version, ttr in ((901, 0.4), (903, 0.5), (902, 0.7)):
        monkeypatch.setattr(TextScores, "version", version)
        made.measure(scores_of(spec.generation), ttr_last_96=ttr)
    own = generations(made.storage.root).filter(generation_id=spec.generation.id)
    assert own["ttr_last_96"].unique().to_list() == [0.5]
    found = scores(made.storage.root).filter(who="trained", score="ttr_last_96")
    assert dict(found.select("version", "value").iter_rows()) == {
        SCORE_VERSION: 0.6,
        901: 0.4,
        902: 0.7,
        903: 0.5,
    }


@pytest.mark.parametrize("read", [generations, scores])
def test_a_storage_of_another_version_is_told_apart(read: Any, made: Finished) -> None:
    (made.storage.root / MARK).write_text('{"version": 2}')
    with pytest.raises(RayfitError, match="was written by an earlier rayfit"):
        read(made.storage.root)


@pytest.mark.parametrize("read", [generations, scores])
def test_a_storage_without_measurements_has_the_same_columns(
    read: Any, made: Finished, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    empty, full = read(str(tmp_path / "empty")), read(made.storage.root)
    assert empty.height == 0
    assert {name: full.schema[name] for name in empty.columns} == dict(empty.schema)


@pytest.mark.parametrize("read", [generations, scores])
def test_a_folder_that_is_not_there_is_refused(read: Any, tmp_path: Path) -> None:
    with pytest.raises(RayfitError, match=r"storage: there is no folder .*nowhere"):
        read(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
