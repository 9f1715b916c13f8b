"""dvc.yaml lists everything that a stage depends on, and the lock check fails when it should."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest
import yaml

from pipeline.core.values import flatten
from pipeline.registry import packaging
from pipeline.tracking import StageRun
from tools import check_lock, graph, rerun_cost

STAGES = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_declares_every_module_that_can_change_its_outputs_and_no_other(stage):
    deps = STAGES[stage]["deps"]
    assert deps == graph.wanted_deps(stage, deps)


def test_imports_are_found_at_any_level(tmp_path, monkeypatch):
    package = tmp_path / "pipeline"
    (package / "scoring").mkdir(parents=True)
    (package / "tracking").mkdir()
    (package / "__init__.py").write_text("from pipeline import first\n")
    (package / "first.py").write_text("")
    (package / "stage.py").write_text(
        "import os\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pipeline import unused\n"
        "def main():\n    from pipeline.scoring import deep\n    from pipeline import tracking\n"
    )
    (package / "scoring" / "__init__.py").write_text("")
    (package / "scoring" / "deep.py").write_text("import pipeline.other\nimport numpy\n")
    (package / "tracking" / "__init__.py").write_text("from pipeline.tracking import runs\n")
    (package / "tracking" / "runs.py").write_text("from pipeline import unused\n")
    (package / "other.py").write_text("if True:\n    import pipeline.stage\n")
    (package / "unused.py").write_text("")
    monkeypatch.chdir(tmp_path)
    assert graph.modules_of("stage") == {f"pipeline/{name}.py" for name in ("first", "stage", "scoring/deep", "other")}


def test_a_folder_is_declared_where_a_stage_uses_most_of_it():
    assert "pipeline/training" in STAGES["train_cnn"]["deps"] and "pipeline/synthetic" in STAGES["download"]["deps"]
    assert "pipeline/explain/focus.py" in STAGES["report"]["deps"]
    ignored = Path(".dvcignore").read_text(encoding="utf-8").split()
    assert "__pycache__" in ignored  # or importing a module would change the folder


def test_every_exempt_module_exists_and_stages_use_only_their_run_of_tracking():
    """A run's methods return None, so that nothing of MLflow can reach an output."""
    for path in graph.EXEMPT:
        assert Path(path).exists() or path == "__init__.py"
    for stage in set(STAGES) - {"register"}:  # which writes to MLflow alone
        for module in graph.modules_of(stage):
            tree = ast.parse(Path(module).read_text(encoding="utf-8"))
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pipeline.tracking"):
                    assert module == "face_mask/replay.py", module  # its command line, with --log-to-mlflow
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "tracking":
                    assert node.attr == "stage", (module, node.attr)
    methods = [getattr(StageRun, name) for name in ("log", "log_model", "log_training", "report")]
    assert all(inspect.signature(method).return_annotation == "None" for method in methods)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_reads_nothing_before_its_snapshot(stage):
    """See pipeline/tracking/snapshot.py: what changes after it stops the stage."""
    tree = ast.parse((Path("pipeline") / f"{stage}.py").read_text(encoding="utf-8"))
    (main,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "main"]
    first = next(i for i, node in enumerate(main.body) if isinstance(node, ast.With))
    assert ast.unparse(main.body[first]).startswith(f"with tracking.stage({stage!r}) as run:")
    assert all("arse" in ast.unparse(node) for node in main.body[:first])  # its arguments
    assert first == len(main.body) - 1


def test_the_graph_stays_readable():
    assert len(Path("dvc.yaml").read_text(encoding="utf-8").splitlines()) <= 355
    assert len(graph.modules_of("train_cnn")) <= 10
    for stage in STAGES:
        assert len((Path("pipeline") / f"{stage}.py").read_text(encoding="utf-8").splitlines()) <= 120, stage


def test_every_plot_is_declared_once():
    plots = [path for stage in STAGES for path in outputs_of(stage, "plots")]
    assert len(plots) == len(set(plots)) and "plots" not in yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))


def test_every_parameter_is_declared_by_a_stage_and_every_declared_one_exists():
    declared = {name for stage in STAGES.values() for name in stage.get("params", ())}
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
    assert [stage for stage in STAGES if "model.dropout" in STAGES[stage].get("params", ())] == [
        "train_cnn",
        "train_mobilenet",
    ]


