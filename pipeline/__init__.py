"""Face-mask classification: a DVC graph of small stages, tracked in MLflow."""

import time

from pipeline.core import quiet

STARTED = time.time()  # before any module of a stage is imported

quiet.install()
