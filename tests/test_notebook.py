"""The analysis notebook runs from top to bottom, and is committed without outputs."""

from __future__ import annotations

import shutil
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from tests import report_inputs

REPOSITORY = Path(__file__).parent.parent
NOTEBOOK = REPOSITORY / "notebooks/analysis.ipynb"


def test_it_is_committed_without_outputs():
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None


def test_it_runs_in_its_folder_on_synthetic_results_without_a_store(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'none.db'}")
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    report_inputs.fabricate(tmp_path)
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copyfile(REPOSITORY / name, tmp_path / name)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n    no_scm = true\n")
    (tmp_path / "notebooks").mkdir()
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    where = {"metadata": {"path": tmp_path / "notebooks"}}
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources=where).execute()
    shown = str(nbformat.writes(notebook))
    assert "MobileNetV2, **grouped**" in shown
    assert "no run with these parameters" in shown
    assert list((tmp_path / "notebooks").iterdir()) == []
