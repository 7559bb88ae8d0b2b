"""What an id depends on, and what it does not."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import pytest

from rayfit.config import Options
from rayfit.decoding import Decoding
from rayfit.errors import RayfitError
from rayfit.plan import measurements as measurements_module
from rayfit.plan import trials as trials_module
from rayfit.plan.contexts import HeldOut, Prompts
from rayfit.plan.measurements import (
    Comparison,
    EvaluationSettings,
    Generation,
    Prediction,
    Subject,
    TextScores,
)
from rayfit.plan.plan import Plan
from rayfit.plan.sources import ModelSource, TextSource, known_files
from rayfit.plan.trials import Domain, Recipe, Selection, TextSettings, TrialSpec
from rayfit.records.storage import Storage
from tests.unit.plan.examples import hash_model, plan_of, trial_of, write_model

# Options that decide the trained weights, with another value each ...
DECLARED: dict[str, Any] = {
    "model": "pydoc-0.5m",
    "samples": (9,),
    "num_updates": 101,
    "learning_rate": (1.001e-3,),
    "batch_size": 4,
    "seeds": (1,),
    "precision": "fp32",
    "sequence_length": 255,
    "span_characters": 1001,
    "held_out_share": 0.19,
    "adapter": ("lora",),
    "stop_at_train_loss": 0.5,
    "sample_seeds": (5,),
    "order_seeds": (5,),
}
# ... those that decide what is measured on them, and those that decide neither.
MEASURED: dict[str, Any] = {
    "contexts": 11,
    "context_length": 31,
    "num_new_tokens": 97,
    "decodings": ("nucleus",),
    "export_dtype": "bf16",
    "eval_precision": "bf16",
}
PLACED: dict[str, Any] = {
    "scale": "paper",
    "validation_rows": 21,
    "eval_every": 7,
    "num_workers": 4,
    "zero_stage": 3,
    "trials_per_group": 1,
    "micro_batch": 2,
    "activation_checkpointing": True,
    "offload": "cpu",
    "num_cpus": 3,
    "tracking_uri": "http://tracking.example",
    "plan": True,
    "fresh": True,
    "revision": "another",
    "text_column": "body",
    "pool": 100,
    "keep_every": 2.0,
    "further_contexts": 5,
    "checkpoint_minutes": 0.5,
    "checkpoint_every": 7,
}
# Each has a test of its own below.
ELSEWHERE = {
    "mauve_model",
    "dataset",
    "storage",
    "use_gpu",
    "eval_datasets",
    "epochs",
    "training_seeds",
    "arms",
    "prompts",  # test_prompts.py
}


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "runs")


def _ids(plan: Plan, *, original: bool = False, kind: str = "") -> list[str]:
    """The ids of what is measured of the trial, or of the original model; of one kind where it is said."""
    return [
        spec.id for spec in plan.measurements if (spec.trial is None) == original and kind in ("", spec.kind)
    ]


def _held_out_id(plan: Plan) -> str:
    return plan.evaluation.rows_id(HeldOut(domain=plan.domains[0]), plan.models[0])


def test_every_option_is_decided_to_be_part_of_ids_or_not() -> None:
    names = {field.name for field in dataclasses.fields(Options)}
    assert names == {*DECLARED, *MEASURED, *PLACED, *ELSEWHERE}


@pytest.mark.parametrize("name", DECLARED)
def test_what_is_declared_of_training_changes_the_trial_and_all_that_is_measured_of_it(
    storage: Storage, name: str
) -> None:
    plan, other = plan_of(storage), plan_of(storage, **{name: DECLARED[name]})
    assert plan.trials[0].id != other.trials[0].id
    assert not set(_ids(plan)) & set(_ids(other))
    assert plan.sweep_id != other.sweep_id


@pytest.mark.parametrize("name", MEASURED)
def test_what_is_declared_of_measuring_changes_generations_and_not_the_trial(
    storage: Storage, name: str
) -> None:
    plan, other = plan_of(storage), plan_of(storage, **{name: MEASURED[name]})
    assert plan.trials[0].id == other.trials[0].id
    for kind in ("generations", "scores"):
        assert _ids(plan, kind=kind) != _ids(other, kind=kind)
    is_of_texts = name in ("decodings", "num_new_tokens")
    assert (_ids(plan, kind="predictions") == _ids(other, kind="predictions")) == is_of_texts


@pytest.mark.parametrize("name", PLACED)
def test_placement_and_what_is_kept_along_the_way_change_no_id(storage: Storage, name: str) -> None:
    plan, other = plan_of(storage), plan_of(storage, **{name: PLACED[name]})
    assert plan.trials[0].id == other.trials[0].id
    for original in (False, True):
        assert set(_ids(plan, original=original)) <= set(_ids(other, original=original))


@pytest.mark.parametrize(
    "name", ["samples", "num_updates", "learning_rate", "batch_size", "seeds", "precision"]
)
def test_the_original_model_s_evaluation_is_shared_by_all_trials(storage: Storage, name: str) -> None:
    plan, other = plan_of(storage), plan_of(storage, **{name: DECLARED[name]})
    assert _ids(plan, original=True) == _ids(other, original=True)


@pytest.mark.parametrize(
    "name", ["model", "span_characters", "held_out_share", "sequence_length", "contexts"]
)
def test_the_original_model_s_evaluation_depends_on_its_model_and_contexts(
    storage: Storage, name: str
) -> None:
    plan, other = plan_of(storage), plan_of(storage, **{name: {**DECLARED, **MEASURED}[name]})
    assert not set(_ids(plan, original=True)) & set(_ids(other, original=True))


def test_the_original_model_is_evaluated_as_given_whatever_is_exported(storage: Storage) -> None:
    plan, other = plan_of(storage), plan_of(storage, export_dtype="bf16")
    assert _ids(plan, original=True) == _ids(other, original=True)


def test_gpus_change_the_precision_of_the_evaluation_and_not_the_trial(storage: Storage) -> None:
    cpu, gpu = plan_of(storage), plan_of(storage, use_gpu=True)
    assert (cpu.evaluation.eval_precision, gpu.evaluation.eval_precision) == ("fp32", "bf16")
    assert cpu.trials[0].id == gpu.trials[0].id
    asked_for = plan_of(storage, use_gpu=True, eval_precision="fp32")
    assert _ids(cpu) == _ids(asked_for) != _ids(gpu)


def test_what_mauve_compares_is_part_of_the_scores_id_and_of_no_generation_s(
    storage: Storage, tmp_path: Path
) -> None:
    features = write_model(tmp_path / "features")
    pending = plan_of(storage, mauve_model=str(features))
    assert pending.pending
    hash_model(storage, features)
    plan, plain = plan_of(storage, mauve_model=str(features)), plan_of(storage)
    assert not plan.pending and plan.trials[0].id == plain.trials[0].id
    for kind in ("generations", "predictions"):
        assert _ids(plan, kind=kind) == _ids(plain, kind=kind)
    assert _ids(plan, kind="scores") != _ids(plain, kind="scores")
    with pytest.raises(RayfitError, match=r"--mauve-model: .*no config.json"):
        plan_of(storage, mauve_model=str(tmp_path))


def test_storage_is_in_no_id(storage: Storage, tmp_path: Path) -> None:
    plan, other = plan_of(storage), plan_of(Storage(tmp_path / "elsewhere"))
    assert plan.trials[0].id == other.trials[0].id
    assert _ids(plan) == _ids(other)
    assert plan.sweep_id == other.sweep_id


@pytest.mark.parametrize(
    ("raised", "made_again"),
    [
        ("DATA_VERSION", {"trials", "predictions", "comparisons", "generations", "scores"}),
        ("TRAIN_VERSION", {"trials", "predictions", "comparisons", "generations", "scores"}),
        (Prediction, {"predictions", "comparisons"}),
        (Generation, {"generations", "scores"}),
        (TextScores, {"scores"}),
        (Comparison, {"comparisons"}),
    ],
)
def test_a_stage_s_version_redoes_that_stage_and_what_follows(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, raised: str | type, made_again: set[str]
) -> None:
    def all_ids() -> dict[str, set[str | None]]:
        plan = plan_of(storage)
        found: dict[str, set[str | None]] = {"trials": {trial.id for trial in plan.trials}}
        for spec in plan.measurements:
            if spec.trial is not None:
                found.setdefault(spec.kind, set()).add(spec.id)
        return found

    before = all_ids()
    if isinstance(raised, str):
        for module in (trials_module, measurements_module):
            monkeypatch.setattr(module, raised, 999, raising=False)
    else:
        monkeypatch.setattr(raised, "version", 999)
    after = all_ids()
    assert {kind for kind in before if before[kind] != after[kind]} == made_again


def test_raised_scores_are_no_other_sweep(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    before = plan_of(storage).sweep_id
    monkeypatch.setattr(TextScores, "version", 999)
    assert plan_of(storage).sweep_id == before


def test_a_repeat_is_a_trial_of_its_own(storage: Storage) -> None:
    trial = trial_of(storage)
    assert dataclasses.replace(trial, repeat=1).id != trial.id


def test_spans_are_shared_between_models_and_rows_are_not(storage: Storage) -> None:
    plan, other = plan_of(storage), plan_of(storage, model="pydoc-0.5m")
    assert plan.domains[0].spans_id == other.domains[0].spans_id
    assert plan.trials[0].rows_id != other.trials[0].rows_id
    assert _held_out_id(plan) != _held_out_id(other)


def test_rows_do_not_depend_on_the_recipe(storage: Storage) -> None:
    rows_id = trial_of(storage).rows_id
    for name in ("num_updates", "learning_rate", "batch_size", "precision"):
        assert trial_of(storage, **{name: DECLARED[name]}).rows_id == rows_id
    for name in ("samples", "seeds", "span_characters", "held_out_share", "sequence_length"):
        assert trial_of(storage, **{name: DECLARED[name]}).rows_id != rows_id


def test_validation_rows_are_in_the_id_of_the_held_out_rows_alone(storage: Storage) -> None:
    assert _held_out_id(plan_of(storage)) != _held_out_id(plan_of(storage, validation_rows=21))


def test_the_sweep_s_id_does_not_depend_on_the_order_of_what_varies(storage: Storage) -> None:
    one = plan_of(storage, samples=(8, 32), seeds=(0, 1))
    other = plan_of(storage, samples=(32, 8), seeds=(1, 0))
    assert len({trial.id for trial in one.trials}) == 4
    assert one.sweep_id == other.sweep_id != plan_of(storage, samples=(8, 32)).sweep_id


class TestLocalFiles:
    """A local file's content is its identity; it is known once `prepare` has read it."""

    @pytest.fixture
    def text(self, tmp_path: Path) -> Path:
        file = tmp_path / "data" / "books.txt"
        file.parent.mkdir()
        file.write_text("a long text " * 500)
        return file

    def test_ids_are_pending_until_the_files_were_read(
        self, storage: Storage, text: Path, tmp_path: Path
    ) -> None:
        model = write_model(tmp_path / "models" / "tiny")
        local = {"model": str(model), "dataset": str(text)}
        plan = plan_of(storage, **local)
        assert plan.pending and plan.trials[0].id is None
        known_files(storage).hash([text])
        assert plan_of(storage, **local).pending
        hash_model(storage, model)
        plan = plan_of(storage, **local)
        assert not plan.pending
        assert str(plan.trials[0].id).startswith("tiny-books-n8-u100-lr0.001-s0-")

    def test_a_file_has_the_same_id_elsewhere_and_another_when_it_changes(
        self, storage: Storage, text: Path, tmp_path: Path
    ) -> None:
        def trial_id(file: Path) -> str | None:
            known_files(storage).hash([file])
            return trial_of(storage, dataset=str(file)).id

        moved = tmp_path / "elsewhere" / text.name
        moved.parent.mkdir()
        moved.write_bytes(text.read_bytes())
        original = trial_id(text)
        assert trial_id(moved) == original
        moved.write_text("another text " * 500)
        assert trial_of(storage, dataset=str(moved)).id is None
        assert trial_id(moved) != original

    def test_a_model_has_the_same_id_elsewhere_and_another_when_its_weights_change(
        self, storage: Storage, tmp_path: Path
    ) -> None:
        ids = []
        for place, value in (("a", 0), ("b", 0), ("c", 1)):
            model = write_model(tmp_path / place / "tiny", value=value)
            hash_model(storage, model)
            ids.append(trial_of(storage, model=str(model), dataset="pydoc").id)
        assert ids[0] == ids[1] != ids[2]

    def test_the_text_column_is_part_of_a_table_s_identity(self, storage: Storage, tmp_path: Path) -> None:
        file = tmp_path / "table.csv"
        file.write_text("text,body\na,b\n")
        known_files(storage).hash([file])
        text, body = (trial_of(storage, dataset=str(file), text_column=name).id for name in ("text", "body"))
        assert None not in (text, body) and text != body

    def test_where_a_folder_s_files_lie_below_it_is_part_of_its_identity(
        self, storage: Storage, tmp_path: Path
    ) -> None:
        # Documents are named by their places, and by their names they are held out or not.
        ids = []
        for root, place in (("one", "books/x.txt"), ("two", "books/x.txt"), ("three", "plays/x.txt")):
            file = tmp_path / root / "texts" / place
            file.parent.mkdir(parents=True)
            file.write_text("the same text")
            known_files(storage).hash([file])
            ids.append(trial_of(storage, dataset=str(tmp_path / root / "texts")).id)
        assert None not in ids
        assert ids[0] == ids[1] != ids[2]

    def test_a_hub_model_is_known_by_its_commit(self, storage: Storage) -> None:
        hub = {"model": "someone/Model-1b", "dataset": "pydoc"}
        assert trial_of(storage, **hub).id is None
        storage.root.mkdir(parents=True)
        lock = storage.root / "hub.lock.json"
        lock.write_text(
            '{"someone/Model-1b@main": "abc", "someone/Model-1b@v1": "abc", "someone/Model-1b@v2": "def"}'
        )
        ids = [trial_of(storage, **hub, revision=revision).id for revision in ("main", "v1", "v2")]
        assert None not in ids
        assert ids[0] == ids[1] != ids[2]


