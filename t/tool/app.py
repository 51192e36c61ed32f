#!/usr/bin/env python3
"""A real application for the tests, on Python's http.server: HTTP/1.0 or 1.1, uploads, files. usage: app.py PORT VERSION DIRECTORY"""
import functools
import hashlib
import http.server
import sys


class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/" + sys.argv[2]

    def do_POST(self):
        digest = hashlib.md5()
        left = int(self.headers["Content-Length"])
        total = left
        while left:
            piece = self.rfile.read(min(left, 65536))
            if not piece:
                return
            digest.update(piece)
            left -= len(piece)
        body = f"{total} {digest.hexdigest()}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


http.server.ThreadingHTTPServer(
    ("127.0.0.1", int(sys.argv[1])), functools.partial(Handler, directory=sys.argv[3])
).serve_forever()
