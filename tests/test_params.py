"""params.yaml is validated, and an invalid value is reported in one line that names the key."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import yaml

from face_mask import settings
from face_mask.errors import UserError
from pipeline.core import params

VALUES = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))


def changed(dotted: str, value: object) -> dict:
    values = copy.deepcopy(VALUES)
    *sections, key = dotted.split(".")
    section = values
    for name in sections:
        section = section[name]
    section[key] = value
    return values


def test_the_committed_parameters_are_valid_and_have_the_specified_values():
    p = params.load()
    assert (p.data.source, p.data.kaggle) == ("kaggle", "omkargurav/face-mask-dataset")
    assert (p.image_size, p.split.train, p.split.val) == (128, 0.8, 0.1)
    assert p.split.group_duplicates


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("seed", "x", "seed = 'x': input should be a valid integer"),
        ("cnn.epochs", 0, "cnn.epochs = 0: input should be greater than or equal to 1"),
        ("cnn.epochs", 1.5, "cnn.epochs = 1.5"),
        ("model.dropout", 1.0, "model.dropout = 1.0: input should be less than 1"),
        ("model.dropout", "much", "model.dropout = 'much'"),
        ("model.dropout", float("nan"), "model.dropout = nan"),
        ("data.source", "web", "data.source = 'web': input should be 'kaggle', 'archive', 'folder' or 'synthetic'"),
        ("data.source", "archive", "data.source=archive needs data.path"),
        ("data.shard_images", -1, "data.shard_images = -1: input should be greater than or equal to 0"),
        ("data.shard_images", "many", "data.shard_images = 'many': input should be a valid integer"),
        ("split.exact_up_to", -5, "split.exact_up_to = -5: input should be greater than or equal to 0"),
        ("data.kaggle", "../etc", "data.kaggle = '../etc'"),
        ("unseen.source", "csv", "unseen.source=csv needs unseen.path"),
        ("unseen.margin", -0.1, "unseen.margin = -0.1"),
        ("unseen.min_face", 0, "unseen.min_face = 0"),
        ("unseen.url_megabytes", 65, "unseen.url_megabytes = 65"),
        ("split.train", 0.95, "split.train + split.val = 1.05 leaves no images for testing"),
        ("split.per_class", 3, "split.per_class = 3"),
        ("split.group_duplicates", "yes", "split.group_duplicates = 'yes'"),
        ("split", 3, "split = 3"),
        ("split.exclude", "", "split.exclude = ''"),
        ("split.exclude", None, "split.exclude = None"),
        ("audit.folds", 1, "audit.folds = 1: input should be greater than or equal to 2"),
        ("audit.inverse_regularization", 0, "audit.inverse_regularization = 0: input should be greater than 0"),
        ("report.overfit_gap", -0.1, "report.overfit_gap = -0.1"),
        ("evaluate.resamples", 0, "evaluate.resamples = 0"),
        ("xai.baseline", "grey", "xai.baseline = 'grey': input should be 'black_white', 'black', 'white'"),
        ("xai.max_steps", 4, "xai.max_steps = 4: input should be greater than or equal to 8"),
        ("cnn.epoch", 3, "unknown parameter `cnn.epoch`; did you mean `cnn.epochs`?"),
        ("learning_rate", 3, "unknown parameter `learning_rate`; did you mean `cnn.learning_rate`?"),
        ("mobilnet", 3, "unknown parameter `mobilnet`; did you mean `mobilenet`?"),
        (
            "live.unsure_low",
            0.3,
            "live.unsure_low was removed: delete it; the model's calibration says which faces are"
            " unsure, at the level conformal.error",
        ),
        ("conformal.error", 0.5, "conformal.error = 0.5: input should be less than 0.5"),
        ("live.smothing", 3, "unknown parameter `live.smothing`; did you mean `live.smoothing`?"),
        ("cnn.depth", 3, "unknown parameter `cnn.depth`; see the keys"),
        ("extra", 3, "unknown parameter `extra`; see the keys"),
    ],
)
def test_an_invalid_value_is_one_line_that_names_the_key(key, value, message):
    with pytest.raises(UserError) as caught:
        settings.check(changed(key, value), params.Params, "params.yaml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_parameters_that_were_read_once_are_not_read_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(yaml.safe_dump(VALUES))
    with params.read_once() as values:
        Path("params.yaml").write_text(yaml.safe_dump(changed("cnn.epochs", 3)))
        assert params.load().cnn.epochs == values["cnn"]["epochs"] == VALUES["cnn"]["epochs"]
        Path("params.yaml").unlink()
        assert params.load("params.yaml").seed == VALUES["seed"]
    with pytest.raises(UserError, match="is missing"):
        params.load()
    with params.read_once() as values:  # a stage without parameters needs no file
        assert values == {}


def test_a_missing_key_is_named():
    values = copy.deepcopy(VALUES)
    del values["cnn"]["epochs"]
    with pytest.raises(UserError, match=r"cnn\.epochs is missing"):
        settings.check(values, params.Params, "params.yaml")


def test_a_number_that_yaml_reads_as_text_is_accepted():
    read = settings.check(changed("cnn.learning_rate", "1e-3"), params.Params, "params.yaml")
    assert read.cnn.learning_rate == 0.001


@pytest.mark.parametrize(
    ("content", "message"), [(None, "is missing"), ("a: [", "not valid YAML"), ("", "no keys"), ("- 1", "no keys")]
)
def test_an_unreadable_file_is_a_clear_error(tmp_path, content, message):
    path = tmp_path / "params.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=message):
        params.load(path)
