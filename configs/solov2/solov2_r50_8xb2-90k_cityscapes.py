"""SOLOv2, ResNet-50, Cityscapes; instances from the panoptic annotation.

Paper: SOLOv2, NeurIPS 2020, https://arxiv.org/abs/2003.10152
Reproduces: nothing published
Published: -
Measured: not yet
Hardware: 8 GPUs with 8 GB each
Command: tools/dist_train.sh configs/solov2/solov2_r50_8xb2-90k_cityscapes.py 8
"""

_base_ = [
    "../_base_/datasets/cityscapes_panoptic.py",
    "../_base_/schedules/sgd_multistep.py",
    "../_base_/default_runtime.py",
    "./solov2.py",
]

with_instances = True
batch_size = 2
base_lr = 1e-2  # for 16 images
warmup_factor = 0.01
clip_grad = dict(max_norm=35, norm_type=2)
max_iters = 90000
milestones = ["$max_iters*9/12", "$max_iters*11/12"]
val_evaluator = dict(
    _delete_=True,
    type="CityscapesInstanceMetric",
    source="pred_instances",
    data_root="$data_root",
    gt_root="$val_gt",
)
test_evaluator = val_evaluator
