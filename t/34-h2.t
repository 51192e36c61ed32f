#!/usr/bin/perl
# HTTP/2 towards clients: whatever HTTP/1 can do, over h2c and TLS; drains, limits, WebSockets, and the clients of others.
use strict;
use warnings;
use Digest::MD5;
use Digest::SHA;
use JSON::PP ();
use MIME::Base64;
use POSIX ();
use RPD::Test;
use RPD::Cert;
use RPD::TLS;
use RPD::H2 qw(frame_bytes settings_bytes);
use RPD::Real;

my $ca = ca('Test CA');
my $cert = cert($ca, 'a.test', 'b.test', 'localhost');
my $second = cert($ca, 'c.test');
my ($h2c, $tls, $both) = (free_port(), free_port(), free_port());
my $o = origin();
my $text = <<"END";
[log main]
file = <DIR>/access.log
flush = 10ms
format = "%{status} %{reason} %{proto} %{method} %{uri}"
[defaults]
max_body = 256m
[listen h2c]
address = 127.0.0.1:$h2c
protocols = h2
https_redirect = off
[listen both]
address = 127.0.0.1:$both
https_redirect = off
[listen tls]
address = 127.0.0.1:$tls
tls = on
[certificate one]
pair = $cert->{both}
default = on
[certificate two]
pair = $second->{both}
[upstream app]
server = @{[ $o->address ]}
[host c]
names = c.test
upstream = app
[host any]
names = *
upstream = app
[route any/fixed]
path = /fixed
return = 200 "fixed\\n"
END
my $s = rpd(config => $text, global => "workers = 1\ndrain_timeout = 10s\n");
my ($worker) = $s->workers;
my %over = (
    h2c => sub { RPD::H2->connect($h2c, authority => 'a.test', @_) },
    TLS => sub { RPD::H2->connect($tls, tls => { sni => 'a.test', ca => $ca->{file} }, authority => 'a.test', @_) },
);
sub md5 { Digest::MD5::md5_hex($_[0]) }
my $lines = 0;
sub logged { my @all = $s->access_lines(++$lines); return $all[-1] }
# The connection with an origin, kept from one request to the next.
my $oc;
sub at_origin {
    $oc = undef if $oc && $oc->{eof};
    if ($oc && !length $oc->{buf}) {
        my $bits = '';
        vec($bits, $oc->fileno, 1) = 1;
        my $other = '';
        vec($other, fileno $o->{sock}, 1) = 1;
        $bits |= $other;
        select $bits, undef, undef, $RPD::Conn::TIMEOUT;
        if (!vec($bits, $oc->fileno, 1) || !defined $oc->fill(time) || $oc->{eof}) {
            $oc->close;
            $oc = undef;
        }
    }
    return $oc ||= $o->accept;
}
sub exchange {
    my ($h, $answer, @request) = @_;
    my $id = $h->request(@request);
    my $c = at_origin();
    my $r = $c->read_request;
    $c->send(ref $answer ? $answer->($r) : $answer);
    my $a = $h->response($id, method => $request[0]);
    $lines++;
    return wantarray ? ($a, $r) : $a;
}

