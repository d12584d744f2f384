# The classifier of the miniature space, for crops of the things of the generated dataset.
_base_ = "./auto-panoptic-classifier.py"

block_ops = ("shufflenet_3x3", "shufflenet_7x7", "xception_3x3")
widths = (16, 32, 64, 96, 128)
depths = (2, 2, 2, 2)
head_channels = 128
model = dict(
    # The mean and spread of the generated images: the learning rate is high and the run short.
    data_preprocessor=dict(mean=(114.0, 114.0, 114.0), std=(58.0, 58.0, 58.0)),
    head=dict(in_channels=128, dropout=0.0),
)
search_space = [dict(name="backbone", size=8, choices="$block_ops", key="backbone.choices")]
