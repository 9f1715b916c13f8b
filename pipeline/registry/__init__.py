"""MLflow's model registry: what a version carries, and which version is the champion."""
