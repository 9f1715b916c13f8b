"""Detect faces, classify each as with or without a face mask, track them in video. Needs no TensorFlow."""
