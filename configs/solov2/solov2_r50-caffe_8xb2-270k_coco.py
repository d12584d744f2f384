"""SOLOv2, ResNet-50 of Caffe, COCO, 36 epochs, several scales.

Paper: SOLOv2, NeurIPS 2020, https://arxiv.org/abs/2003.10152
Reproduces: SOLOv2_R50_3x of AdelaiDet, with the schedule of WXinlong/SOLO
Published: mask AP 37.6 (COCO val2017; weights mmpanoptic://solov2/adelaidet-r50-3x_coco)
Measured: not yet
Hardware: 8 GPUs with 8 GB each
Command: tools/dist_train.sh configs/solov2/solov2_r50-caffe_8xb2-270k_coco.py 8
"""

_base_ = "./solov2_r50_8xb2-270k_coco.py"

model = dict(
    data_preprocessor=dict(mean=(103.53, 116.28, 123.675), std=(1.0, 1.0, 1.0), bgr_to_rgb=False),
    backbone=dict(
        style="caffe",  # the stride lies in the first 1x1 convolution
        norm_cfg=dict(requires_grad=False),
        init_cfg=dict(checkpoint="mmpanoptic://imagenet/resnet50-caffe"),
    ),
)
