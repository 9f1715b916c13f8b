"""Tools for the people who work on the pipeline; no stage imports them."""
