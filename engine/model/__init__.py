"""The DMDD network: teacher, student, segmentation head. torch only."""
