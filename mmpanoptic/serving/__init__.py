"""A model behind a page and a JSON interface: ``mmpanoptic serve``."""
