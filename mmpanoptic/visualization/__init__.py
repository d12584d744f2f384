"""Pictures of panoptic maps, drawn with OpenCV."""

from .colors import PALETTES, segment_colors
from .difference import DIFFERENCES, difference_map, draw_difference
from .draw import DrawStyle, draw_panoptic
from .gallery import GalleryEntry, write_gallery
from .heads import draw_heatmap, draw_offsets
from .multicut import draw_multicut, multicut_sheet
from .panoptic_visualizer import PanopticVisualizer, index_of_ids, write_picture

__all__ = [
    "DIFFERENCES",
    "DrawStyle",
    "GalleryEntry",
    "PALETTES",
    "PanopticVisualizer",
    "difference_map",
    "draw_difference",
    "draw_heatmap",
    "draw_multicut",
    "draw_offsets",
    "draw_panoptic",
    "index_of_ids",
    "multicut_sheet",
    "segment_colors",
    "write_gallery",
    "write_picture",
]
