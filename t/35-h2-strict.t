#!/usr/bin/perl
# HTTP/2 by the letter of RFC 9113: every rule of frames, streams and fields, broken once; and nothing ambiguous ever reaches an origin.
use strict;
use warnings;
use RPD::Test;
use RPD::H2 qw(frame_bytes settings_bytes END_STREAM END_HEADERS PADDED HAS_PRIORITY ACK PREFACE);
use RPD::HPACK;

my $dir = tempdir();
my $seen = "$dir/seen";
spew($seen, '');
# The origin notes every head, and every request that was whole; /body's answers are long.
my $o = origin()->serve(sub {
    my ($c, $number) = @_;
    my $note = sub { open my $f, '>>', $seen or die; syswrite $f, $_[0] };
    for (;;) {
        my $head = eval { $c->read_head(timeout => 3600) } or return;
        $note->("HEAD $number $head");
        $c->{buf} = $head . $c->{buf};
        my $r = eval { $c->read_request } or return $note->("BROKEN $number\n");
        $note->("WHOLE $number $r->{line} " . length($r->{body}) . "\n");
        my $n = $r->{target} =~ m{^/ok/body/(\d+)} ? $1 : 0;
        my $say = $r->{target} =~ m{^/ok/echo} ? $r->{head} : $n ? 'x' x $n : "fine\n";
        $c->send(response(200, [], $r->{body} =~ /GET/ ? $r->{body} : $say));
    }
});
my ($port, $both) = (free_port(), free_port());
my $s = rpd(config => simple_config(
    listen => "127.0.0.1:$port", server => $o->address, defaults => "h2_misbehaviour = 0\nmax_body = 1m",
    listen_keys => "protocols = h2",
    rest => "[listen both]\naddress = 127.0.0.1:$both\nprotocols = h2 http/1.1\n"
), global => "workers = 1\n");

sub h2 { return RPD::H2->connect($port, @_) }
# Pseudo-fields with some changed or (undef) left out; then the fields.
sub fields {
    my ($change, @rest) = @_;
    my %p = (method => 'GET', scheme => 'http', authority => 'localhost', path => '/bad', %{ $change || {} });
    return [(map { defined $p{$_} ? (":$_", $p{$_}) : () } qw(method scheme authority path)), @rest];
}
sub good { my ($h, $id, %opt) = @_; $h->headers($id, fields({ path => $opt{path} || '/ok' }), end => 1, %opt) }
# A good request is answered: the connection has not suffered.
sub lives {
    my ($h) = @_;
    my $id = $h->{next} > 1001 ? $h->{next} : 1001;
    $h->{next} = $id + 2;
    my $r = eval { good($h, $id); $h->response($id) };
    return $r && ($r->{status} || 0) == 200;
}

# What a case comes to, in words: "connection ERROR", "stream ERROR", "status N", "alive".
sub outcome {
    my ($h, $id) = @_;
    my $r = $h->stream($id);
    if ($r) {
        $h->pump(sub { $r->{ended} || defined $r->{reset} || grep { $_->{code} } @{ $h->{goaway} } }, timeout => 5);
    } else {
        $h->ping;
    }
    return 'connection ' . $h->ending if $h->{eof} || grep { $_->{code} } @{ $h->{goaway} };
    return "stream $r->{error}" if $r && defined $r->{reset} && !defined $r->{status};
    return "status $r->{status}" if $r && defined $r->{status};
    return 'alive';
}

sub table {
    my ($title, @rows) = @_;
    subtest $title => sub {
        for my $row (@rows) {
            my ($name, $code, $want, $id, @opt) = @$row;
            my $h = h2(@opt);
            my $got = eval { local $SIG{PIPE} = 'IGNORE'; $code->($h); 1 } ? '' : $@;
            if ($got ne '' && $got !~ /^(send|next_frame)/) {
                fail("$name: $got");
                next;
            }
            my $end = eval { outcome($h, $id || 1) } // "died: $@";
            ok($end =~ /^(?:$want)$/, "$name: $end") or diag("expected $want");
            ok(lives($h), "$name: the connection lives") if $end !~ /^connection|^died/;
            $h->close;
        }
    };
}
my $PE = 'connection PROTOCOL_ERROR';
my $FSE = 'connection FRAME_SIZE_ERROR';
my $CE = 'connection COMPRESSION_ERROR';
# A malformed request: an answer of 400 or a stream error, says RFC 9113 8.1.1; the connection goes on.
my $BAD = 'status 400|stream PROTOCOL_ERROR';