def test_what_a_trial_declares_never_changes() -> None:
    trial = TrialSpec(
        model=ModelSource(name="tiny", kind="local", declared={"files_sha256": "aa"}),
        domain=Domain(
            text=TextSource(name="books", kind="local", declared={"files_sha256": "bb", "layout": ".txt"}),
            settings=TextSettings(span_characters=1500, sequence_length=256, held_out_share=0.2),
        ),
        selection=Selection(samples=128, sample_seed=3, order_seed=3),
        recipe=Recipe(learning_rate=1e-6, batch_size=8, num_updates=5000, precision="bf16"),
    )
    # A change here trains everything again, on every machine: be sure that numbers changed too.
    declared = (
        '{"model":{"files_sha256":"aa"},"order_seed":3,"recipe":{"batch_size":8,"betas":[0.9,0.999],"dropout":0.0,'
        '"epsilon":1e-08,"gradient_clipping":0.0,"learning_rate":1e-06,"num_updates":5000,"optimizer":"adam",'
        '"precision":"bf16","weight_decay":0.0},"repeat":0,"rows":{"data_version":1,"held_out_share":0.2,'
        '"sample_seed":3,"samples":128,"sequence_length":256,"span_characters":1500,"text":{"files_sha256":"bb",'
        '"layout":".txt"}},"train_version":2}'
    )
    digits = hashlib.sha256(declared.encode()).hexdigest()[:12]
    assert trial.id == f"tiny-books-n128-u5000-lr1e-06-s3-{digits}"


def test_what_a_generation_declares_never_changes() -> None:
    generation = Generation(
        subject=Subject(model=ModelSource(name="tiny", kind="local", declared={"files_sha256": "aa"})),
        contexts=Prompts(name="mine", texts=("x",)),
        settings=EvaluationSettings(
            num_contexts=10, num_validation=20, context_length=32, export_dtype="fp32", eval_precision="fp32"
        ),
        how=Decoding(),
    )
    # A change here generates everything again: be sure that texts changed too.
    declared = (
        '{"contexts":{"data_version":1,"prompts":"cd65ea2c2ad99e94a85b1b6df72efef9cb2ed0ae933a60c32ce16317f7d7d6aa"},'
        '"decoding":{"kind":"greedy","num_new_tokens":96,"stop_at_end":false},"eval_precision":"fp32",'
        '"export_dtype":"as given","inputs":[],"kind":"generations","model":{"files_sha256":"aa"},"version":1}'
    )
    digits = hashlib.sha256(declared.encode()).hexdigest()[:12]
    assert generation.id == f"tiny-original-greedy-{digits}"
    assert digits == "a17539955337"
