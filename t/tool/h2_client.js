// A client of HTTP/2 by Node's own http2: a page, an upload, a download, and a WebSocket by extended CONNECT (RFC 8441).
// usage: node h2_client.js URL [CA]     prints one line of JSON
'use strict';
const http2 = require('http2');
const fs = require('fs');
const crypto = require('crypto');

const url = process.argv[2];
const session = http2.connect(url, process.argv[3] ? { ca: fs.readFileSync(process.argv[3]) } : {});
session.on('error', (e) => { console.log(JSON.stringify({ error: String(e) })); process.exit(1); });

const ask = (headers, body) => new Promise((resolve, reject) => {
    const req = session.request(headers);
    const parts = [];
    let head;
    req.on('response', (h) => { head = h; });
    req.on('data', (d) => parts.push(d));
    req.on('end', () => resolve({ head, body: Buffer.concat(parts) }));
    req.on('error', reject);
    req.end(body);
});

const webSocket = () => new Promise((resolve, reject) => {
    const req = session.request({ ':method': 'CONNECT', ':protocol': 'websocket', ':path': '/ws', 'sec-websocket-version': '13' },
        { endStream: false });
    let buf = Buffer.alloc(0);
    req.on('response', (h) => {
        if (h[':status'] !== 200) { resolve('status ' + h[':status']); return; }
        const text = Buffer.from('hello');
        const mask = Buffer.from([1, 2, 3, 4]);
        req.write(Buffer.concat([Buffer.from([0x81, 0x80 | text.length]), mask, text.map((b, i) => b ^ mask[i & 3])]));
    });
    req.on('data', (d) => {
        buf = Buffer.concat([buf, d]);
        if (buf.length >= 7) { req.close(); resolve(buf.subarray(2, 7).toString()); }
    });
    req.on('error', reject);
});

session.on('remoteSettings', async (settings) => {
    try {
        const page = await ask({ ':path': '/hello' });
        const data = crypto.randomBytes(5000000);
        const up = await ask({ ':path': '/upload', ':method': 'POST' }, data);
        const down = await ask({ ':path': '/download?n=5000000' });
        const many = await Promise.all(Array.from({ length: 90 }, (_, k) => ask({ ':path': '/hello?' + k })));
        const ws = settings.enableConnectProtocol ? await webSocket() : 'not offered';
        console.log(JSON.stringify({ page: page.body.toString(), status: page.head[':status'], down: down.body.length, ws,
            up: JSON.parse(up.body).md5 === crypto.createHash('md5').update(data).digest('hex'),
            many: many.filter((a, k) => a.body.toString() === 'node GET /hello?' + k).length, alpn: session.alpnProtocol }));
    } catch (e) {
        console.log(JSON.stringify({ error: String(e) }));
    }
    session.close();
});
