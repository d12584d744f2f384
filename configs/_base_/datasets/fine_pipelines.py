# For many small objects, such as cells under a microscope: pipelines that stretch the contrast of each image.
# A leaf says `train_pipeline = {{_base_.fine_train}}` and so on: of two bases only one may have a `train_pipeline`.
fine_train = [
    dict(type="LoadImage"),
    dict(type="LoadPanopticAnnotations"),
    dict(type="StretchContrast"),
    dict(
        type="ResizeCrop",
        resize=dict(
            type="ResizeShortestEdge",
            short_edge=["$short_edge*3/4", "$short_edge", "$short_edge*5/4", "$short_edge*3/2"],
            max_size="$max_size",
        ),
        crop=dict(type="RandomCrop", crop_size="$crop_size"),
    ),
    # seen from above there is no upside
    dict(
        type="PanopticRandomFlip",
        prob=[0.25, 0.25, 0.25],
        direction=["horizontal", "vertical", "diagonal"],
    ),
    dict(type="ColorJitter", brightness=16.0),
    dict(type="PackPanopticInputs", with_instances="$with_instances"),
]
# The middle of what the training sees.
fine_test = [
    dict(type="LoadImage"),
    dict(type="StretchContrast"),
    dict(type="ResizeShortestEdge", short_edge="$short_edge*5/4", max_size="$max_size*5/4"),
    dict(type="PackPanopticInputs"),
]
fine_tta = [
    dict(type="LoadImage"),
    dict(type="StretchContrast"),
    dict(
        type="TestTimeAug",
        transforms=[
            [
                dict(type="ResizeShortestEdge", short_edge="$short_edge", max_size="$max_size"),
                dict(
                    type="ResizeShortestEdge",
                    short_edge="$short_edge*3/2",
                    max_size="$max_size*3/2",
                ),
            ],
            [
                dict(type="PanopticRandomFlip", prob=0.0),
                *(
                    dict(type="PanopticRandomFlip", prob=1.0, direction=direction)
                    for direction in ("horizontal", "vertical", "diagonal")
                ),
            ],
            [dict(type="PackPanopticInputs")],
        ],
    ),
]
