"""Evaluate a face-mask classifier of any origin beside this project's two models, on the same images.

    face-mask evaluate model.onnx
    face-mask evaluate model.keras --training-data their_images.zip --json result.json
    face-mask evaluate model.tflite my_images

MODEL is a .tflite, .onnx, .keras or Keras .h5 file that classifies one face. Without DATA it is evaluated on the test
images, the unseen faces and, if there are any, the hard cases of the repository; with DATA on those images alone: a
folder with with_mask/ and without_mask/, a folder with VOC or YOLO annotations, a zip of either, or a CSV of path or
URL, label. What the file does not say, value range, channel order, kind of output and class order, is chosen by
accuracy on validation images, and printed; an option fixes it.

Needs the repository with its data, and the extra `train`: the evaluation itself is in pipeline/evaluate_model.py.
"""

from __future__ import annotations

import argparse
import runpy
import sys
from importlib.util import find_spec
from pathlib import Path

from face_mask import models
from face_mask.errors import Parser, UserError

NEEDED = ("h5py", "keras", "onnxruntime", "pandas", "scipy", "sklearn", "tensorflow")  # of the extra `train`
MODULE = "pipeline.evaluate_model"
MAX_SIDE = 2048  # pixels of an input image


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = Parser("face-mask evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("model", type=Path, metavar="MODEL", help="a .tflite, .onnx, .keras or .h5 file")
    add("given", type=Path, nargs="?", metavar="DATA", help="images to evaluate on; default: those of the repository")
    add("--data", type=Path, metavar="DATA", help="the same as an option")
    add(
        "--training-data", type=Path, metavar="PATH",
        help="folder or zip of the images that MODEL was trained on, to find near-duplicates of them",
    )  # fmt: skip
    add("--json", type=Path, metavar="FILE", help="also write all metrics to FILE")
    add("--threshold", type=fraction, default=0.5, help="with_mask from this probability on; default: %(default)s")
    add("--margin", type=margin, help="around annotated faces, relative to their longer side; default: unseen.margin")
    add(
        "--range", choices=("0..255", "0..1", "tf", "torch", "caffe"),
        help="of the pixels; as in Keras, tf is -1..1, torch ImageNet's mean and deviation, caffe its mean",
    )  # fmt: skip
    add("--channels", choices=("rgb", "bgr", "grey"), help="their order")
    add("--outputs", choices=("probabilities", "logits"), help="what MODEL returns")
    add("--classes", metavar="NAME,NAME[,NAME]", help="in the order of its outputs; a single output is for the second")
    add("--input-size", type=size, metavar="HxW", help="for a MODEL that takes images of any size")
    add("--layout", choices=("nhwc", "nchw"), help="for a MODEL whose file does not say where the channels are")
    found = parser.parse_args(arguments)
    if found.given and found.data:
        parser.error("DATA is given twice")
    found.data = found.data or found.given
    if found.json:
        check_target(found.json)
    return found


def check_target(path: Path) -> None:
    """Raise UserError if no file can be written at `path`: found out after the evaluation, it would be lost."""
    if path.is_dir():
        raise UserError(f"--json {path} is a folder: name a file")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise UserError(f"--json {path}: {folder} is not a folder: name another file")


def fraction(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise ValueError
    return value


def margin(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 2:
        raise ValueError
    return value


def size(text: str) -> tuple[int, int]:
    """Height and width in pixels, from HxW or a single number."""
    sides = [int(part) for part in text.lower().split("x")]
    if len(sides) > 2 or not all(8 <= side <= MAX_SIDE for side in sides):
        raise ValueError
    return sides[0], sides[-1]


def main() -> None:
    """Check the arguments and what is needed, then run the evaluation."""
    parse()
    root = models.workspace()
    if root is None or not (root / MODULE.replace(".", "/")).with_suffix(".py").is_file():
        raise UserError("no repository with the evaluation's data here: clone it, run `make install`, and work in it")
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise UserError(f"{', '.join(missing)}, of the extra `train`, is not installed: run `make install` in {root}")
    sys.path.insert(0, str(root))
    runpy.run_module(MODULE, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    from face_mask import errors

    errors.run(main)
