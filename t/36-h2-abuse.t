#!/usr/bin/perl
# Floods of HTTP/2, each held with bounded memory and time; the budget belongs to the address, so a new connection does not renew it.
use strict;
use warnings;
use RPD::Test;
use RPD::H2 qw(frame_bytes settings_bytes END_STREAM END_HEADERS ACK PADDED);
use RPD::HPACK;

# Every flood comes from an address of its own, so that no budget is used by another case; the judge is somebody else again.
my $next = 1;
sub address { return '127.0.1.' . $next++ }
my $o = origin()->serve(sub {
    my ($c) = @_;
    while (my $r = eval { $c->read_request(timeout => 60) }) {
        if ($r->{target} eq '/hang') { $c->closed(timeout => 60); return }
        $c->send(response(200, [], $r->{target} eq '/big' ? 'x' x 200_000 : 'ok'), quiet => 1);
    }
});
my $port = free_port();
my $s = rpd(config => simple_config(
    listen => "127.0.0.1:$port", server => $o->address, listen_keys => 'protocols = h2', upstream => 'max_conns = 0',
    top => "[log main]\nfile = <DIR>/access.log\nflush = 10ms\nformat = \"%{status} %{reason}\""
), global => "workers = 1\n");
my ($worker) = $s->workers;
my $hpack = RPD::HPACK->new;
my @good = (':method', 'GET', ':scheme', 'http', ':authority', 'localhost', ':path', '/');
my @hang = (@good[0 .. 6], '/hang');

sub cpu {
    my ($pid) = @_;
    my @f = split / /, (slurp("/proc/$pid/stat") =~ s/^.*\) //sr);
    return ($f[11] + $f[12]) / 100;
}
# Somebody else is served all the time.
sub judge {
    my ($what) = @_;
    my $t0 = time;
    my $h = RPD::H2->connect($port, local => '127.0.0.99');
    my $r = $h->get('/');
    ok(($r->{status} || 0) == 200 && time - $t0 < 5, sprintf "$what: others are served (%.0f ms)", (time - $t0) * 1000);
    $h->close;
}

# Sends what the code gives until the connection ends or so many times; returns how it ended and how many went out.
sub flood {
    my ($name, $times, $code, %opt) = @_;
    subtest $name => sub {
        my ($mem, $cpu, $t0) = (rss($worker), cpu($worker), time);
        my $h = RPD::H2->connect($port, local => $opt{local} || address(), keep => 0, manual => $opt{manual}, settings => $opt{settings});
        $h->ping if $opt{ping} // 1;
        $opt{before}->($h) if $opt{before};
        my ($n, $open) = (0, 1);
        while ($open && $n < $times) {
            $n++;
            $open = $h->send($code->($h, $n), quiet => 1);
            # Take in what came, without waiting for more.
            $open &&= eval { while (defined(my $got = $h->conn->fill(0))) { last if !$got; } 1 };
            $open = 0 if $h->conn->{eof};
            eval { $h->next_frame(timeout => 0.001, quiet => 1) while length $h->conn->{buf} >= 9 && !$h->{eof} && $n % 64 == 0 } ;
        }
        my $end = eval { $h->ending(timeout => $opt{alive} ? 0.5 : 5) } // "died $@";
        if ($opt{alive}) {
            like($end, qr/^open$/, "$n of them are no offence");
        } else {
            like($end, $opt{want} || qr/^ENHANCE_YOUR_CALM$/, "ended after $n: $end");
            cmp_ok($n, '<', $opt{most} || $times, 'in time') if !$opt{whole};
        }
        my $held = rss($worker) - $mem;
        cmp_ok($held, '<', $ENV{RPD_SANITIZED} ? 48 << 20 : 8 << 20, "memory: $held");
        my $used = cpu($worker) - $cpu;
        cmp_ok($used, '<', $ENV{RPD_SANITIZED} ? 10 : 2, "processor time: $used s");
        judge($name);
        $h->close;
    };
}
sub headers { my ($h, $fields, %opt) = @_; my $id = $h->{next}; $h->{next} += 2; return ($id, $h->headers_bytes($id, $fields || \@good, end => 1, %opt)) }
my $CALM = qr/^ENHANCE_YOUR_CALM$/;

