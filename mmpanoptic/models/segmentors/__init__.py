"""Whole models."""

from .panoptic_segmentor import HeadOutputs, PanopticSegmentor
from .panoptic_tta import PanopticTTAModel

__all__ = ["HeadOutputs", "PanopticSegmentor", "PanopticTTAModel"]
