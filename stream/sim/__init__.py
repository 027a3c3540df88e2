"""The camera simulator: a production line or a folder of pictures, served as real RTSP."""
