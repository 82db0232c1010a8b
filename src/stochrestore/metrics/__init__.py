"""How well restorations match a distribution, and how they answer a moved input."""

from stochrestore.metrics.precision_recall import PrecisionRecall, knn_radii, precision_recall

__all__ = ["PrecisionRecall", "knn_radii", "precision_recall"]
