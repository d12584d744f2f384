# Data loaders and evaluators of every panoptic dataset. A "$name" is a variable of the dataset's file (or of
# --cfg-options): dataset_type, data_root, {train,val}_{ann_file,img,seg}, {train,test}_pipeline, sizes.
eval_batch_size = 1  # images per forward pass and process in validation and testing
with_instances = False  # boxes and masks of things for the heads that are trained with them

train_dataloader = dict(
    batch_size="$batch_size",
    num_workers="$num_workers",
    persistent_workers=True,
    sampler=dict(type="InfiniteSeededSampler", shuffle=True),
    dataset=dict(
        type="$dataset_type",
        data_root="$data_root",
        ann_file="$train_ann_file",
        data_prefix=dict(img="$train_img", seg="$train_seg"),
        pipeline="$train_pipeline",
    ),
)
val_dataloader = dict(
    batch_size="$eval_batch_size",
    num_workers="$num_workers",
    persistent_workers=True,
    sampler=dict(type="SeededSampler", shuffle=False, round_up=False),
    dataset=dict(
        type="$dataset_type",
        data_root="$data_root",
        ann_file="$val_ann_file",
        data_prefix=dict(img="$val_img", seg="$val_seg"),
        pipeline="$test_pipeline",
        test_mode=True,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type="PanopticQualityMetric")
test_evaluator = val_evaluator