flood('rapid reset (CVE-2023-44487)', 5000, sub {
    my ($id, $bytes) = headers($_[0], \@hang);
    return $bytes . frame_bytes('RST_STREAM', 0, $id, pack 'N', 8);
});
flood('resets that we are made to send (CVE-2025-8671)', 5000, sub {
    my ($id, $bytes) = headers($_[0], \@hang, end => 0);
    return $bytes . frame_bytes('WINDOW_UPDATE', 0, $id, pack 'N', 0);
}, want => qr/^(ENHANCE_YOUR_CALM|PROTOCOL_ERROR)$/);
flood('resets by window overflow', 5000, sub {
    my ($id, $bytes) = headers($_[0], \@hang, end => 0);
    return $bytes . frame_bytes('WINDOW_UPDATE', 0, $id, pack 'N', 0x7fffffff);
}, want => qr/^(ENHANCE_YOUR_CALM|FLOW_CONTROL_ERROR)$/);
flood('malformed requests', 5000, sub { (headers($_[0], [@good, 'X-Upper', '1']))[1] });
flood('content-length lies', 5000, sub {
    my ($id, $bytes) = headers($_[0], [':method', 'POST', @good[2 .. 7], 'content-length', 10], end => 0);
    return $bytes . frame_bytes('DATA', END_STREAM, $id, 'abc');
});
flood('streams over the limit', 5000, sub { (headers($_[0], \@hang))[1] }, want => qr/^(ENHANCE_YOUR_CALM|PROTOCOL_ERROR)$/);
for my $when ('half-closed', 'closed') {
    flood("DATA on $when streams", 20_000, sub { frame_bytes('DATA', 0, 1, 'x') }, want => qr/^(ENHANCE_YOUR_CALM|STREAM_CLOSED|PROTOCOL_ERROR)$/, before => sub {
        my ($h) = @_;
        my $id = $h->request('GET', $when eq 'closed' ? '/' : '/hang');
        $h->response($id) if $when eq 'closed';
    });
}
flood('CONTINUATION without end (CVE-2024-27316)', 20_000, sub {
    my ($h, $n) = @_;
    return $n == 1 ? $h->headers_bytes(1, \@good, end => 1, open => 1) : frame_bytes('CONTINUATION', 0, 1, $hpack->encode(["x-$n", 'y' x 100]));
}, most => 2000, want => qr/^(ENHANCE_YOUR_CALM|PROTOCOL_ERROR|INTERNAL_ERROR|COMPRESSION_ERROR)$/);
flood('empty CONTINUATION frames', 20_000, sub {
    my ($h, $n) = @_;
    return $n == 1 ? $h->headers_bytes(1, \@good, end => 1, open => 1) : frame_bytes('CONTINUATION', 0, 1, '');
}, most => 2000, want => qr/^(ENHANCE_YOUR_CALM|PROTOCOL_ERROR|INTERNAL_ERROR)$/);
flood('many CONTINUATION frames, block after block', 20_000, sub { (headers($_[0], \@good, split => 1))[1] });
flood('SETTINGS', 20_000, sub { frame_bytes('SETTINGS', 0, 0, settings_bytes([3, $_[1]])) });
flood('empty SETTINGS', 20_000, sub { frame_bytes('SETTINGS', 0, 0, '') });
flood('SETTINGS with thousands of entries', 5000, sub { frame_bytes('SETTINGS', 0, 0, settings_bytes(([4, 65535], [4, 1]) x 1300)) });
flood('SETTINGS ACK unasked', 20_000, sub { frame_bytes('SETTINGS', ACK, 0, '') }, want => qr/^(ENHANCE_YOUR_CALM|PROTOCOL_ERROR)$/);
flood('PING', 20_000, sub { frame_bytes('PING', 0, 0, 'abcdefgh') });
flood('PING, answers not read', 50_000, sub { frame_bytes('PING', 0, 0, 'abcdefgh') x 100 }, manual => 1, most => 10_000);
flood('empty DATA', 20_000, sub {
    my ($h, $n) = @_;
    return $n == 1 ? (headers($h, [':method', 'POST', @hang[2 .. 7]], end => 0))[1] : frame_bytes('DATA', 0, 1, '');
});
flood('DATA of padding', 20_000, sub {
    my ($h, $n) = @_;
    return $n == 1 ? (headers($h, [':method', 'POST', @hang[2 .. 7]], end => 0))[1] : frame_bytes('DATA', PADDED, 1, "\xff" . "\0" x 255);
}, want => qr/^(ENHANCE_YOUR_CALM|FLOW_CONTROL_ERROR)$/);
flood('PRIORITY', 20_000, sub { frame_bytes('PRIORITY', 0, 1 + 2 * $_[1], pack 'NC', 0, 5) });
flood('PRIORITY_UPDATE', 20_000, sub { frame_bytes('PRIORITY_UPDATE', 0, 0, pack('N', 1 + 2 * $_[1]) . 'u=1') }, want => qr/^(ENHANCE_YOUR_CALM|PROTOCOL_ERROR)$/);
flood('PRIORITY_UPDATE for one stream', 20_000, sub { frame_bytes('PRIORITY_UPDATE', 0, 0, pack('N', 1) . 'u=' . $_[1] % 8) });
flood('WINDOW_UPDATE by one', 20_000, sub { frame_bytes('WINDOW_UPDATE', 0, 0, pack 'N', 1) });
flood('unknown frames', 20_000, sub { frame_bytes(0x99, 0, 0, '') });
my $closed = sub { $_[0]->get('/') };
flood('RST_STREAM on closed streams', 20_000, sub { frame_bytes('RST_STREAM', 0, 1, pack 'N', 8) }, before => $closed);
flood('HEADERS on closed streams', 20_000, sub { $_[0]->headers_bytes(1, \@good, end => 1) }, before => $closed, want => qr/^(ENHANCE_YOUR_CALM|STREAM_CLOSED|PROTOCOL_ERROR)$/);
flood('WINDOW_UPDATE on closed streams', 20_000, sub { frame_bytes('WINDOW_UPDATE', 0, 1, pack 'N', 100_000) }, before => $closed);
flood('PING ACK unasked', 20_000, sub { frame_bytes('PING', ACK, 0, 'abcdefgh') });
flood('GOAWAY again and again', 20_000, sub { frame_bytes('GOAWAY', 0, 0, pack 'NN', 0, 0) }, want => qr/^(ENHANCE_YOUR_CALM|NO_ERROR|PROTOCOL_ERROR|closed)$/);
flood('ALTSVC', 20_000, sub { frame_bytes(0xa, 0, 0, pack('n', 1) . 'ax') });
flood('ORIGIN', 20_000, sub { frame_bytes(0xc, 0, 0, '') });
flood('trailers without end', 20_000, sub {
    my ($h, $n) = @_;
    return $n == 1 ? (headers($h, [':method', 'POST', @hang[2 .. 7]], end => 0))[1] : frame_bytes('HEADERS', END_HEADERS, 1, '');
}, want => qr/^(ENHANCE_YOUR_CALM|PROTOCOL_ERROR|STREAM_CLOSED)$/);
# No offence in itself: who sends no faster than it is answered may go on until the connection has had its requests.
flood('HPACK: table resized again and again', 20_000, sub {
    my ($h) = @_;
    my $id = $h->{next};
    $h->{next} += 2;
    return frame_bytes('HEADERS', END_STREAM | END_HEADERS, $id, ("\x20\x3f\xe1\x1f") x 2000 . $hpack->encode(\@good));
}, want => qr/^(ENHANCE_YOUR_CALM|COMPRESSION_ERROR|PROTOCOL_ERROR|NO_ERROR|open)$/, whole => 1);

