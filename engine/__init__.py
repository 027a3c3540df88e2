"""Arrays in, defects out: batching, the DMDD network, maps, regions, and the device thread."""

import sys

# Importing OpenVINO sends a word to a statistics service on the internet, in a process of its own, and leaves
# an id in the home folder. A machine in a plant tells nobody anything: without this package OpenVINO takes
# its own silent stub.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
