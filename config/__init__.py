"""What the operator may say: settings, their file, secrets, logs and the command line."""

import os

# A few megabytes of PNG may unpack to gigabytes. OpenCV looks for this once, as it is imported, and refuses
# what is larger by its header, wherever a picture comes from.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", "100000000")
