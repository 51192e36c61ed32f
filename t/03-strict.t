#!/usr/bin/perl
# Anything ambiguous is refused before an origin sees it: a table of requests, each with its exact status.
use strict;
use warnings;
use RPD::Test;

my $port = free_port();
my $o = origin();
my $s = rpd(config => simple_config(
    listen => "127.0.0.1:$port", server => $o->address, listen_keys => "max_fields = 50\nmax_field = 4k\nmax_head = 16k\nmax_request_line = 2k\nprotocols = http/1.1"
), global => "workers = 1\n");

my $h = "Host: localhost\r\n";
my $ch = "Transfer-Encoding: chunked\r\n";
# name, bytes, status. Chunk errors come after a head that is in order: the origin may see that head, never a whole request.
my @table = (
    ['CL and TE', "POST / HTTP/1.1\r\n${h}Content-Length: 5\r\n$ch\r\n0\r\n\r\n", 400],
    ['TE and CL', "POST / HTTP/1.1\r\n$h${ch}Content-Length: 5\r\n\r\n0\r\n\r\n", 400],
    ['two CL that differ', "POST / HTTP/1.1\r\n${h}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400],
    ['two CL that agree', "POST / HTTP/1.1\r\n${h}Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400],
    ['CL list', "POST / HTTP/1.1\r\n${h}Content-Length: 5, 5\r\n\r\nhello", 400],
    ['CL +', "POST / HTTP/1.1\r\n${h}Content-Length: +5\r\n\r\nhello", 400],
    ['CL -', "POST / HTTP/1.1\r\n${h}Content-Length: -5\r\n\r\nhello", 400],
    ['CL hex', "POST / HTTP/1.1\r\n${h}Content-Length: 0x5\r\n\r\nhello", 400],
    ['CL empty', "POST / HTTP/1.1\r\n${h}Content-Length:\r\n\r\nhello", 400],
    ['CL inner blank', "POST / HTTP/1.1\r\n${h}Content-Length: 5 5\r\n\r\nhello", 400],
    ['CL 2^64', "POST / HTTP/1.1\r\n${h}Content-Length: 18446744073709551616\r\n\r\nhello", 400],
    ['CL 2^63', "POST / HTTP/1.1\r\n${h}Content-Length: 9223372036854775808\r\n\r\nhello", qr/400|413/],
    ['TE xchunked', "POST / HTTP/1.1\r\n${h}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501],
    ['TE identity', "POST / HTTP/1.1\r\n${h}Transfer-Encoding: identity\r\n\r\n", qr/400|501/],
    ['TE gzip, chunked', "POST / HTTP/1.1\r\n${h}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501],
    ['TE chunked, chunked', "POST / HTTP/1.1\r\n${h}Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", qr/400|501/],
    ['TE chunked, gzip', "POST / HTTP/1.1\r\n${h}Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", qr/400|501/],
    ['TE twice', "POST / HTTP/1.1\r\n$h$ch$ch\r\n0\r\n\r\n", qr/400|501/],
    ['TE empty', "POST / HTTP/1.1\r\n${h}Transfer-Encoding:\r\n\r\n", qr/400|501/],
    ['TE quoted', "POST / HTTP/1.1\r\n${h}Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", qr/400|501/],
    ['TE vertical tab', "POST / HTTP/1.1\r\n${h}Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n", qr/400|501/],
    ['TE in HTTP/1.0', "POST / HTTP/1.0\r\n$h$ch\r\n0\r\n\r\n", qr/400|501/],
    ['blank before colon', "POST / HTTP/1.1\r\n${h}Content-Length : 5\r\n\r\nhello", 400],
    ['blank before colon of TE', "POST / HTTP/1.1\r\n${h}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400],
    ['tab before colon', "GET / HTTP/1.1\r\n${h}X-A\t: 1\r\n\r\n", 400],
    ['obs-fold', "GET / HTTP/1.1\r\n${h}X-A: 1\r\n 2\r\n\r\n", 400],
    ['obs-fold with tab', "GET / HTTP/1.1\r\n${h}X-A: 1\r\n\t2\r\n\r\n", 400],
    ['blank before the first field', "GET / HTTP/1.1\r\n X-A: 1\r\n$h\r\n", 400],
    ['no colon', "GET / HTTP/1.1\r\n${h}X-A\r\n\r\n", 400],
    ['empty name', "GET / HTTP/1.1\r\n$h: 1\r\n\r\n", 400],
    ['blank in name', "GET / HTTP/1.1\r\n${h}X A: 1\r\n\r\n", 400],
    ['NUL in value', "GET / HTTP/1.1\r\n${h}X-A: a\0b\r\n\r\n", 400],
    ['control byte in value', "GET / HTTP/1.1\r\n${h}X-A: a\x01b\r\n\r\n", 400],
    ['DEL in value', "GET / HTTP/1.1\r\n${h}X-A: a\x7fb\r\n\r\n", 400],
    ['NUL in name', "GET / HTTP/1.1\r\n${h}X\0A: a\r\n\r\n", 400],
    ['byte over 127 in name', "GET / HTTP/1.1\r\n${h}X\xe4: a\r\n\r\n", 400],
    ['bare LF ends a line', "GET / HTTP/1.1\r\n${h}X-A: 1\nX-B: 2\r\n\r\n", 400],
    ['bare LF everywhere', "GET / HTTP/1.1\nHost: localhost\n\n", 400],
    ['bare LF ends the head', "GET / HTTP/1.1\r\nHost: localhost\r\n\n", 400],
    ['bare CR in value', "GET / HTTP/1.1\r\n${h}X-A: a\rb\r\n\r\n", 400],
    ['bare CR in request line', "GET /\r HTTP/1.1\r\n$h\r\n", 400],
    ['no Host', "GET / HTTP/1.1\r\n\r\n", 400],
    ['two Hosts', "GET / HTTP/1.1\r\n${h}$h\r\n", 400],
    ['two Hosts that differ', "GET / HTTP/1.1\r\n${h}Host: b\r\n\r\n", 400],
    ['Host with userinfo', "GET / HTTP/1.1\r\nHost: a\@b\r\n\r\n", 400],
    ['Host with path', "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400],
    ['Host with blank', "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400],
    ['Host list', "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400],
    ['Host bad port', "GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n", 400],
    ['Host port not a number', "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", 400],
    ['absolute form with userinfo', "GET http://u:p\@localhost/ HTTP/1.1\r\n$h\r\n", 400],
    ['absolute form without host', "GET http:///x HTTP/1.1\r\n$h\r\n", 400],
    ['target without slash', "GET foo HTTP/1.1\r\n$h\r\n", 400],
    ['target with blank', "GET /a b HTTP/1.1\r\n$h\r\n", 400],
    ['two blanks', "GET  / HTTP/1.1\r\n$h\r\n", 400],
    ['tab for blank', "GET\t/ HTTP/1.1\r\n$h\r\n", 400],
    ['blank at the end', "GET / HTTP/1.1 \r\n$h\r\n", 400],
    ['fragment', "GET /a#b HTTP/1.1\r\n$h\r\n", 400],
    ['control byte in target', "GET /a\x01 HTTP/1.1\r\n$h\r\n", 400],
    ['NUL in target', "GET /a\0 HTTP/1.1\r\n$h\r\n", 400],
    ['encoded NUL', "GET /a%00 HTTP/1.1\r\n$h\r\n", 400, 'framed'],
    ['bad percent', "GET /a%zz HTTP/1.1\r\n$h\r\n", 400, 'framed'],
    ['above the root', "GET /../etc/passwd HTTP/1.1\r\n$h\r\n", 400, 'framed'],
    ['above the root, encoded', "GET /%2e%2e/x HTTP/1.1\r\n$h\r\n", 400, 'framed'],
    ['asterisk with GET', "GET * HTTP/1.1\r\n$h\r\n", 400],
    ['bad method', "G{T / HTTP/1.1\r\n$h\r\n", 400],
    ['no version', "GET /\r\n$h\r\n", 400],
    ['HTTP/2.0', "GET / HTTP/2.0\r\n$h\r\n", 505],
    ['HTTP/0.9', "GET / HTTP/0.9\r\n$h\r\n", 505],
    ['HTTP/1.1 in small letters', "GET / http/1.1\r\n$h\r\n", 400],
    ['HTTP/1.10', "GET / HTTP/1.10\r\n$h\r\n", qr/400|505/],
    ['HTTP/1', "GET / HTTP/1\r\n$h\r\n", qr/400|505/],
    ['TLS on a plain port', "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400],
    ['the h2 preface where only HTTP/1 is spoken', "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", qr/400|505/],
    ['request line too long', 'GET /' . ('a' x 3000) . " HTTP/1.1\r\n$h\r\n", 414],
    ['request line without end', 'GET /' . ('a' x 3000), 414],
    ['field too long', "GET / HTTP/1.1\r\n${h}X-A: " . ('a' x 5000) . "\r\n\r\n", 431],
    ['head too large', "GET / HTTP/1.1\r\n$h" . join('', map { "X-$_: " . ('a' x 1000) . "\r\n" } 1 .. 20) . "\r\n", 431],
    ['too many fields', "GET / HTTP/1.1\r\n$h" . join('', map { "X-$_: 1\r\n" } 1 .. 60) . "\r\n", 431],
    ['field without end', "GET / HTTP/1.1\r\n${h}X-A: " . ('a' x 40000), 431],
);
for my $row (@table) {
    my ($name, $bytes, $want, $framed) = @$row;
    my $c = client($port);
    # Where a request ends was never in doubt for those marked as framed: their connections may go on.
    if ($framed) {
        $c->send($bytes);
        is($c->read_response->{status}, $want, "$name: status");
        next;
    }
    # What follows must not be taken for a request of its own.
    $c->send($bytes . "GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n", quiet => 1);
    my $a = eval { $c->read_response };
    ref $want ? like($a ? $a->{status} : $@, $want, "$name: status") : is($a ? $a->{status} : $@, $want, "$name: status");
    is(eval { $c->read_eof }, '', "$name: closed, nothing more");
    like($a->{head} || '', qr/^connection: close\r$/mi, "$name: says so");
    $c->close;
}
ok(!$o->try_accept(0.2), 'no origin has seen anything of all this');

# Errors in a chunked body: the request is refused, and the origin's connection ends without a complete body.
my @chunks = (
    ['size not hex', "g\r\n"], ['size empty', "\r\nabc"], ['size with 0x', "0x3\r\nabc\r\n"], ['negative size', "-1\r\n"],
    ['size over 2^62', "fffffffffffffffff\r\n"], ['size 2^64', "10000000000000000\r\n"], ['blank in size', "1 1\r\n"],
    ['bare LF after size', "3\nabc\r\n"], ['bare CR after size', "3\rabc"], ['data too long', "3\r\nabcd\r\n"],
    ['bare LF after data', "3\r\nabc\n0\r\n\r\n"], ['control byte in extension', "3;a=\x01\r\nabc\r\n"],
    ['NUL in extension', "3;a=\0\r\nabc\r\n"], ['endless extension', '3;' . ('a' x 9000)],
    ['bare LF in trailers', "0\r\nX: 1\n\r\n"], ['obs-fold in trailers', "0\r\nX: 1\r\n 2\r\n\r\n"],
    ['blank before colon in trailers', "0\r\nX : 1\r\n\r\n"], ['endless trailers', "0\r\nX: " . ('a' x 20000)],
    ['too much extension in all', join('', map { "1;" . ('e' x 200) . "\r\nx\r\n" } 1 .. 200)],
);
for my $row (@chunks) {
    my ($name, $body) = @$row;
    my $c = client($port);
    $c->send("POST /x HTTP/1.1\r\n$h$ch\r\n${body}GET /smuggled HTTP/1.1\r\n$h\r\n", quiet => 1);
    my $a = eval { $c->read_response };
    is($a ? $a->{status} : $@, 400, "chunks, $name: status");
    is(eval { $c->read_eof }, '', "chunks, $name: closed");
    $c->close;
    if (my $oc = $o->try_accept(0.05)) {
        my $seen = eval { $oc->read_eof };
        unlike($seen, qr/smuggled/, "chunks, $name: no second request");
        unlike($seen, qr/\r\n0\r\n\r\n\z|\r\n0\r\n.*\r\n\r\n\z/s, "chunks, $name: no complete body") if $seen =~ /\r\n\r\n./s;
        $oc->close;
    }
}

subtest 'what is odd but right passes' => sub {
    for my $row (
        ['empty value', "GET /v HTTP/1.1\r\n${h}X-A:\r\n\r\n", sub { $_[0]{fields}{'x-a'}[0] eq '' }],
        ['blanks around', "GET /v HTTP/1.1\r\n${h}X-A: \t 1 \t \r\n\r\n", sub { $_[0]{fields}{'x-a'}[0] eq '1' }],
        ['bytes over 127 in a value', "GET /v HTTP/1.1\r\n${h}X-A: \xc3\xa4\r\n\r\n", sub { $_[0]{fields}{'x-a'}[0] eq "\xc3\xa4" }],
        ['Transfer-Encoding: CHUNKED', "POST /v HTTP/1.1\r\n${h}Transfer-Encoding: CHUNKED\r\n\r\n1\r\na\r\n0\r\n\r\n", sub { $_[0]{body} eq 'a' }],
        ['leading zeros in a size', "POST /v HTTP/1.1\r\n$h$ch\r\n0001\r\na\r\n0\r\n\r\n", sub { $_[0]{body} eq 'a' }],
        ['dots inside', "GET /a/../v HTTP/1.1\r\n$h\r\n", sub { $_[0]{target} eq '/a/../v' }],
        ['double slash', "GET //v HTTP/1.1\r\n$h\r\n", sub { $_[0]{target} eq '//v' }],
        ['IPv6 host', "GET /v HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", sub { $_[0]{fields}{host}[0] eq '[::1]:80' }],
        ['query with odd bytes', "GET /v?a=[b]|\"c\" HTTP/1.1\r\n$h\r\n", sub { 1 }],
    ) {
        my ($name, $bytes, $check) = @$row;
        my $c = client($port);
        $c->send($bytes);
        my $oc = $o->try_accept(5);
        if (!ok($oc, "$name: reaches the origin")) {
            diag(eval { $c->read_response->{line} });
            next;
        }
        ok($check->($oc->read_request), "$name: unchanged");
        $oc->send(response(200, ['Connection', 'close'], ''));
        is($c->read_response->{status}, 200, "$name: answered");
        $_->close for $c, $oc;
    }
};

cmp_ok($s->metric('rpd_bad_requests_total'), '>=', scalar @table, 'each was counted');
$s->stop;
done_testing;
