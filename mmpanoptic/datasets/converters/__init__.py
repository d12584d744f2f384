"""Logic of the commands in ``tools/dataset_converters``."""
