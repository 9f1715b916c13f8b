"""The report's text, section by section, as Markdown. Every number in it comes from a metrics file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from face_mask.schema import MODELS, TITLES
from pipeline.core.values import flatten, text
from pipeline.explain.panels import panel_title
from pipeline.reporting import comparison_table, original, verdicts
from pipeline.reporting.cells import UNKNOWN, by_size, interval, markdown, percentage
from pipeline.reporting.comparison_table import GROUPED, Metrics
from pipeline.scoring.conformal import SHOWN

Found = Mapping[tuple[str, str], Metrics]


def of_each_model(found: Found, key: str) -> str:
    """A verdict on each model as a bulleted list."""
    return "\n".join(f"- {title}: {found[model, GROUPED].get(key, UNKNOWN)}." for model, title in TITLES.items())


def image(caption: str, path: str) -> str:
    return f"![{caption}]({path})"


def key_value_table(values: Mapping) -> str:
    """Keys and values as a table of two columns, nested mappings flattened; text is shown as it is in the files."""
    return markdown([["key", "value"], *([f"`{key}`", f"`{text(value)}`"] for key, value in flatten(values).items())])


def opening(data: Mapping, found: Found, versus: Mapping) -> str:
    """Title and summary."""
    cnn, mobilenet = (found[model, GROUPED] for model in MODELS)
    name = " ".join(str(data[key]) for key in ("source", "name") if data.get(key))
    return "\n\n".join(
        (
            "# Face mask classification: a small CNN and MobileNetV2 compared",
            "A small CNN trained from scratch and MobileNetV2 with transfer learning, trained and tested on the same"
            f" images ({name}), then evaluated on images from another source. Every number is taken from the metrics"
            " files that the pipeline writes. The positive class is `with_mask`.",
            "## Summary",
            f"- **Test accuracy:** CNN {interval(cnn, 'test.accuracy')}, MobileNetV2"
            f" {interval(mobilenet, 'test.accuracy')}. {comparison_table.disagreement(versus)}\n"
            f"- **Unseen accuracy:** CNN {interval(cnn, 'unseen.accuracy')}, MobileNetV2"
            f" {interval(mobilenet, 'unseen.accuracy')}, on {cnn['unseen.n']:,} faces of a data set that neither model"
            " was trained on.",
            f"**Overfitting observed?**\n\n{of_each_model(found, 'overfitting')}",
            f"**XAI insight** (an attribution gain of 1 is chance level)\n\n{of_each_model(found, 'insight')}",
        )
    )


def compared(found: Found, split: Mapping, confidence: float, overfit_gap: float) -> str:
    """The comparison table, the meaning of its columns, and the rules behind the two verdicts."""
    duplicates = split["cross_split_duplicates"]
    return "\n\n".join(
        (
            "## Comparison",
            "*Original* shows the values published with the two notebooks that this project reimplements. *Random"
            " split* evaluates our models, trained without changed copies, on a random split like theirs, whose test"
            " set contains near-duplicates of training images; the column is empty if its stored results are of another"
            " data set. *Grouped* keeps"
            f" near-duplicates in the same part of the split: {duplicates} images of the validation and test sets have"
            " a near-duplicate in another part. Compare the models by the grouped columns.",
            markdown(comparison_table.table(found, confidence=confidence)),
            original.NOTES,
            "The original measured its webcam values on people in front of a camera, as the mean confidence in the"
            " predicted class. Ours are measured on a synthetic webcam clip of unseen faces (stage `clip`), which the"
            " stage `live_eval` processes exactly as the live page does.",
            "### Rules behind the verdicts",
            verdicts.RULES.format(overfit_gap=f"{100 * overfit_gap:g}"),
        )
    )


def tested(n_errors: int) -> str:
    return "\n\n".join(
        (
            "## Test images",
            image("ROC and precision-recall curves on the test images", "figures/curves.svg"),
            image("Confusion matrices: numbers of test images by label and predicted class", "figures/confusion.svg"),
            image("Reliability: a well-calibrated model lies on the diagonal. Bins with few images are noisy",
                  "figures/reliability.svg"),
            image("Training curves. MobileNetV2 is trained in two phases: its head alone, then its last blocks as well",
                  "figures/training.svg"),
            image(f"Test images that at least one model misclassifies, {n_errors} in total (at most 48 are shown)",
                  "figures/test_errors.png"),
        )
    )  # fmt: skip


def unseen(found: Found, sizes: Mapping[str, Mapping], provenance: Mapping) -> str:
    """Results on the unseen set by face size, and what the original's metric of the same name measures."""
    confidences = "; ".join(
        f"{title} {interval(found[model, GROUPED], 'unseen.mean_confidence_with_mask')} on faces with a mask and"
        f" {interval(found[model, GROUPED], 'unseen.mean_confidence_without_mask')} on faces without"
        for model, title in TITLES.items()
    )
    return "\n\n".join(
        (
            "## Unseen images",
            "Faces cropped from an annotated object detection data set. It was used for evaluation only: nothing was"
            " trained, tuned or selected on it. Accuracy by face size:",
            markdown(by_size(sizes)),
            "The original reports 87.06 % as its CNN's accuracy on unseen data. That value is the mean confidence in"
            " the predicted class on four web images, one of which is misclassified: it measures how confident the"
            f" model is, not how often it is correct. The same metric here: {confidences}. Accuracy is in the tables"
            " above.",
            image("ROC and precision-recall curves on the unseen faces", "figures/unseen-curves.svg"),
            image("Most confident errors on the unseen faces", "../plots/unseen_errors.png"),
            "Contents of the unseen set, and the faces that were left out:",
            key_value_table(provenance),
        )
    )


