"""Real parts: RTSP server, broker, HTTP client."""
