// A real application for the tests, of Node's own modules only: pages, uploads, downloads, server-sent events, a WebSocket echo.
// usage: node app.js PORT
'use strict';
const http = require('http');
const crypto = require('crypto');

const server = http.createServer((req, res) => {
    const url = new URL(req.url, 'http://x');
    if (url.pathname === '/upload') {
        const hash = crypto.createHash('md5');
        let n = 0;
        req.on('data', (d) => { hash.update(d); n += d.length; });
        req.on('end', () => res.end(JSON.stringify({ n, md5: hash.digest('hex') })));
    } else if (url.pathname === '/download') {
        let left = Number(url.searchParams.get('n'));
        const block = Buffer.alloc(1 << 16, 'node');
        if (url.searchParams.get('length')) res.setHeader('Content-Length', left);
        const more = () => {
            while (left > 0) {
                const piece = left < block.length ? block.subarray(0, left) : block;
                left -= piece.length;
                if (!res.write(piece)) {
                    res.once('drain', more);
                    return;
                }
            }
            res.end();
        };
        more();
    } else if (url.pathname === '/events') {
        res.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-cache' });
        res.write('data: hello\n\n');
        // Each event waits for its own request, so that a test sees whether it passes at once.
        server.once('next', () => {
            res.write('data: next\n\n');
            server.once('next', () => res.end('data: bye\n\n'));
        });
    } else if (url.pathname === '/next') {
        server.emit('next');
        res.end('ok');
    } else if (url.pathname === '/headers') {
        res.end(JSON.stringify(req.headers));
    } else {
        res.end(`node ${req.method} ${req.url}`);
    }
});

// RFC 6455, as much as an echo needs: unfragmented frames from clients are masked; answers are not.
server.on('upgrade', (req, socket, head) => {
    const accept = crypto.createHash('sha1')
        .update(req.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11').digest('base64');
    socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
        `Sec-WebSocket-Accept: ${accept}\r\n\r\n`);
    let buf = head;
    const feed = (d) => {
        buf = Buffer.concat([buf, d]);
        for (;;) {
            if (buf.length < 2) return;
            let len = buf[1] & 127, at = 2;
            if (len === 126) {
                if (buf.length < 4) return;
                len = buf.readUInt16BE(2);
                at = 4;
            } else if (len === 127) {
                if (buf.length < 10) return;
                len = Number(buf.readBigUInt64BE(2));
                at = 10;
            }
            if (buf.length < at + 4 + len) return;
            const mask = buf.subarray(at, at + 4);
            const data = Buffer.from(buf.subarray(at + 4, at + 4 + len));
            for (let i = 0; i < len; i++) data[i] ^= mask[i & 3];
            const opcode = buf[0] & 15;
            buf = buf.subarray(at + 4 + len);
            const size = len < 126 ? Buffer.from([len]) : len < 65536 ? Buffer.from([126, len >> 8, len & 255])
                : Buffer.concat([Buffer.from([127, 0, 0, 0, 0]), Buffer.from([len >>> 24, (len >> 16) & 255, (len >> 8) & 255, len & 255])]);
            socket.write(Buffer.concat([Buffer.from([0x80 | opcode]), size, data]));
            if (opcode === 8) {
                socket.end();
                return;
            }
        }
    };
    socket.on('data', feed);
    socket.on('end', () => socket.end());
    socket.on('error', () => socket.destroy());
    feed(Buffer.alloc(0));
});
server.keepAliveTimeout = 5000;
server.requestTimeout = 0;
server.listen(Number(process.argv[2]), '127.0.0.1');
