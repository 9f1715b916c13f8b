"""`python -m pipeline.tracking`: see the package's docstring."""

from pipeline import errors
from pipeline.tracking.sync import main

errors.run(main)
