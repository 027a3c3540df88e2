"""What can go wrong in the trainer.

TrainerError (exit code 1)
 └── InputError         the pictures or the arguments can't be used (exit code 2)
      └── RegistryError a model or version that was named doesn't exist, or can't be moved to
"""


class TrainerError(Exception):
    """Base of everything the trainer raises on purpose; its text is one sentence for a person."""

    user_message = True
    exit_code = 1


class InputError(TrainerError):
    """What was given can't be trained on or measured with; the text says what to change."""

    exit_code = 2


class RegistryError(InputError):
    """A model or version that was named doesn't exist, or can't be moved to."""
