# Decodes standard input by the decoders of the libraries themselves: as much of it as there is. What follows the end, and what is
# broken, is an error; --part: the end need not have come.
# usage: decode.py gzip|br|zstd [--part]
import ctypes
import sys
import zlib

data = sys.stdin.buffer.read()
coding = sys.argv[1]
part = '--part' in sys.argv


def gzip():
    d = zlib.decompressobj(31)
    return d.decompress(data), d.eof and not d.unused_data


def br():
    lib = ctypes.CDLL('libbrotlidec.so.1')
    lib.BrotliDecoderCreateInstance.restype = ctypes.c_void_p
    state = ctypes.c_void_p(lib.BrotliDecoderCreateInstance(None, None, None))
    nin = ctypes.c_size_t(len(data))
    next_in = ctypes.c_char_p(data)
    out = b''
    buf = ctypes.create_string_buffer(1 << 20)
    while True:
        nout = ctypes.c_size_t(len(buf))
        next_out = ctypes.c_void_p(ctypes.addressof(buf))
        r = lib.BrotliDecoderDecompressStream(state, ctypes.byref(nin), ctypes.byref(next_in), ctypes.byref(nout),
                                              ctypes.byref(next_out), None)
        out += buf.raw[:len(buf) - nout.value]
        if r == 0:
            sys.exit('broken')
        if r != 3:
            return out, r == 1 and nin.value == 0


class Buffer(ctypes.Structure):
    _fields_ = [('p', ctypes.c_void_p), ('size', ctypes.c_size_t), ('pos', ctypes.c_size_t)]


def zstd():
    lib = ctypes.CDLL('libzstd.so.1')
    lib.ZSTD_createDStream.restype = ctypes.c_void_p
    lib.ZSTD_decompressStream.restype = ctypes.c_size_t
    state = ctypes.c_void_p(lib.ZSTD_createDStream())
    src = ctypes.create_string_buffer(data, len(data))
    block = ctypes.create_string_buffer(1 << 20)
    given = Buffer(ctypes.addressof(src), len(data), 0)
    out = b''
    left = 1
    while True:
        got = Buffer(ctypes.addressof(block), len(block), 0)
        left = lib.ZSTD_decompressStream(state, ctypes.byref(got), ctypes.byref(given))
        if lib.ZSTD_isError(ctypes.c_size_t(left)):
            sys.exit('broken')
        out += block.raw[:got.pos]
        if got.pos < len(block) and given.pos == len(data):
            return out, left == 0


text, whole = {'gzip': gzip, 'br': br, 'zstd': zstd}[coding]()
if not whole and not part:
    sys.exit('not at its end')
sys.stdout.buffer.write(text)
