#!/usr/bin/perl
# Workers killed at random under load: only the victims' own connections suffer, service goes on, the segment stays sound, and
# what is counted stays exact.
use strict;
use warnings;
use RPD::Test;
use RPD::Real;
use RPD::Load;

my $kills = ($ENV{RPD_STORM} || '') eq 'long' ? 100 : $ENV{RPD_SANITIZED} ? 12 : 30;
my $nginx = nginx_origin();
my $port = free_port();
my $clients = 12;
my $s = rpd(config => simple_config(
    listen => "127.0.0.1:$port", server => $nginx->{address}, upstream => "max_conns = 5\nqueue = 100\nqueue_timeout = 20s\nmax_fails = 0"
), global => "workers = 4\n", expect_alerts => qr/crash_loop/);

my $kept;
my $load = load_start(sub {
    $kept ||= client($port, keep => 0);
    my $r = eval { $kept->send(request('GET', '/small')); $kept->read_response };
    if (!$r || lc(($r->{fields}{connection} || [''])->[0]) eq 'close') {
        $kept->close;
        undef $kept;
    }
    die 'connection lost' if !$r;
    die "status $r->{status}" if $r->{status} != 200;
}, processes => $clients);

my ($done, $healthy, $bound) = (0, 0, 0);
for my $n (1 .. $kills) {
    my @workers = eval { $s->workers };
    my ($victim) = grep { $_ && kill 0, $_ } map { $workers[rand @workers] } 1 .. 8;
    next if !$victim;
    # Who is not in back-off has the connections of all, evenly at best.
    my $living = grep { $_ && kill 0, $_ } @workers;
    next if !kill 'KILL', $victim;
    $done++;
    $bound += 2 * $clients / ($living || 1);
    my $seen = load_count($load);
    # The next blow falls when a successor is there and service has gone on.
    $healthy += wait_for(sub {
        my @now = eval { $s->workers };
        @now && !(grep { $_ == $victim } @now) && load_count($load) > $seen + 20;
    }, quiet => 1, timeout => 30) ? 1 : 0;
    is(($s->rpctl('fsck'))[0], 0, "fsck after kill $n") if $n % 5 == 0;
}
is($healthy, $kills, "service went on after each of $done deaths");
my $r = load_finish($load);
my @failures = @{ $r->{failures} };
is(scalar(grep { !/connection lost/ } @failures), 0, 'nobody got an error answer') or diag(join "\n", grep { !/connection lost/ } @failures);
# A death breaks at most the connections the victim had: of 12 clients on 4 workers about three; twice that is allowed.
cmp_ok(scalar @failures, '<=', $bound, scalar(@failures) . " of $r->{count} requests were lost to $done deaths");
cmp_ok($r->{count}, '>', $done * 20, 'under load all the time');

ok(wait_for(sub { ($s->rpctl('wait', 'healthy', '--timeout', '20s'))[0] == 0 }, quiet => 1, timeout => 60), 'healthy at the end');
ok($s->wait_metric($_, 0), "$_ is exact") for qw(rpd_connections rpd_requests_in_flight rpd_upstream_connections_active rpd_queue_length);

subtest 'no place was lost: max_conns still admits exactly five' => sub {
    my $o = origin();
    $s->write_config(simple_config(listen => "127.0.0.1:$port", server => $o->address, upstream => "max_conns = 5\nqueue = 100\nqueue_timeout = 20s"),
        global => "workers = 4\n");
    is(($s->reload)[0], 0, 'reload');
    my @c = map { my $c = client($port); $c->send(request('GET', '/')); $c } 1 .. 5;
    my @oc = map { $o->accept } 1 .. 5;
    pass('five at once');
    my $sixth = client($port);
    $sixth->send(request('GET', '/'));
    ok(!$o->try_accept(0.1), 'not six');
    for my $oc (@oc) { $oc->read_request; $oc->send(response(200, ['Connection', 'close'], 'x')); $oc->close }
    is($_->read_response->{status}, 200, 'answer') for @c;
    my $oc = $o->accept;
    $oc->read_request;
    $oc->send(response(200, [], 'x'));
    is($sixth->read_response->{status}, 200, 'the sixth in its turn');
    $_->close for @c, $sixth, $oc;
};
$s->stop(idle_timeout => 30);
done_testing;
