"""The report's text, section by section, as Markdown. Every number in it comes from a file of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.reporting import comparison, original, verdicts
from pipeline.reporting.cells import UNKNOWN, by_size, interval, markdown
from pipeline.reporting.comparison import GROUPED, Figures
from pipeline.reporting.inputs import MODELS
from pipeline.tracking.figures import flatten, text

Found = Mapping[tuple[str, str], Figures]


def each(found: Found, key: str) -> str:
    """What is said of each model, in a sentence."""
    return ". ".join(f"{name}: {found[model, GROUPED].get(key, UNKNOWN)}" for model, name in MODELS.items())


def picture(caption: str, path: str) -> str:
    return f"![{caption}]({path})"


def pairs(values: Mapping) -> str:
    """Keys and values, nested ones flattened, as a table of two columns; text is shown as it is in the files."""
    return markdown([["", ""], *([f"`{key}`", f"`{text(value)}`"] for key, value in flatten(values).items())])


def opening(data: Mapping, found: Found, versus: Mapping) -> str:
    """Title and what there is to know in short."""
    cnn, mobilenet = (found[model, GROUPED] for model in MODELS)
    name = " ".join(str(data[key]) for key in ("source", "name") if data.get(key))
    return "\n\n".join(
        (
            "# Face mask or not: two models, compared",
            f"A small CNN trained from scratch and MobileNetV2 by transfer, trained and tested on the same pictures"
            f" ({name}), then tried on pictures from another source. The stage `report` writes all of it from the"
            " files of results; nothing is typed by hand. Class `with_mask` is the positive one.",
            "## In short",
            f"- **Test accuracy**: CNN {interval(cnn, 'test.accuracy')}, MobileNetV2"
            f" {interval(mobilenet, 'test.accuracy')}. {comparison.disagreement(versus)}\n"
            f"- **Unseen accuracy**: CNN {interval(cnn, 'unseen.accuracy')}, MobileNetV2"
            f" {interval(mobilenet, 'unseen.accuracy')}, on {cnn['unseen.n']:,} faces of a data set that neither was"
            " trained on.\n"
            f"- **Overfitting?** {each(found, 'overfitting')}.\n- **Where they look.** {each(found, 'insight')}.",
        )
    )


def compared(found: Found, split: Mapping, confidence: float, loss_rise: float) -> str:
    """The whole table, what its columns mean, and the rules behind its two answers."""
    return "\n\n".join(
        (
            "## The comparison",
            "*Original* is what the pair of notebooks that this project rebuilds publishes. *Random split* is how they"
            " split: near-twins of training pictures are in the test set (its column is empty in a report on other"
            " pictures than those it was run on). *Grouped* keeps near-duplicates together:"
            f" {split['cross_split_duplicates']} pictures of validation and test have a near-twin in another part. The"
            " grouped figures are the ones to believe.",
            markdown(comparison.table(found, confidence=confidence)),
            original.NOTES,
            "The original's webcam figures come from people before a camera, its mean confidence in the class that it"
            " called. Ours come from a clip of unseen faces, filmed as before a webcam (the recipe is in"
            " `pipeline/clip.py`), which `pipeline.replay` watches as the live page does.",
            "### How the two questions are answered",
            verdicts.RULES.format(loss_rise=f"{100 * loss_rise:g} %"),
        )
    )


def tested(n_errors: int) -> str:
    return "\n\n".join(
        (
            "## On the test pictures",
            picture("ROC and precision-recall on the test pictures", "figures/curves.svg"),
            picture("Test pictures by label and call", "figures/confusion.svg"),
            picture("Does a stated confidence of 90 % mean right nine times in ten? Few pictures, little to say",
                    "figures/reliability.svg"),
            picture("Training: MobileNetV2 first its head alone, then its last blocks too", "figures/training.svg"),
            picture(f"Every test picture that a model gets wrong, {n_errors} in all; at most the worst 48 are shown",
                    "figures/test_errors.png"),
        )
    )  # fmt: skip


def unseen(found: Found, sizes: Mapping[str, Mapping], provenance: Mapping) -> str:
    """Figures on the foreign set by face size, and what the original's figure under the same name is."""
    confidences = "; ".join(
        f"{MODELS[model]} {interval(found[model, GROUPED], 'unseen.mean_confidence_with_mask')} on masked faces and"
        f" {interval(found[model, GROUPED], 'unseen.mean_confidence_without_mask')} on bare ones"
        for model in MODELS
    )
    return "\n\n".join(
        (
            "## On pictures from another source",
            "Faces cut out of a detection data set by their annotations. Nothing was tuned or chosen on them.",
            markdown(by_size(sizes)),
            "The original calls 87.06 % its CNN's accuracy on unseen data. It is the mean confidence of the class that"
            " was called over four web pictures, one of which is called wrong, so it says how sure the model is,"
            f" not how often it is right. The same quantity here: {confidences}. The accuracy is in the table above.",
            picture("ROC and precision-recall on the unseen faces", "figures/unseen-curves.svg"),
            picture("The worst errors on the unseen faces", "../plots/unseen_errors.png"),
            "What the set holds, and what was left out of it:",
            pairs(provenance),
        )
    )


