"""What the tests of the live page work on: two small LiteRT models, a drawn scene that they judge, films."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import av
import numpy as np
from PIL import Image

from pipeline import params
from pipeline.data import synthetic
from pipeline.serve import judging, litert

REPOSITORY = Path(__file__).parent.parent
SIZE = 640, 480
PEOPLE = (("with_mask", 13), ("with_mask", 1), ("without_mask", 17))  # a blue mask, a pale one, a bare face
LABELS = ["with_mask", "unsure", "without_mask"]  # by the model mobilenet, from the left


def write_models(folder: Path, size: int = 128) -> None:
    """Two real LiteRT models: mobilenet finds blue in the lower half of a face masked; cnn the opposite of that."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    from pipeline.quiet import stderr_closed

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
        litert.path_of(name, folder=folder).write_bytes(encoded)


def workspace(folder: Path) -> Path:
    """A folder to start the server in: parameters and models, and what MLflow's store needs."""
    write_models(folder / litert.MODELS)
    shutil.copy(REPOSITORY / "params.yaml", folder)
    (folder / "dvc.yaml").write_text("stages: {}\n")
    return folder


def scene() -> Image.Image:
    """PEOPLE side by side at 640x480."""
    picture = Image.new("RGB", SIZE, (96, 104, 100))
    for place, (label, number) in enumerate(PEOPLE):
        picture.paste(synthetic.draw_picture(1, label, number, 208), (4 + 212 * place, 120 + 20 * place))
    return picture


def nobody() -> Image.Image:
    return Image.new("RGB", SIZE, (96, 104, 100))


def jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def expected(picture: Image.Image, folder: Path, model: str = "mobilenet") -> list[judging.Judged]:
    """What the core finds in a picture, from the left."""
    p = params.load()
    classify = litert.load(litert.path_of(model, folder=folder / litert.MODELS))
    found = judging.judge_faces(
        np.asarray(picture), classify, size=p.image_size, margin=p.unseen.margin, largest=p.live.detector_side
    )
    return sorted(found, key=lambda one: one.box[0])


def write_film(path: Path, pictures: list[Image.Image], fps: int = 15) -> Path:
    """A film of one picture a frame: .mjpeg, which Chromium takes for a camera, or .webm, which it plays."""
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
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode(None))
    return path
