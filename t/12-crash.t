#!/usr/bin/perl
# Deaths: of a worker by SIGKILL, by SIGSEGV (with its record), by hanging; crash loops; and of the master.
use strict;
use warnings;
use RPD::Test;
use Time::HiRes qw(time);

my $port = free_port();
my $o = origin()->serve_requests(sub { response(200, [], 'ok') });

# Sanitizers would report a SIGSEGV sent from outside as a bug; their report is expected here, so that text is not.
my $s = rpd(
    config => simple_config(listen => "127.0.0.1:$port", server => $o->address), global => "workers = 2\nwatchdog = 1s\n",
    expect_alerts => qr/crash_loop|worker_hangs/, env => { ASAN_OPTIONS => 'handle_segv=0:handle_abort=0:detect_leaks=0' }
);
sub all_served { my ($n) = @_; return scalar grep { eval { http_get($port, '/')->{status} == 200 } } 1 .. $n }
sub replaced { my ($gone) = @_; return wait_for(sub { my @w = eval { $s->workers }; @w == 2 && !grep { $_ == $gone || !kill 0, $_ } @w }, quiet => 1, timeout => 20) }

subtest 'SIGKILL' => sub {
    my ($victim, $other) = $s->workers;
    my @kept = map { my $c = client($port); $c->send(request('GET', '/')); $c->read_response; $c } 1 .. 12;
    kill 'KILL', $victim;
    is(all_served(20), 20, 'connections made meanwhile wait for the successor');
    ok(replaced($victim), 'respawned');
    ok($s->wait_log(qr/\b$victim\b.*(?:signal|killed|SIGKILL)/i), 'logged with the signal');
    my $alive = 0;
    for my $c (@kept) {
        $c->send(request('GET', '/'), quiet => 1);
        $alive++ if eval { $c->read_response->{status} == 200 };
        $c->close;
    }
    cmp_ok($alive, '>', 0, "the other worker's connections ($alive of 12) are untouched");
    is(($s->rpctl('fsck'))[0], 0, 'fsck is clean');
    ok($s->wait_metric('rpd_connections', 0), 'the dead worker\'s gauges are gone');
    my $deaths = $s->ctl_json('status')->{deaths};
    is($deaths->{count}, 1, 'rpctl status counts it');
    like($deaths->{last}, qr/^w\d pid $victim of generation 1 killed by signal 9 \(SIGKILL\)$/, 'and says of what');
    ok(abs($deaths->{unix_ms} / 1000 - time) < 60, 'and when');
    like($s->ctl('status'), qr/^deaths +1 of processes, the last one \d+s ago: w\d pid $victim /m, 'for people');
    is(($s->rpctl('upgrade'))[0], 0, 'an upgrade');
    is_deeply($s->ctl_json('status')->{deaths}, $deaths, 'does not forget it');
};

subtest 'panic record' => sub {
    my ($victim) = $s->workers;
    kill 'SEGV', $victim;
    ok(replaced($victim), 'respawned');
    ok($s->wait_log(qr/panic/), 'the record is in the log');
    my $text = join "\n", $s->log_lines;
    like($text, qr/signal 11|SIGSEGV/, 'with the signal');
    is(all_served(10), 10, 'service goes on');
    my ($status, $out) = $s->rpctl('show', 'panic');
    is($status, 0, 'rpctl show panic');
};

subtest 'watchdog' => sub {
    my ($victim) = $s->workers;
    kill 'STOP', $victim;
    ok(replaced($victim), 'a worker that stands still is killed and replaced');
    ok($s->wait_log(qr/worker_hangs/), 'logged');
    is(all_served(20), 20, 'connections that waited in its sockets are served');
};

subtest 'the helper' => sub {
    my %worker = map { $_ => 1 } $s->workers;
    my ($helper) = grep { !$worker{$_} } $s->children;
    ok($helper, 'there is one');
    kill 'KILL', $helper;
    ok(wait_for(sub { my ($h) = grep { !$worker{$_} } $s->children; $h && $h != $helper }, quiet => 1), 'respawned');
    is(all_served(5), 5, 'service goes on');
};

subtest 'crash loop' => sub {
    my %seen;
    for my $round (1 .. 6) {
        my ($victim) = eval { $s->workers } or last;
        $seen{$victim}++;
        kill 'KILL', $victim;
        wait_for(sub { !kill 0, $victim }, quiet => 1);
        wait_for(sub { my @w = eval { $s->workers }; @w && $w[0] != $victim && kill 0, $w[0] }, quiet => 1, timeout => 10);
    }
    is(all_served(10), 10, 'service goes on with whoever is left');
    is(($s->rpctl('fsck'))[0], 0, 'fsck is clean');
    ok(wait_for(sub { eval { $s->workers } == 2 }, quiet => 1, timeout => 40), 'and all come back');
};

subtest 'nobody waits for a worker in back-off' => sub {
    ok(wait_for(sub { ($s->rpctl('wait', 'healthy', '--timeout', '1s'))[0] == 0 }, quiet => 1, timeout => 40), 'both are there');
    my ($keep) = $s->workers;
    my %killed;
    my ($longest, $served) = (0, 0);
    # The other one dies whenever it comes back, until it is in its crash loop; who connects meanwhile is served by the one that is left.
    wait_for(sub {
        for my $pid (grep { $_ != $keep && !$killed{$_} } eval { $s->workers }) { $killed{$pid} = 1; kill 'KILL', $pid }
        my $from = time;
        $served += all_served(4);
        $longest = time - $from if time - $from > $longest;
        return $served >= 200 && keys %killed >= 3;
    }, quiet => 1, timeout => 40);
    cmp_ok(scalar keys %killed, '>=', 3, 'it died again and again');
    is($served % 4, 0, "all served ($served)");
    cmp_ok($longest, '<', $ENV{RPD_SANITIZED} ? 3 : 1, 'and quickly');
    ok(wait_for(sub { my @w = eval { $s->workers }; @w == 2 && !grep { $killed{$_} } @w }, quiet => 1, timeout => 40), 'it comes back');
    ok(wait_for(sub { ($s->rpctl('wait', 'healthy', '--timeout', '1s'))[0] == 0 }, quiet => 1, timeout => 40), 'healthy');
    is(all_served(40), 40, 'and accepts from its sockets again');
};

$s->stop;

subtest 'death of the master' => sub {
    my $p = free_port();
    my $slow = origin();
    my $s2 = rpd(config => simple_config(listen => "127.0.0.1:$p", server => $slow->address));
    my $c = client($p);
    $c->send(request('GET', '/'));
    my $oc = $slow->accept;
    $oc->read_request;
    kill 'KILL', $s2->pid;
    wait_for(sub { !$s2->running }, quiet => 1);
    $oc->send(response(200, [], 'finished'));
    is(eval { $c->read_response->{body} }, 'finished', 'workers finish what they have');
    ok(wait_for(sub { !RPD::Util::processes_of_session($s2->{session}) }, quiet => 1, timeout => 30), 'and end by themselves');
    $_->close for $c, $oc;
    $s2->{stopped} = 1;
    my $again = rpd(config => simple_config(listen => "127.0.0.1:$p", server => $o->address));
    is(http_get($p, '/')->{status}, 200, 'a new master starts on the same address');
    $again->stop;
};

done_testing;
