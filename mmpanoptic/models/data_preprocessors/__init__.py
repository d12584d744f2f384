"""Data preprocessors: batches of samples to tensors on the device."""

from .panoptic_data_preprocessor import PanopticDataPreprocessor

__all__ = ["PanopticDataPreprocessor"]
