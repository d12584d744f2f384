# RAP's relation head on a Panoptic FPN, which stays as it is. A leaf names the Panoptic FPN and this
# file as bases and says `model = {{_base_.relation}}`: of two bases only one may have a `model`.
head_channels = 256
head_fc_channels = 1024
ranked_score = 0.6  # instances of smaller score are not ranked,
painted_score = 0.6  # and not painted
overlap_thr = 0.6
relation = dict(
    train_extra_heads_only=True,
    roi_head=dict(
        type="RelationRoIHead",
        # -> features and mask (K, 257, 14, 14) -> relation values (K,), smaller is nearer
        relation_head=dict(
            type="RelationHead",
            in_channels="$head_channels",
            channels="$head_channels",
            fc_channels="$head_fc_channels",
        ),
        relation_score_thr="$ranked_score",
    ),
    fusion_head=dict(
        type="RelationFusionHead",
        score_thr="$painted_score",
        overlap_thr="$overlap_thr",
        large_overlap_thr=0.5,
    ),
)
