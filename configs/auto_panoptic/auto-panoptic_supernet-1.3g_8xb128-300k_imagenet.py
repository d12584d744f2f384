"""Stage 1: the ImageNet supernet of the backbone.

Paper: Auto-Panoptic, NeurIPS 2020, https://arxiv.org/abs/2010.16119; the network and its training
    are those of DetNAS, NeurIPS 2019, https://arxiv.org/abs/1903.10979
Reproduces: "Supernet Pretrain on ImageNet" of the published code: batch 1024, 300k iterations. The
    published code drew paths from bins of MACs, which fails for this space; here they are uniform.
Published: -
Measured: -
Hardware: 8 GPUs
Command: tools/dist_train.sh configs/auto_panoptic/auto-panoptic_supernet-1.3g_8xb128-300k_imagenet.py 8
"""

_base_ = [
    "../_base_/datasets/image_folders.py",
    "../_base_/schedules/sgd_linear.py",
    "../_base_/default_runtime.py",
    "./auto-panoptic-classifier.py",
]

find_unused_parameters = True  # the other paths
train_cfg = dict(val_begin="$max_iters+1")  # a supernet has no path to validate
supernet_hook = dict(type="SupernetPathHook", space="$search_space", sampler="uniform")
custom_hooks = [
    dict(type="NonFiniteLossHook"),
    dict(type="StopSignalHook"),
    dict(type="DataErrorSummaryHook"),
    supernet_hook,
]
