"""Batches, augmentation, optimizer and the training loop."""
