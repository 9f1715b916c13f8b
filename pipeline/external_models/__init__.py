"""Evaluation of models of any origin beside this project's: loading, preprocessing, evaluation sets, overlap."""
