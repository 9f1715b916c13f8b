"""Inputs for the tests of the live page: two small LiteRT models, a synthetic scene, and videos of it."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import av
import numpy as np
from PIL import Image

from face_mask import classifier, conformal, litert, settings
from pipeline.synthetic import faces
from tests.litert_models import CALIBRATION

REPOSITORY = Path(__file__).parent.parent
SIZE = 640, 480
PEOPLE = (("with_mask", 13), ("with_mask", 1), ("without_mask", 17))  # a blue mask, a pale mask, no mask
LABELS = ["with_mask", "unsure", "without_mask"]  # as the model mobilenet predicts them, from the left


def write_models(folder: Path, size: int = 128) -> None:
    """Write two LiteRT models: mobilenet predicts with_mask if the lower half of a face is blue, cnn the opposite."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    from face_mask.quiet import stderr_closed

    for name, sign in (("mobilenet", 1.0), ("cnn", -1.0)):

        @tf.function(input_signature=[tf.TensorSpec((1, size, size, 3), tf.float32)])
        def rule(pixels, sign=sign):
            lower = tf.reduce_mean(pixels[:, size * 9 // 16 : size * 7 // 8, size // 3 : size * 2 // 3], axis=(1, 2))
            margin = sign * (lower[:, 2] - lower[:, 0]) / 20
            return tf.nn.softmax(tf.stack([-margin / 2, margin / 2], axis=1))

        frozen = convert_variables_to_constants_v2(rule.get_concrete_function())
        folder.mkdir(parents=True, exist_ok=True)
        with stderr_closed():
            encoded = tf.lite.TFLiteConverter.from_concrete_functions([frozen]).convert()
        litert.path_of(name, folder=folder).write_bytes(conformal.append(encoded, CALIBRATION))


def workspace(folder: Path) -> Path:
    """A folder to start the server in, with parameters, models, and the dvc.yaml that locates the MLflow store."""
    write_models(folder / litert.MODELS)
    shutil.copy(REPOSITORY / "params.yaml", folder)
    (folder / "dvc.yaml").write_text("stages: {}\n")
    return folder


def scene() -> Image.Image:
    """PEOPLE side by side at 640×480."""
    image = Image.new("RGB", SIZE, (96, 104, 100))
    for place, (label, number) in enumerate(PEOPLE):
        image.paste(faces.draw_image(1, label, number, 208), (4 + 212 * place, 120 + 20 * place))
    return image


def empty_scene() -> Image.Image:
    return Image.new("RGB", SIZE, (96, 104, 100))


def jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def expected(
    image: Image.Image, folder: Path, model: str = "mobilenet", picture: bool = False
) -> list[classifier.Prediction]:
    """The predictions of FaceClassifier for an image, from the left; a `picture` is no frame of a video."""
    values = settings.load()
    loaded = classifier.FaceClassifier.load(
        litert.path_of(model, folder=folder / litert.MODELS),
        name=model,
        size=values.image_size,
        margin=values.unseen.margin,
        threshold=values.evaluate.threshold,
    )
    predictions = loaded.predict_faces(np.asarray(image), max_side=None if picture else values.live.detector_side)
    return sorted(predictions, key=lambda prediction: prediction.box[0])


def write_video(path: Path, images: list[Image.Image], fps: int = 15) -> Path:
    """Write images as a video: .mjpeg, which Chromium accepts as a camera, or .webm, which it plays."""
    codec = {".mjpeg": "mjpeg", ".webm": "vp8"}[path.suffix]
    with av.open(str(path), "w", format=path.suffix[1:]) as container:
        stream = container.add_stream(codec, rate=fps)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = SIZE
        if codec == "mjpeg":
            stream.pix_fmt = "yuvj420p"
            stream.options = {"qmin": "2", "qmax": "2"}
        else:
            stream.options = {"deadline": "realtime", "cpu-used": "8", "crf": "5", "b": "5M"}
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_image(image)))
        container.mux(stream.encode(None))
    return path
