"""dvc.yaml says all that a stage depends on, and the lock check fails when it should."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pipeline.tracking import flatten
from tools import check_lock, modules

STAGES = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_declares_every_module_it_imports_and_no_other(stage):
    deps = STAGES[stage]["deps"]
    assert deps == modules.wanted_deps(stage, deps)


def test_imports_are_found_wherever_they_stand(tmp_path, monkeypatch):
    package = tmp_path / "pipeline"
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").write_text("from pipeline import first\n")
    (package / "first.py").write_text("")
    (package / "stage.py").write_text("import os\ndef main():\n    from pipeline.data import deep\n")
    (package / "data" / "__init__.py").write_text("")
    (package / "data" / "deep.py").write_text("import pipeline.other\nimport numpy\n")
    (package / "other.py").write_text("if True:\n    import pipeline.stage\n")
    (package / "unused.py").write_text("")
    monkeypatch.chdir(tmp_path)
    found = {path.removeprefix("pipeline/") for path in modules.imported_files(Path("pipeline/stage.py"))}
    assert found == {"__init__.py", "first.py", "stage.py", "data/__init__.py", "data/deep.py", "other.py"}


def test_every_parameter_is_declared_by_a_stage_and_every_declared_one_exists():
    declared = {name for stage in STAGES.values() for name in stage["params"]}
    sections = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    leaves = set(flatten(sections))
    covered = {leaf for leaf in leaves if leaf in declared or leaf.partition(".")[0] in declared}
    assert leaves - covered == set()
    assert declared <= leaves | set(sections)


def test_training_mobilenet_depends_on_its_whole_section_but_the_source_of_the_weights():
    section = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))["mobilenet"]
    listed = {name for name in STAGES["train_mobilenet"]["params"] if name.startswith("mobilenet.")}
    assert listed == {f"mobilenet.{leaf}" for leaf in section} - {"mobilenet.pretrained"}


def test_only_the_two_trainings_and_what_follows_depend_on_dropout():
    assert [stage for stage in STAGES if "model.dropout" in STAGES[stage]["params"]] == ["train_cnn", "train_mobilenet"]


def test_no_training_stage_depends_on_anything_but_the_split_and_the_pretrained_weights():
    for stage in ("train_cnn", "train_mobilenet"):
        data = {dep for dep in STAGES[stage]["deps"] if not dep.endswith(".py")}
        split = {"data/split/images.npy", "data/split/features.npy", "data/split/manifest.csv"}
        assert data <= split | {"models/mobilenet_backbone.weights.h5"}


def test_nothing_of_the_unseen_pictures_can_reach_a_training():
    """Not as data or parameter, by any chain of stages, nor by code that reads them unasked."""
    training = ["split", "pretrained", "features", "train_cnn", "train_mobilenet"]
    for stage in training:
        files, parameters = reached_from(stage)
        assert not [path for path in files if "unseen" in path]
        assert not [name for name in parameters if name.partition(".")[0] == "unseen"]
        for module in STAGES[stage]["deps"]:
            # params.py checks every section on load, tracking/ brings figures to MLflow; neither hands them on.
            if module.endswith(".py") and not module.startswith(("pipeline/params.py", "pipeline/tracking/")):
                assert "unseen" not in Path(module).read_text(encoding="utf-8"), (stage, module)
    assert "data/raw/unseen.zip" in reached_from("unseen_eval")[0]  # the walk finds what is there


def outputs(stage: str) -> set[str]:
    """Every file that a stage writes."""
    entries = [entry for kind in ("outs", "metrics", "plots") for entry in STAGES[stage].get(kind, ())]
    return {next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries}


def reached_from(stage: str) -> tuple[set[str], set[str]]:
    """The files and the parameters that a stage depends on, directly or through the stages that write those files."""
    files, parameters = set(STAGES[stage]["deps"]), set(STAGES[stage]["params"])
    for other in STAGES:
        if other != stage and outputs(other) & set(STAGES[stage]["deps"]):
            more_files, more_parameters = reached_from(other)
            files, parameters = files | more_files, parameters | more_parameters
    return files, parameters


def test_the_lock_check_tells_changes_from_data_that_is_not_here():
    here_not = {
        "split": [{"changed deps": {"data/raw/pictures.zip": "deleted"}}, {"changed outs": {"a.npy": "not in cache"}}]
    }
    # DVC wraps every such change in one of these headings, of which only the content tells what is the matter.
    assert check_lock.faults(here_not) == []
    stale = {
        "train_cnn": [
            {"changed deps": {"pipeline/cnn.py": "modified", "params.yaml": {"model.dropout": "modified"}}},
            "changed command",
        ],
        "evaluate": [{"changed outs": {"metrics/cnn.json": "modified"}}],
        "report": [{"changed deps": {"params.yaml": {"xai": "new"}}}],
    }
    assert len(check_lock.faults(stale)) == 5
