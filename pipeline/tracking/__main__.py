"""`python -m pipeline.tracking`: see the docstring of the package."""

from face_mask import errors
from pipeline.tracking.sync import main

errors.run(main)
