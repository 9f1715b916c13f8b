"""How good a classifier is, and how sure one may be of that."""
