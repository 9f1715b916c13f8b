"""What holds for every test."""

from hypothesis import settings

# A busy machine takes any time for an example: how long the whole takes is told by --durations.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
