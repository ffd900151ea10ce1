"""How well scores put positives above negatives: pure functions of two arrays, `positive` (bool) and `scores`.

A figure that is not defined, for want of positives or negatives, is None. Scores are finite, or -inf for "no model
was live": below every score, and equal to one another.
"""

import numpy as np


def ranked(scores):
    """Scores as an array, None as the lowest of all; a score that is not finite is an error."""
    known = np.array([score for score in scores if score is not None], dtype=float)
    if not np.isfinite(known).all():
        raise ValueError("a score is not finite")
    return np.array([-np.inf if score is None else score for score in scores], dtype=float)


def roc_auc(positive, scores):
    """The chance that a positive scores above a negative, a tie being half a chance."""
    positives, negatives = _per_score(positive, scores)
    pairs = positives.sum() * negatives.sum()
    if pairs == 0:
        return None
    negatives_below = np.cumsum(negatives) - negatives
    return float((positives * (negatives_below + negatives / 2)).sum() / pairs)


def pr_auc(positive, scores):
    """Average precision: the precision at each distinct score, weighted by the recall that it adds."""
    positives, negatives = (counts[::-1] for counts in _per_score(positive, scores))
    if positives.sum() == 0:
        return None
    found = np.cumsum(positives)
    precision = found / (found + np.cumsum(negatives))
    return float((positives * precision).sum() / positives.sum())


def recall_at(false_positive_rate, positive, scores):
    """The share of positives above the lowest threshold that lets no more than this share of negatives above it."""
    found, alarms = scores[positive], np.sort(scores[~positive])[::-1]
    if len(found) == 0:
        return None
    if len(alarms) == 0:
        return 1.0
    threshold = alarms[int(false_positive_rate * len(alarms))]
    return float((found > threshold).mean())


def roc_auc_within(groups, positive, scores):
    """The mean ROC-AUC of the groups that have one, each counting as often as it has positives."""
    total = weight = 0
    for group in np.unique(groups):
        inside = groups == group
        auc = roc_auc(positive[inside], scores[inside])
        if auc is not None:
            total += auc * positive[inside].sum()
            weight += positive[inside].sum()
    return float(total / weight) if weight else None


def _per_score(positive, scores):
    """How many positives and how many negatives have each distinct score, lowest score first."""
    distinct, index = np.unique(scores, return_inverse=True)
    positives = np.bincount(index[positive], minlength=len(distinct))
    negatives = np.bincount(index[~positive], minlength=len(distinct))
    return positives, negatives
