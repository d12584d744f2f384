# As default_runtime; the best checkpoint by PQ is kept, too, and stands for the run in testing and inference.
_base_ = "./default_runtime.py"

default_hooks = dict(checkpoint=dict(save_best="PQ"))
