#!/usr/bin/python3
# A client of HTTP/2 by an implementation that is not nghttp2's (python3-h2), over TCP or TLS: parallel requests, uploads, downloads.
# usage: h2_client.py PORT [CA NAME]     prints one line of JSON
import hashlib
import json
import socket
import ssl
import sys

import h2.config
import h2.connection
import h2.events

port = int(sys.argv[1])
name = sys.argv[3] if len(sys.argv) > 3 else 'localhost'
sock = socket.create_connection(('127.0.0.1', port), timeout=20)
if len(sys.argv) > 2:
    context = ssl.create_default_context(cafile=sys.argv[2])
    context.set_alpn_protocols(['h2'])
    sock = context.wrap_socket(sock, server_hostname=name)
    assert sock.selected_alpn_protocol() == 'h2'
conn = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding='utf-8'))
conn.initiate_connection()
sock.sendall(conn.data_to_send())
answers = {}
bodies = {}
done = set()
uploads = {}


def pump():
    data = sock.recv(65536)
    assert data, 'the connection ended'
    for e in conn.receive_data(data):
        if isinstance(e, h2.events.ResponseReceived):
            answers[e.stream_id] = dict(e.headers)
        elif isinstance(e, h2.events.DataReceived):
            bodies[e.stream_id] = bodies.get(e.stream_id, b'') + e.data
            conn.acknowledge_received_data(e.flow_controlled_length, e.stream_id)
        elif isinstance(e, h2.events.StreamEnded):
            done.add(e.stream_id)
        elif isinstance(e, (h2.events.StreamReset, h2.events.ConnectionTerminated)):
            raise SystemExit('ended: %r' % e)
    push()


def push():
    for stream, data in list(uploads.items()):
        while data:
            n = min(conn.local_flow_control_window(stream), conn.max_outbound_frame_size, len(data))
            if n <= 0:
                break
            conn.send_data(stream, data[:n])
            data = data[n:]
        uploads[stream] = data
        if not data:
            conn.end_stream(stream)
            del uploads[stream]
    sock.sendall(conn.data_to_send())


def ask(method, path, body=None):
    stream = conn.get_next_available_stream_id()
    conn.send_headers(stream, [(':method', method), (':scheme', 'https' if len(sys.argv) > 2 else 'http'),
                               (':authority', name), (':path', path)], end_stream=body is None)
    if body is not None:
        uploads[stream] = body
    push()
    return stream


data = bytes(range(256)) * 20000
pages = [ask('GET', '/hello?n=%d' % k) for k in range(50)]
up = ask('POST', '/upload', data)
down = ask('GET', '/download?n=3000000&length=1')
wanted = set(pages + [up, down])
while not wanted <= done:
    pump()
right = sum(1 for k, s in enumerate(pages) if bodies[s] == b'node GET /hello?n=%d' % k and answers[s][':status'] == '200')
print(json.dumps({'pages': right, 'up': json.loads(bodies[up])['md5'] == hashlib.md5(data).hexdigest(), 'down': len(bodies[down])}))
