"""Decoded images as packed arrays, near-duplicates, the split, and faces cropped from annotated images."""
