"""What a person is told whose GPUs cannot be used, before anything is fetched."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest

from rayfit.errors import RayfitError
from rayfit.plan import cards
from rayfit.plan.cards import Card, Found, cards_of, cards_text, check_cards, find_cards

H200 = Card("NVIDIA H200", (9, 0), 150_110_011_392)
T4 = Card("Tesla T4", (7, 5), 15_828_320_256)


def _found(cuda: str | None, error: str = "", *cards: Card) -> Found:
    listed = [(card.name, card.capability, card.num_bytes) for card in cards]
    return Found(torch="2.13.0", cuda=cuda, error=error, cards=listed)


def test_the_cards_are_what_torch_finds() -> None:
    assert cards_of(_found("13.0", "", H200, T4)) == (H200, T4)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (_found(None), "build for CPUs alone; install a CUDA build"),
        (_found("13.0"), "it finds none .it needs an NVIDIA driver of 580"),
        (_found("13.0", "The NVIDIA driver on your system\nis too old"), "system is too old .it needs"),
    ],
)
def test_without_a_usable_card_one_line_says_why_and_the_way_out(found: Found, said: str) -> None:
    with pytest.raises(RayfitError, match=said) as raised:
        cards_of(found)
    assert "\n" not in str(raised.value) and "give --use-gpu no" in str(raised.value)


def test_a_card_without_bf16_units_is_for_fp32() -> None:
    for precision in ("auto", "bf16"):
        check_cards((H200,), precision=precision)
        with pytest.raises(
            RayfitError, match=r"Tesla T4 .compute capability 7.5. has no bf16 units.*--precision fp32"
        ):
            check_cards((H200, T4), precision=precision)
    check_cards((T4,), precision="fp32")


def test_this_machine_seems_to_have_cards_where_there_is_a_driver_and_a_torch_for_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(cards, "_SIGNS", (str(tmp_path / "none"), str(tmp_path / "nvidiactl")))
    package = tmp_path / "site" / "torch"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: SimpleNamespace(origin=str(package / "__init__.py"))
    )
    (package / "version.py").write_text("cuda: Optional[str] = '13.0'\nhip: Optional[str] = None\n")
    assert not cards.seem_there()
    (tmp_path / "nvidiactl").touch()
    assert cards.seem_there()
    for hidden in ("", " ", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert not cards.seem_there()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert cards.seem_there()
    (package / "version.py").write_text("cuda: Optional[str] = None\nhip: Optional[str] = None\n")
    assert not cards.seem_there()


def test_what_torch_s_version_file_says_is_what_torch_says() -> None:
    torch = pytest.importorskip("torch")
    assert cards._is_for_cpus() == (torch.version.cuda is None)


def test_equal_cards_are_counted() -> None:
    assert cards_text((T4, H200, T4)) == "2 x Tesla T4 of 14.7 GiB, NVIDIA H200 of 139.8 GiB"


def test_a_build_for_cpus_is_told_in_a_process_of_its_own() -> None:
    torch = pytest.importorskip("torch")
    if torch.version.cuda is not None:
        pytest.skip("this torch is built for CUDA")
    with pytest.raises(RayfitError, match="build for CPUs alone"):
        find_cards()
