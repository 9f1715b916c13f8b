"""Hard cases: changed copies of test faces, and subsets of faces as they are, on which the models are measured."""
