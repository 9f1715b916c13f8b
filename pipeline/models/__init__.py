"""The two classifiers: architecture, pretrained weights, saving, prediction, conversion."""
