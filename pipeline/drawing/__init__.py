"""Draw masks, objects and beards on photos of faces, to train models with the copies or to measure them on others."""
