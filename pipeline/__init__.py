"""Face-mask classification: a DVC graph of small stages, tracked in MLflow."""

from pipeline.core import quiet

quiet.install()
