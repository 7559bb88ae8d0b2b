from __future__ import annotations

import pytest

from rayfit.columns import COLUMNS
from rayfit.errors import RayfitError
from rayfit.report.beside import bounds_text, published
from rayfit.report.paper import PaperNumber, _read, paper_numbers
from rayfit.scores import SCORES

KINDS = (
    "training_curve",
    "model_size",
    "data_quantity",
    "data_type",
    "shuffle_seed",
    "instruct",
    "recipe",
    "decoding",
)


def _value(experiment: str, **wanted: str) -> PaperNumber:
    (found,) = [
        number
        for number in paper_numbers(experiment)
        if all(getattr(number, name) == value for name, value in wanted.items())
    ]
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_every_sweep_of_the_paper_has_a_table(kind: str) -> None:
    found = published(kind)
    assert found is not None and found.tables and len(found.set_up) == 8
    for table in found.tables:
        assert all(len(cells) == len(table.columns) for _, lines in table.models for _, cells in lines)


def test_known_numbers_stand_with_their_certainty() -> None:
    minimum = _value("training_curve", quantity="validation_loss", setting="epoch 1")
    assert (minimum.value, minimum.certainty, minimum.source) == (2.69, "read off a figure", "Figure 2")
    preferred = _value(
        "model_size", model="TinyLlama 1.1B", who="trained", decoding="greedy", quantity="preferred_256"
    )
    assert (preferred.value, preferred.certainty) == (0.344, "text")
    average = _value("data_type", setting="trained on news", quantity="preferred_on_average")
    assert (average.value, average.certainty) == (0.6637, "second-hand")
    assert _value("set-up", quantity="learning_rate").value == 1e-6


def test_what_is_not_known_is_empty_and_never_a_number() -> None:
    unknown = [number for number in paper_numbers() if not number.is_known]
    assert len(unknown) > 10
    assert all(bounds_text(number) == "" for number in unknown)
    found = published("instruct")
    assert found is not None
    (table,) = found.tables
    assert {cell.text for _, lines in table.models for _, cells in lines for cell in cells} == {""}
    assert found.marks == ()


def test_ratios_are_shares_as_in_our_own_tables() -> None:
    for number in paper_numbers():
        if number.unit.startswith(("share", "probability", "BLEU")):
            assert all(
                0 <= bound <= 1 for bound in (number.value, number.low, number.high) if bound is not None
            ), number
        if number.quantity in SCORES:
            assert number.unit == SCORES[number.quantity].unit, number


def test_every_number_says_where_it_stands() -> None:
    for number in paper_numbers():
        assert number.source and number.work and number.model and number.unit and number.quantity
        assert not (number.value is not None and (number.low, number.high) != (None, None)), number
        if number.quantity in ("samples", "updates", "epochs", "learning_rate"):
            assert number.quantity in COLUMNS


def test_no_number_is_given_twice() -> None:
    for kind in KINDS:
        keys = [
            (
                number.work,
                number.model,
                number.who,
                number.decoding,
                number.setting,
                number.quantity,
                number.source,
            )
            for number in paper_numbers(kind)
        ]
        assert len(keys) == len(set(keys))


def test_later_work_is_told_from_the_paper() -> None:
    for number in paper_numbers():
        assert (number.work in number.table) == number.work.startswith(("arXiv 2605", "arXiv 2602")), number
        assert number.work in ("arXiv 2412.04318", "arXiv 2605.22579", "arXiv 2602.11149", "official code")


@pytest.mark.parametrize(
    ("bounds", "text"),
    [
        ({"value": 0.344}, "0.344"),
        ({"low": 0.68, "high": 0.75}, "0.680\u20130.750"),
        ({"low": 0.5}, "above 0.500"),
        ({"high": 0.02}, "below 0.020"),
        ({}, ""),
    ],
)
def test_values_and_bounds_as_text(bounds: dict[str, float], text: str) -> None:
    number = PaperNumber(("x",), "w", "t", "ttr_last_96", "share of tokens", "Table 1", "text", **bounds)
    assert bounds_text(number) == text


def test_an_unknown_certainty_is_refused() -> None:
    shared = 'experiments=["x"]\nwork="w"\ntable="t"\nsource="s"\ncertainty="sure"'
    text = f'[[group]]\n{shared}\nnumbers=[{{quantity="q",unit="u"}}]'
    with pytest.raises(RayfitError, match="got 'sure'"):
        _read(text)


def test_an_experiment_without_numbers_has_no_table() -> None:
    assert published("something_else") is None
