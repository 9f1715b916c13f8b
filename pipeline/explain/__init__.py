"""Explainability: attributions, and metrics of how far they can be trusted."""
