"""What can go wrong in the trainer.

TrainerError (exit code 1)
 └── DataError  pictures, masks or arguments are missing, unreadable, or don't fit together (exit code 2)
"""


class TrainerError(Exception):
    """Base of everything the trainer raises on purpose; its text is one sentence for a person."""

    user_message = True
    exit_code = 1


class DataError(TrainerError):
    """What was given can't be trained on or measured with; the text says what to change."""

    exit_code = 2
