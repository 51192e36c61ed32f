#!/usr/bin/perl
# Running out of file descriptors: nobody falls over, nothing spins, whoever is there is served, and all is well afterwards.
use strict;
use warnings;
use RPD::Test;

my $port = free_port();
my $o = origin()->serve_requests(sub { response(200, [], 'ok') });
my $s = rpd(
    config => simple_config(listen => "127.0.0.1:$port", server => $o->address, defaults => 'keepalive_timeout = 60s'),
    global => "workers = 1\nrlimit_nofile = 128\nmax_connections = 100000\nmax_connections_per_client = 0\n",
    nofile => 128,
);
my ($worker) = $s->workers;
sub cpu { my ($pid) = @_; my ($t) = slurp("/proc/$pid/schedstat") =~ /^(\d+)/; return $t / 1e9 }

my $first = client($port);
$first->send(request('GET', '/'));
is($first->read_response->{status}, 200, 'before');

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
$first->send(request('GET', '/'));
my $a = $first->read_response;
like($a->{status}, qr/^(?:200|50[23])$/, "whoever is there gets an answer: $a->{status}");
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
        config => simple_config(listen => "127.0.0.1:$p", server => $o->address),
        global => "workers = 1\nmax_connections = 20\n"
    );
    my @held;
    for (1 .. 20) {
        my $c = client($p);
        $c->send(request('GET', '/'));
        is($c->read_response->{status}, 200, "connection $_") ;
        push @held, $c;
    }
    my $more = client($p);
    $more->send(request('GET', '/'), quiet => 1);
    my $answer = eval { $more->read_response };
    ok(!$answer || $answer->{status} == 503, 'one more is refused or told so');
    ok($s2->wait_metric('rpd_connections_refused_total', sub { $_[0] >= 1 }), 'counted');
    $_->close for @held, $more;
    ok(wait_for(sub { eval { http_get($p, '/')->{status} == 200 } }, quiet => 1), 'room again');
    $s2->stop;
};

subtest 'max_connections_per_client' => sub {
    my $p = free_port();
    my $s2 = rpd(
        config => simple_config(listen => "127.0.0.1:$p", server => $o->address),
        global => "workers = 1\nmax_connections_per_client = 5\n"
    );
    my @held = map { my $c = client($p); $c->send(request('GET', '/')); $c->read_response; $c } 1 .. 5;
    my $more = client($p);
    $more->send(request('GET', '/'), quiet => 1);
    my $answer = eval { $more->read_response };
    ok(!$answer || $answer->{status} == 503, 'the sixth of an address is refused');
    my $other = client($p, local => '127.0.0.2');
    $other->send(request('GET', '/'));
    is($other->read_response->{status}, 200, 'another address is served');
    $_->close for @held, $more, $other;
    $s2->stop;
};
done_testing;
