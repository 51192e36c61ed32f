#!/usr/bin/perl
# Upgrades: the handshake passes, bytes flow both ways, ends are carried over, drains have their own time.
use strict;
use warnings;
use RPD::Test;

my ($port, $port2) = (free_port(), free_port());
my $o = origin();
my $s = rpd(config => <<"END", global => "workers = 1\ndrain_tunnel_timeout = 1h\n");
[log main]
file = <DIR>/access.log
flush = 10ms
format = "%{status} %{reason} %{uri}"
[listen ws]
address = 127.0.0.1:$port
[listen none]
address = 127.0.0.1:$port2
[upstream app]
server = @{[ $o->address ]}
[host ws]
names = *
listen = ws
upstream = app
tunnel_timeout = 1h
read_timeout = 300ms
write_timeout = 300ms
[route ws/short]
path = /short
tunnel_timeout = 300ms
[host none]
names = *
listen = none
upstream = app
upgrade = off
END

my @handshake = ('Connection', 'Upgrade', 'Upgrade', 'websocket', 'Sec-WebSocket-Key', 'dGhlIHNhbXBsZSBub25jZQ==', 'Sec-WebSocket-Version', 13);
my $switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

sub tunnel {
    my ($path) = @_;
    my $c = client($port);
    $c->send(request('GET', $path || '/', \@handshake));
    my $oc = $o->accept;
    my $r = $oc->read_request;
    $oc->send($switch);
    my $a = $c->read_response;
    return ($c, $oc, $r, $a);
}

subtest 'handshake and bytes' => sub {
    my ($c, $oc, $r, $a) = tunnel();
    like($r->{fields}{connection}[0], qr/^upgrade$/i, 'Connection to the server');
    is_deeply($r->{fields}{upgrade}, ['websocket'], 'Upgrade to the server');
    is_deeply($r->{fields}{'sec-websocket-key'}, ['dGhlIHNhbXBsZSBub25jZQ=='], 'key');
    is($a->{status}, 101, 'switched');
    like($a->{fields}{connection}[0], qr/^upgrade$/i, 'Connection to the client');
    is_deeply($a->{fields}{upgrade}, ['websocket'], 'Upgrade to the client');
    is($s->metric('rpd_tunnels'), 1, 'one tunnel');
    for my $n (1, 100, 100_000) {
        my $bytes = random_bytes($n, $n);
        $c->send($bytes);
        ok($oc->read_n($n) eq $bytes, "$n bytes up");
        $oc->send($bytes);
        ok($c->read_n($n) eq $bytes, "$n bytes down");
    }
    # Not even when nothing happens for longer than the timers of ordinary answers.
    ok($c->silent(0.7), 'idle is allowed');
    $c->send('more');
    is($oc->read_n(4), 'more', 'and the tunnel is still there');
    $c->shutdown_write;
    ok($oc->closed, 'the client\'s end reaches the server');
    $oc->send('last words');
    $oc->close;
    is($c->read_eof, 'last words', 'which may still say something');
    $c->close;
    ok($s->wait_metric('rpd_tunnels', 0), 'no tunnel left');
    like(($s->access_lines(1))[0], qr{^101 - /}, 'logged at its end');
};

subtest 'bytes that come with the handshake' => sub {
    my $c = client($port);
    $c->send(request('GET', '/', \@handshake) . 'early');
    my $oc = $o->accept;
    $oc->read_request;
    $oc->send($switch . 'hello');
    $c->read_response;
    is($c->read_n(5), 'hello', 'from the server');
    is($oc->read_n(5), 'early', 'from the client');
    $oc->reset;
    ok(defined $c->read_eof, 'a reset ends both');
    $c->close;
};

subtest 'ends' => sub {
    my ($c, $oc) = tunnel();
    $oc->close;
    ok($c->closed, 'the server closes');
    $c->close;
    ($c, $oc) = tunnel();
    $c->reset;
    ok(defined eval { $oc->read_eof }, 'the client resets');
    $oc->close;
    ($c, $oc) = tunnel('/short');
    ok($c->closed(timeout => 10), 'tunnel_timeout closes an idle one');
    ok($oc->closed, 'on both sides');
    $_->close for $c, $oc;
};

subtest 'a server that declines' => sub {
    my $c = client($port);
    $c->send(request('GET', '/', \@handshake));
    my $oc = $o->accept;
    $oc->read_request;
    $oc->send(response(403, [], 'no'));
    is($c->read_response->{status}, 403, 'its answer passes');
    $c->send(request('GET', '/next'));
    is($oc->read_request->{target}, '/next', 'both connections go on');
    $oc->send(response(200, [], ''));
    is($c->read_response->{status}, 200, 'next answer');
    $_->close for $c, $oc;
};

subtest 'what is not upgraded' => sub {
    for my $row (
        [$port, 'another protocol', ['Connection', 'Upgrade', 'Upgrade', 'h2c']],
        [$port, 'Upgrade without Connection', ['Upgrade', 'websocket']],
        [$port2, 'switched off', \@handshake],
    ) {
        my ($to, $name, $fields) = @$row;
        my $c = client($to);
        $c->send(request('GET', '/', $fields));
        my $oc = $o->accept;
        my $r = $oc->read_request;
        is($r->{fields}{upgrade}, undef, "$name: Upgrade is dropped");
        unlike(join(',', @{ $r->{fields}{connection} || [] }), qr/upgrade/i, "$name: and not named");
        $oc->send(response(200, ['Connection', 'close'], ''));
        is($c->read_response->{status}, 200, "$name: an ordinary answer");
        $_->close for $c, $oc;
    }
};

subtest 'a reload leaves tunnels alone' => sub {
    my ($c, $oc) = tunnel();
    my ($status, $out) = $s->reload;
    is($status, 0, 'reload') or diag($out);
    $c->send('after');
    is($oc->read_n(5), 'after', 'the old generation carries it on');
    $oc->send('yes');
    is($c->read_n(3), 'yes', 'both ways');
    $_->close for $c, $oc;
    ok(wait_for(sub { $s->ctl_json('status')->{old_generations} ? !@{ $s->ctl_json('status')->{old_generations} } : 1 }, quiet => 1),
        'and ends when the tunnel does');
};

$s->stop;
done_testing;
