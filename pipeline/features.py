"""Stage `features`: frozen MobileNetV2 features of every image and of five other views of it.

    python -m pipeline.features

Reads data/split/images.npy and models/mobilenet_backbone.weights.h5; writes data/split/features.npy, (6, n, 1280)
float32: the images, then the views of pipeline/dataset/views.py. `split` finds near-duplicates by them; train_mobilenet
trains its head on the first and audit fits its classifier on it. Parameters: seed, which determines random weights, and
data.shard_images.

Expect 2 minutes for 7,553 images on 2 cores. Runs on the Spark cluster that FACE_MASK_SPARK_MASTER names, if that is
set: docs/spark.md.
"""

from __future__ import annotations

from functools import partial

from tqdm import tqdm

from face_mask import errors, files
from pipeline import tracking
from pipeline.core import cluster, params
from pipeline.dataset import packing, view_features, views
from pipeline.models.pooled_features import BATCH, THREADS, write_pooled


def main() -> None:
    with tracking.stage("features") as run:
        p = params.load()
        compute = partial(view_features.of_batch, seed=p.seed)
        n = len(packing.open_images())
        starts = range(0, n, BATCH)
        with (
            files.replacing(packing.FEATURES_PATH) as path,
            cluster.ordered_map(compute, starts, lambda: map(partial(compute, threads=THREADS), starts)) as batches,
            tqdm(batches, "features", len(starts), unit="batch", delay=1) as bar,  # ends its line before an error's
        ):
            write_pooled(path, bar, n, p.data.shard_images)
        run.log({"images": n})
        run.report(f"{len(views.VIEWS)} views of {n} images in {packing.FEATURES_PATH}")


if __name__ == "__main__":
    errors.run(main)
