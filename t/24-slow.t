#!/usr/bin/perl
# Slow readers and slow writers in numbers: memory per connection is bounded and measured, others are served meanwhile.
use strict;
use warnings;
use RPD::Test;

my $readers = 100;
my $port = free_port();
my $n = 8 << 20;
my $o = origin()->serve(sub {
    my ($conn) = @_;
    my $r = $conn->read_request(timeout => 100);
    return $conn->send(response(200, ['Connection', 'close'], 'quick')) if $r->{target} eq '/quick';
    my $block = random_bytes(1 << 20);
    $conn->send("HTTP/1.1 200 OK\r\nContent-Length: $n\r\n\r\n");
    $conn->send($block, timeout => 100) for 1 .. $n >> 20;
});
my $s = rpd(
    config => simple_config(
        listen => "127.0.0.1:$port", server => $o->address, defaults => "head_timeout = 2s\nbody_timeout = 2s\nmax_body = 0\nretry = 0",
        upstream => 'max_fails = 0'
    ), global => "workers = 1\n"
);
my ($worker) = $s->workers;
http_get($port, '/quick');

subtest "$readers readers that do not read" => sub {
    my $before = rss($worker);
    my @c = map { my $c = client($port, rcvbuf => 4096, keep => 0); $c->send(request('GET', '/big', ['Connection', 'close'])); $c } 1 .. $readers;
    for my $c (@c[0, $readers - 1]) {
        like($c->read_head, qr/ 200 /, 'begun');
        $c->{head_read} = 1;
    }
    $s->wait_still('rpd_upstream_received_bytes_total');
    my $each = (rss($worker) - $before) / $readers;
    # One 64 KiB buffer and the objects; redzones and quarantine of the sanitizer come on top.
    my $limit = ($ENV{RPD_SANITIZED} ? 512 : 96) << 10;
    cmp_ok($each, '<', $limit, sprintf('memory held per reader: %.1f KiB', $each / 1024));
    is(http_get($port, '/quick')->{body}, 'quick', 'others are served');
    # One after another they read on, to the end.
    my $complete = 0;
    for my $c (@c) {
        $c->read_head if !$c->{head_read};
        $complete++ if eval { $c->drain($n, timeout => 60) } == $n;
    }
    is($complete, $readers, 'then each gets all of it');
    $_->close for @c;
    ok($s->wait_metric('rpd_connections', 0), 'all gone');
};

subtest 'writers that trickle their heads' => sub {
    my $many = 300;
    my $before = rss($worker);
    my @c = map { my $c = client($port); $c->send("GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "); $c } 1 .. $many;
    my $each = (rss($worker) - $before) / $many;
    cmp_ok($each, '<', ($ENV{RPD_SANITIZED} ? 256 : 48) << 10, sprintf('memory held per writer: %.1f KiB', $each / 1024));
    is(http_get($port, '/quick')->{body}, 'quick', 'others are served');
    my $refused = 0;
    for my $c (@c) {
        $c->send('a', quiet => 1);
        $refused++ if (eval { $c->read_response->{status} } || 0) == 408;
        $c->close;
    }
    is($refused, $many, 'each gets its 408');
    ok($s->wait_metric('rpd_connections', 0), 'all gone');
};

subtest 'writers that trickle their bodies' => sub {
    my @c = map { my $c = client($port); $c->send(request('POST', '/quick', ['Content-Length', 1000]) . 'abc'); $c } 1 .. 50;
    my $refused = 0;
    for my $c (@c) {
        $refused++ if (eval { $c->read_response->{status} } || 0) == 408;
        $c->close;
    }
    is($refused, 50, 'each gets its 408');
};

subtest 'what is held is given back' => sub {
    my @idle = map { my $c = client($port); $c->send(request('GET', '/quick')); $c->read_response; $c } 1 .. 200;
    my $with = rss($worker);
    my @more = map { my $c = client($port); $c->send(request('GET', '/quick')); $c->read_response; $c } 1 .. 200;
    my $each = (rss($worker) - $with) / 200;
    cmp_ok($each, '<', $ENV{RPD_SANITIZED} ? 32 << 10 : 4096, sprintf('an idle connection holds %.0f bytes', $each));
    $_->close for @idle, @more;
};

$s->stop(idle_timeout => 30);
done_testing;