subtest 'preface (3.4)' => sub {
    for my $case (
        ['HTTP/1 where only h2 is spoken', "GET /bad HTTP/1.1\r\nHost: localhost\r\n\r\n"],
        ['wrong in the last byte', "PRI * HTTP/2.0\r\n\r\nSM\r\n\rX" . ("\0" x 30)],
        ['rubbish', "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" x 5],
        ['no SETTINGS after it', PREFACE . frame_bytes('PING', 0, 0, 'x' x 8)],
        ['HEADERS after it', PREFACE . frame_bytes('HEADERS', 5, 1, RPD::HPACK->new->encode(fields()))],
        ['SETTINGS ACK after it', PREFACE . frame_bytes('SETTINGS', ACK, 0, '')],
    ) {
        my $c = client($port);
        $c->send($case->[1]);
        ok(eval { $c->read_eof; 1 }, "$case->[0]: closed");
        $c->close;
    }
    my $h = RPD::H2->connect($port, preface => 0);
    my $bytes = PREFACE . frame_bytes('SETTINGS', 0, 0, '') . $h->headers_bytes(1, fields({ path => '/ok' }), end => 1);
    $h->conn->send_split($bytes, 1 .. length $bytes);
    is($h->response(1)->{status}, 200, 'byte by byte');
    ok($h->{settings_seen}, 'SETTINGS came');
    $h->close;
    $h = RPD::H2->connect($both);
    is($h->get('/ok')->{status}, 200, 'prior knowledge beside HTTP/1');
    $h->close;
    is(http_get($both, '/ok')->{status}, 200, 'HTTP/1 beside prior knowledge');
    my $c = client($both);
    $c->send("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n" . ("\0" x 30));
    ok(eval { $c->read_eof; 1 }, 'a preface that is none');
    $c->close;
    $c = client($both);
    $c->send_split("PRI / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 1, 2, 3, 4, 5, 6);
    ok(eval { $c->read_eof; 1 }, 'a method that begins like it');
    $c->close;
};

my $huge = 'x' x 16385;
table('frames (4)',
    ['unknown type', sub { $_[0]->frame(77, 255, 0, 'abc'); $_[0]->frame(78, 255, 5, 'abc'); good($_[0], 1) }, 'status 200'],
    ['unknown flags', sub { $_[0]->frame('HEADERS', 5 | 0x52, 1, RPD::HPACK->new->encode(fields({ path => '/ok' }))); $_[0]->_stream(1) }, 'status 200'],
    ['reserved bit', sub { $_[0]->frame('PING', 0, 0x80000000, 'x' x 8); good($_[0], 1) }, 'status 200'],
    ['DATA too long', sub { good($_[0], 1, end => 0); $_[0]->data(1, $huge) }, $FSE],
    ['HEADERS too long', sub { $_[0]->frame('HEADERS', 5, 1, $huge) }, $FSE],
    ['SETTINGS too long', sub { $_[0]->frame('SETTINGS', 0, 0, settings_bytes(([99, 0]) x 2731)) }, $FSE],
    ['unknown type too long', sub { $_[0]->frame(77, 0, 0, $huge) }, $FSE],
    ['PING of 2^24-1', sub { $_[0]->send(frame_bytes('PING', 0, 0, 'x' x 20000, length => 0xffffff), quiet => 1) }, $FSE],
);

sub block { my ($bytes) = @_; return sub { $_[0]->headers(1, [], block => $bytes, end => 1) } }
my $begin = RPD::HPACK->new->encode(fields());
my $int = \&RPD::HPACK::integer;
table('field blocks (4.3, RFC 7541)',
    ['index 0', block($begin . "\x80"), $CE],
    ['index of nothing', block($begin . $int->(7, 128, 62)), $CE],
    ['index 2^31', block($begin . "\xff\x80\xff\xff\xff\x07"), $CE],
    ['index without end', block($begin . "\xff" . "\xff" x 20), $CE],
    ['name index of nothing', block($begin . $int->(6, 64, 100) . "\1a"), $CE],
    ['string beyond the block', block($begin . "\0\1a\x7f\x00b"), $CE],
    ['string of 2^32', block($begin . "\0\1a\x7f\xff\xff\xff\xff\x0f"), $CE],
    ['block ends in a field', block($begin . "\0\1a"), $CE],
    ['Huffman: padding of 8 ones', block($begin . "\0\1a" . $int->(7, 128, 2) . RPD::HPACK::huffman('0') . "\xff"), $CE],
    ['Huffman: padding of zeros', block($begin . "\0\1a" . $int->(7, 128, 1) . "\x00"), $CE],
    ['Huffman: the end symbol', block($begin . "\0\1a" . $int->(7, 128, 4) . "\xff\xff\xff\xff"), $CE],
    ['table larger than allowed', block($int->(5, 32, 4097) . $begin), $CE],
    ['table of 2^31', block("\x3f\xff\xff\xff\xff\x07" . $begin), $CE],
    ['change of the table after a field', block($begin . $int->(5, 32, 100)), $CE],
    ['table of nothing', sub { my $p = $_[0]{out}; $_[0]->headers(1, fields({ path => '/ok' }, 'x-a', 'b'), resize => $p->resize(0), index => 1, end => 1) },
        'status 200'],
    ['table changes twice', sub { my $p = $_[0]{out}; good($_[0], 1, resize => $p->resize(0) . $p->resize(4096)) }, 'status 200'],
    ['Huffman and indices', sub { good($_[0], $_, huffman => 1, index => 1) for 1, 3, 5 }, 'status 200', 5],
    ['never indexed', sub { good($_[0], 1, never => 1) }, 'status 200'],
    ['HEADERS, then DATA', sub { good($_[0], 1, open => 1, end => 0); $_[0]->data(1, 'x') }, $PE],
    ['HEADERS, then PING', sub { good($_[0], 1, open => 1); $_[0]->frame('PING', 0, 0, 'x' x 8) }, $PE],
    ['HEADERS, then an unknown type', sub { good($_[0], 1, open => 1); $_[0]->frame(99, 0, 0, '') }, $PE],
    ['HEADERS, then HEADERS elsewhere', sub { good($_[0], 1, open => 1); good($_[0], 3) }, $PE],
    ['HEADERS, then CONTINUATION elsewhere', sub { good($_[0], 1, open => 1); $_[0]->frame('CONTINUATION', END_HEADERS, 3, '') }, $PE],
    ['a block in five frames', sub { good($_[0], 1, split => 10) }, 'status 200'],
    ['an empty CONTINUATION', sub { good($_[0], 1, open => 1); $_[0]->frame('CONTINUATION', END_HEADERS, 1, '') }, 'status 200'],
);

table('streams (5.1)',
    ['DATA on an idle stream', sub { $_[0]->data(1, 'x') }, $PE],
    ['RST_STREAM on an idle stream', sub { $_[0]->rst(1, 'CANCEL') }, $PE],
    ['WINDOW_UPDATE on an idle stream', sub { $_[0]->window_update(1, 1) }, $PE],
    ['CONTINUATION on an idle stream', sub { $_[0]->frame('CONTINUATION', END_HEADERS, 1, '') }, $PE],
    ['PRIORITY on an idle stream', sub { $_[0]->frame('PRIORITY', 0, 7, pack 'NC', 0, 5); good($_[0], 1) }, 'status 200'],
    ['DATA after the end', sub { good($_[0], 1, path => '/ok/body/9'); $_[0]->data(1, 'x') }, 'stream STREAM_CLOSED|connection (STREAM_CLOSED|PROTOCOL_ERROR)|status 200'],
    ['HEADERS after the end', sub { good($_[0], 1); good($_[0], 1) }, 'stream STREAM_CLOSED|connection (STREAM_CLOSED|PROTOCOL_ERROR)|status 200'],
    # A stream that was passed over is closed (5.1.1): an error, or as if nothing had been said, but never a request.
    ['a lower stream', sub { good($_[0], 5); $_[0]->response(5); good($_[0], 3, path => '/bad'); $_[0]->ping }, 'connection (PROTOCOL_ERROR|STREAM_CLOSED)|alive', 99],
    ['a stream that was', sub { good($_[0], 1); $_[0]->response(1); $_[0]{streams} = {}; good($_[0], 1, path => '/bad'); $_[0]->ping },
        'connection (PROTOCOL_ERROR|STREAM_CLOSED)|stream STREAM_CLOSED|alive', 99],
    ['an even stream', sub { good($_[0], 2) }, $PE, 2],
    ['stream 0', sub { $_[0]->frame('HEADERS', 5, 0, $begin) }, $PE],
    ['DATA after our reset', sub { good($_[0], 1, end => 0); $_[0]->rst(1, 'CANCEL'); $_[0]->data(1, 'x') }, 'alive|connection (STREAM_CLOSED|PROTOCOL_ERROR)', 99],
    ['WINDOW_UPDATE after the end', sub { good($_[0], 1); $_[0]->response(1); $_[0]->window_update(1, 9); good($_[0], 3) }, 'status 200', 3],
    ['RST_STREAM after the end', sub { good($_[0], 1); $_[0]->response(1); $_[0]->rst(1, 'CANCEL'); good($_[0], 3) }, 'status 200', 3],
    ['a stream that depends on itself', sub { good($_[0], 1, priority => [0, 1, 5]) }, "$PE|stream PROTOCOL_ERROR|status 200"],
);

table('DATA and HEADERS (6.1, 6.2)',
    ['DATA on stream 0', sub { $_[0]->data(0, 'x') }, $PE],
    ['DATA: padding as long as the frame', sub { good($_[0], 1, end => 0); $_[0]->frame('DATA', PADDED, 1, "\x05abcd") }, $PE],
    ['DATA: padding without its length', sub { good($_[0], 1, end => 0); $_[0]->frame('DATA', PADDED, 1, '') }, "$PE|$FSE"],
    ['DATA: padded rightly', sub { $_[0]->headers(1, fields({ method => 'POST', path => '/ok' })); $_[0]->data(1, 'abc', padding => 255, end => 1) }, 'status 200'],
    ['HEADERS: padding too long', sub { $_[0]->frame('HEADERS', 5 | PADDED, 1, "\x7f$begin") }, $PE],
    ['HEADERS: padding without its length', sub { $_[0]->frame('HEADERS', 5 | PADDED, 1, '') }, "$PE|$FSE"],
    ['HEADERS: padded rightly', sub { good($_[0], 1, padding => 200) }, 'status 200'],
    ['HEADERS: priority cut short', sub { $_[0]->frame('HEADERS', 5 | HAS_PRIORITY, 1, "\0\0\0") }, "$PE|$FSE"],
    ['HEADERS: priority', sub { good($_[0], 3, priority => [1, 1, 255]) }, 'status 200', 3],
);
table('PRIORITY, RST_STREAM, PUSH_PROMISE (6.3, 6.4, 6.6)',
    ['PRIORITY on stream 0', sub { $_[0]->frame('PRIORITY', 0, 0, pack 'NC', 1, 5) }, $PE],
    ['PRIORITY of 4 bytes', sub { $_[0]->frame('PRIORITY', 0, 1, 'abcd') }, "$FSE|stream FRAME_SIZE_ERROR"],
    ['RST_STREAM on stream 0', sub { $_[0]->rst(0, 'CANCEL') }, $PE],
    ['RST_STREAM of 3 bytes', sub { good($_[0], 1, end => 0); $_[0]->frame('RST_STREAM', 0, 1, 'abc') }, $FSE],
    ['RST_STREAM with an unknown code', sub { good($_[0], 1, end => 0); $_[0]->rst(1, 4_000_000_000) }, 'alive', 99],
    ['PUSH_PROMISE of a client', sub { good($_[0], 1, end => 0); $_[0]->frame('PUSH_PROMISE', END_HEADERS, 1, pack('N', 2) . $begin) }, $PE],
);
table('SETTINGS (6.5)',
    ['on a stream', sub { $_[0]->frame('SETTINGS', 0, 1, '') }, $PE],
    ['ACK with a payload', sub { $_[0]->frame('SETTINGS', ACK, 0, settings_bytes([3, 1])) }, $FSE],
    ['of 5 bytes', sub { $_[0]->frame('SETTINGS', 0, 0, 'abcde') }, $FSE],
    ['ENABLE_PUSH 2', sub { $_[0]->settings([2, 2]) }, $PE],
    ['window of 2^31', sub { $_[0]->settings([4, 1 << 31]) }, 'connection FLOW_CONTROL_ERROR'],
    ['frames of 16383', sub { $_[0]->settings([5, 16383]) }, $PE],
    ['frames of 2^24', sub { $_[0]->settings([5, 1 << 24]) }, $PE],
    ['an unknown one', sub { $_[0]->settings([0x7777, 1], [0, 0], [0xffff, 0xffffffff]); good($_[0], 1) }, 'status 200'],
    ['are acknowledged', sub { $_[0]->settings([3, 7]); $_[0]->ping; $_[0]{settings_acked} == 2 or die "send: not acknowledged"; good($_[0], 1) }, 'status 200'],
    ['a window that overflows by them', sub { good($_[0], 1, end => 0); $_[0]->window_update(1, 0x7fffffff - 65535); $_[0]->settings([4, 65536]) },
        'connection FLOW_CONTROL_ERROR|stream FLOW_CONTROL_ERROR'],
);
table('PING, GOAWAY, WINDOW_UPDATE (6.7 to 6.9)',
    ['PING on a stream', sub { $_[0]->frame('PING', 0, 1, 'x' x 8) }, $PE],
    ['PING of 7 bytes', sub { $_[0]->frame('PING', 0, 0, 'x' x 7) }, $FSE],
    ['PING is answered', sub { $_[0]->ping or die 'send: no answer' }, 'alive', 99],
    ['PING ACK is not', sub { $_[0]->frame('PING', ACK, 0, 'unaskedx'); good($_[0], 1); $_[0]->response(1); die 'no: answered' if grep { $_ eq 'unaskedx' } @{ $_[0]{pings} } }, 'status 200'],
    ['GOAWAY on a stream', sub { $_[0]->frame('GOAWAY', 0, 1, "\0" x 8) }, $PE],
    ['GOAWAY of 7 bytes', sub { $_[0]->frame('GOAWAY', 0, 0, "\0" x 7) }, $FSE],
    ['WINDOW_UPDATE of 3 bytes', sub { $_[0]->frame('WINDOW_UPDATE', 0, 0, 'abc') }, $FSE],
    ['WINDOW_UPDATE of 0', sub { $_[0]->window_update(0, 0) }, $PE],
    ['WINDOW_UPDATE of 0 on a stream', sub { good($_[0], 1, end => 0); $_[0]->window_update(1, 0) }, "$PE|stream PROTOCOL_ERROR"],
    ['the connection\'s window over 2^31-1', sub { $_[0]->window_update(0, 0x7fffffff) }, 'connection FLOW_CONTROL_ERROR'],
    ['a stream\'s window over 2^31-1', sub { good($_[0], 1, end => 0); $_[0]->window_update(1, 0x7fffffff) }, 'stream FLOW_CONTROL_ERROR|connection FLOW_CONTROL_ERROR'],
);

subtest 'GOAWAY of a client: what it has asked is answered' => sub {
    my $h = h2();
    good($h, 1, path => '/ok/body/100000');
    $h->send_goaway(0);
    is($h->response(1)->{nbody}, 100_000, 'all of it');
    ok($h->ending =~ /NO_ERROR|closed/, 'then the connection ends');
    $h->close;
};

subtest 'windows (6.9): not a byte more than was allowed' => sub {
    my $h = h2(settings => [[4, 10]], manual => 1);
    good($h, 1, path => '/ok/body/100');
    my $r = $h->response(1, head => 1);
    for my $n (1, 5, 84) {
        my $was = $r->{nbody};
        ok($h->pump(sub { $r->{nbody} >= 10 }), 'the first window') if !$was;
        $was = $r->{nbody};
        $h->ping;
        is($r->{nbody}, $was, "$was bytes and no more");
        $h->window_update(1, $n);
        ok($h->pump(sub { $r->{nbody} >= $was + $n }), "$n more");
    }
    $h->ping;
    ok($r->{ended} && $r->{nbody} == 100, 'all, and its end');
    $h->close;
    # The window is made smaller while an answer is under way: it goes below zero and has to come up first.
    $h = h2(settings => [[4, 1000]], manual => 1);
    good($h, 1, path => '/ok/body/3000');
    $r = $h->response(1, head => 1);
    $h->pump(sub { $r->{nbody} >= 1000 });
    $h->settings([4, 0]);
    $h->ping;
    $h->window_update(1, 1000);
    $h->ping;
    is($r->{nbody}, 1000, 'a window below zero lets nothing through');
    $h->window_update(1, 1);
    ok($h->pump(sub { $r->{nbody} == 1001 }), 'the first byte above zero does');
    $h->settings([4, 5000]);
    ok($h->pump(sub { $r->{ended} }), 'the initial window raised again lets all through');
    is($r->{nbody}, 3000, 'all');
    $h->close;
};

table('messages (8.1)',
    ['HEADERS that do not end the stream, twice', sub { $_[0]->headers(1, fields({ method => 'POST' })); $_[0]->headers(1, ['x-a', '1']) }, $BAD],
    ['trailers with a pseudo-field', sub { $_[0]->headers(1, fields({ method => 'POST' })); $_[0]->headers(1, [':path', '/ok'], end => 1) }, $BAD],
    ['trailers with an upper-case name', sub { $_[0]->headers(1, fields({ method => 'POST' })); $_[0]->headers(1, ['X-A', '/ok'], end => 1) }, $BAD],
    ['trailers with CR LF', sub { $_[0]->headers(1, fields({ method => 'POST' })); $_[0]->headers(1, ['x-a', "a\r\nb: c"], end => 1) }, $BAD],
    ['content-length too large', sub { $_[0]->headers(1, fields({ method => 'POST' }, 'content-length', 10)); $_[0]->data(1, 'abc', end => 1) }, $BAD],
    ['content-length too small', sub { $_[0]->headers(1, fields({ method => 'POST' }, 'content-length', 2)); $_[0]->data(1, 'abc', end => 1) }, $BAD],
    ['content-length without a body', sub { $_[0]->headers(1, fields({ method => 'POST' }, 'content-length', 10), end => 1) }, $BAD],
    # Its head alone is a whole request, which may have gone before the body comes.
    ['content-length 0 with a body', sub { $_[0]->headers(1, fields({ method => 'POST', path => '/ok' }, 'content-length', 0)); $_[0]->data(1, 'abc', end => 1) }, $BAD],
    ['body without content-length, empty', sub { $_[0]->headers(1, fields({ method => 'POST', path => '/ok' })); $_[0]->data(1, '', end => 1) }, 'status 200'],
);

my @bad;
sub bad { my ($name, $change, @rest) = @_; push @bad, ["$name", sub { $_[0]->headers(1, fields($change, @rest), end => 1) }, $BAD] }
bad('upper case in a name', {}, 'X-A', '1');
bad('empty name', {}, '', '1');
bad(sprintf('byte %02x in a name', $_), {}, 'x' . chr($_) . 'a', '1') for 0, 1, 9, 10, 13, 32, 34, 40, 44, 47, 58, 59, 64, 91, 123, 127, 128, 255;
bad(sprintf('byte %02x in a value', $_), {}, 'x-a', 'a' . chr($_) . 'b') for 0, 10, 13;
bad('CR LF and a field in a value', {}, 'x-a', "1\r\nTransfer-Encoding: chunked");
bad('a request in a value', {}, 'x-a', "1\r\n\r\nGET /bad HTTP/1.1\r\nHost: localhost\r\n");
bad('a field in a name', {}, "x-a: b\r\nx-c", '1');
bad("connection field $_->[0]", {}, @$_) for ['connection', 'close'], ['connection', 'x-a'], ['keep-alive', '1'], ['proxy-connection', 'x'],
    ['transfer-encoding', 'chunked'], ['transfer-encoding', 'identity'], ['upgrade', 'websocket'], ['te', 'gzip'], ['te', 'trailers, gzip'], ['te', ''];
bad('content-length twice, differing', {}, 'content-length', 1, 'content-length', 2);
bad("content-length '$_'", { method => 'POST' }, 'content-length', $_) for '', '+1', '-1', '0x1', '1,1', '1 1', 'abc', '18446744073709551616', '99999999999999999999999';
bad('no :method', { method => undef });
bad('no :scheme', { scheme => undef });
bad('no :path', { path => undef });
bad('no :authority and no host', { authority => undef });
bad('empty :method', { method => '' });
bad('empty :path', { path => '' });
bad('empty :scheme', { scheme => '' });
bad('empty :authority', { authority => '' });
bad(":method '" . _shown($_) . "'", { method => $_ }) for 'GE T', "GET\r\n", "GET /bad HTTP/1.1\r\nX: ", "G\0T", 'GET:', "G\x80T", '(GET)';
bad(":path '" . _shown($_) . "'", { path => $_ }) for 'bad', '/b ad', "/bad\r\n", "/bad HTTP/1.1\r\nX: y", "/bad\0", "/bad\t", '/bad#x', "/bad\x7f", "/bad\x01",
    'http://localhost/bad', '//' x 0 . '*', '/bad/../../x', '/bad%zz', '/bad%00', '/%2e%2e/bad';
bad(":scheme '" . _shown($_) . "'", { scheme => $_ }) for 'ht tp', "http\r\n", "h\0", '1http', "http://localhost/ok HTTP/1.1\r\n";
bad(":authority '" . _shown($_) . "'", { authority => $_ }) for 'a b', "localhost\r\nX: y", 'u@localhost', 'localhost/x', 'localhost:99999', 'localhost:x', "a\0b", 'a,b',
    "localhost\t", '[::1', "localhost\x80";
bad('host differs from :authority', {}, 'host', 'other.test');
bad('host twice', { authority => undef }, 'host', 'localhost', 'host', 'localhost');
bad('host with :authority twice', {}, 'host', 'localhost', 'host', 'localhost');
bad('host with CR LF', { authority => undef }, 'host', "localhost\r\nX: y");
bad('host empty', { authority => undef }, 'host', '');
bad('unknown pseudo-field', {}, ':x', '1');
bad(':status in a request', {}, ':status', '200');
bad(':protocol without CONNECT', {}, ':protocol', 'websocket');
bad("$_->[0] twice", {}, @$_) for [':method', 'GET'], [':path', '/ok'], [':scheme', 'http'], [':authority', 'localhost'];
bad('CONNECT', { method => 'CONNECT' });
for my $row (
    ['a pseudo-field after a field', [':method', 'GET', ':scheme', 'http', 'x-a', '1', ':authority', 'localhost', ':path', '/bad']],
    ['nothing but a field', ['x-a', '1']],
    ['nothing', []],
    ['CONNECT without :authority', [':method', 'CONNECT']],
    ['the path only after another one', [':method', 'GET', ':scheme', 'http', ':authority', 'localhost', ':path', '/bad', ':path', '/bad2']],
) {
    push @bad, [$row->[0], sub { $_[0]->headers(1, $row->[1], end => 1) }, $BAD];
}
sub _shown { my ($t) = @_; $t =~ s/([^\x20-\x7e])/sprintf '\\x%02x', ord $1/ge; return $t }
table('fields that no request may have (8.2, 8.3)', @bad);
# A proxy is no tunnel: CONNECT in its plain form is refused whole.
table('CONNECT (8.5)', ['is refused', sub { $_[0]->headers(1, [':method', 'CONNECT', ':authority', 'localhost:22'], end => 1) }, 'status (400|405|501)|stream PROTOCOL_ERROR']);

my @fine;
sub fine { my ($name, $change, @rest) = @_; push @fine, [$name, sub { $_[0]->headers(1, fields({ path => '/ok', %$change }, @rest), end => 1) }, 'status 200'] }
fine('te: trailers', {}, 'te', 'trailers');
fine('host instead of :authority', { authority => undef }, 'host', 'localhost');
fine('host the same as :authority', {}, 'host', 'localhost');
fine('pseudo-fields in any order', {});
fine('content-length 0', { method => 'POST' }, 'content-length', 0);
fine('OPTIONS *', { method => 'OPTIONS', path => '*' });
fine('bytes over 127 in a value', {}, 'x-a', "\xe4\xf6\xff");
fine('an empty value', {}, 'x-a', '');
table('fields that are in order', @fine);

subtest 'what an origin gets' => sub {
    my $h = h2();
    my $r = $h->get('/ok/echo?a=b&c', ['cookie', 'a=1', 'x-one', '1', 'cookie', 'b=2', 'x-two', 'first', 'x-two', 'second', 'cookie', 'c=3', 'te', 'trailers']);
    like($r->{body}, qr{^GET /ok/echo\?a=b&c HTTP/1\.1\r\n}, 'the request line');
    is(scalar(() = $r->{body} =~ /^host:/gmi), 1, 'one Host');
    like($r->{body}, qr/^host: localhost\r$/mi, 'from :authority');
    is_deeply([$r->{body} =~ /^cookie: (.*)\r$/gmi], ['a=1; b=2; c=3'], 'cookies joined (8.2.3)');
    like($r->{body}, qr/^x-two: first\r\nx-two: second\r$/mi, 'repeated fields in order');
    unlike($r->{body}, qr/^:/m, 'no pseudo-field');
    like($r->{body}, qr/^via: 2(\.0)? /mi, 'Via says 2');
    my $inner = "GET /bad HTTP/1.1\r\nHost: localhost\r\n\r\n";
    $r = $h->response($h->request('POST', '/ok', [], "0\r\n\r\n$inner"));
    is($r->{body}, "0\r\n\r\n$inner", 'a body that looks like an end and a request is a body');
    $r = $h->response($h->request('POST', '/ok', ['content-length', length $inner], $inner));
    is($r->{body}, $inner, 'and with a length');
    # GET with a body, in DATA frames: it has its frame on the other side too.
    $r = $h->response($h->request('GET', '/ok', [], $inner));
    ok($r->{status} == 200 && $r->{body} eq $inner || $r->{status} == 400, 'GET with a body is framed or refused');
    $r = $h->get('/ok');
    is($r->{status}, 200, 'the next');
    $h->close;
};

subtest 'limits' => sub {
    my $h = h2();
    is($h->get('/' . 'x' x 9000)->{status} // 0, 414, 'a path over max_request_line');
    is($h->get('/ok', ['x-a', 'x' x 15000])->{status} // 0, 200, 'a field within max_field');
    is($h->get('/bad', ['x-a', 'x' x 17000])->{status} // 0, 431, 'a field over max_field');
    is($h->get('/bad', [map { ("x-$_", 'x' x 8000) } 1 .. 5])->{status} // 0, 431, 'fields over max_head');
    is($h->get('/bad', [map { ("x-$_", '') } 1 .. 150])->{status} // 0, 431, 'too many fields');
    is($h->get('/ok')->{status}, 200, 'the connection lives');
    is($h->response($h->request('POST', '/bad', ['content-length', (1 << 20) + 1], undef, end => 0))->{status}, 413, 'max_body by length');
    $h->close;
};

subtest 'the origin saw nothing of all that was wrong' => sub {
    ok(wait_for(sub { !$s->metric('rpd_requests_in_flight') }, quiet => 1), 'all done');
    my $text = slurp($seen);
    my @heads = $text =~ /^HEAD \d+ (.*?\r\n)\r\n/gms;
    cmp_ok(scalar @heads, '>', 20, scalar(@heads) . ' requests seen');
    my @wrong = grep { m{^\S+ /bad} && !m{^POST /bad HTTP/1.1\r\n} } @heads;
    is(scalar @wrong, 0, 'no head of a bad request') or diag(join "\n", splice @wrong, 0, 5);
    my @whole = grep { / \/bad/ } $text =~ /^WHOLE \d+ (.*)$/gm;
    is(scalar @whole, 0, 'no bad request whole') or diag(join "\n", splice @whole, 0, 5);
    for my $head (@heads) {
        my $hosts = () = $head =~ /^host:/gmi;
        my $lengths = () = $head =~ /^content-length:/gmi;
        my $codings = () = $head =~ /^transfer-encoding:/gmi;
        fail("ambiguous:\n$head") if $hosts != 1 || $lengths + $codings > 1;
    }
};

$s->stop;
done_testing;
