# OCFusion's occlusion head on a Panoptic FPN, which stays as it is. A leaf names the Panoptic FPN and
# this file as bases and says `model = {{_base_.occlusion}}`, as for rap-relation.py.
head_in_channels = 256
head_channels = 512
head_fc_channels = 1024
head_samples = 128  # pairs of an image that are trained on
occlusion_thr = 0.5
occlusion = dict(
    train_extra_heads_only=True,
    roi_head=dict(
        type="RelationRoIHead",
        # -> features and masks of pairs (P, 514, 14, 14) -> probability that one lies on the other
        occlusion_head=dict(
            type="OcclusionHead",
            in_channels="$head_in_channels",
            channels="$head_channels",
            fc_channels="$head_fc_channels",
            max_samples="$head_samples",
        ),
    ),
    fusion_head=dict(
        type="OcclusionFusionHead",
        score_thr=0.5,
        overlap_thr=0.5,
        pair_thr=0.2,
        occlusion_thr="$occlusion_thr",
    ),
)
