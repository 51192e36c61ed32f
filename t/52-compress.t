#!/usr/bin/perl
# Compression of answers: who gets which coding, what heads say then, flushes, slow and vanishing clients, own answers. The origin
# answers with the status and fields of X-Origin, and as many bytes of text as X-Size says.
use strict;
use warnings;
use Compress::Zlib ();
use RPD::Test;
use RPD::Real;
use RPD::H2;

my $text = join '', map { "<li class=\"row\">item $_ of the list, number " . $_ * 7919 % 10007 . "</li>\n" } 1 .. 4000;
my $port = free_port();
my $origin = origin();
$origin->serve_requests(sub {
    my ($r) = @_;
    my %f = %{ $r->{fields} };
    my ($status, @fields) = split /\s*~\s*/, $f{'x-origin'} ? $f{'x-origin'}[0] : '200 ~ Content-Type: text/html';
    push @fields, 'X-Asked: ' . join '|', map { "$_=" . join ',', @{ $f{$_} } } grep { /^(?:accept-encoding|if-)/ } sort keys %f;
    @fields = map { my ($n, $v) = split /: ?/, $_, 2; ($n, $v) } @fields;
    my $body = substr $text x (1 + ($f{'x-size'}[0] // 20000) / length $text), 0, $f{'x-size'}[0] // 20000;
    $body = '' if $status == 304 || $status == 204;
    if ($f{'x-chunks'}) {
        return "HTTP/1.1 $status OK\r\nTransfer-Encoding: chunked\r\n" . join('', map { $_ % 2 ? "$fields[$_]\r\n" : "$fields[$_]: " }
            0 .. $#fields) . "\r\n" . join('', map { sprintf "%x\r\n%s\r\n", length $_, $_ } $body =~ /.{1,1000}/gs) . "0\r\n\r\n";
    }
    my $bytes = response($status, [@fields], $status == 304 || $status == 204 ? undef : $body);
    $bytes =~ s/\r\n\r\n.*/\r\n\r\n/s if $r->{method} eq 'HEAD';
    return $bytes;
});
my $dir = tempdir();
spew("$dir/502.html", '<p>out of order</p>' x 200);
my $hand = origin(); # for sequences that a test plays itself
my $s = rpd(config => <<"END", global => "workers = 1\n");
[defaults]
upstream = origin
access_log = main
[log main]
file = <DIR>/access.log
flush = 10ms
format = "%{method} %{uri} %{status} %{encoding} %{plain_bytes} %{body_bytes} %{reason}"
[listen main]
address = 127.0.0.1:$port
[upstream origin]
server = @{[ $origin->address ]}
max_fails = 0
[upstream hand]
server = @{[ $hand->address ]}
max_fails = 0
[compress standard]
cpu_low = 100%
cpu_off = 100%
[compress mine]
algorithms = gzip:9 br
types = text/plain application/x-own*
min_size = 100
cpu_low = 100%
cpu_off = 100%
[compress busy]
cpu_low = 0%
cpu_off = 0%
[compress never]
algorithms = off
[host all]
names = *
[route all/off]
path = /off/*
compress = off
[route all/mine]
path = /mine/*
compress = mine
[route all/busy]
path = /busy/*
compress = busy
[route all/never]
path = /never/*
compress = never
[route all/hand]
path = /hand/*
upstream = hand
error_page = 502 $dir/502.html
[route all/own]
path = /own
return = 200 "@{[ 'own words ' x 200 ]}"
[route all/metrics]
path = /metrics
metrics = on
END

my $zstd = (run_program(program('rpd'), '-V'))[1] =~ /^zstd /m;

sub decode {
    my ($coding, $bytes, @more) = @_;
    return Compress::Zlib::memGunzip($bytes) // 'error: not gzip' if $coding eq 'gzip' && !@more;
    my $dir = tempdir();
    spew("$dir/in", $bytes);
    my $out = `'@{[ RPD::Real::python() ]}' '$ENV{RPD_SRCDIR}/t/tool/decode.py' $coding @more < '$dir/in' 2>&1`;
    return $? ? "error: $out" : $out;
}

# One request; the answer with `coding`.
sub ask {
    my ($method, $path, %o) = @_;
    my $c = $o{client} || client($port);
    my @f = map { exists $o{$_} ? ($_ => $o{$_}) : () } grep { /^[A-Z]/ } sort keys %o;
    my $bytes = request($method, $path, \@f);
    $bytes =~ s/HTTP\/1\.1/HTTP\/1.0/ if $o{http10};
    $c->send($bytes);
    my $r = $c->read_response(method => $method);
    $r->{coding} = $r->{fields}{'content-encoding'} ? join ',', @{ $r->{fields}{'content-encoding'} } : '';
    return $r;
}
# The body of an answer, decoded once.
sub plain {
    my ($r) = @_;
    return $r->{plain} //= $r->{coding} =~ /^(?:gzip|br|zstd)$/ ? decode($r->{coding}, $r->{body}) : $r->{body};
}
sub field { my ($r, $n) = @_; return join ', ', @{ $r->{fields}{$n} || [] } }
my $page = substr $text x 2, 0, 20000;

# ---- who gets what (RFC 9110 12.5.3) ----
my @wanted = (
    ['nothing said', undef, ''],
    ['gzip', 'gzip', 'gzip'],
    ['br', 'br', 'br'],
    ['a browser', 'gzip, deflate, br', 'br'],
    ['x-gzip is gzip', 'x-gzip', 'gzip'],
    ['letters of any case', 'GZip', 'gzip'],
    ['weights', 'br;q=0.5, gzip;q=0.8', 'gzip'],
    ['our order among equals', 'gzip;q=0.7, br;q=0.7', 'br'],
    ['a refusal', 'br;q=0, gzip', 'gzip'],
    ['all refused', 'br;q=0, gzip;q=0, zstd;q=0', ''],
    ['anything', '*', 'br'],
    ['anything but', '*, br;q=0, zstd;q=0', 'gzip'],
    ['identity liked better', 'identity, gzip;q=0.5', ''],
    ['identity liked as much', 'identity, gzip', 'gzip'],
    ['identity refused', 'identity;q=0, gzip', 'gzip'],
    ['everything else refused', 'gzip;q=0.2, *;q=0', 'gzip'],
    ['unknown ones', 'deflate, compress', ''],
    ['no weight at all', 'gzip;q=', ''],
    ['too heavy', 'gzip;q=7', ''],
    ['an empty field', '', ''],
    ['zstd', 'zstd', $zstd ? 'zstd' : ''],
    ['zstd before gzip', 'gzip, zstd', $zstd ? 'zstd' : 'gzip'],
);
for (@wanted) {
    my ($name, $accept, $coding) = @$_;
    my $r = ask('GET', '/', defined $accept ? ('Accept-Encoding', $accept) : ());
    is_deeply([$r->{status}, $r->{coding}, field($r, 'vary')], [200, $coding, 'Accept-Encoding'], "Accept-Encoding, $name");
    ok(plain($r) eq $page, "$name: the body is whole");
    is(field($r, 'x-asked'), defined $accept ? "accept-encoding=$accept" : '', "$name: the server sees what the client said");
}
{
    my $r = ask('GET', '/', 'Accept-Encoding', 'gzip');
    ok(!$r->{fields}{'content-length'} && field($r, 'transfer-encoding') eq 'chunked', 'compressed: chunks and no length');
    my $z = ask('GET', '/', 'Accept-Encoding', 'gzip', 'X-Chunks', 1);
    ok($z->{coding} eq 'gzip' && plain($z) eq $page, 'a length that nobody knows');
    my $short = ask('GET', '/', 'Accept-Encoding', 'gzip', 'X-Chunks', 1, 'X-Size', 10);
    ok($short->{coding} eq 'gzip' && plain($short) eq substr($text, 0, 10), 'a short one of unknown length');
    $r = ask('GET', '/', 'Accept-Encoding', 'gzip', http10 => 1);
    is_deeply([$r->{coding}, field($r, 'vary'), field($r, 'content-length')], ['', 'Accept-Encoding', 20000], 'HTTP/1.0: as it is');
}

# ---- which answers ----
my @answers = (
    ['HTML', '200 ~ Content-Type: text/html; charset=utf-8', 'gzip'],
    ['JSON of some kind', '200 ~ Content-Type: application/vnd.api+json', 'gzip'],
    ['letters of any case', '200 ~ Content-Type: TEXT/CSS', 'gzip'],
    ['SVG', '200 ~ Content-Type: image/svg+xml', 'gzip'],
    ['an error page', '404 ~ Content-Type: text/html', 'gzip'],
    ['a picture', '200 ~ Content-Type: image/png', undef],
    ['no type', '200', undef],
    ['encoded already', '200 ~ Content-Type: text/html ~ Content-Encoding: gzip', undef],
    ['no-transform', '200 ~ Content-Type: text/html ~ Cache-Control: public, no-transform, max-age=3', undef],
    ['no content', '204 ~ Content-Type: text/html', undef],
    ['reset content', '205 ~ Content-Type: text/html', undef],
    ['a part', '206 ~ Content-Type: text/html ~ Content-Range: bytes 0-19999/50000', 'identity'],
    ['gRPC', '200 ~ Content-Type: application/grpc', undef],
);
for (@answers) {
    my ($name, $say, $coding) = @$_;
    my $size = $say =~ /^205/ ? 0 : 20000;
    my $r = ask('GET', '/', 'Accept-Encoding', 'gzip', 'X-Origin', $say, 'X-Size', $size);
    is_deeply([$r->{coding}, field($r, 'vary')],
        [!defined $coding ? ($say =~ /Encoding: gzip/ ? 'gzip' : '') : $coding eq 'identity' ? '' : $coding, defined $coding ? 'Accept-Encoding' : ''],
        "$name: " . ($coding // 'untouched'));
}
{
    my $r = ask('GET', '/', 'Accept-Encoding', 'gzip', 'X-Size', 1023);
    is_deeply([$r->{coding}, field($r, 'vary')], ['', ''], 'below min_size');
    $r = ask('GET', '/', 'Accept-Encoding', 'gzip', 'X-Size', 1024);
    is_deeply([$r->{coding}, plain($r) eq substr $text, 0, 1024], ['gzip', 1], 'from min_size on');
    $r = ask('GET', '/off/x', 'Accept-Encoding', 'gzip');
    is_deeply([$r->{coding}, field($r, 'vary')], ['', ''], 'compress = off');
    $r = ask('GET', '/never/x', 'Accept-Encoding', 'gzip');
    is_deeply([$r->{coding}, field($r, 'vary')], ['', ''], 'algorithms = off');
    $r = ask('GET', '/mine/x', 'Accept-Encoding', 'br, gzip', 'X-Size', 200, 'X-Origin', '200 ~ Content-Type: application/x-ownish');
    is($r->{coding}, 'gzip', 'a section of its own: its order, types and size');
    $r = ask('GET', '/mine/x', 'Accept-Encoding', 'br, gzip');
    is($r->{coding}, '', 'and not the types of others');
    $r = ask('GET', '/busy/x', 'Accept-Encoding', 'br, gzip');
    is_deeply([$r->{coding}, field($r, 'vary')], ['', 'Accept-Encoding'], 'no time to compress: as it is');
    $r = ask('GET', '/busy/x', 'Accept-Encoding', 'gzip, identity;q=0');
    is($r->{coding}, 'gzip', 'unless the client takes nothing else');
    ok($s->metric('rpd_compress_busy_total') >= 1, 'which is counted');
}

# ---- what heads say ----
{
    my @f = ('X-Origin', '200 ~ Content-Type: text/html ~ ETag: "abc" ~ Accept-Ranges: bytes ~ Content-MD5: x ~ Digest: y '
        . '~ Repr-Digest: z ~ Content-Digest: z ~ Vary: Cookie ~ Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT');
    my $r = ask('GET', '/', 'Accept-Encoding', 'gzip', @f);
    is_deeply([map { field($r, $_) } qw(etag vary accept-ranges content-md5 digest repr-digest content-digest last-modified)],
        ['W/"abc"', 'Cookie, Accept-Encoding', '', '', '', '', '', 'Sun, 06 Nov 1994 08:49:37 GMT'], 'compressed: a weak tag, no ranges, no digests');
    $r = ask('GET', '/', @f);
    is_deeply([map { field($r, $_) } qw(etag vary accept-ranges digest content-length)], ['"abc"', 'Cookie, Accept-Encoding', 'bytes', 'y', 20000],
        'not compressed: as it came, but for Vary');
    my $g = ask('GET', '/', 'Accept-Encoding', 'br', @f);
    my $h = ask('HEAD', '/', 'Accept-Encoding', 'br', @f);
    delete $_->{fields}{'transfer-encoding'}, delete $_->{fields}{'x-request-id'}, delete $_->{fields}{date} for $g, $h;
    is_deeply($h->{fields}, $g->{fields}, 'HEAD says what GET says');
    for (['W/"x"', 'W/"x"', 'a weak tag stays'], ['x', '', 'what is no tag is none']) {
        $r = ask('GET', '/', 'Accept-Encoding', 'gzip', 'X-Origin', "200 ~ Content-Type: text/html ~ ETag: $_->[0]");
        is(field($r, 'etag'), $_->[1], $_->[2]);
    }
    for (['accept-encoding', 'accept-encoding'], ['*', '*'], ['Origin, Accept-Encoding', 'Origin, Accept-Encoding']) {
        $r = ask('GET', '/', 'Accept-Encoding', 'gzip', 'X-Origin', "200 ~ Content-Type: text/html ~ Vary: $_->[0]");
        is(field($r, 'vary'), $_->[1], "Vary: $_->[0] says it already");
    }
}

# ---- conditions: a client that has W/"abc" asks for it, servers compare weakly (RFC 9110 13.1.2) ----
{
    my $r = ask('GET', '/', 'Accept-Encoding', 'gzip', 'If-None-Match', 'W/"abc"', 'X-Origin', '304 ~ ETag: "abc"');
    is_deeply([$r->{status}, field($r, 'x-asked'), field($r, 'etag'), field($r, 'vary')],
        [304, 'accept-encoding=gzip|if-none-match=W/"abc"', 'W/"abc"', 'Accept-Encoding'], '304 names the tag as the client has it');
    $r = ask('GET', '/', 'Accept-Encoding', 'gzip', 'If-None-Match', '"abc"', 'X-Origin', '304 ~ ETag: "abc"');
    is_deeply([$r->{status}, field($r, 'etag'), field($r, 'vary')], [304, '"abc"', ''], 'and else as the server does');
    $r = ask('GET', '/', 'If-None-Match', 'W/"abc"', 'X-Origin', '304 ~ ETag: "abc"');
    is(field($r, 'etag'), '"abc"', 'to who gets nothing compressed');
    $r = ask('GET', '/', 'Accept-Encoding', 'gzip', 'If-None-Match', '"q", W/"abc"', 'X-Origin', '304 ~ ETag: "abc" ~ Vary: Accept-Encoding');
    is_deeply([field($r, 'etag'), field($r, 'vary')], ['W/"abc"', 'Accept-Encoding'], 'from a list');
}

# ---- own answers ----
{
    my $r = ask('GET', '/own', 'Accept-Encoding', 'br');
    is_deeply([$r->{coding}, field($r, 'vary'), plain($r) =~ /^(?:own words ){200}$/], ['br', 'Accept-Encoding', 1], 'return');
    $r = ask('HEAD', '/own', 'Accept-Encoding', 'br');
    is_deeply([$r->{coding}, field($r, 'content-length')], ['br', ''], 'HEAD of it');
    $r = ask('GET', '/metrics', 'Accept-Encoding', 'gzip');
    ok($r->{coding} eq 'gzip' && plain($r) =~ /^rpd_compress_gzip_in_bytes_total [1-9]/m, 'metrics, with what was compressed');
    my $c = client($port);
    ask('GET', '/', 'Accept-Encoding', 'gzip', client => $c) for 1 .. 3;
    is(ask('GET', '/off/x', client => $c)->{body}, $page, 'the connection goes on');
}

# ---- programs of others ----
SKIP: {
    my $curl = have('curl') or skip 'no curl', 3;
    for my $coding (qw(gzip br zstd)) {
        skip 'no zstd', 1 if $coding eq 'zstd' && !$zstd;
        my $out = `curl -s --compressed -H 'Accept-Encoding: $coding' -D - http://127.0.0.1:$port/ 2>&1`;
        ok($out =~ /^Content-Encoding: $coding\r$/mi && $out =~ /\Q$page\E\z/, "curl decodes $coding");
    }
}
SKIP: {
    my $node = have('node') or skip 'no node', 1;
    my $js = 'fetch(process.argv[1]).then(async (r) => console.log(r.headers.get("content-encoding"), (await r.text()).length))';
    like(`'$node' -e '$js' http://127.0.0.1:$port/`, qr/^(?:br|gzip) 20000$/, 'Node decodes it');
}

# ---- HTTP/2 ----
{
    my $h = RPD::H2->connect($port);
    for my $coding (qw(gzip br)) {
        my $r = $h->get('/', ['accept-encoding', $coding]);
        is(field($r, 'content-encoding'), $coding, "HTTP/2: $coding");
        ok(decode($coding, $r->{body}) eq $page, 'and whole');
    }
    $h->close;
}

# ---- time: what a server has sent does not wait for more ----
sub read_chunk {
    my ($c) = @_;
    my $n = hex($c->read_until(qr/\r\n/) =~ s/\r\n//r);
    my $bytes = $c->read_n($n);
    $c->read_n(2);
    return $bytes;
}
for my $coding (qw(gzip br), $zstd ? 'zstd' : ()) {
    for my $type ('text/event-stream', 'text/html') {
        my $c = client($port);
        $c->send(request('GET', '/hand/x', ['Accept-Encoding', $coding]));
        my $o = $hand->accept;
        $o->read_request;
        $o->send("HTTP/1.1 200 OK\r\nContent-Type: $type\r\nTransfer-Encoding: chunked\r\n\r\n");
        like($c->read_head, qr/^Content-Encoding: $coding\r$/m, "$type in $coding: the head comes at once");
        my ($got, $sent) = ('', '');
        for my $n (1 .. 5) {
            my $event = "data: event number $n\n\n";
            $sent .= $event;
            $o->send(sprintf "%x\r\n%s\r\n", length $event, $event);
            # One piece of the server may take several chunks.
            for (1 .. 3) {
                $got .= read_chunk($c);
                last if decode($coding, $got, '--part') eq $sent;
            }
            is(decode($coding, $got, '--part'), $sent, "event $n is there before the next is sent");
        }
        $o->send("0\r\n\r\n");
        while (length(my $more = read_chunk($c))) { $got .= $more }
        is(decode($coding, $got), $sent, 'and all of it at the end');
        $o->close;
    }
}

{
    my $h = RPD::H2->connect($port);
    my $id = $h->request('GET', '/hand/h2', ['accept-encoding', 'gzip']);
    my $o = $hand->accept;
    $o->read_request;
    $o->send("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n");
    my $sent = '';
    for my $n (1 .. 3) {
        my $event = "data: event number $n\n\n";
        $sent .= $event;
        $o->send(sprintf "%x\r\n%s\r\n", length $event, $event);
        my $last = '';
        ok($h->pump(sub {
            my $body = $h->stream($id)->{body};
            return if $body eq $last;
            $last = $body;
            return decode('gzip', $body, '--part') eq $sent;
        }), "HTTP/2: event $n is there before the next is sent");
    }
    $o->send("0\r\n\r\n");
    is(decode('gzip', $h->response($id)->{body}), $sent, 'and the end');
    $_->close for $o, $h;
}

# ---- broken and slow ----
{
    my $c = client($port);
    $c->send(request('GET', '/hand/broken', ['Accept-Encoding', 'gzip']));
    my $o = $hand->accept;
    $o->read_request;
    $o->send("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 50000\r\n\r\n" . substr($text, 0, 20000));
    $c->read_head;
    $o->close;
    my $rest = $c->read_eof;
    unlike($rest, qr/\r\n0\r\n\r\n\z/, 'an answer that breaks off does not look whole');

    # A head that came with a broken body has not gone: the error takes its place, or another server's answer.
    for (1 .. 3) {
        my $b = client($port);
        $b->send(request('GET', '/hand/bad', ['Accept-Encoding', 'gzip']));
        $o = $hand->accept;
        $o->read_request;
        $o->send("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nETag: \"x\"\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n");
        my $r = $b->read_response;
        is_deeply([$r->{status}, field($r, 'content-encoding'), field($r, 'etag'), field($r, 'vary')], [502, 'gzip', '', 'Accept-Encoding'],
            'a body that is broken from the start: an error page, compressed in its place');
        is(decode('gzip', $r->{body}), '<p>out of order</p>' x 200, 'and whole');
        $o->close;
    }

    # Whatever the length, memory stays: a client that does not read stops the server, not the other way round.
    my ($worker) = $s->workers;
    my $before = rss($worker);
    my $most = 0;
    my @held = map { my $c = client($port, rcvbuf => 4096); $c->send(request('GET', '/', ['Accept-Encoding', $_, 'X-Size', 60_000_000])); $c->read_head; $c }
        qw(gzip br) x 4;
    for (1 .. 20) {
        ask('GET', '/', 'Accept-Encoding', 'gzip');
        my $now = rss($worker);
        $most = $now if $now > $most;
    }
    cmp_ok($most - $before, '<', 60_000_000, 'eight answers of 60 MB under way');
    $_->close for @held;

    my $h2 = RPD::H2->connect($port);
    my $long = $h2->get('/', ['accept-encoding', 'gzip', 'x-size', 20_000_000]);
    is(length(decode('gzip', $long->{body})), 20_000_000, 'a long one over HTTP/2, window by window');
    $h2->close;

    my $slow = client($port, rcvbuf => 4096);
    $slow->send(request('GET', '/', ['Accept-Encoding', 'gzip', 'X-Size', 30_000_000]));
    is(plain(ask('GET', '/', 'Accept-Encoding', 'gzip')), $page, 'a slow client holds nobody up');
    my $r = $slow->read_response;
    is(length(decode('gzip', $r->{body})), 30_000_000, 'and gets all of it');

    my $gone = client($port, rcvbuf => 4096);
    $gone->send(request('GET', '/gone', ['Accept-Encoding', 'br', 'X-Size', 30_000_000]));
    $gone->read_head;
    $gone->reset;
    wait_for(sub { grep { m{ /gone 200 br \d+ \d+ client_closed} } $s->access_lines(0) });
    my ($line) = grep { m{^GET / 200 gzip 20000 } } $s->access_lines(0);
    ok($line && $line =~ / 20000 (\d+) -$/ && $1 > 100 && $1 < 10000, 'the log tells the coding and both sizes');
}
$s->stop;

# ---- memory ----
$s = rpd(config => simple_config(listen => "127.0.0.1:$port", server => $origin->address), global => "workers = 1\ncompress_memory = 300k\n");
{
    is(ask('GET', '/', 'Accept-Encoding', 'br, gzip')->{coding}, 'gzip', 'no room for br: the next one that fits');
    my $r = ask('GET', '/', 'Accept-Encoding', 'br');
    is_deeply([$r->{coding}, field($r, 'vary'), plain($r) eq $page], ['', 'Accept-Encoding', 1], 'nothing else: as it is');
    my $slow = client($port, rcvbuf => 4096);
    $slow->send(request('GET', '/', ['Accept-Encoding', 'gzip', 'X-Size', 30_000_000]));
    $slow->read_head;
    is(ask('GET', '/', 'Accept-Encoding', 'gzip')->{coding}, '', 'no room beside another one');
    $slow->reset;
    ok(wait_for(sub { ask('GET', '/', 'Accept-Encoding', 'gzip')->{coding} eq 'gzip' }), 'and again when that has gone');
    cmp_ok($s->metric('rpd_compress_no_memory_total'), '>=', 3, 'which is counted');
}
$s->stop;
done_testing();
