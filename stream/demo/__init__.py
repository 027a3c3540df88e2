"""`linewatch demo`: a whole line on one machine, made of the same commands that an engineer runs."""
