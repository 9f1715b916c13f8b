"""What every stage uses: validated parameters, a parallel map, a silent TensorFlow."""
