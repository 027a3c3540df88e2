"""What can go wrong in the engine.

EngineError
 ├── ArtifactError   a model folder is missing, broken, or does not fit; the old model goes on
 ├── TeacherError    the teacher's weights are missing or are not the ones that were asked for
 └── DeviceError     the device was lost, or hangs
      └── OutOfMemory   it has no memory left just now, which may pass
"""


class EngineError(Exception):
    """Base of everything the engine raises on purpose; its text is one sentence for a person."""


class ArtifactError(EngineError):
    """A model folder is missing, incomplete, altered, or made for something else."""


class TeacherError(EngineError):
    """The teacher's weights are missing or have another hash."""


class DeviceError(EngineError):
    """The device failed; the batch in hand has no result."""


class OutOfMemory(DeviceError):
    """The device has no memory left: another program may have it for a moment, and smaller batches may do."""
