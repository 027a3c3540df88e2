"""Arrays in, defects out: batching, the DMDD network, maps, regions, and the device thread."""
