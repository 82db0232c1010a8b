"""Measures of how restorations match a distribution and change when their input is moved."""

from stochrestore.metrics.precision_recall import PrecisionRecall, knn_radii, precision_recall

__all__ = ["PrecisionRecall", "knn_radii", "precision_recall"]
