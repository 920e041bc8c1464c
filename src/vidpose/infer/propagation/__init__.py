"""Labels on some frames of a video become labels on all."""

from .run import METHODS, PropagatedLabels, propagate

__all__ = ["METHODS", "PropagatedLabels", "propagate"]
