"""Who is served: every case of the rule."""

from __future__ import annotations

import pytest

from pipeline.serve.champion import Version, choose


def version(number: int, accuracy: float | None, model: str = "cnn", **other: str | None) -> Version:
    known = {"weights": f"weights {number}", "validation": "these", **other}
    return Version(str(number), model, val_accuracy=accuracy, **known)  # type: ignore[arg-type]


CNN, MOBILENET = version(3, 0.975), version(4, 0.99, "mobilenet")


def chosen(champion: Version | None, *candidates: Version, floor: float = 0.97, margin: float = 0.0, afresh=False):
    """The number of the version that is to be champion, and why."""
    these = candidates or (CNN, MOBILENET)
    winner, why = choose(these, champion, min_val_accuracy=floor, margin=margin, afresh=afresh)
    assert "\n" not in why
    return winner and winner.number, why


def test_the_better_one_is_the_first_champion_in_whatever_order_they_come():
    for order in ((CNN, MOBILENET), (MOBILENET, CNN)):
        number, why = chosen(None, *order)
        assert number == "4"
        assert "version 4 (mobilenet, validation accuracy 99.00%) becomes champion, not version 3 (cnn," in why
        assert "there was none" in why


def test_of_two_equal_ones_the_first_is_taken_unless_the_other_is_champion():
    twin = version(4, CNN.val_accuracy, "mobilenet")
    assert chosen(None, CNN, twin)[0] == "3"
    assert chosen(twin, CNN, twin)[0] == "4"


def test_below_the_floor_none_becomes_champion_and_the_champion_stays():
    assert chosen(None, floor=0.991) == (
        None,
        "there is no champion: version 4 (mobilenet, validation accuracy 99.00%) is below registry.min_val_accuracy"
        " = 99.10%",
    )
    assert chosen(None, floor=0.99)[0] == "4"  # the floor itself will do
    number, why = chosen(version(1, 0.5), floor=0.991)
    assert number == "1" and "stays champion" in why and "min_val_accuracy" in why
    assert chosen(version(1, 0.5), floor=0.991, afresh=True)[0] == "1"


@pytest.mark.parametrize(
    ("before", "margin", "wins"),
    [(0.98, 0.0, True), (0.99, 0.0, False), (0.995, 0.0, False), (0.98, 0.02, False), (0.98, 0.01, False),
     (0.97, 0.01, True), (0.89, 0.1, False)],
)  # fmt: skip
def test_a_challenger_must_be_better_by_more_than_the_margin(before, margin, wins):
    number, why = chosen(version(1, before), margin=margin)
    assert number == ("4" if wins else "1")
    assert f"registry.margin = {margin:.2%}" in why
    assert ("better than version 1" in why) if wins else ("is not better" in why)


def test_the_same_version_stays_and_the_same_weights_with_other_code_take_over():
    assert chosen(MOBILENET) == ("4", f"{MOBILENET} stays champion: nothing better was trained")
    assert chosen(MOBILENET, floor=0.999)[0] == "4"
    number, why = chosen(version(1, 0.99, "mobilenet", weights=MOBILENET.weights), margin=0.5)
    assert number == "4" and "present code and settings" in why
    # The champion's own retry is no reason against a better one beside it.
    assert chosen(CNN)[0] == "4"


@pytest.mark.parametrize("other", [version(1, 0.5, validation="others"), version(1, 0.5, validation=None),
                                   version(1, None)])  # fmt: skip
def test_an_accuracy_on_other_pictures_or_an_unknown_one_is_not_compared(other):
    number, why = chosen(other)
    assert number == "1" and "other validation pictures" in why and "--afresh" in why
    number, why = chosen(other, afresh=True)
    assert number == "4" and "afresh" in why


def test_one_model_alone_will_do():
    assert chosen(None, CNN)[0] == "3"
