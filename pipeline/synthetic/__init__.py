"""Drawn faces and scenes: a data set without an account, for the demo and the tests."""
