"""What the project is measured against, one file per peer, as its users would write it."""
