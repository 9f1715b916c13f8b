"""Detection of likely label errors by confident learning on out-of-fold predictions.

cleanlab (Northcutt et al. 2021, Confident Learning) estimates from out-of-fold probabilities how many images of each
class carry the other label, and selects those whose given label is least probable.
"""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from face_mask.errors import UserError


def fold_numbers(classes: np.ndarray, groups: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """(n,) int64: the fold in which each image is held out; stratified by class, and no group is split.

    `classes` (n,) 0/1, `groups` (n,) integers. A near-duplicate in another fold would leak the label to be checked.
    Raises UserError if a class has fewer groups than there are folds.
    """
    fewest = min(len(np.unique(groups[classes == one])) for one in (0, 1))
    if fewest < folds:
        raise UserError(f"audit.folds = {folds} is too large: one class has only {fewest} groups of images; lower it")
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    numbers = np.full(len(classes), -1, np.int64)
    for number, (_, held_out) in enumerate(splitter.split(classes, classes, groups)):
        numbers[held_out] = number
    return numbers


def out_of_fold(
    features: np.ndarray, classes: np.ndarray, fold: np.ndarray, inverse_regularization: float
) -> np.ndarray:
    """(n,) float64: P(with_mask) of each image by a logistic regression fitted on the other folds.

    `features` (n, d) are standardized with the statistics of the images fitted on; `fold` is from fold_numbers.
    `inverse_regularization` is scikit-learn's C: smaller values give less extreme probabilities.
    """
    y_prob = np.full(len(classes), np.nan)
    for number in np.unique(fold):
        held_out = fold == number
        model = make_pipeline(StandardScaler(), LogisticRegression(C=inverse_regularization, max_iter=2000))
        model.fit(features[~held_out], classes[~held_out])
        y_prob[held_out] = model.predict_proba(features[held_out])[:, 1]
    return y_prob


def suspects(classes: np.ndarray, y_prob: np.ndarray) -> np.ndarray:
    """(k,) int64: indices of the images whose label is likely wrong, the least probable label first."""
    from cleanlab.filter import find_label_issues  # here because the import takes four seconds

    found = find_label_issues(
        labels=classes,
        pred_probs=np.stack([1 - y_prob, y_prob], axis=1),
        return_indices_ranked_by="self_confidence",
        n_jobs=1,
    )
    return np.asarray(found, np.int64)
