"""The asymmetric multiway cut of COPS as a layer: problem, cut, gradient, scores."""
