# COCO panoptic for two-stage models: whole images, short edge 800, long edge at most 1333, sizes and
# pixels as in Detectron; overlapping masks from the instance annotation.
_base_ = "./panoptic_loaders.py"

dataset_type = "CocoPanopticDataset"
data_root = "data/coco"
train_ann_file = "annotations/panoptic_train2017.json"
train_img = "train2017/"
train_seg = "annotations/panoptic_train2017/"
train_instances = "annotations/instances_train2017.json"
val_ann_file = "annotations/panoptic_val2017.json"
val_img = "val2017/"
val_seg = "annotations/panoptic_val2017/"
val_instances = "annotations/instances_val2017.json"
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
test_pipeline = [
    dict(type="LoadImage"),
    resize,
    dict(type="PackPanopticInputs"),
]

# Batches are all portrait or all landscape, which saves padding; images without a thing are left
# out, since RPN and RoI head would learn nothing from them.
train_dataloader = dict(
    batch_sampler=dict(type="AspectRatioBatchSampler"),
    dataset=dict(instances_file="$train_instances", filter_empty_gt=True),
)

# PQ, mIoU, box and mask AP from one pass; AP needs the instance annotations.
test_evaluator = [
    dict(type="PanopticQualityMetric"),
    dict(type="SemanticIoUMetric"),
    dict(type="CocoInstanceMetric", data_root="$data_root", ann_file="$val_instances"),
]
