from __future__ import annotations

from rayfit.errors import RayfitError, TrialError, nearest, unknown


def test_the_nearest_name_is_offered_only_when_one_is_near() -> None:
    assert nearest("pydok", ["speeches", "pydoc"]) == "; did you mean 'pydoc'?"
    assert nearest("xyz", ["speeches", "pydoc"]) == ""
    assert nearest("anything", []) == ""


def test_an_unknown_name_says_key_valid_names_what_was_given_and_the_nearest() -> None:
    message = str(unknown("decoding.kind", "gredy", iter(["greedy", "nucleus"])))
    assert message == "decoding.kind: expected one of greedy, nucleus; got 'gredy'; did you mean 'greedy'?"


def test_errors_are_value_errors() -> None:
    assert issubclass(RayfitError, ValueError) and issubclass(TrialError, RayfitError)
