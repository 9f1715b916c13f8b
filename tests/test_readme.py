"""The README and the documents under docs/: what they name exists, and their numbers are those of the results."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import subprocess
from itertools import pairwise
from pathlib import Path

import networkx as nx
import pytest
import yaml

from face_mask.schema import TITLES
from pipeline.core import params
from pipeline.reporting import cells, comparison_table
from tools import readme

README = Path("README.md")
DOCUMENTS = [README, Path("CONTRIBUTING.md"), *sorted(Path("docs").rglob("*.md"))]
TEXTS = {path: path.read_text(encoding="utf-8") for path in DOCUMENTS}
STAGES = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"]
each_document = pytest.mark.parametrize("path", DOCUMENTS, ids=str)


def commands(text: str) -> list[str]:
    """Everything that is set as code: indented or fenced lines, without comments, and inline code."""
    indented = re.findall(r"^(?: {4}|\t)(.+?)(?:  +#.*)?$", text, re.MULTILINE)
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [*indented, *fenced, *re.findall(r"`([^`\n]+)`", text)]


def anchors(text: str) -> set[str]:
    """The fragments that GitHub gives the headings of a document."""
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def paths_of(stage: dict, *kinds: str) -> set[str]:
    """The paths that a stage of dvc.yaml lists under `kinds`."""
    entries = [entry for kind in kinds for entry in stage.get(kind, ())]
    return {next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries}


@pytest.mark.parametrize(("path", "name", "block"), readme.BLOCKS)
def test_the_tables_hold_the_values_of_the_committed_metrics(path, name, block):
    text = path.read_text(encoding="utf-8")
    assert readme.written(text, name, block()) == text
    assert readme.written(text, name, "other") != text
    with pytest.raises(ValueError, match="missing"):
        readme.written(text.replace(readme.markers(name)[1], ""), name, block())


def test_the_model_card_begins_with_metadata_for_the_hugging_face_hub():
    """The fields that its specification requires, and the metrics of both models on both data sets."""
    card = Path("docs/model_card.md").read_text(encoding="utf-8")
    before, block, _ = re.split(r"^---\n", card, maxsplit=2, flags=re.MULTILINE)
    found = yaml.safe_load(block)
    assert before == "" and found == yaml.safe_load(readme.metadata())
    assert found["license"] == "mit" and found["pipeline_tag"] == "image-classification"
    assert {"library_name", "tags", "datasets", "metrics"} <= set(found)
    assert [entry["name"] for entry in found["model-index"]] == list(TITLES.values())
    for model, entry in zip(TITLES, found["model-index"], strict=True):
        test = json.loads(Path(f"metrics/{model}.json").read_text(encoding="utf-8"))["test"]
        unseen = json.loads(Path(f"metrics/unseen_{model}.json").read_text(encoding="utf-8"))
        assert [result["dataset"]["split"] for result in entry["results"]] == ["test", "unseen"]
        for result, metrics in zip(entry["results"], (test, unseen), strict=True):
            assert result["task"]["type"] == found["pipeline_tag"] and result["dataset"]["name"]
            assert re.fullmatch(r"[\w.-]+/[\w.-]+", result["dataset"]["type"])
            values = {metric["name"].partition(": ")[2]: metric["value"] for metric in result["metrics"]}
            assert values["accuracy"] == metrics["accuracy"] and values["ROC AUC"] == metrics["roc_auc"]
            assert {metric["type"] for metric in result["metrics"]} == set(found["metrics"])


def test_every_row_of_both_tables_is_one_of_the_report():
    p = params.load()
    found = comparison_table.collect(p)
    whole = cells.markdown(comparison_table.table(found, confidence=p.evaluate.confidence)).splitlines()
    headline = readme.headline().splitlines()
    rows = [line for line in readme.results().splitlines() if line.startswith("|")]
    assert rows == whole
    assert 5 < len(headline) - 2 <= 8 and set(headline) <= set(whole)
    report = Path("report/report.md")
    if report.is_file():  # from the first full run on
        assert set(rows) <= set(report.read_text(encoding="utf-8").splitlines())


def test_the_readme_is_short_and_shows_how_to_start():
    text = TEXTS[README]
    assert len(text.split()) <= 1200
    assert {"make install", "make demo", "make test", "make repro"} <= {line.strip() for line in text.splitlines()}
    missing = [path for path in DOCUMENTS[1:] if path.parent == Path("docs") and f"]({path.as_posix()}" not in text]
    assert not missing, "documents that the README does not link to"


def test_its_diagram_is_the_graph_of_dvc_yaml():
    written = set()
    (diagram,) = re.findall(r"```mermaid\nflowchart LR\n(.*?)```", TEXTS[README], re.DOTALL)
    for line in diagram.splitlines():
        steps = [part.split(" & ") for part in line.strip().split(" --> ")]
        written |= {(a, b) for left, right in pairwise(steps) for a in left for b in right}
    outputs = {path: name for name, stage in STAGES.items() for path in paths_of(stage, "outs", "metrics", "plots")}
    graph = nx.DiGraph()
    graph.add_nodes_from(STAGES)
    for name, stage in STAGES.items():
        for dep in paths_of(stage, "deps"):
            graph.add_edges_from(
                (made_by, name) for path, made_by in outputs.items() if f"{path}/".startswith(f"{dep}/")
            )
    assert written == set(nx.transitive_reduction(graph).edges)


def test_the_table_of_stages_is_that_of_dvc_yaml():
    rows = re.findall(r"^\| `(\w+)` \| .+ \| (.+) \|$", TEXTS[Path("docs/pipeline.md")], re.MULTILINE)
    assert sorted(name for name, _ in rows) == sorted(STAGES)
    for name, written in rows:
        outs = paths_of(STAGES[name], "outs", "metrics", "plots")
        named = set(re.findall(r"`([^`]+)`", written))
        assert named <= outs and (named == outs or "…" in written), name


def test_every_make_target_exists_and_is_listed_by_help():
    targets = set(re.findall(r"^([a-z-]+):", Path("Makefile").read_text(), re.MULTILINE))
    named = {
        target
        for text in TEXTS.values()
        for code in commands(text)
        for targets_of_one in re.findall(r"\bmake((?: [a-z-]+)+)", code)
        for target in targets_of_one.split()
    }
    assert {"install", "demo", "test", "repro"} <= named <= targets
    helped = subprocess.run(["make", "--no-print-directory", "help"], capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"^make ([a-z-]+)", helped, re.MULTILINE)) == targets


@each_document
def test_every_relative_link_resolves(path):
    targets = re.findall(r"\]\((?!https?:)([^)\s]+)\)|\bsrc=\"(?!https?:)([^\"]+)\"", TEXTS[path])
    for target in (markdown or html for markdown, html in targets):
        file, _, fragment = target.partition("#")
        there = (path.parent / file if file else path).resolve()
        assert there.exists(), target
        if fragment:
            assert fragment in anchors(there.read_text(encoding="utf-8")), target


@each_document
def test_every_module_exists_and_takes_the_options_named(path):
    for code in commands(TEXTS[path]):
        for module, rest in re.findall(r"python -m ([\w.]+)((?: [^|;&\n]+)?)", code):
            spec = importlib.util.find_spec(module)
            assert spec is not None, module
            if spec.submodule_search_locations:  # a package is run by its __main__
                spec = importlib.util.find_spec(f"{module}.__main__")
                assert spec is not None, module
            options = {word.partition("=")[0] for word in rest.split() if word.startswith("--")}
            if module.partition(".")[0] in ("face_mask", "pipeline", "tools", "bench"):
                source = Path(str(spec.origin)).read_text(encoding="utf-8")
                assert all(f'"{option}"' in source for option in options), code


@each_document
def test_every_parameter_exists(path):
    values = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    text = TEXTS[path]
    named = set(re.findall(r"-S ([a-z_.]+)=", text))
    sections = "|".join(key for key, value in values.items() if isinstance(value, dict))
    named |= set(re.findall(rf"`((?:{sections})\.[a-z_]+)`", text)) - {"data.yaml"}  # YOLO's
    for dotted in named:
        section = values
        for name in dotted.split("."):
            assert name in section, dotted
            section = section[name]


@each_document
def test_every_stage_that_dvc_shall_run_exists(path):
    for code in commands(TEXTS[path]):
        for line in code.splitlines():
            if match := re.search(r"\bdvc (?:repro|exp run)\b([^|;&]*)", line):
                words = shlex.split(match[1].replace("…", ""), comments=True)
                values = {i + 1 for i, word in enumerate(words) if word == "-S"}
                named = {word for i, word in enumerate(words) if i not in values and not word.startswith("-")}
                assert named <= set(STAGES), line
