"""Which labels are likely wrong? Confident learning on predictions of models that never saw the picture.

The suspicion is cleanlab's (Northcutt et al. 2021, Confident Learning): it estimates from out-of-fold probabilities how
many pictures of each class carry the other's label, and names those whose given label has the least probability.
"""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pipeline.errors import UserError


def fold_numbers(classes: np.ndarray, groups: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """(n,) int64: the fold in which each picture is held out; a group is never in two, classes are spread evenly.

    `classes` (n,) 0/1, `groups` (n,) integers. A twin in another fold would tell the model the label it is to judge.
    UserError when a class has too few groups for so many folds.
    """
    fewest = min(len(np.unique(groups[classes == one])) for one in (0, 1))
    if fewest < folds:
        raise UserError(f"audit.folds = {folds}: only {fewest} groups of pictures hold the rarer class: lower it")
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    numbers = np.full(len(classes), -1, np.int64)
    for number, (_, held_out) in enumerate(splitter.split(classes, classes, groups)):
        numbers[held_out] = number
    return numbers


def out_of_fold(
    features: np.ndarray, classes: np.ndarray, fold: np.ndarray, inverse_regularization: float
) -> np.ndarray:
    """(n,) float64 P(with_mask) of each picture by a logistic regression fitted on the other folds.

    `features` (n, d), standardised by the means and deviations of the pictures fitted on; `fold` from fold_numbers.
    `inverse_regularization` is scikit-learn's C: the smaller, the more cautious the probabilities.
    """
    y_prob = np.full(len(classes), np.nan)
    for number in np.unique(fold):
        held_out = fold == number
        model = make_pipeline(StandardScaler(), LogisticRegression(C=inverse_regularization, max_iter=2000))
        model.fit(features[~held_out], classes[~held_out])
        y_prob[held_out] = model.predict_proba(features[held_out])[:, 1]
    return y_prob


def suspects(classes: np.ndarray, y_prob: np.ndarray) -> np.ndarray:
    """(k,) int64 indices of the pictures whose label is likely wrong, the least probable label first."""
    from cleanlab.filter import find_label_issues  # four seconds, so only here

    found = find_label_issues(
        labels=classes,
        pred_probs=np.stack([1 - y_prob, y_prob], axis=1),
        return_indices_ranked_by="self_confidence",
        n_jobs=1,
    )
    return np.asarray(found, np.int64)
