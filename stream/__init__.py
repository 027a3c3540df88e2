"""Everything with a socket: cameras in, events and pictures out."""
