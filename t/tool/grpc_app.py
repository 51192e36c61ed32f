#!/usr/bin/python3
# A real gRPC application and its client for the tests; messages are bytes, so that no generated code is needed.
# usage: grpc_app.py server PORT [CERT KEY]
#        grpc_app.py client TARGET [CA NAME]     runs every kind of call and prints one line of JSON for each
import concurrent.futures
import hashlib
import json
import sys
import threading
import time

import grpc


LIMIT = [('grpc.max_receive_message_length', -1), ('grpc.max_send_message_length', -1), ('grpc.keepalive_time_ms', 3600000)]


def metadata(context):
    return {k: v for k, v in context.invocation_metadata()}


def echo(request, context):
    context.set_trailing_metadata((('x-trailing', 'after'), ('x-bin-bin', b'\x00\x01\xff')))
    context.send_initial_metadata((('x-initial', metadata(context).get('x-sent', 'none')),))
    return request


def digest(request, context):
    return hashlib.md5(request).hexdigest().encode()


def fail(request, context):
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, 'no: ' + request.decode() + ' \u00e4 %')


def slow(request, context):
    ended = threading.Event()
    context.add_callback(ended.set)
    ended.wait(30)
    return b'late'


def count(request, context):
    for k in range(int(request)):
        yield b'%d' % k


def broken(request, context):
    yield b'one'
    yield b'two'
    context.abort(grpc.StatusCode.DATA_LOSS, 'in the middle')


def total(requests, context):
    n = 0
    for r in requests:
        n += len(r)
    return b'%d' % n


def chat(requests, context):
    for r in requests:
        yield b're: ' + r


UNARY = {'Echo': echo, 'Digest': digest, 'Fail': fail, 'Slow': slow}


def server(port, cert=None, key=None):
    handlers = {n: grpc.unary_unary_rpc_method_handler(f) for n, f in UNARY.items()}
    handlers['Count'] = grpc.unary_stream_rpc_method_handler(count)
    handlers['Broken'] = grpc.unary_stream_rpc_method_handler(broken)
    handlers['Total'] = grpc.stream_unary_rpc_method_handler(total)
    handlers['Chat'] = grpc.stream_stream_rpc_method_handler(chat)
    s = grpc.server(concurrent.futures.ThreadPoolExecutor(max_workers=64), options=LIMIT)
    s.add_generic_rpc_handlers((grpc.method_handlers_generic_handler('test.App', handlers),))
    address = '127.0.0.1:%s' % port
    if cert:
        pair = (open(key, 'rb').read(), open(cert, 'rb').read())
        s.add_secure_port(address, grpc.ssl_server_credentials([pair]))
    else:
        s.add_insecure_port(address)
    s.start()
    s.wait_for_termination()


def say(name, **values):
    print(json.dumps(dict(values, name=name)), flush=True)


def call(name, f):
    t0 = time.time()
    try:
        say(name, **f())
    except grpc.RpcError as e:
        say(name, code=e.code().name, details=e.details(), seconds=time.time() - t0)


def client(target, ca=None, name=None):
    if ca:
        options = LIMIT + [('grpc.ssl_target_name_override', name)]
        channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(open(ca, 'rb').read()), options)
    else:
        channel = grpc.insecure_channel(target, LIMIT + [('grpc.default_authority', name or 'grpc.test')])
    unary = lambda m: channel.unary_unary('/test.App/' + m)

    def one():
        value, c = unary('Echo').with_call(b'hello', metadata=(('x-sent', 'yes'), ('x-b-bin', b'\x00\xfe')), timeout=20)
        return dict(value=value.decode(), initial=dict(c.initial_metadata()).get('x-initial'), code=c.code().name,
                    trailing={k: v if isinstance(v, str) else v.hex() for k, v in c.trailing_metadata()})

    def big(n):
        data = bytes(range(256)) * (n // 256)
        t0 = time.time()
        same = unary('Echo')(data, timeout=60) == data
        right = unary('Digest')(data, timeout=60).decode() == hashlib.md5(data).hexdigest()
        return dict(same=same, digest=right, seconds=time.time() - t0)

    def streamed(method, argument):
        got = []
        try:
            for m in channel.unary_stream('/test.App/' + method)(argument, timeout=30):
                got.append(m.decode())
        except grpc.RpcError as e:
            return dict(n=len(got), last=got[-1] if got else None, code=e.code().name, details=e.details())
        return dict(n=len(got), last=got[-1], code='OK')

    def summed():
        value = channel.stream_unary('/test.App/Total')((b'x' * 1000 for _ in range(500)), timeout=30)
        return dict(value=value.decode())

    def chatted():
        # The next message goes only when the last was answered: nothing may be held back on the way.
        answered = threading.Semaphore(1)

        def messages():
            for k in range(50):
                answered.acquire()
                yield b'%d' % k
        got = []
        for m in channel.stream_stream('/test.App/Chat')(messages(), timeout=30):
            got.append(m.decode())
            answered.release()
        return dict(n=len(got), last=got[-1])

    def parallel():
        calls = [unary('Echo').future(b'%d' % k, timeout=30) for k in range(200)]
        return dict(right=sum(1 for k, c in enumerate(calls) if c.result() == b'%d' % k))

    def cancelled():
        c = unary('Slow').future(b'', timeout=30)
        c.cancel()
        return dict(cancelled=c.cancelled())

    call('unary', one)
    call('big', lambda: big(4 << 20))
    call('stream', lambda: streamed('Count', b'1000'))
    call('broken', lambda: streamed('Broken', b''))
    call('client_stream', summed)
    call('bidi', chatted)
    call('parallel', parallel)
    call('fail', lambda: dict(value=unary('Fail')(b'why', timeout=20).decode()))
    call('unknown', lambda: dict(value=unary('Nothing')(b'', timeout=20).decode()))
    call('deadline', lambda: dict(value=unary('Slow')(b'', timeout=0.5).decode()))
    call('cancel', cancelled)
    call('after', one)
    channel.close()


if sys.argv[1] == 'server':
    server(*sys.argv[2:])
else:
    client(*sys.argv[2:])
