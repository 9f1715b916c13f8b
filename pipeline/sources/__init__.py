"""Where images come from: Kaggle, archives, folders, lists of web addresses, annotated data sets."""
