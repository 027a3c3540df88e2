"""`linewatch doctor`: what is well here and what is not, each with its mend. It changes nothing."""