# An entry of 4 KiB put into the table, then referred to thousands of times in 16 KiB.
subtest 'HPACK bomb' => sub {
    my ($mem, $cpu) = (rss($worker), cpu($worker));
    my $local = address();
    my $status;
    for my $k (1 .. 30) {
        my $h = RPD::H2->connect($port, local => $local, keep => 0);
        my $put = $hpack->encode(\@good) . RPD::HPACK::integer(6, 64, 0) . RPD::HPACK::string('x-bomb') . RPD::HPACK::string('b' x 4000);
        $h->send(frame_bytes('HEADERS', END_STREAM | END_HEADERS, 1, $put . ("\xbe" x 12_000)), quiet => 1);
        my $r = eval { $h->_stream(1); $h->response(1, timeout => 5) };
        $status = $r && $r->{status} ? $r->{status} : $r && $r->{error} ? $r->{error} : $h->goaway->[-1] ? $h->goaway->[-1]{error} : 'closed';
        $h->close;
        last if $status !~ /^431|PROTOCOL_ERROR|ENHANCE|CLOSED|INTERNAL/i;
    }
    like($status, qr/^431|_ERROR|ENHANCE_YOUR_CALM|CANCEL|REFUSED_STREAM|closed/, "48 MB in 16 KiB: $status");
    cmp_ok(rss($worker) - $mem, '<', $ENV{RPD_SANITIZED} ? 48 << 20 : 8 << 20, 'memory: ' . (rss($worker) - $mem));
    cmp_ok(cpu($worker) - $cpu, '<', 3, 'processor time: ' . (cpu($worker) - $cpu));
    judge('HPACK bomb');
};

