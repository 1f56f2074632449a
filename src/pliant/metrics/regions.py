"""J, region similarity: how much of two masks is the same."""

from __future__ import annotations

import numpy as np

__all__ = ["region_similarity"]


def region_similarity(prediction: np.ndarray, truth: np.ndarray, void: np.ndarray | None = None) -> float:
    """Intersection over union of two masks, 0 to 1; 1 if both are empty.

    Parameters
    ----------
    prediction, truth:
        [H, W], bool (or anything whose non-zero values are the object).
    void:
        [H, W] bool, pixels that count for neither.

    Raises ValueError where sizes differ. Source: Perazzi et al., CVPR 2016, section 4; the DAVIS evaluators.
    """
    prediction, truth = np.asarray(prediction) != 0, np.asarray(truth) != 0
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction is {prediction.shape}, truth is {truth.shape}; sizes must agree")
    if void is not None:
        prediction, truth = prediction & ~void, truth & ~void
    union = np.count_nonzero(prediction | truth)
    return np.count_nonzero(prediction & truth) / union if union else 1.0
