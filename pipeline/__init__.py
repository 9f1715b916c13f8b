"""Face-mask classification: a DVC graph of small stages, tracked in MLflow."""

from pipeline import quiet

quiet.install()
