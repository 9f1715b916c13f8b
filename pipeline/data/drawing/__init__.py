"""Drawing people, with and without something over the face."""
