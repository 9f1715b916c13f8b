"""Speed and memory, measured side by side; full-size runs that are too long for tests."""
