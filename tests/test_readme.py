"""What the README says is so."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from pipeline import params
from pipeline.reporting import cells, comparison
from tools import readme

TEXT = Path("README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("path", "name", "block"), readme.BLOCKS)
def test_the_tables_hold_the_figures_of_the_committed_metrics(path, name, block):
    text = path.read_text(encoding="utf-8")
    assert readme.written(text, name, block()) == text
    assert readme.written(text, name, "other") != text
    with pytest.raises(ValueError, match="missing"):
        readme.written(text.replace(f"<!-- /{name} -->", ""), name, block())


def test_every_line_of_the_readmes_table_is_one_of_the_reports():
    p = params.load()
    whole = cells.markdown(comparison.table(comparison.collect(p), confidence=p.evaluate.confidence)).splitlines()
    lines = [line for line in readme.results().splitlines() if line.startswith("|")]
    assert len(lines) > 10 and set(lines) <= set(whole)
    report = Path("report/report.md")
    if report.is_file():  # from the first full run on
        assert set(lines) <= set(report.read_text(encoding="utf-8").splitlines())


def test_every_make_target_it_names_exists_and_every_target_is_named_in_help():
    targets = set(re.findall(r"^([a-z-]+):", Path("Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)", TEXT)) <= targets
    helped = subprocess.run(["make", "--no-print-directory", "help"], capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"^make ([a-z-]+)", helped, re.MULTILINE)) == targets


def test_every_file_it_links_to_exists():
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", TEXT)
    assert links and not [link for link in links if not Path(link).exists()]


def test_every_parameter_it_sets_exists():
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    for dotted in re.findall(r"-S ([a-z_.]+)=", TEXT):
        section = params
        for name in dotted.split("."):
            assert name in section, dotted
            section = section[name]
