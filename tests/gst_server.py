"""An RTSP server that nobody here wrote: GStreamer's, run under Debian's own python3 as a process of its own.

    /usr/bin/python3 tests/gst_server.py [--address A] [--codec h264|h265|jpeg|two] [USER PASSWORD]

Serves a moving test picture at rtsp://ADDRESS:PORT/test and prints the port once it listens; `two` has a
second, smaller video in the same session.
"""

import argparse

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

PICTURES = "videotestsrc is-live=true pattern=ball ! video/x-raw,width={0},height={1},framerate=25/1 ! "
H264 = "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=25 ! rtph264pay name=pay{0} pt=9{1} "
LARGE, SMALL = PICTURES.format(640, 480), PICTURES.format(320, 240)
PIPELINES = {
    "h264": LARGE + H264.format(0, 6),
    "h265": LARGE
    + "x265enc tune=zerolatency speed-preset=ultrafast key-int-max=25 ! rtph265pay name=pay0 pt=96 ",
    "jpeg": LARGE + "videoconvert ! video/x-raw,format=I420 ! jpegenc ! rtpjpegpay name=pay0 pt=26 ",
    "two": LARGE + H264.format(0, 6) + SMALL + H264.format(1, 7),
}


def protect(server: "GstRtspServer.RTSPServer", user: str, password: str) -> None:
    auth = GstRtspServer.RTSPAuth()
    auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    auth.add_digest(user, password, token)
    server.set_auth(auth)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--codec", choices=PIPELINES, default="h264")
    parser.add_argument("login", nargs="*")
    arguments = parser.parse_args()
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address(arguments.address)
    server.set_service("0")
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(f"( {PIPELINES[arguments.codec]})")
    factory.set_shared(True)
    if arguments.login:
        protect(server, *arguments.login)
        permissions = GstRtspServer.RTSPPermissions()
        permissions.add_permission_for_role("viewer", "media.factory.access", True)
        permissions.add_permission_for_role("viewer", "media.factory.construct", True)
        factory.set_permissions(permissions)
    server.get_mount_points().add_factory("/test", factory)
    server.attach(None)
    print(server.get_bound_port(), flush=True)  # noqa: T201
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