def unsure(found: Found, error: float) -> str:
    """Prediction sets at this error level: coverage, how often the models are unsure, where nothing is guaranteed."""
    columns = ["with mask from", "without mask to", "coverage, with mask", "coverage, without mask", "unsure"]
    lines = [["", *columns, "accuracy where sure"]]
    for model, title in TITLES.items():
        own = found[model, GROUPED]
        for prefix, images in (("", "test"), ("unseen.", "unseen")):
            limits = (own.get(f"{prefix}conformal.{key}") for key in ("with_mask_from", "without_mask_to"))
            cells = (interval(own, f"{prefix}conformal.{key}") for key in SHOWN)
            thresholds = (UNKNOWN if limit is None else f"{float(limit):.3f}" for limit in limits)
            lines.append([f"{title}, {images} images", *thresholds, *cells])
    return "\n\n".join(
        (
            "## When a model is unsure",
            "The prediction set of an image is the classes that its P(with_mask) does not rule out: with_mask from one"
            " threshold on, without_mask up to another. They come from the validation images, by class-conditional"
            " split conformal prediction (stage `evaluate`; `export` does the same for every exported file). For an"
            " image that is exchangeable with those, the set contains the true class with a probability of at least"
            f" {percentage(1 - error)} %, in either class. A model is unsure of an image whose set is not exactly the"
            " predicted class.",
            markdown(lines),
            "The guarantee is an average over validation and new images: the coverage of one test set varies around it."
            " It needs exchangeable images. Early stopping and the choice of parameters used the same validation"
            " images, so coverage on test images can be lower. Unseen images are of another source, and frames of a"
            " video resemble each other and are smoothed: for these nothing is guaranteed.",
        )
    )


def hard_cases(found: Found, results: Mapping[str, Mapping]) -> str:
    """Results on drawn hard cases by group and case, and by subsets of images as they are."""
    tests = {model: result["test"] for model, result in results.items()}
    lines = [["accuracy on", *TITLES.values()]]
    for group in tests["cnn"]["groups"]:
        cells = (interval(test["groups"][group], "accuracy") for test in tests.values())
        lines.append([group.replace("_", " "), *cells])
    for title, key in (("all cases", "accuracy"), ("the same faces unchanged", "original_accuracy"),
                       ("best minus worst group", "group_gap"), ("unsure, all cases", "unsure"),
                       ("prediction set contains the class, all cases", "coverage")):  # fmt: skip
        lines.append([title, *(interval(test, key) for test in tests.values())])
    parts = []
    for split in ("test", "unseen"):
        of_split = {model: result["subsets"][split]["by"] for model, result in results.items()}
        table = [[f"balanced accuracy, {split} images", "faces", *TITLES.values()]]
        for key, one in of_split["cnn"].items():
            for name, entry in one["bins"].items():
                cells = (interval(by[key]["bins"][name], "balanced_accuracy") for by in of_split.values())
                table.append([f"{key}: {name}".replace("_", " "), f"{entry['n']:,}", *cells])
            if one["gap"] is not None:
                gaps = (interval(by[key], "gap") for by in of_split.values())
                table.append([f"*{key.replace('_', ' ')}: best minus worst*", "", *gaps])
        parts.append(markdown(table))
    return "\n\n".join(
        (
            "## Hard cases",
            f"Each case changes one thing in the photos of the same {tests['cnn']['faces']} test faces: a drawn mask,"
            " an object before the mouth, light, blur. A mask under the nose or on the chin counts as `without_mask`."
            " Training has drawings by the same means with other fabrics, outlines and styles, and without seven of"
            " these kinds of objects. The mean of a group counts every case the same; its interval is a bootstrap over"
            " faces. The worst group is chosen by its result, so that the gap is somewhat larger than it would be on"
            " new faces.",
            markdown(lines),
            image("Error rate in every hard case, with 95 % intervals", "figures/hard-cases.svg"),
            image("Examples of every case, drawn on validation images", "../plots/hard_cases.png"),
            "Subsets of images as they are, by what can be measured without labels. *Skin* is the individual typology"
            " angle of forehead and cheeks in the photo: exposure, white balance and make-up change it, so that it is"
            " no measure of ethnicity, nor of a person's skin. The limits are terciles of the training images, those of"
            " the size are fixed; faces with uncertain landmarks are *unknown*. Balanced accuracy is the mean of the"
            " accuracies of both classes, since subsets have different fractions of them.",
            *parts,
        )
    )


