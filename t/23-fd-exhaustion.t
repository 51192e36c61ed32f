#!/usr/bin/perl
# Running out of file descriptors: nobody falls over, nothing spins, whoever is there is served, and all is well afterwards.
use strict;
use warnings;
use RPD::Test;

my $port = free_port();
my $o = origin()->serve_requests(sub { response(200, [], 'ok') });
my $slow = origin();
my $s = rpd(
    config => simple_config(listen => "127.0.0.1:$port", server => $o->address, defaults => 'keepalive_timeout = 60s')
        . "[upstream slow]\nserver = " . $slow->address . "\n[host slow]\nnames = slow.test\nupstream = slow\n",
    global => "workers = 1\nrlimit_nofile = 400\nmax_connections = 100000\nmax_connections_per_client = 0\n",
    nofile => 400,
);
my ($worker) = $s->workers;
sub readable {
    my ($timeout, @c) = @_;
    my $bits = '';
    vec($bits, $_->fileno, 1) = 1 for @c;
    select($bits, undef, undef, $timeout);
    return grep { vec($bits, $_->fileno, 1) } @c;
}
sub cpu { my ($pid) = @_; my ($t) = slurp("/proc/$pid/schedstat") =~ /^(\d+)/; return $t / 1e9 }

my $first = client($port);
$first->send(request('GET', '/'));
is($first->read_response->{status}, 200, 'before');
# A request in flight stays; connections that are merely kept are given up first.
$first->send(request('GET', '/', ['Host', 'slow.test']));
my $oc = $slow->accept;
$oc->read_request;

# More connections than there are descriptors.
my @c = map { client($port) } 1 .. 300;
ok(wait_for(sub { sockets_of($worker) >= 90 }, quiet => 1), 'the worker is full');
my $t0 = cpu($worker);
$s->wait_still('rpd_connections_accepted_total');
my $from = time;
# A window in which nothing can happen: a loop that spins on accept would burn all of it.
ok($first->silent(0.5), 'nothing happens');
my $burnt = cpu($worker) - $t0;
cmp_ok($burnt, '<', (time - $from) * 0.5 + 0.3, sprintf('and the loop does not spin (%.3f s)', $burnt));
$oc->send(response(200, [], 'at last'));
is($first->read_response->{body}, 'at last', 'whoever is there gets an answer');
cmp_ok($s->metric('rpd_fd_limit_total') + $s->metric('rpd_connections_refused_total'), '>', 0, 'counted');
cmp_ok(scalar(() = $s->log_lines), '<', 100, 'the log is not flooded');
is(($s->rpctl('status'))[0] =~ /^(?:0|10)$/ ? 1 : 0, 1, 'rpctl answers');

$_->close for @c;
ok(wait_for(sub { eval { http_get($port, '/')->{status} == 200 } }, quiet => 1), 'served again when there is room');
is(scalar(grep { http_get($port, '/')->{status} == 200 } 1 .. 50), 50, 'and again');
$first->close;
is_deeply([$s->workers], [$worker], 'the worker has lived through it');
$s->stop;

subtest 'max_connections' => sub {
    my $p = free_port();
    my $s2 = rpd(
        config => simple_config(listen => "127.0.0.1:$p", server => $slow->address),
        global => "workers = 1\nmax_connections = 20\n"
    );
    # All busy: a kept one without a request would be given up for a newcomer.
    my (@held, @at);
    for (1 .. 20) {
        my $c = client($p);
        $c->send(request('GET', '/'));
        push @held, $c;
        push @at, $slow->accept;
        $at[-1]->read_request;
    }
    my $more = client($p);
    $more->send(request('GET', '/'), quiet => 1);
    my $answer = eval { $more->read_response };
    ok(!$answer || $answer->{status} == 503, 'one more is refused or told so');
    ok($s2->wait_metric('rpd_connections_refused_total', sub { $_[0] >= 1 }), 'counted');
    $_->send(response(200, [], 'ok')) for @at;
    is(scalar(grep { $_->read_response->{status} == 200 } @held), 20, 'those within the limit are served');
    my $next = client($p);
    $next->send(request('GET', '/'));
    my ($ready) = readable(5, @at);
    $ready->read_request if $ready;
    ok($ready, 'with an idle one there is room again');
    $ready->send(response(200, [], 'ok')) if $ready;
    is($next->read_response->{status}, 200, 'and it is served');
    $_->close for @held, $more, $next, @at;
    $s2->stop;
};

# Loopback is exempt, so the addresses come by the PROXY protocol.
subtest 'max_connections_per_client' => sub {
    my $p = free_port();
    my $s2 = rpd(
        config => simple_config(listen => "127.0.0.1:$p\nproxy_protocol = on", server => $o->address),
        global => "workers = 1\nmax_connections_per_client = 5\n"
    );
    my $from = sub {
        my ($ip) = @_;
        my $c = client($p);
        $c->send("PROXY TCP4 $ip 192.0.2.1 4000 80\r\n" . request('GET', '/'), quiet => 1);
        return ($c, eval { $c->read_response->{status} });
    };
    my @held = map { ($from->('198.51.100.7'))[0] } 1 .. 5;
    my ($more, $status) = $from->('198.51.100.7');
    is($status, undef, 'the sixth of an address is refused');
    ok($s2->wait_metric('rpd_connections_refused_total', sub { $_[0] == 1 }), 'and counted');
    my ($other, $status2) = $from->('198.51.100.8');
    is($status2, 200, 'another address is served');
    (shift @held)->close;
    my $again;
    ok(wait_for(sub { (my $c, $again) = $from->('198.51.100.7'); $c->close; $again }, quiet => 1), 'room again after one left');
    $_->close for @held, $more, $other;
    $s2->stop;
};
done_testing;
