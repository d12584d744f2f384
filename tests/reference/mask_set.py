"""Mask transformers' panoptic procedure, one query after the other on masks of the full size."""

import torch
from torch.nn import functional


def fuse(class_logits, mask_logits, padded, img_shape, ori_shape, stuff, fill=False):
    """Return the map (0 is void) and (label, score) of the segments, of one image."""
    full = functional.interpolate(mask_logits[None], size=padded, mode="bilinear")
    full = full[..., : img_shape[0], : img_shape[1]]
    full = functional.interpolate(full, size=ori_shape, mode="bilinear")[0].sigmoid()
    scores, labels = class_logits.softmax(-1).max(-1)
    kept = (scores > 0.8) & (labels < class_logits.shape[-1] - 1)
    full, scores, labels = full[kept], scores[kept], labels[kept]
    result = torch.zeros(ori_shape, dtype=torch.int32)
    segments, of_stuff = [], {}
    if not len(full):
        return result, segments
    winner = (full * scores[:, None, None]).argmax(0)
    for query, label in enumerate(labels.tolist()):
        won, inside = winner == query, full[query] >= 0.5
        painted = won if fill else won & inside
        if not painted.any() or not inside.any() or won.sum() / inside.sum() < 0.8:
            continue
        if label in of_stuff:
            result[painted] = of_stuff[label]
            continue
        segments.append((label, scores[query].item()))
        result[painted] = len(segments)
        if label in stuff:
            of_stuff[label] = len(segments)
    return result, segments