def explained(found: Found, panels: Sequence[str]) -> str:
    """Attribution metrics and examples. `panels` are file names in plots/xai/."""
    completeness = "\n".join(
        f"- {title}: completeness error at most {100 * float(own['xai.completeness_error_max'] or 0):.2f} %, median"
        f" {100 * float(own['xai.completeness_error_median'] or 0):.2f} %, on {own['xai.n']:,} images."
        for model, title in TITLES.items()
        for own in (found[model, GROUPED],)
    )
    return "\n\n".join(
        (
            "## Explainability",
            "Attributions are Integrated Gradients of the margin between the two logits. The attributions of an image"
            " must add up to the difference in the margin between image and baseline (completeness):"
            f"\n\n{completeness}",
            "The original concludes from heat maps, by eye, that MobileNetV2 has the more precise facial focus. The"
            f" rules stated above give:\n\n{of_each_model(found, 'insight')}",
            "Deletion removes the most important cells of the image first, insertion restores them first. A faithful"
            " attribution has a lower deletion AUC and a higher insertion AUC than a random order of the cells (all"
            " four are in the comparison table). Randomizing the weights must change the attribution, so that rank"
            " correlation should be near 0.",
            *(image(panel_title(name.removesuffix(".png")), f"../plots/xai/{name}") for name in panels),
        )
    )


def audited(audit: Mapping, costs: Mapping[str, Mapping]) -> str:
    """Suspected label errors and their effect on test accuracy."""
    lines = [["", "all test images", "without suspected labels", "suspected labels", "of them misclassified"]]
    for model, title in TITLES.items():
        own = costs[model]
        lines.append([title, interval(own, "accuracy"), interval(own, "clean_accuracy"), str(own["suspected"]),
                      str(own["suspected_incorrect"])])  # fmt: skip
    by_split = ", ".join(f"{count} in {split}" for split, count in audit["by_split"].items())
    by_label = ", ".join(f"{count} labelled `{label}`" for label, count in audit["by_label"].items())
    return "\n\n".join(
        (
            "## Label audit",
            "A linear model on features of the pretrained MobileNetV2 predicted each image's label without having been"
            " fitted on that image or a near-duplicate. It disagrees with"
            f" {audit['n_disagreeing']:,} of {audit['n']:,} labels, mostly because the linear model is wrong. Confident"
            f" learning (cleanlab) suspects {audit['n_suspected']:,} labels"
            f" ({100 * audit['suspected_fraction']:.2f} %) to be wrong:"
            f" {by_split}; {by_label}. No image was removed because of this.",
            "Test accuracy with and without the suspected labels:",
            markdown(lines),
            "Removing suspected labels favours a model whenever the label is correct after all, so the true accuracy"
            " lies between the two columns.",
            image("The least probable labels, with the estimated probability of each", "../plots/audit.png"),
        )
    )


def appendix(provenance: Mapping[str, Mapping], parameters: Mapping) -> str:
    """Provenance of the data, parameters, and where to find durations."""
    tables = [part for title, values in provenance.items() for part in (f"### {title}", key_value_table(values))]
    return "\n\n".join(
        (
            "## Data provenance",
            *tables,
            "## Parameters",
            key_value_table(parameters),
            "## Durations",
            "Durations and memory use vary from run to run and are not part of the results. `python -m tools.durations`"
            " prints them from MLflow.",
        )
    )
