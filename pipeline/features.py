"""Stage `features`: frozen MobileNetV2 features of every image and of five other views of it.

    python -m pipeline.features

Reads data/split/images.npy and models/mobilenet_backbone.weights.h5; writes data/split/features.npy, (6, n, 1280)
float32: the images, then the views of pipeline/dataset/views.py. `split` finds near-duplicates by them; train_mobilenet
trains its head on the first and audit fits its classifier on it. Parameter: seed, which determines random weights.

Expect 2 minutes for 7,553 images on 2 cores.
"""

from __future__ import annotations

from face_mask import errors, files
from pipeline import tracking
from pipeline.core import params
from pipeline.dataset import packing, views
from pipeline.models import mobilenet
from pipeline.models.pooled_features import forward_function, write_pooled
from pipeline.training import fit


def main() -> None:
    with tracking.stage("features") as run:
        fit.make_repeatable(params.load().seed)
        images = packing.open_images()
        forward = forward_function(mobilenet.starting_backbone(images.shape[1]))
        with files.replacing(packing.FEATURES_PATH) as path:
            write_pooled(path, forward, images, list(views.VIEWS.values()))
        run.log({"images": len(images)})
        run.report(f"{len(views.VIEWS)} views of {len(images)} images in {packing.FEATURES_PATH}")


if __name__ == "__main__":
    errors.run(main)
