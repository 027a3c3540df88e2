"""Results on disk beside the scripts that made them."""
