"""A receiver of webhooks in plain Python: `WEBHOOK_SECRET=... python webhook_receiver.py 8000`

Checks the signature (Standard Webhooks), takes each event once, answers 204. Events of several cameras come
side by side, over connections that stay open: a server that serves one after the other lets the rest wait.
"""

import base64
import hashlib
import hmac
import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = os.environ.get("WEBHOOK_SECRET", "")
if not SECRET or len(sys.argv) != 2 or not sys.argv[1].isdecimal():
    sys.exit("Say the secret and the port: WEBHOOK_SECRET=... webhook_receiver.py 8000")
try:
    KEY = base64.b64decode(SECRET[6:]) if SECRET.startswith("whsec_") else SECRET.encode()
except ValueError:
    sys.exit("WEBHOOK_SECRET begins with whsec_, and what follows is no base64")
seen: set[str] = set()  # an MES keeps these with its data
one_at_a_time = threading.Lock()


def is_genuine(headers: dict[str, str], body: bytes) -> bool:
    """Signed with our secret, and not older than five minutes."""
    stamp = headers.get("webhook-timestamp", "0")
    if not stamp.isdecimal() or abs(time.time() - int(stamp)) > 300:
        return False
    signed = f"{headers.get('webhook-id', '')}.{stamp}.".encode() + body
    wanted = "v1," + base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    return hmac.compare_digest(headers.get("webhook-signature", "").encode(), wanted.encode())


def take(event: dict[str, str]) -> None:
    """The same event may come again: it counts once."""
    with one_at_a_time:
        if event["id"] not in seen:
            seen.add(event["id"])
            sys.stdout.write(f"{event['camera']} {event['type']} {event['verdict']}\n")
            sys.stdout.flush()


class Receiver(BaseHTTPRequestHandler):
    """One POST, one event."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """204 when it is taken or was taken before, 401 when it is not from Linewatch."""
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        genuine = is_genuine({name.lower(): value for name, value in self.headers.items()}, body)
        if genuine:
            take(json.loads(body))
        self.send_response(204 if genuine else 401)
        self.send_header("content-length", "0")
        self.end_headers()


if __name__ == "__main__":
    try:
        ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()
    except (OSError, OverflowError) as error:
        sys.exit(f"can't listen on 127.0.0.1:{sys.argv[1]}: {error}")
    except KeyboardInterrupt:
        pass
