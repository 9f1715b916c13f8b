"""Which model is served: every case of the champion rule."""

from __future__ import annotations

import pytest

from pipeline.registry.champion import Version, choose


def version(number: int, accuracy: float | None, model: str = "cnn", **other: str | None) -> Version:
    known = {"weights": f"weights {number}", "validation": "these", **other}
    return Version(str(number), model, val_accuracy=accuracy, **known)  # type: ignore[arg-type]


CNN, MOBILENET = version(3, 0.975), version(4, 0.99, "mobilenet")


def chosen(champion: Version | None, *candidates: Version, floor: float = 0.97, margin: float = 0.0, ignore=False):
    """The number of the version that is chosen, and the reason."""
    winner, why = choose(
        candidates or (CNN, MOBILENET),
        champion,
        min_val_accuracy=floor,
        margin=margin,
        ignore_champion=ignore,
    )
    assert "\n" not in why
    return winner and winner.number, why


def test_the_better_model_becomes_the_first_champion_in_either_order():
    for order in ((CNN, MOBILENET), (MOBILENET, CNN)):
        number, why = chosen(None, *order)
        assert number == "4"
        assert "version 4 (mobilenet, validation accuracy 99.00%) becomes champion, not version 3 (cnn," in why
        assert "there was none" in why


def test_of_two_equal_models_the_first_is_chosen_unless_the_other_is_champion():
    equal = version(4, CNN.val_accuracy, "mobilenet")
    assert chosen(None, CNN, equal)[0] == "3"
    assert chosen(equal, CNN, equal)[0] == "4"


def test_below_the_minimum_no_model_becomes_champion_and_the_champion_stays():
    assert chosen(None, floor=0.991) == (
        None,
        "there is no champion: version 4 (mobilenet, validation accuracy 99.00%) is below registry.min_val_accuracy"
        " = 99.10%",
    )
    assert chosen(None, floor=0.99)[0] == "4"  # the minimum itself suffices
    number, why = chosen(version(1, 0.5), floor=0.991)
    assert number == "1" and "stays champion" in why and "min_val_accuracy" in why
    assert chosen(version(1, 0.5), floor=0.991, ignore=True)[0] == "1"


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
    assert chosen(MOBILENET) == ("4", f"{MOBILENET} stays champion: no better model was trained")
    assert chosen(MOBILENET, floor=0.999)[0] == "4"
    number, why = chosen(version(1, 0.99, "mobilenet", weights=MOBILENET.weights), margin=0.5)
    assert number == "4" and "current code and settings" in why
    # A candidate with the champion's weights does not keep a better one from taking over.
    assert chosen(CNN)[0] == "4"


@pytest.mark.parametrize("other", [version(1, 0.5, validation="others"), version(1, 0.5, validation=None)])
def test_an_accuracy_on_other_images_is_not_compared(other):
    number, why = chosen(other)
    assert number == "1" and "validated on other images" in why and "--ignore-champion" in why
    number, why = chosen(other, ignore=True)
    assert number == "4" and "without regard to" in why


NOT_NUMBERS = [None, float("nan"), float("inf"), -float("inf"), -0.1, 1.1]


@pytest.mark.parametrize("accuracy", NOT_NUMBERS)
@pytest.mark.parametrize("ignore", [False, True])
def test_an_accuracy_that_is_not_a_number_never_passes(accuracy, ignore):
    bad = version(4, accuracy, "mobilenet")
    assert chosen(None, bad, floor=0.0, ignore=ignore) == (
        None,
        "there is no champion: no validation accuracy of version 4 (mobilenet, validation accuracy unknown) is a number"
        " in 0…1",
    )
    assert chosen(version(1, 0.5), bad, floor=0.0, ignore=ignore)[0] == "1"
    assert chosen(version(1, 0.5, weights=bad.weights), bad, ignore=ignore)[0] == "1"  # nor as the same weights
    for order in ((bad, CNN), (CNN, bad)):
        assert chosen(None, *order, ignore=ignore)[0] == "3"


@pytest.mark.parametrize("accuracy", NOT_NUMBERS)
def test_a_champion_whose_accuracy_is_not_a_number_is_not_compared(accuracy):
    number, why = chosen(version(1, accuracy))
    assert number == "1" and "its validation accuracy is unknown" in why and "--ignore-champion" in why
    assert chosen(version(1, accuracy), ignore=True)[0] == "4"


def test_a_single_candidate_suffices():
    assert chosen(None, CNN)[0] == "3"