def test_another_threshold_predicts_nothing_again():
    """The stage `evaluate` has the predictions as its input, and no model or image."""
    assert not STAGES["predict"].get("params")
    data = {dep for dep in STAGES["evaluate"]["deps"] if not graph.is_code(dep)}
    assert data == {"data/predictions.csv", "models/history_cnn.csv", "models/history_mobilenet.csv"}
    assert not [module for module in graph.modules_of("evaluate") if module.startswith("pipeline/models/")]


def test_no_training_stage_depends_on_anything_but_the_split_and_the_pretrained_weights():
    split = {"data/split/images.npy", "data/split/features.npy", "data/split/manifest.csv"}
    made_of_it = {"data/counterfactuals/images.npy", "data/counterfactuals/manifest.csv", "data/audit/label_issues.csv"}
    for stage in ("train_cnn", "train_mobilenet", "counterfactuals", "audit"):
        data = {dep for dep in STAGES[stage]["deps"] if not graph.is_code(dep)}
        assert data <= split | ({"models/mobilenet_backbone.weights.h5"} | made_of_it if "train" in stage else set())


def test_no_drawing_that_measures_the_models_can_reach_a_training():
    """The trainings read what `counterfactuals` draws, and that has no module of pipeline/hard_cases."""
    for stage in ("counterfactuals", "train_cnn", "train_mobilenet"):
        assert not [module for module in graph.modules_of(stage) if module.startswith("pipeline/hard_cases/")]


def test_nothing_of_the_unseen_images_can_reach_a_training():
    """Neither as data or parameters, through any chain of stages, nor through code that reads them undeclared."""
    training = ["decode", "split", "pretrained", "features", "train_cnn", "train_mobilenet"]
    for stage in training:
        files, parameters = reached_from(stage)
        assert not [path for path in files if "unseen" in path]
        assert not [name for name in parameters if name.partition(".")[0] == "unseen"]
        for module in graph.modules_of(stage):
            assert "unseen" not in Path(module).read_text(encoding="utf-8"), (stage, module)
    assert "data/raw/unseen.zip" in reached_from("unseen_eval")[0]  # the search does find it where it is used


def outputs_of(stage: str, *kinds: str) -> set[str]:
    """The files that a stage writes."""
    entries = [entry for kind in kinds for entry in STAGES[stage].get(kind, ())]
    return {next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries}


def reached_from(stage: str) -> tuple[set[str], set[str]]:
    """The files and the parameters that a stage depends on, directly or through the stages that write those files."""
    files, parameters = set(STAGES[stage]["deps"]), set(STAGES[stage].get("params", ()))
    for other in STAGES:
        if other != stage and outputs_of(other, "outs", "metrics", "plots") & set(STAGES[stage]["deps"]):
            more_files, more_parameters = reached_from(other)
            files, parameters = files | more_files, parameters | more_parameters
    return files, parameters


def test_the_lock_check_distinguishes_changes_from_absent_data():
    absent = {
        "split": [{"changed deps": {"data/raw/images.zip": "deleted"}}, {"changed outs": {"a.npy": "not in cache"}}]
    }
    # DVC uses the same headings for both, so only the entries distinguish them.
    assert check_lock.faults(absent) == []
    stale = {
        "train_cnn": [
            {"changed deps": {"pipeline/cnn.py": "modified", "params.yaml": {"model.dropout": "modified"}}},
            "changed command",
        ],
        "evaluate": [{"changed outs": {"metrics/cnn.json": "modified"}}],
        "report": [{"changed deps": {"params.yaml": {"xai": "new"}}}],
    }
    assert len(check_lock.faults(stale)) == 5


def test_a_changed_module_costs_the_stages_that_list_it_or_its_folder():
    stages = {
        "a": {"deps": ["pipeline/a.py", "pipeline/core"]},
        "b": {"deps": ["pipeline/core", "data/a.csv"]},
        "c": {},
    }
    seconds = {"a": 2.0, "b": 3.0, "c": 5.0}
    modules = ["pipeline/a.py", "pipeline/core/x.py", "pipeline/core_other.py"]
    assert list(rerun_cost.costs(stages, seconds, modules).values()) == [2.0, 5.0, None]


def test_files_that_register_ships_are_its_dependencies_though_it_does_not_import_them():
    shipped = {f"face_mask/{module}.py" for module in packaging.CODE} - {"face_mask/__init__.py"}
    assert shipped | {"pipeline/registry/pyfunc_model.py"} <= set(STAGES["register"]["deps"])
