"""What the operator may say: settings, their file, secrets, logs and the command line."""
