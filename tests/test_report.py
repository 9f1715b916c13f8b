"""The report on synthetic results: every row, one self-contained page, the same bytes twice, rules as stated."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from face_mask.errors import UserError
from face_mask.schema import MODELS
from pipeline import report
from pipeline.core import params
from pipeline.reporting import cells, comparison_table, inputs, label_cost, original, page, verdicts
from pipeline.reporting.comparison_table import GROUPED, ORIGINAL, RANDOM
from pipeline.tracking import context
from tests import report_inputs
from tools import graph

PARAMS = Path("params.yaml").absolute()


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with all inputs and the report written from them."""
    folder = tmp_path_factory.mktemp("report")
    report_inputs.fabricate(folder)
    shutil.copyfile(PARAMS, folder / "params.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(context.StageRun, "finish", lambda run: None)
        patch.setattr(context, "check", lambda: None)
        report.main()
    return folder


@pytest.fixture
def there(made, tmp_path, monkeypatch) -> Path:
    """A copy of that folder to modify, as the working directory."""
    folder = tmp_path / "copy"
    shutil.copytree(made, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(context.StageRun, "finish", lambda run: None)
    monkeypatch.setattr(context, "check", lambda: None)
    return folder


class Page(HTMLParser):
    """All resources that a page could fetch, its text, and whether its tags are closed."""

    VOID = ("meta", "img", "br", "hr", "link", "input", "use", "path")

    def __init__(self, text: str):
        super().__init__()
        self.fetched: list[str] = []
        self.ids: list[str] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append(tag)
        self.ids += [found["id"]] if "id" in found else []
        self.fetched += [
            v for k, v in attrs if k in ("src", "href", "xlink:href", "srcset", "data", "poster") and tag != "a"
        ]
        self.fetched += re.findall(r"url\(([^)]*)\)", found.get("style") or "")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_both_files_hold_every_row_and_every_section(made):
    markdown = (made / "report/report.md").read_text()
    text = " ".join(Page((made / "report/report.html").read_text()).words).replace("\u00a0", " ")
    for row in comparison_table.ROWS:
        assert f"| {row.title} |" in markdown
        assert row.title.strip("*") in text
    for title in re.findall(r"^##+ (.*)$", markdown, re.MULTILINE):
        assert title in text
    assert "McNemar's exact test" in text and "0" * 64 in text and "cnn.weight_decay" in text
    assert "87.06 %" in text and "mean confidence" in text


def test_the_page_is_self_contained(made):
    text = (made / "report/report.html").read_text()
    found = Page(text)
    assert found.open == [] and "script" not in found.tags and "link" not in found.tags and "iframe" not in found.tags
    assert found.fetched and all(one.startswith(("data:image/", "#")) for one in found.fetched)
    assert "@import" not in text and not re.search(r"url\((?!#)", text)
    assert len(found.ids) == len(set(found.ids)), "two figures have an id in common"
    pointed = {one[1:] for one in found.fetched if one.startswith("#")} | set(re.findall(r"url\(#([^)]+)\)", text))
    assert pointed <= set(found.ids)
    assert found.tags.count("figure") == len(re.findall(r"^!\[", (made / "report/report.md").read_text(), re.MULTILINE))
    assert "prefers-color-scheme: dark" in text and "@media print" in text and "width=device-width" in text
    assert len(text) < 4e6


def test_every_image_of_the_markdown_exists(made):
    names = re.findall(r"^!\[[^\]]*\]\(([^)]+)\)$", (made / "report/report.md").read_text(), re.MULTILINE)
    assert len(names) >= 12
    assert [name for name in names if not (made / "report" / name).is_file()] == []


def test_written_again_it_is_the_same_bytes_and_stale_figures_are_removed(there):
    before = {path.name: path.read_bytes() for path in sorted(Path("report").rglob("*")) if path.is_file()}
    Path("report/figures/old.svg").write_text("")
    report.main()
    after = {path.name: path.read_bytes() for path in sorted(Path("report").rglob("*")) if path.is_file()}
    assert after == before


def test_it_contains_no_date_path_or_version(made):
    for path in (made / "report").rglob("*"):
        if path.suffix in (".md", ".html", ".svg"):
            text = path.read_text()
            assert str(made) not in text and "Matplotlib v" not in text and "<dc:date>" not in text


@pytest.mark.parametrize("path", sorted(inputs.WRITTEN_BY))
def test_a_missing_input_names_the_stage_to_run(there, path):
    shutil.rmtree(path) if Path(path).is_dir() else Path(path).unlink()
    with pytest.raises(UserError, match=re.escape(f"{path} is missing: run `dvc repro {inputs.WRITTEN_BY[path]}`")):
        report.main()


def test_the_stages_named_in_errors_are_those_of_the_graph_and_all_inputs_are_declared():
    stages = yaml.safe_load((PARAMS.parent / "dvc.yaml").read_text())["stages"]
    declared = {dep for dep in stages["report"]["deps"] if not graph.is_code(dep)}
    read = {"plots" if path.startswith("plots/") else path for path in inputs.WRITTEN_BY}
    assert declared == read | {inputs.RANDOM_SPLIT.as_posix()}
    for path, stage in inputs.WRITTEN_BY.items():
        if stage not in stages:
            continue
        entries = [one for kind in ("outs", "metrics", "plots") for one in stages[stage].get(kind, ())]
        assert path in {one if isinstance(one, str) else next(iter(one)) for one in entries}


@pytest.mark.parametrize(
    ("path", "stage", "content"),
    [
        ("metrics/cnn.json", "evaluate", "{"),
        ("metrics/cnn.json", "evaluate", "[]"),
        ("plots/roc.csv", "evaluate", "a,b\n1,2\n"),
        ("data/predictions.csv", "predict", ""),
    ],
)
def test_a_damaged_input_is_one_line_that_names_it(there, path, stage, content):
    Path(path).write_text(content)
    with pytest.raises(UserError, match=rf"{path} is damaged .*dvc repro --force --single-item {stage}`") as caught:
        report.main()
    assert "\n" not in str(caught.value)


# ---- the table ----


def test_the_format_of_cells():
    row = comparison_table.Row("", "test.accuracy")
    interval = {"test.accuracy": 0.5, "test.accuracy_low": 0.25, "test.accuracy_high": 0.755}
    assert comparison_table.cell(row, dict(interval), 0.95) == "50.0 % (25.0–75.5)"
    assert (
        comparison_table.cell(comparison_table.Row("", "a", of="n"), {"a": 0.5, "n": 10}, 0.95) == "50.0 % (23.7–76.3)"
    )
    assert comparison_table.cell(comparison_table.Row("", "a"), {"a": None}, 0.95) == "–"
    assert comparison_table.cell(comparison_table.Row("", "a", "count"), {"a": 1140}, 0.95) == "1,140"
    assert comparison_table.cell(
        comparison_table.Row("", "a", "number"), {"a": 0.99951, "a_low": 0.9981, "a_high": 1.0}, 0.95
    ) == ("0.9995 (0.9981–1.0000)")
    assert comparison_table.cell(comparison_table.Row("", "a", "small"), {"a": 1.904}, 0.95) == "1.90"
    assert [cells.percentage(value) for value in (1.0, 0.9996, 0.9994, 0.0)] == ["100.0", "99.96", "99.9", "0.0"]


def test_the_counts_behind_intervals_follow_from_errors_and_split(tmp_path):
    report_inputs.fabricate(tmp_path)
    found = json.loads((tmp_path / "metrics/cnn.json").read_text())
    false_positives, false_negatives = found["test"]["false_positives"], found["test"]["false_negatives"]
    counts = comparison_table.model_metrics(
        tmp_path / "metrics", "cnn", json.loads((tmp_path / "metrics/split.json").read_text())
    )
    assert counts["train.n"] == 100 and counts["test.n_with_mask"] == 30
    assert counts["test.predicted_with_mask"] == 30 - false_negatives + false_positives
    assert found["test"]["precision_with_mask"] == pytest.approx(
        (30 - false_negatives) / counts["test.predicted_with_mask"]
    )
    assert found["test"]["precision_without_mask"] == pytest.approx(
        (30 - false_positives) / counts["test.predicted_without_mask"]
    )


def test_random_split_results_of_another_data_set_are_not_shown(there):
    Path("metrics/data.json").write_text('{"source": "synthetic", "sha256": "1"}')
    found = comparison_table.columns()
    assert all(not found[model, RANDOM] for model in MODELS)
    line = next(line for line in comparison_table.table(found) if line[0] == "**test accuracy**")
    assert line[2] == line[5] == "–" and line[3] != "–"


def test_the_webcam_rows_are_those_of_the_replayed_clip(there):
    for model in MODELS:
        path = Path(f"metrics/live_{model}.json")
        path.write_text(json.dumps(json.loads(path.read_text()) | {"mean_confidence_with_mask": 0.97}))
    report.main()
    text = Path("report/report.md").read_text()
    assert "| webcam confidence, with mask | 93 % | – | 97.0 % | 99 % | – | 97.0 % |" in text
    assert "webcam clip of unseen faces" in text


def test_unseen_metrics_that_are_not_proportions_have_intervals(there):
    own = json.loads(Path("metrics/unseen_mobilenet.json").read_text())
    lines = {line[0]: line[-1] for line in comparison_table.table(comparison_table.columns())}
    for title, key in (
        ("unseen, balanced accuracy", "balanced_accuracy"),
        ("unseen, mean confidence with mask", "mean_confidence_with_mask"),
        ("unseen, mean confidence without mask", "mean_confidence_without_mask"),
    ):
        assert lines[title] == cells.interval(own, key) and "(" in lines[title]
    auc, low, high = (f"{own[f'roc_auc{end}']:.4f}" for end in ("", "_low", "_high"))
    assert lines["unseen, ROC AUC"] == f"{auc} ({low}–{high})"


def test_the_brief_table_is_a_part_of_the_whole_table(there):
    found = comparison_table.collect(params.load())
    whole, brief = (comparison_table.table(found, brief=brief) for brief in (False, True))
    assert 5 < len(brief) < len(whole) and all(line in whole for line in brief)
    assert whole[0][1:4] == [f"CNN, {ORIGINAL}", f"CNN, {RANDOM}", f"CNN, **{GROUPED}**"]


def test_the_originals_metrics_have_a_row_and_agree_with_its_own_counts():
    keys = {row.key for row in comparison_table.ROWS}
    assert all(set(published) <= keys for published in original.PUBLISHED.values())
    cnn = original.PUBLISHED["cnn"]
    correct = 1511 - int(cnn["test.false_positives"]) - int(cnn["test.false_negatives"])
    assert f"{100 * correct / 1511:.1f} %" == cnn["test.accuracy"]
    recalls = [float(cnn[f"test.recall_{label}"].removesuffix(" %")) for label in ("with_mask", "without_mask")]
    assert recalls == pytest.approx([100 * (745 - 27) / 745, 100 * (766 - 41) / 766], abs=0.06)


# ---- the rules ----


@pytest.mark.parametrize(
    ("train", "test", "high", "verdict"),
    [
        (0.99, 0.96, 0.98, "yes"),  # large and significant
        (0.99, 0.96, 0.995, "no"),  # large, but the interval reaches as far
        (0.998, 0.992, 0.996, "slight"),  # significant, but small
        (0.98, 0.98, 0.98, "no"),
        (0.97, 0.98, 0.99, "no"),
    ],
)
def test_overfitting_needs_a_gap_that_is_large_and_significant(train, test, high, verdict):
    own = {"train.accuracy": train, "test.accuracy": test, "test.accuracy_high": high}
    assert verdicts.overfitting(own, 0.02).startswith(f"{verdict} (")


def test_a_count_out_of_a_total_is_one_cell():
    row = comparison_table.Row("", "a", "count", of="n")
    assert comparison_table.cell(row, {"a": 43, "n": 55}, 0.95) == "43 of 55"


# ---- what suspected labels cost ----


def test_the_cost_of_suspected_labels_is_computed_on_test_images_only():
    predictions = pd.DataFrame(
        {"path": list("abcdef"), "label": ["with_mask"] * 3 + ["without_mask"] * 3,
         "split": ["train"] + ["test"] * 5, "cnn": [0.1, 0.9, 0.1, 0.2, 0.9, 0.1]}
    )  # fmt: skip
    found = label_cost.cost(predictions, ["a", "c", "f"], ["cnn"], 0.5, 0.95)["cnn"]
    assert (found["n"], found["accuracy"], found["suspected"], found["suspected_incorrect"]) == (5, 0.6, 2, 1)
    assert (found["clean_n"], found["clean_accuracy"]) == (3, pytest.approx(2 / 3))
    assert found["accuracy_low"] < 0.6 < found["accuracy_high"]


# ---- the page ----


def test_html_in_the_text_stays_text(tmp_path):
    html = page.render(
        "# A <script>\n\n<img src=http://x>\n\n| a | b |\n|---|---:|\n| 1 % (0.5–2.0) | `<b>` |\n", tmp_path
    )
    found = Page(html)
    assert "script" not in found.tags and "img" not in found.tags and "b" not in found.tags
    assert '<span class="whole">(0.5–2.0)</span>' in html and "style=" not in html.split("</style>")[1]


def test_a_wide_image_is_downscaled(tmp_path):
    from PIL import Image

    Image.fromarray(np.zeros((10, 3000, 4), np.uint8)).save(tmp_path / "wide.png")
    html = page.render("# A\n\n![what](wide.png)\n", tmp_path)
    assert html.count("data:image/jpeg;base64,") == 1 and "<figcaption>what</figcaption>" in html