def explained(found: Found, panels: Sequence[str]) -> str:
    """What the attributions say, in words and pictures. `panels` are file names under plots/xai/."""
    said = "\n".join(f"- {name}: {found[model, GROUPED].get('insight', UNKNOWN)}." for model, name in MODELS.items())
    faithful = "\n".join(
        f"- {name}: completeness error at most {float(own['xai.completeness_error_max'] or 0):.2%}, median"
        f" {float(own['xai.completeness_error_median'] or 0):.2%}, over {own['xai.n']:,} pictures."
        for model, name in MODELS.items()
        for own in (found[model, GROUPED],)
    )
    return "\n\n".join(
        (
            "## Where the models look",
            "Integrated Gradients of the margin between the two logits. The attributions of a picture must add up to"
            f" the difference in margin that they explain:\n\n{faithful}",
            "The original asserts, from looking at heat maps, that MobileNetV2 has the more precise facial focus. By"
            f" the rules above:\n\n{said}",
            "Deletion takes the pixels that count most away first, insertion puts them back first: an attribution that"
            " tells the truth has a lower deletion AUC and a higher insertion AUC than random order has (both in the"
            " table). Randomising the weights must change an attribution, so that rank correlation should be near 0.",
            *(picture(name.removesuffix(".png").replace("_", " "), f"../plots/xai/{name}") for name in panels),
        )
    )


def audited(audit: Mapping, costs: Mapping[str, Mapping]) -> str:
    """Suspected labels and what they cost."""
    lines = [["", "all test pictures", "without the suspected", "suspected", "of them “wrong”"]]
    for model, name in MODELS.items():
        own = costs[model]
        lines.append([name, interval(own, "accuracy"), interval(own, "clean_accuracy"), str(own["suspected"]),
                      str(own["suspected_wrong"])])  # fmt: skip
    by_split = ", ".join(f"{count} in {split}" for split, count in audit["by_split"].items())
    by_label = ", ".join(f"{count} filed as `{label}`" for label, count in audit["by_label"].items())
    return "\n\n".join(
        (
            "## Labels that are likely wrong",
            "A linear model on features of the pretrained MobileNetV2 judged each picture without having seen it or a"
            f" near-twin. It disagrees with {audit['n_disagreeing']:,} of {audit['n']:,} labels, mostly by its own"
            f" error; confident learning (cleanlab) suspects {audit['n_suspected']:,} of the labels themselves"
            f" ({audit['share']:.2%}): {by_split}; {by_label}. Nothing was dropped for it.",
            "What suspected labels cost in test accuracy:",
            markdown(lines),
            "Leaving them out flatters a model wherever the suspicion is wrong: the true figure lies between the two.",
            picture("The least probable labels, each with the probability of the label it has", "../plots/audit.png"),
        )
    )


def appendix(provenance: Mapping[str, Mapping], parameters: Mapping) -> str:
    """Where the data came from, with which parameters, and what is not in here."""
    tables = [part for title, values in provenance.items() for part in (f"### {title}", pairs(values))]
    return "\n\n".join(
        (
            "## Where the data came from",
            *tables,
            "## Parameters",
            pairs(parameters),
            "## How long it took",
            "Durations and memory differ from run to run and are not part of the results: `python -m tools.durations`"
            " prints them from MLflow.",
        )
    )
