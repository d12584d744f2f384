default_scope = "mmpanoptic"
runner_type = "PanopticRunner"  # exact resume, atomic checkpoints; mmengine's Runner has neither

default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="MainProcessLoggerHook", interval=50),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(
        type="AtomicCheckpointHook",
        by_epoch=False,
        interval="$checkpoint_interval",
        max_keep_ckpts=3,
    ),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    visualization=dict(type="PanopticVisualizationHook"),
)
custom_hooks = [
    dict(type="NonFiniteLossHook"),
    dict(type="StopSignalHook"),
    dict(type="DataErrorSummaryHook"),
]

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),  # the tools take gloo where there is no GPU
)
randomness = dict(seed=0)

vis_backends = [
    dict(type="LocalVisBackend")
]  # and TensorboardVisBackend, WandbBackend, MLflowBackend
visualizer = dict(type="PanopticVisualizer", vis_backends="$vis_backends", name="visualizer")
log_processor = dict(type="LogProcessor", by_epoch=False, window_size=50)
log_level = "INFO"
load_from = None
resume = False
