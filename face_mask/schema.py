"""Names that all modules share: labels, splits, models, file suffixes. Imports nothing."""

from __future__ import annotations

LABELS = ("without_mask", "with_mask")  # a label's class is its index; class 1, with_mask, is the positive class
WITHOUT_MASK, WITH_MASK = LABELS
INCORRECT = "incorrect"  # an incorrectly worn mask, under the nose or the chin; neither of the two classes
SPLITS = ("train", "val", "test")
MODELS = ("cnn", "mobilenet")
TITLES = {"cnn": "CNN", "mobilenet": "MobileNetV2"}  # for people

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".ogv", ".3gp", ".y4m"}
)
