"""Synthetic images: reproducible, distinct, and without trivial cues to the class."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.fft import dctn
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from face_mask import cores
from face_mask.errors import UserError
from face_mask.schema import LABELS
from pipeline.synthetic import faces
from pipeline.synthetic.faces import HARD_NEGATIVES, draw_image, variant, write_archive

PER_CLASS = 160


@pytest.fixture(scope="module")
def drawn() -> list[Image.Image]:
    """PER_CLASS images of each class, the classes in turn; half the usual size, for time."""
    return [draw_image(11, label, index, size=112) for index in range(PER_CLASS) for label in LABELS]


def small(images: Sequence[Image.Image], side: int) -> np.ndarray:
    """(n, side * side * 3) float64."""
    return np.stack([np.asarray(p.resize((side, side), Image.Resampling.BOX), float).ravel() for p in images])


def test_same_arguments_give_the_same_image() -> None:
    first = draw_image(3, "with_mask", 7).tobytes()
    draw_image(3, "without_mask", 7)
    draw_image(3, "with_mask", 8)
    assert draw_image(3, "with_mask", 7).tobytes() == first


def test_seed_label_and_index_each_change_the_image() -> None:
    arguments_list = [(3, "with_mask", 7), (4, "with_mask", 7), (3, "without_mask", 7), (3, "with_mask", 8)]
    assert len({draw_image(*arguments).tobytes() for arguments in arguments_list}) == 4


@pytest.mark.parametrize("size", [16, 65, 96, 224])
def test_size_and_mode(size: int) -> None:
    for label in LABELS:
        image = draw_image(0, label, 1, size)
        assert (image.mode, image.size) == ("RGB", (size, size))


def test_every_variant_can_be_drawn_at_any_size() -> None:
    wanted = {*faces.MASKS, *HARD_NEGATIVES, "uncovered"}
    for index in range(200):
        for label in LABELS:
            kind = variant(5, label, index)
            if kind in wanted:
                wanted.remove(kind)
                for size in (16, 31, 64):
                    draw_image(5, label, index, size)
    assert not wanted


def test_all_images_are_distinct(drawn: list[Image.Image]) -> None:
    assert len({hashlib.sha256(image.tobytes()).digest() for image in drawn}) == len(drawn)


def test_images_are_neither_black_nor_white_nor_flat(drawn: list[Image.Image]) -> None:
    greys = small([image.convert("L").convert("RGB") for image in drawn], 32)
    assert greys.mean(axis=1).min() > 15
    assert greys.mean(axis=1).max() < 235
    assert greys.std(axis=1).min() > 8


def test_a_third_of_the_faces_without_a_mask_is_hard() -> None:
    kinds = Counter(variant(2, "without_mask", index) for index in range(1500))
    assert set(kinds) == {"uncovered", *HARD_NEGATIVES}
    assert 0.28 < 1 - kinds["uncovered"] / 1500 < 0.39
    assert min(kinds.values()) > 50
    assert {variant(2, "with_mask", index) for index in range(200)} == set(faces.MASKS)


def test_no_class_can_be_predicted_from_colours_or_coarse_pixels(drawn: list[Image.Image]) -> None:
    classes = np.arange(len(drawn)) % 2

    def held_out_accuracy(features: np.ndarray, penalty: float) -> float:
        half = len(features) // 2
        model = make_pipeline(StandardScaler(), LogisticRegression(C=1 / penalty, max_iter=500))
        return float(model.fit(features[:half], classes[:half]).score(features[half:], classes[half:]))

    assert held_out_accuracy(small(drawn, 1), 1) < 0.75
    assert max(held_out_accuracy(small(drawn, 16), penalty) for penalty in (10, 1000)) < 0.95


def perceptual_hashes(images: Sequence[Image.Image]) -> np.ndarray:
    """(n, 64) bool: the low frequencies of the 32×32 grey image against their median."""
    greys = [np.asarray(p.convert("L").resize((32, 32), Image.Resampling.LANCZOS), float) for p in images]
    low = dctn(np.stack(greys), axes=(1, 2))[:, :8, :8].reshape(len(greys), 64)
    return low > np.median(low, axis=1, keepdims=True)


def test_few_images_look_like_duplicates(drawn: list[Image.Image]) -> None:
    bits = perceptual_hashes(drawn).astype(np.int64)
    distances = bits @ (1 - bits).T + (1 - bits) @ bits.T
    np.fill_diagonal(distances, 64)
    assert (distances.min(axis=1) <= 6).mean() < 0.1


def test_archive_has_the_layout_of_the_published_data_set(tmp_path: Path) -> None:
    path = tmp_path / "new" / "faces.zip"
    write_archive(path, 5, seed=1)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        members = archive.infolist()
        assert [m.filename for m in members] == [
            f"data/{label}/{label}_{number}.jpg" for label in ("with_mask", "without_mask") for number in range(1, 6)
        ]
        assert {m.compress_type for m in members} == {zipfile.ZIP_STORED}
        assert {m.date_time for m in members} == {(1980, 1, 1, 0, 0, 0)}
        assert {m.external_attr >> 16 for m in members} == {0o644}
        images = [Image.open(io.BytesIO(archive.read(m))) for m in members]
    assert {(p.format, p.mode, p.size) for p in images} == {("JPEG", "RGB", (224, 224))}
    assert len({str(p.quantization) for p in images}) > 3  # type: ignore[attr-defined]
    assert [p.name for p in path.parent.iterdir()] == ["faces.zip"]


def test_archive_is_the_same_in_process_and_from_a_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_archive(tmp_path / "one.zip", 6, seed=9)
    monkeypatch.setattr(faces, "CHUNK", 1)  # twelve chunks: more than are in progress at a time
    monkeypatch.setattr(cores, "available", lambda: 2)
    write_archive(tmp_path / "two.zip", 6, seed=9)
    monkeypatch.undo()
    write_archive(tmp_path / "other.zip", 6, seed=10)
    one, two, other = ((tmp_path / f"{name}.zip").read_bytes() for name in ("one", "two", "other"))
    assert one == two
    assert one != other


def test_a_script_from_standard_input_draws_without_a_pool(tmp_path: Path) -> None:
    archive = str(tmp_path / "a.zip")
    code = f"from pipeline.synthetic import faces as s; s.CHUNK = 1; s.write_archive({archive!r}, 1, 3)"
    subprocess.run([sys.executable, "-"], input=code, text=True, check=True, cwd=Path(faces.__file__).parents[2])
    write_archive(tmp_path / "b.zip", 1, seed=3)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_a_larger_archive_holds_the_smaller_one(tmp_path: Path) -> None:
    write_archive(tmp_path / "2.zip", 2, seed=4)
    write_archive(tmp_path / "3.zip", 3, seed=4)
    with zipfile.ZipFile(tmp_path / "2.zip") as two, zipfile.ZipFile(tmp_path / "3.zip") as three:
        assert all(three.read(name) == two.read(name) for name in two.namelist())


def test_no_archive_is_left_behind_when_drawing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bytes:
        raise RuntimeError("no ink")

    path = tmp_path / "faces.zip"
    path.write_bytes(b"before")
    monkeypatch.setattr(faces, "encode", fail)
    with pytest.raises(RuntimeError, match="no ink"):
        write_archive(path, 2, seed=0)
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"before"]


def test_bad_arguments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown label 'masked'"):
        draw_image(0, "masked", 0)
    with pytest.raises(ValueError, match="unknown label"):
        variant(0, "masked", 0)
    with pytest.raises(ValueError, match="must not be negative"):
        draw_image(-1, "with_mask", 0)
    with pytest.raises(ValueError, match="size must be at least 16"):
        draw_image(0, "with_mask", 0, size=8)
    with pytest.raises(UserError, match="per_class must be at least 1, got 0"):
        write_archive(tmp_path / "faces.zip", 0, seed=0)
    with pytest.raises(UserError, match="seed must not be negative"):
        write_archive(tmp_path / "faces.zip", 1, seed=-2)
    assert not list(tmp_path.iterdir())
