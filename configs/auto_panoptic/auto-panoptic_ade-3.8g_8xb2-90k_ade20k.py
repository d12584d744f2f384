"""Auto-Panoptic, the network found on ADE20K, with COCO's recipe.

The authors released the architecture without a recipe, so this one is an assumption.

Paper: Auto-Panoptic, NeurIPS 2020, https://arxiv.org/abs/2010.16119
Reproduces: the architecture ADE_3.8G of Jacobew/AutoPanoptic
Published: PQ 32.4 (ADE20K val, as MaskFormer and Panoptic SegFormer quote it)
Measured: not yet
Hardware: 8 GPUs
Command: tools/dist_train.sh configs/auto_panoptic/auto-panoptic_ade-3.8g_8xb2-90k_ade20k.py 8
"""

_base_ = [
    "../_base_/datasets/ade20k_panoptic.py",
    "../_base_/schedules/sgd_multistep.py",
    "../_base_/default_runtime.py",
    "./auto-panoptic_3.8g.py",
]

# Stage 3; None: random weights
load_from = "work_dirs/auto-panoptic_ade-3.8g_8xb64-600k_imagenet/iter_600000.pth"
warmup_iters, warmup_factor = 501, 0.1  # the full rate from iteration 500 on
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={".bias": dict(lr_mult=2.0, decay_mult=0.0)}))
batch_size = 2
num_workers = 4

resize = dict(type="ResizeShortestEdge", short_edge=800, max_size=1333, size_rule="detectron")
train_pipeline = [
    dict(type="LoadImage"),
    dict(type="LoadPanopticAnnotations"),
    resize,
    dict(type="PanopticRandomFlip", prob=0.5),
    dict(type="PackPanopticInputs", with_instances=True),
]
test_pipeline = [dict(type="LoadImage"), resize, dict(type="PackPanopticInputs")]
train_dataloader = dict(
    batch_sampler=dict(type="AspectRatioBatchSampler"), dataset=dict(filter_empty_gt=True)
)

model = dict(
    # 0..2: ShuffleNet 3x3, 5x5, 7x7; 3: Xception
    backbone=dict(
        choices=[
            *(1, 2, 3, 1, 1, 2, 1, 2),
            *(0, 3, 2, 2, 1, 3, 1, 3),
            *(1, 3, 3, 2, 1, 0, 0, 2, 1, 3, 2, 0, 1, 1, 0, 3),
            *(0, 3, 0, 3, 3, 1, 3, 3),
        ]
    ),
    # 0, 1: DWConv 3x3, 5x5; 2, 3: DFConv 3x3, 5x5; 4, 5: ATConv 3x3, 5x5
    roi_head=dict(mask_head=dict(choices=[2, 0, 3, 3])),
    semantic_head=dict(choices=[3, 2, 3]),
    # 0: r4, 1: r8, 2: r16
    f2b=dict(choices=[2, 0, 1, 1]),
    b2f=dict(choices=[0, 0, 1, 0, 2]),
)