for my $how ('h2c', 'TLS') {
    subtest "$how: requests and answers" => sub {
        my $h = $over{$how}->();
        my ($a, $r) = exchange($h, response(200, ['X-B', '2', 'Set-Cookie', 'a=1', 'Set-Cookie', 'b=2'], 'hello'), 'GET', '/x?y=z', ['x-a', '1']);
        is($a->{status}, 200, 'status');
        is($a->{body}, 'hello', 'body');
        is_deeply($a->{fields}{'x-b'}, ['2'], 'a field');
        is_deeply($a->{fields}{'set-cookie'}, ['a=1', 'b=2'], 'repeated fields');
        is($a->{fields}{connection}, undef, 'no Connection');
        is($r->{line}, 'GET /x?y=z HTTP/1.1', 'request line');
        is_deeply($r->{fields}{host}, ['a.test'], 'Host');
        is_deeply($r->{fields}{'x-a'}, ['1'], 'a field');
        is_deeply($r->{fields}{'x-forwarded-proto'}, [$how eq 'TLS' ? 'https' : 'http'], 'X-Forwarded-Proto');
        like($r->{fields}{via}[0], qr/^2(\.0)? /, 'Via');
        my @all = $s->access_lines($lines);
        like($all[-1], qr{^200 \S+ HTTP/2(\.0)? GET /x\?y=z$}, 'logged');
        for my $status (204, 304, 404, 500) {
            $a = exchange($h, "HTTP/1.1 $status X\r\nX-S: $status\r\n" . ($status =~ /04$/ && $status != 404 ? '' : "Content-Length: 2\r\n") . "\r\n" . ($status =~ /^(404|500)/ ? 'no' : ''), 'GET', '/');
            is($a->{status}, $status, "status $status");
            is($a->{body}, $status =~ /^(404|500)/ ? 'no' : '', 'its body');
        }
        my $f = $h->get('/fixed');
        $lines++;
        is("$f->{status} $f->{body}", "200 fixed\n", 'an answer of our own');
        ($a, $r) = exchange($h, "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n", 'HEAD', '/');
        is($a->{fields}{'content-length'}[0], 1234, 'HEAD: the length');
        is($a->{nbody}, 0, 'and no body');
        ok($a->{ended}, 'ended');
        $h->close;
    };

    subtest "$how: bodies" => sub {
        my $h = $over{$how}->();
        for my $n (0, 1, 16383, 16384, 16385, 65535, 65536, 200_000, 3_000_000) {
            my $body = random_bytes($n, $n);
            my ($a, $r) = exchange($h, sub { response(200, [], $_[0]{body}) }, 'POST', "/l$n", ['content-length', $n], $body);
            is(md5($r->{body}), md5($body), "$n bytes up with a length");
            is_deeply($r->{fields}{'content-length'}, [$n], 'which is passed on');
            is(md5($a->{body}), md5($body), 'and down');
            ($a, $r) = exchange($h, sub {
                my $out = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
                for (my $at = 0; $at < $n; $at += 5000) { my $p = substr $body, $at, 5000; $out .= sprintf("%x\r\n", length $p) . "$p\r\n" }
                return "${out}0\r\n\r\n";
            }, 'POST', "/c$n", [], $body);
            is(md5($r->{body}), md5($body), "$n bytes up without a length");
            is($r->{fields}{'content-length'}, undef, 'none is invented') if $n;
            is(md5($a->{body}), md5($body), 'and down in chunks');
        }
        my $id = $h->request('GET', '/');
        at_origin()->read_request;
        $oc->send("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil close");
        $oc->close;
        $oc = undef;
        $lines++;
        is($h->response($id)->{body}, 'until close', 'a body until close');
        $h->close;
    };

    subtest "$how: trailers" => sub {
        my $h = $over{$how}->();
        my ($a, $r) = exchange($h, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 9\r\nContent-Length: 7\r\n\r\n",
            'POST', '/', ['te', 'trailers', 'trailer', 'x-sum'], 'body', trailers => ['x-sum', '42', 'content-length', '99']);
        is($r->{body}, 'body', 'body up');
        is_deeply($r->{trailers}, { 'x-sum' => ['42'] }, 'trailers up, without what frames');
        is($a->{body}, 'abc', 'body down');
        is_deeply($a->{trailers}, { 'x-sum' => ['9'] }, 'trailers down');
        # Trailers without a body, both ways.
        ($a, $r) = exchange($h, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Sum: 1\r\n\r\n", 'POST', '/', ['te', 'trailers'], undef, trailers => ['x-sum', '2']);
        is_deeply($r->{trailers}, { 'x-sum' => ['2'] }, 'trailers of nothing up');
        is_deeply($a->{trailers}, { 'x-sum' => ['1'] }, 'and down');
        $h->close;
    };

    subtest "$how: interim answers" => sub {
        my $h = $over{$how}->();
        my $id = $h->request('GET', '/hints');
        at_origin()->read_request;
        $oc->send("HTTP/1.1 103 Early Hints\r\nLink: </s.css>; rel=preload\r\n\r\n");
        my $st = $h->stream($id);
        ok($h->pump(sub { @{ $st->{interim} } }), '103 before the answer exists');
        is($st->{interim}[0]{fields}{link}[0], '</s.css>; rel=preload', 'with its field');
        $oc->send("HTTP/1.1 102 Processing\r\n\r\n" . response(200, [], 'x'));
        is($h->response($id)->{body}, 'x', 'the answer');
        $lines++;
        $id = $h->request('POST', '/e', ['expect', '100-continue', 'content-length', 4], undef, end => 0);
        my $head = at_origin()->read_head;
        $oc->send("HTTP/1.1 100 Continue\r\n\r\n") if $head =~ /^expect:/mi;
        $st = $h->stream($id);
        ok($h->pump(sub { grep { $_->{status} == 100 } @{ $st->{interim} } }), '100 Continue');
        $h->data($id, 'body', end => 1);
        is($oc->read_n(4), 'body', 'the body follows');
        $oc->send(response(200, [], 'done'));
        is($h->response($id)->{body}, 'done', 'the answer');
        $lines++;
        $h->close;
    };
}

subtest 'many at once' => sub {
    my $many = origin()->serve_requests(sub { my ($r) = @_; response(200, [], "$r->{target} " . ('x' x 20_000)) });
    my $p2 = free_port();
    my $s2 = rpd(config => simple_config(listen => "127.0.0.1:$p2", server => $many->address), global => "workers = 1\n");
    my $h = RPD::H2->connect($p2);
    for my $round (1 .. 3) {
        my @ids = map { $h->request('GET', "/$round/$_") } 1 .. 100;
        my $good = grep { my $r = $h->response($ids[$_ - 1]); ($r->{body} // '') eq "/$round/$_ " . ('x' x 20_000) } 1 .. 100;
        is($good, 100, "100 streams, round $round");
    }
    $h->ping;
    is($h->{peer}{3}, 100, 'SETTINGS say 100 streams');
    is($h->{peer}{8}, 1, 'and extended CONNECT');
    $h->close;
    $s2->stop;
};

# RFC 9113 5.1.2: an error of the stream, and the connection goes on.
subtest 'one stream too many' => sub {
    my $slow = origin();
    my $p2 = free_port();
    my $s2 = rpd(config => simple_config(listen => "127.0.0.1:$p2", server => $slow->address, defaults => "h2_streams = 5"), global => "workers = 1\n");
    my $g = RPD::H2->connect($p2);
    $g->ping;
    is($g->{peer}{3}, 5, 'h2_streams');
    my @ids = map { $g->request('GET', "/$_") } 1 .. 6;
    is($g->response($ids[5])->{error}, 'REFUSED_STREAM', 'the sixth') or return $s2->stop;
    my @waiting = map { my $c = $slow->accept; $c->read_request; $c } 1 .. 5;
    $_->send(response(200, ['Connection', 'close'], 'late')) for @waiting;
    is(scalar(grep { ($g->response($_)->{body} // '') eq 'late' } @ids[0 .. 4]), 5, 'the five are answered');
    $_->close for @waiting;
    my $id = $g->request('GET', '/again');
    my $c = $slow->accept;
    $c->read_request;
    $c->send(response(200, ['Connection', 'close'], 'again'));
    is($g->response($id)->{body}, 'again', 'and then another');
    $_->close for $c, $g;
    $s2->stop;
};

subtest 'resets of the client reach the server' => sub {
    my $h = $over{h2c}->();
    my $id = $h->request('GET', '/slow');
    my $c = at_origin();
    $c->read_request;
    $h->rst($id, 'CANCEL');
    ok($c->closed, 'a request given up: its connection is closed');
    $oc = undef;
    $lines++;
    my @all = $s->access_lines($lines);
    like($all[-1], qr{client_(closed|reset)}, "logged: $all[-1]");
    $id = $h->request('GET', '/half');
    $c = at_origin();
    $c->read_request;
    $c->send("HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n" . 'x' x 100_000);
    $h->response($id, head => 1);
    $h->rst($id, 'CANCEL');
    $c->send('x' x 9_000_000, quiet => 1, timeout => 5);
    ok(eval { $c->drain(undef, timeout => 5); 1 }, 'in the middle of an answer');
    $oc = undef;
    $lines++;
    $id = $h->request('POST', '/up', [], 'x' x 1000, end => 0);
    $c = at_origin();
    $c->read_until(qr/x{10}/);
    $h->rst($id, 'CANCEL');
    ok(eval { $c->drain(undef, timeout => 5); 1 }, 'in the middle of a request');
    $oc = undef;
    $lines++;
    is($h->get('/fixed')->{status}, 200, 'the connection goes on');
    $lines++;
    $h->close;
};

subtest 'servers that fail' => sub {
    my $h = $over{h2c}->();
    my $id = $h->request('POST', '/x', [], 'body');
    at_origin()->read_request;
    $oc->reset;
    $oc = undef;
    is($h->response($id)->{status}, 502, 'a server that resets: 502');
    like(logged(), qr/^502 upstream_reset/, 'logged');
    $id = $h->request('GET', '/x');
    at_origin()->read_request;
    $oc->send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart");
    my $st = $h->response($id, head => 1);
    $h->pump(sub { $st->{nbody} == 4 });
    $oc->close;
    $oc = undef;
    my $r = $h->response($id);
    ok(defined $r->{reset} && !$r->{ended}, "an answer cut short: $r->{error}");
    like(logged(), qr/^200 upstream_truncated/, 'logged');
    $id = $h->request('GET', '/x');
    at_origin()->read_request;
    $oc->send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n");
    $r = $h->response($id);
    ok(defined $r->{reset} || $r->{status} == 502, 'a bad chunk');
    logged();
    $oc->close;
    $oc = undef;
    is($h->get('/fixed')->{status}, 200, 'the connection goes on');
    $lines++;
    $h->close;
};

subtest 'an answer before the end of the request' => sub {
    my $h = $over{h2c}->();
    my $id = $h->request('POST', '/early', ['content-length', 50_000_000], undef, end => 0);
    $h->data($id, 'x' x 10_000);
    at_origin()->read_until(qr/x{10}/);
    $oc->send(response(413, ['Connection', 'close'], 'too much'));
    $oc->shutdown_write;
    my $r = $h->response($id);
    is($r->{status}, 413, 'reaches the client while it sends');
    is($r->{body}, 'too much', 'whole');
    ok($h->pump(sub { defined $r->{reset} }), 'the rest is not wanted: ' . ($r->{error} // '?'));
    $oc->close;
    $oc = undef;
    logged();
    is($h->get('/fixed')->{status}, 200, 'the connection goes on');
    $lines++;
    $h->close;
};

subtest 'back-pressure: one stream stands still, the others do not' => sub {
    my $n = 32 << 20;
    my $sender = origin()->serve(sub {
        my ($conn) = @_;
        while (my $r = eval { $conn->read_request(timeout => 60) }) {
            if ($r->{target} eq '/small') { $conn->send(response(200, [], 'small')); next }
            $conn->send("HTTP/1.1 200 OK\r\nContent-Length: $n\r\n\r\n");
            my $block = random_bytes(1 << 20);
            $conn->send($block, timeout => 60) for 1 .. 32;
        }
    });
    my $p2 = free_port();
    my $s2 = rpd(config => simple_config(listen => "127.0.0.1:$p2", server => $sender->address), global => "workers = 1\n");
    my ($w) = $s2->workers;
    # Streams with a window of 64 KiB that is not opened, on a connection with more.
    my $h = RPD::H2->connect($p2, manual => 1, keep => 0);
    $h->window_update(0, 1 << 30);
    is($h->get('/small')->{status}, 200, 'warm');
    my $before = rss($w);
    my @ids = map { $h->request('GET', "/big$_") } 1 .. 8;
    $s2->wait_still('rpd_upstream_received_bytes_total');
    my $held = rss($w) - $before;
    cmp_ok($held, '<', $ENV{RPD_SANITIZED} ? 24 << 20 : 4 << 20, "memory held by eight that stand: $held bytes");
    $h->request('GET', '/small');
    is($h->response($h->{next} - 2)->{nbody}, 5, 'a ninth is answered meanwhile');
    my $at = time;
    $h->window_update($_, $n) for @ids;
    is(scalar(grep { $h->response($_, timeout => 60)->{nbody} == $n } @ids), 8, 'then all of them arrive');
    diag(sprintf '8 x 32 MiB in %.1f s', time - $at);
    $h->close;
    $s2->stop;
};

subtest 'back-pressure: 64 MiB to an origin that waits' => sub {
    my $n = 64 << 20;
    my $before = rss($worker);
    my $pid = fork;
    if (!$pid) {
        my $h = $over{h2c}->(keep => 0);
        my $id = $h->request('POST', '/up', ['content-length', $n], undef, end => 0);
        my $block = random_bytes(1 << 20);
        for my $k (1 .. 64) { $h->send_body($id, $block, end => $k == 64, timeout => 60) == 1 << 20 or POSIX::_exit(2) }
        my $r = $h->response($id, timeout => 60);
        POSIX::_exit(($r->{status} || 0) == 200 ? 0 : 1);
    }
    my $c = at_origin();
    $c->{keep} = 0;
    like($c->read_head, qr/^POST \/up/, 'the request begins');
    $s->wait_still('rpd_client_received_bytes_total');
    my $held = rss($worker) - $before;
    cmp_ok($held, '<', $ENV{RPD_SANITIZED} ? 16 << 20 : 4 << 20, "memory held meanwhile: $held bytes");
    is($c->drain($n), $n, 'then all of it arrives');
    $c->send(response(200, [], 'got it'));
    waitpid $pid, 0;
    is($?, 0, 'answered');
    $lines++;
};

subtest 'windows of uploads grow' => sub {
    my $h = $over{h2c}->(manual => 1);
    $h->ping;
    my $initial = $h->{peer}{4} // 65535;
    cmp_ok($initial, '<=', 1 << 20, "the first window of a stream: $initial");
    my $r = $h->window_update(0, 1 << 20);
    my $id = $h->request('POST', '/w', ['content-length', 4 << 20], undef, end => 0);
    my $st = $h->stream($id);
    my $sink = fork;
    if (!$sink) {
        my $c = at_origin();
        $c->read_request(timeout => 60);
        $c->send(response(200, [], 'all'));
        POSIX::_exit(0);
    }
    is($h->send_body($id, 'x' x (4 << 20)), 4 << 20, '4 MiB go out as the windows allow');
    is($h->response($id)->{body}, 'all', 'answered');
    waitpid $sink, 0;
    $oc = undef;
    $lines++;
    $h->close;
};

subtest 'WebSocket (RFC 8441)' => sub {
    for my $how ('h2c', 'TLS') {
        my $h = $over{$how}->();
        $h->ping;
        my $open = sub {
            my $id = $h->{next};
            $h->{next} += 2;
            $h->headers($id, [':method', 'CONNECT', ':protocol', 'websocket', ':scheme', $h->{scheme}, ':authority', 'a.test', ':path', $_[0] || '/ws', 'sec-websocket-version', '13', 'origin', 'x']);
            return $id;
        };
        my $id = $open->();
        my $c = $o->accept;
        my $r = $c->read_request;
        is($r->{line}, 'GET /ws HTTP/1.1', "$how: GET with Upgrade to the server");
        is(lc $r->{fields}{upgrade}[0], 'websocket', 'Upgrade');
        like($r->{fields}{connection}[0], qr/upgrade/i, 'Connection');
        my $key = $r->{fields}{'sec-websocket-key'}[0];
        like($key, qr{^[A-Za-z0-9+/]{22}==$}, 'a key of its own');
        my $accept = MIME::Base64::encode_base64(Digest::SHA::sha1($key . '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'), '');
        $c->send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: $accept\r\nSec-WebSocket-Protocol: chat\r\n\r\n");
        my $st = $h->response($id, head => 1);
        is($st->{status}, 200, '101 becomes 200');
        is($st->{fields}{'sec-websocket-protocol'}[0], 'chat', 'a field passes');
        is($st->{fields}{$_}, undef, "no $_") for 'upgrade', 'connection';
        is($s->metric('rpd_tunnels'), 1, 'a tunnel');
        for my $n (1, 1000, 100_000) {
            my $bytes = random_bytes($n, $n);
            $h->send_body($id, $bytes, end => 0);
            ok($c->read_n($n) eq $bytes, "$n bytes up");
            my $was = $st->{nbody};
            $c->send($bytes);
            ok($h->pump(sub { $st->{nbody} == $was + $n }) && substr($st->{body}, $was) eq $bytes, "$n bytes down");
        }
        is($h->get('/fixed')->{status}, 200, 'other streams go on beside it');
        $lines++;
        $h->data($id, 'bye', end => 1);
        is($c->read_eof, 'bye', 'END_STREAM is the end of the sending side');
        $c->send('so long');
        $c->close;
        $h->response($id);
        like($st->{body}, qr/so long\z/, 'the other side ends by itself');
        ok($st->{ended}, 'with END_STREAM');
        logged();
        # A server that does not want to.
        $id = $open->('/no');
        $c = $o->accept;
        $c->read_request;
        $c->send(response(403, ['Connection', 'close'], 'no'));
        $st = $h->response($id);
        is("$st->{status} $st->{body}", '403 no', 'a refusal passes');
        logged();
        $c->close;
        $id = $open->('/reset');
        $c = $o->accept;
        $r = $c->read_request;
        $accept = MIME::Base64::encode_base64(Digest::SHA::sha1($r->{fields}{'sec-websocket-key'}[0] . '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'), '');
        $c->send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: $accept\r\n\r\n");
        $h->response($id, head => 1);
        $h->rst($id, 'CANCEL');
        ok($c->closed, 'a reset closes the server\'s connection');
        logged();
        $c->close;
        $h->close;
    }
};

subtest 'another host on this connection: 421' => sub {
    my $h = $over{TLS}->();
    my $r = $h->get('/fixed', [], authority => 'b.test');
    is($r->{status}, 200, 'a name of the same certificate is coalesced');
    $lines++;
    $r = $h->get('/fixed', [], authority => 'c.test');
    is($r->{status}, 421, 'one of another certificate is misdirected');
    like(logged(), qr/^421 misdirected/, 'logged');
    $r = $h->get('/fixed', [], authority => 'a.test');
    is($r->{status}, 200, 'the connection goes on');
    $lines++;
    $h->close;
};

subtest 'GOAWAY twice on a drain' => sub {
    my $h = $over{TLS}->();
    my $id = $h->request('GET', '/slow');
    my $c = at_origin();
    $c->read_request;
    my ($status, $out, $err) = $s->reload;
    is($status, 0, 'reload') or diag("$out$err");
    ok($h->pump(sub { @{ $h->goaway } }), 'a GOAWAY comes');
    is($h->goaway->[0]{last}, 0x7fffffff, 'the first names no stream');
    is($h->goaway->[0]{error}, 'NO_ERROR', 'and no error');
    # What the client sent before it saw that is still served.
    my $late = $h->request('GET', '/fixed');
    my $r = $h->response($late);
    ok(($r->{status} || 0) == 200 || $r->{gone} || ($r->{error} // '') eq 'REFUSED_STREAM', 'a late stream is served, or refused so that it can be repeated');
    $lines++ if ($r->{status} || 0) == 200;
    $c->send(response(200, ['Connection', 'close'], 'slow answer'));
    $c->close;
    $oc = undef;
    is($h->response($id)->{body}, 'slow answer', 'what was asked before is answered');
    $lines++;
    is($h->ending, 'NO_ERROR', 'then the connection ends');
    ok(@{ $h->goaway } >= 2, 'with a second GOAWAY');
    cmp_ok($h->goaway->[-1]{last}, '>=', $id, 'that names the last stream') if @{ $h->goaway } >= 2;
    $h->close;
    my $idle = $over{h2c}->();
    is($idle->get('/fixed')->{status}, 200, 'an idle connection');
    $lines++;
    $s->reload;
    is($idle->ending, 'NO_ERROR', 'is told and closed');
    $idle->close;
};

subtest 'h2_requests, connection_age, keepalive_timeout' => sub {
    my $p2 = free_port();
    my $conf = sub { "[defaults]\n$_[0]\n[listen l]\naddress = 127.0.0.1:$p2\n[host a]\nnames = *\n[route a/x]\npath = /\nreturn = 200 \"x\"\n" };
    my $s2 = rpd(config => $conf->('h2_requests = 10'), global => "workers = 1\n");
    my $h = RPD::H2->connect($p2);
    my $n = 0;
    while ($n < 20 && !@{ $h->goaway }) {
        my $r = $h->get('/');
        last if ($r->{status} || 0) != 200;
        $n++;
    }
    ok($n >= 8 && $n <= 12, "GOAWAY after $n requests");
    is($h->ending, 'NO_ERROR', 'and the end');
    $h->close;
    $s2->write_config($conf->("keepalive_timeout = 300ms"));
    is(($s2->reload)[0], 0, 'reload');
    $h = RPD::H2->connect($p2);
    is($h->get('/')->{status}, 200, 'a request');
    my $t0 = time;
    is($h->ending, 'NO_ERROR', 'idle for longer than keepalive_timeout: GOAWAY and closed');
    ok(time - $t0 > 0.2 && time - $t0 < 5, 'in time');
    $h->close;
    $h = RPD::H2->connect($p2);
    ok($h->ending =~ /NO_ERROR|closed/, 'and when nothing was asked');
    $h->close;
    my $c = client($p2);
    $c->send("PRI * HTTP/2.0\r\n\r\n");
    ok(eval { $c->read_eof; 1 }, 'half a preface is not waited for');
    $c->close;
    $s2->stop;
};

subtest 'timeouts' => sub {
    my $slow = origin();
    my $p2 = free_port();
    my $s2 = rpd(config => simple_config(listen => "127.0.0.1:$p2", server => $slow->address,
        defaults => "body_timeout = 300ms\nfirst_byte_timeout = 300ms\nread_timeout = 300ms\nhead_timeout = 300ms\nwrite_timeout = 500ms",
        top => "[log main]\nfile = <DIR>/access.log\nflush = 10ms\nformat = \"%{status} %{reason}\""), global => "workers = 1\n");
    my $h = RPD::H2->connect($p2);
    my $id = $h->request('POST', '/', ['content-length', 10], undef, end => 0);
    is($h->response($id)->{status}, 408, 'body_timeout: 408');
    my @all = $s2->access_lines(1);
    like($all[0], qr/408 client_body_timeout/, 'logged');
    $id = $h->request('GET', '/');
    is($h->response($id)->{status}, 504, 'first_byte_timeout: 504');
    $id = $h->request('GET', '/');
    my $c;
    for (1 .. 3) { $c = $slow->accept; my $head = eval { $c->read_until(qr/\r\n\r\n/, timeout => 1) } // ''; last if $head =~ /^GET/ && !$c->fill(0) && !$c->{eof} }
    $c->send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart", quiet => 1);
    my $r = $h->response($id);
    ok(defined $r->{reset} || ($r->{status} || 0) == 504, 'read_timeout');
    # A header block that does not end.
    my $g = RPD::H2->connect($p2, manual => 1);
    my $t0 = time;
    $g->headers(1, [':method', 'GET', ':scheme', 'http', ':authority', 'a', ':path', '/'], end => 1, open => 1);
    $g->pump(sub { $g->{eof} }, timeout => 10);
    ok($g->{eof} && time - $t0 > 0.2 && time - $t0 < 5, 'head_timeout: a block without its end');
    $_->close for $g, $h;
    # A client that does not read at all.
    my $big = origin()->serve_requests(sub { response(200, [], 'x' x (8 << 20)) });
    $s2->write_config(simple_config(listen => "127.0.0.1:$p2", server => $big->address, defaults => "write_timeout = 500ms"));
    is(($s2->reload)[0], 0, 'reload');
    $h = RPD::H2->connect($p2, manual => 1, rcvbuf => 4096);
    $id = $h->request('GET', '/');
    $h->response($id, head => 1);
    $r = $h->response($id, timeout => 10);
    ok(defined $r->{reset} || $h->{eof}, 'write_timeout: a window that stays shut');
    $h->close;
    # What is sent as soon as it is known does not stay for ever when the window shuts behind the request.
    $s2->write_config(simple_config(listen => "127.0.0.1:$p2", server => $big->address, defaults => "write_timeout = 500ms",
        rest => "[route any/fixed]\npath = /fixed\nreturn = 200 \"fixed\""));
    is(($s2->reload)[0], 0, 'reload');
    $h = RPD::H2->connect($p2, manual => 1);
    $h->send($h->headers_bytes(1, [':method', 'GET', ':scheme', 'http', ':authority', 'a', ':path', '/fixed'], end => 1) . frame_bytes('SETTINGS', 0, 0, settings_bytes([4, 0])));
    $h->{next} = 3;
    $r = $h->response(1, timeout => 10);
    ok(defined $r->{reset} || $h->{eof}, 'write_timeout: an answer that was never blocked before');
    $h->close;
    $s2->stop;
};

subtest 'priorities (RFC 9218)' => sub {
    my $big = origin()->serve_requests(sub { response(200, [], 'x' x 400_000) });
    my $p2 = free_port();
    my $s2 = rpd(config => simple_config(listen => "127.0.0.1:$p2", server => $big->address), global => "workers = 1\n");
    my $urgent = 0;
    for my $try (1 .. 5) {
        my $h = RPD::H2->connect($p2, manual => 1, keep => 0, settings => [[4, 1 << 20]]);
        my @ids = map { $h->request('GET', '/', ['priority', $_]) } 'u=7', 'u=7', 'u=0';
        # All answers wait at the connection's window; then it opens by less than what rpd has at hand of each.
        $h->response($_, head => 1) for @ids;
        my $total = sub { my $n = 0; $n += $h->stream($_)->{nbody} for @ids; return $n };
        $s2->wait_still('rpd_upstream_received_bytes_total');
        $h->pump(sub { $total->() >= 65535 });
        my @was = map { $h->stream($_)->{nbody} } @ids;
        for my $step (1 .. 8) {
            $h->window_update(0, 30_000);
            $h->pump(sub { $total->() >= 65535 + $step * 30_000 });
        }
        my @got = map { $h->stream($ids[$_])->{nbody} - $was[$_] } 0 .. 2;
        $urgent++ if $got[2] > $got[0] + $got[1];
        $h->close;
    }
    cmp_ok($urgent, '>=', 4, "the urgent one goes first: $urgent of 5");
    $s2->stop;
};

subtest 'clients of others' => sub {
    my $node = node_origin();
    my ($pc, $pt) = (free_port(), free_port());
    my $s2 = rpd(config => <<"END", global => "workers = 2\n");
[defaults]
max_body = 0
h2_misbehaviour = 0
[certificate a]
pair = $cert->{both}
[listen c]
address = 127.0.0.1:$pc
https_redirect = off
[listen t]
address = 127.0.0.1:$pt
tls = on
[upstream node]
server = $node->{address}
[host any]
names = *
upstream = node
END
    my ($status, $lines, $err) = tool('h2_client.py', $pc);
    is_deeply($lines->[0], { pages => 50, up => JSON::PP::true(), down => 3_000_000 }, 'python3-h2, h2c') or diag($err);
    ($status, $lines, $err) = tool('h2_client.py', $pt, $ca->{file}, 'a.test');
    is_deeply($lines->[0], { pages => 50, up => JSON::PP::true(), down => 3_000_000 }, 'python3-h2, TLS') or diag($err);
    my $want = { page => 'node GET /hello', status => 200, down => 5_000_000, up => JSON::PP::true(), many => 90, ws => 'hello' };
    ($status, $lines, $err) = tool('h2_client.js', "http://127.0.0.1:$pc");
    is_deeply($lines->[0], { %$want, alpn => 'h2c' }, 'node, h2c, with a WebSocket') or diag($err, explain($lines));
    ($status, $lines, $err) = tool('h2_client.js', "https://localhost:$pt", $ca->{file});
    is_deeply($lines->[0], { %$want, alpn => 'h2' }, 'node, TLS, with a WebSocket') or diag($err, explain($lines));
    my @curl = ('curl', '-sS', '--cacert', $ca->{file}, '--max-time', 60);
    my ($st, $out) = run_program(@curl, '-w', ' %{http_version}', "https://localhost:$pt/hello");
    is($out, 'node GET /hello 2', 'curl, TLS');
    ($st, $out) = run_program(@curl, '--http2-prior-knowledge', '-w', ' %{http_version}', "http://127.0.0.1:$pc/hello");
    is($out, 'node GET /hello 2', 'curl, h2c');
    my $dir = tempdir();
    spew("$dir/up", my $data = random_bytes(20 << 20));
    ($st, $out, $err) = run_program(@curl, '-T', "$dir/up", '-X', 'POST', "https://localhost:$pt/upload");
    is($out, sprintf('{"n":%d,"md5":"%s"}', length $data, md5($data)), 'curl: 20 MiB up') or diag($err);
    ($st, $out, $err) = run_program(@curl, '-o', '/dev/null', '-w', '%{size_download}', "https://localhost:$pt/download?n=100000000");
    is("$st $out", '0 100000000', 'curl: 100 MB down') or diag($err);
    ($st, $out, $err) = run_program('nghttp', '-n', '-s', '-m', '20', "https://localhost:$pt/hello");
    is($st, 0, 'nghttp') or diag("$out$err");
    for my $url ("http://127.0.0.1:$pc/hello", "https://localhost:$pt/hello") {
        ($st, $out, $err) = run_program('h2load', '-n', 2000, '-c', 10, '-m', 50, $url);
        like($out, qr/2000 total, .* 2000 done, 2000 succeeded, 0 failed, 0 errored/, "h2load $url") or diag("$out$err");
    }
    $s2->stop;
};

$s->stop;
done_testing;
