"""From a source of pictures to packed arrays and training batches."""