# Cookies in thousands of crumbs.
subtest 'cookie crumbs' => sub {
    my $h = RPD::H2->connect($port, local => address());
    my $r = $h->get('/', [map { ('cookie', "a$_=1") } 1 .. 3000]);
    like($r->{status} // $r->{error} // 'closed', qr/^431|_ERROR|ENHANCE/, 'thousands are refused: ' . ($r->{status} // $r->{error} // 'closed'));
    $h->close;
    judge('cookie crumbs');
};

# Windows of nothing: answers that cannot go out must not pile up.
subtest 'windows that stay shut' => sub {
    my $mem = rss($worker);
    my @h;
    for (1 .. 10) {
        my $h = RPD::H2->connect($port, local => address(), manual => 1, keep => 0, settings => [[4, 0]]);
        $h->request('GET', '/big') for 1 .. 100;
        push @h, $h;
    }
    $s->wait_still('rpd_upstream_received_bytes_total');
    my $held = rss($worker) - $mem;
    # 1000 streams, each with at most its pipe.
    cmp_ok($held, '<', $ENV{RPD_SANITIZED} ? 400 << 20 : 130 << 20, sprintf 'a thousand streams: %.1f MiB', $held / (1 << 20));
    judge('windows that stay shut');
    $_->close for @h;
    ok(wait_for(sub { $s->metric('rpd_requests_in_flight') <= 1 }, quiet => 1), 'all given up when the clients have gone');
    # A byte at a time.
    my $h = RPD::H2->connect($port, local => address(), manual => 1, settings => [[4, 0]]);
    my $id = $h->request('GET', '/big');
    $h->response($id, head => 1);
    my $cpu = cpu($worker);
    my $open = 1;
    for (1 .. 5000) { $open &&= $h->send(frame_bytes('WINDOW_UPDATE', 0, $id, pack 'N', 1), quiet => 1) }
    my $end = $h->ending(timeout => 3);
    like($end, $CALM, "a window opened byte by byte: $end");
    cmp_ok(cpu($worker) - $cpu, '<', 2, 'processor time');
    $h->close;
    # Opened and shut by SETTINGS.
    $h = RPD::H2->connect($port, local => address(), manual => 1);
    $h->request('GET', '/big') for 1 .. 50;
    $open = 1;
    for (1 .. 5000) { $open &&= $h->send(frame_bytes('SETTINGS', 0, 0, settings_bytes([4, 0])) . frame_bytes('SETTINGS', 0, 0, settings_bytes([4, 65535])), quiet => 1) }
    $end = $h->ending(timeout => 3);
    like($end, $CALM, "windows changed again and again: $end");
    $h->close;
};

subtest 'the budget belongs to the address' => sub {
    my $local = address();
    my ($rounds, $sent, $refused) = (0, 0, 0);
    # Each connection stays below the limit by itself.
    while ($rounds < 20) {
        $rounds++;
        my $h = RPD::H2->connect($port, local => $local, keep => 0);
        my $open = $h->ping;
        for (1 .. 40) {
            my ($id, $bytes) = headers($h, \@hang);
            $open &&= $h->send($bytes . frame_bytes('RST_STREAM', 0, $id, pack 'N', 8), quiet => 1);
            $sent++;
        }
        $open &&= $h->ping(timeout => 5);
        my $end = $open ? 'open' : $h->ending(timeout => 5);
        $h->close;
        if (!$open) { $refused = 1; last }
    }
    ok($refused, "a reconnect does not renew it: ended in connection $rounds after $sent resets");
    cmp_ok($rounds, '<=', 6, 'soon');
    my $h = RPD::H2->connect($port, local => address());
    is($h->get('/')->{status}, 200, 'another address has its own');
    $h->close;
    ok(wait_for(sub { $s->metric('rpd_h2_refused_total') > 0 || $s->metric('rpd_h2_abuse_total') > 0 }, quiet => 1), 'counted') or diag(grep { /h2/ } map { "$_\n" } split /\n/, $s->ctl('metrics'));
};

subtest 'honest clients do not reach it' => sub {
    my $h = RPD::H2->connect($port, local => address());
    for my $k (1 .. 300) {
        my $r = $h->get('/');
        if (($r->{status} || 0) != 200) { fail("request $k"); last }
        $h->ping if $k % 10 == 0;
    }
    # A page left now and then: a few resets.
    for (1 .. 20) {
        my $id = $h->request('GET', '/big');
        $h->rst($id, 'CANCEL');
    }
    is($h->get('/')->{status}, 200, '300 requests, 30 PINGs and 20 resets');
    $h->close;
};

$s->stop(idle_timeout => 30);
done_testing;
