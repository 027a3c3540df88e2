"""What can go wrong in the trainer.

TrainerError
 ├── DataError       pictures or masks are missing, unreadable, or don't fit together (the input was wrong)
 └── RegistryError   a model or a version that was named doesn't exist (the input was wrong)

The command line prints the sentence of any of them and ends with `exit_code`.
"""


class TrainerError(Exception):
    """Base of everything the trainer raises on purpose; its text is one sentence for a person."""

    user_message = True
    exit_code = 1


class DataError(TrainerError):
    """Pictures or masks are missing, unreadable, or don't fit together."""

    exit_code = 2


class RegistryError(TrainerError):
    """A model or version that was named doesn't exist, or can't be moved to."""

    exit_code = 2
