"""Steps of exported graphs: preparation, detection, post-processing; whole systems from them."""
