#!/usr/bin/perl
# Every timer of a request's way, with values short enough to wait for.
use strict;
use warnings;
use RPD::Test;

my $port = free_port();
my $o = origin(backlog => 1);
my $s = rpd(config => simple_config(
    listen => "127.0.0.1:$port", server => $o->address, upstream => "max_fails = 0\nkeepalive_timeout = 400ms",
    defaults => "retry = 0\nhead_timeout = 500ms\nkeepalive_timeout = 600ms\nconnect_timeout = 300ms\nfirst_byte_timeout = 400ms\n"
        . "read_timeout = 400ms\nsend_timeout = 500ms\nbody_timeout = 400ms\nwrite_timeout = 500ms\nmax_body = 0\nkeepalive_requests = 1000",
    top => "[log main]\nfile = <DIR>/access.log\nflush = 10ms\nformat = \"%{status} %{reason} %{uri}\"",
), global => "workers = 1\n");

sub reason { my ($n) = @_; return ($s->access_lines($n))[$n - 1] // '' }
sub took { my ($t0, $low, $high, $name) = @_; my $t = time - $t0; $high *= 4 if $ENV{RPD_SANITIZED}; ok($t >= $low && $t < $high, "$name took $t s") }
my $n = 0;

subtest 'head_timeout' => sub {
    my $c = client($port);
    my $t0 = time;
    $c->send("GET /slow HTTP/1.1\r\n");
    my $a = $c->read_response;
    is($a->{status}, 408, 'status 408');
    ok($c->closed, 'closed');
    took($t0, 0.45, 3, 'it');
    $c->close;
    like(reason(++$n), qr/^408 client_head_timeout/, 'logged');
    # Trickling does not restart it.
    $c = client($port);
    $t0 = time;
    my $sent = 0;
    $c->send("GET /trickle HTTP/1.1\r\nX: ");
    wait_for(sub { $c->send('a', quiet => 1); $sent++; defined $c->fill(time + 0.05) }, timeout => 10);
    took($t0, 0.45, 3, 'a trickling head');
    $c->close;
    ++$n;
};

subtest 'keepalive_timeout' => sub {
    my $c = client($port);
    $c->send(request('GET', '/'));
    my $oc = $o->accept;
    $oc->read_request;
    $oc->send(response(200, ['Connection', 'close'], ''));
    $c->read_response;
    my $t0 = time;
    ok($c->closed, 'an idle connection is closed, silently');
    took($t0, 0.4, 4, 'it');
    ++$n;
    $c = client($port);
    ok($c->closed, 'so is one that never says anything');
    $_->close for $c, $oc;
};

subtest 'body_timeout' => sub {
    my $c = client($port);
    my $t0 = time;
    $c->send(request('POST', '/body', ['Content-Length', 100]) . 'abc');
    my $oc = $o->accept;
    my $a = $c->read_response;
    is($a->{status}, 408, 'status 408');
    took($t0, 0.35, 3, 'it');
    ok($c->closed, 'closed');
    unlike($oc->read_eof, qr/abc.{97}/s, 'the server\'s connection ends');
    $_->close for $c, $oc;
    like(reason(++$n), qr/^408 client_body_timeout/, 'logged');
};

subtest 'first_byte_timeout' => sub {
    my $c = client($port);
    my $t0 = time;
    $c->send(request('GET', '/first'));
    my $oc = $o->accept;
    $oc->read_request;
    my $a = $c->read_response;
    is($a->{status}, 504, 'status 504');
    took($t0, 0.35, 3, 'it');
    ok($oc->closed, 'the server\'s connection is closed');
    $_->close for $c, $oc;
    like(reason(++$n), qr/^504 upstream_first_byte_timeout/, 'logged');
};

subtest 'read_timeout' => sub {
    my $c = client($port);
    $c->send(request('GET', '/read'));
    my $oc = $o->accept;
    $oc->read_request;
    $oc->send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc");
    my $t0 = time;
    my $all = $c->read_eof;
    like($all, qr/abc\z/, 'the answer ends where the server stopped');
    took($t0, 0.3, 3, 'it');
    ok($oc->closed, 'the server\'s connection is closed');
    $_->close for $c, $oc;
    like(reason(++$n), qr/^200 upstream_read_timeout/, 'logged');
};

subtest 'event streams may be silent for longer' => sub {
    my $c = client($port);
    $c->send(request('GET', '/events'));
    my $oc = $o->accept;
    $oc->read_request;
    $oc->send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n");
    like($c->read_until(qr/data: 1\n\n\r\n/), qr/data: 1/, 'an event passes at once');
    ok($c->silent(1.2), 'silence is no error');
    $oc->send("data: 2\n\n");
    like($c->read_until(qr/data: 2\n\n\r\n/), qr/data: 2/, 'the next one');
    $_->close for $c, $oc;
    ++$n;
};

subtest 'write_timeout' => sub {
    my $big = origin()->serve_requests(sub { response(200, [], 'x' x (32 << 20)) });
    my $p2 = free_port();
    my $s2 = rpd(config => simple_config(
        listen => "127.0.0.1:$p2", server => $big->address, defaults => 'write_timeout = 500ms',
        top => "[log main]\nfile = <DIR>/access.log\nflush = 10ms\nformat = \"%{status} %{reason}\"",
    ), global => "workers = 1\n");
    my $c = client($p2, rcvbuf => 4096, keep => 0);
    $c->send(request('GET', '/big'));
    $c->read_head;
    my ($line) = $s2->access_lines(1);
    is($line, '200 client_write_timeout', 'a client that does not read is given up');
    $c->close;
    $s2->stop;
};

subtest 'send_timeout' => sub {
    my $c = client($port);
    # Made before it is sent: a client that stops to think would meet body_timeout first.
    my $bytes = request('POST', '/send', ['Content-Length', 64 << 20]) . 'x' x (64 << 20);
    my $pid = fork;
    if (!$pid) {
        $c->send($bytes, quiet => 1);
        POSIX::_exit(0);
    }
    my $oc = $o->accept;
    my $a = $c->read_response;
    is($a->{status}, 504, 'a server that does not read: 504');
    waitpid $pid, 0;
    $_->close for $c, $oc;
    like(reason(++$n), qr/^504 upstream_write_timeout/, 'logged');
};

subtest 'keepalive_timeout of a pooled connection' => sub {
    my $c = client($port);
    $c->send(request('GET', '/'));
    my $oc = $o->accept;
    $oc->read_request;
    $oc->send(response(200, [], ''));
    $c->read_response;
    my $t0 = time;
    ok($oc->closed, 'closed when idle');
    took($t0, 0.3, 3, 'it');
    $_->close for $c, $oc;
    ++$n;
};

subtest 'connect_timeout' => sub {
    # A listener whose accept queue is full drops further SYNs.
    my $full = origin(backlog => 0);
    my @fill;
    for (1 .. 4) {
        my $f = IO::Socket::IP->new(PeerHost => '127.0.0.1', PeerPort => $full->port, Blocking => 0);
        push @fill, $f if $f;
    }
    my $p2 = free_port();
    my $s2 = rpd(config => simple_config(
        listen => "127.0.0.1:$p2", server => $full->address, defaults => "retry = 0\nconnect_timeout = 300ms"
    ), global => "workers = 1\n");
    my $t0 = time;
    is(http_get($p2, '/')->{status}, 504, 'status 504');
    took($t0, 0.25, 3, 'it');
    $s2->stop;
};

subtest 'keepalive_requests' => sub {
    my $p2 = free_port();
    my $auto = origin()->serve_requests(sub { response(200, [], 'x') });
    my $s2 = rpd(config => simple_config(
        listen => "127.0.0.1:$p2", server => $auto->address, defaults => 'keepalive_requests = 20'
    ), global => "workers = 1\n");
    my $c = client($p2);
    my $served = 0;
    for (1 .. 40) {
        $c->send(request('GET', '/'));
        my $a = $c->read_response;
        $served++;
        last if lc(($a->{fields}{connection} || [''])->[0]) eq 'close';
    }
    ok($served >= 17 && $served <= 23, "closed after $served requests (20 and 10 % jitter)");
    ok($c->closed, 'after saying so');
    $c->close;
    $s2->stop;
};

$s->stop;
done_testing;
