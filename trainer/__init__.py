"""A folder of good pictures in, an artifact out."""
