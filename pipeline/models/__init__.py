"""The two classifiers: architecture, weights, training, saving."""
