#!/usr/bin/perl
# Hundreds of reloads under load: not one request fails. First as fast as reloads can be, under short requests; then under long
# downloads, uploads and WebSockets; a reload waits by itself when too many old generations have something to finish.
use strict;
use warnings;
use RPD::Test;
use RPD::Real;
use RPD::Load;

my $long = ($ENV{RPD_STORM} || '') eq 'long';
my $fast = $long ? 1000 : $ENV{RPD_SANITIZED} ? 60 : 200;
my $slow = $long ? 200 : $ENV{RPD_SANITIZED} ? 15 : 40;

my $nginx = nginx_origin();
my $node = node_origin();
my $port = free_port();
my $config = sub {
    my ($n) = @_;
    return "[defaults]\nmax_body = 0\n[listen l]\naddress = 127.0.0.1:$port\n[upstream nginx]\nserver = $nginx->{address}\n"
        . "[upstream node]\nserver = $node->{address}\n[host any]\nnames = *\nupstream = nginx\n"
        . "[host node]\nnames = node.test\nupstream = node\n[route any/n]\npath = /n\nreturn = 200 \"$n\"\n";
};
my $s = rpd(config => $config->(0), global => "workers = 2\n");
sub reload {
    my ($n, $workers) = @_;
    $s->write_config($config->($n), global => "workers = $workers\n");
    my ($status, $out, $err) = $s->reload;
    die "reload $n: $out$err" if $status != 0;
}
sub summary {
    my ($r, $name, $least) = @_;
    is(scalar @{ $r->{failures} }, 0, "$name: no failure of $r->{count}") or diag(join "\n", splice @{ $r->{failures} }, 0, 5);
    cmp_ok($r->{count}, '>=', $least, "$name: enough was done; the slowest took " . sprintf('%.2f s', $r->{slowest}));
}

subtest "$fast reloads under short requests" => sub {
    my $wrk = wrk(url => "http://127.0.0.1:$port/small", connections => 30, seconds => 3600);
    my $new = load_start(sub { http_get($port, '/small')->{status} == 200 or die 'status' }, processes => 2);
    my $kept;
    my $keep = load_start(sub {
        $kept ||= client($port, keep => 0);
        $kept->send(request('GET', '/small'));
        my $r = $kept->read_response;
        die 'status' if $r->{status} != 200;
        if (lc(($r->{fields}{connection} || [''])->[0]) eq 'close') { $kept->close; undef $kept }
    });
    my $t0 = time;
    for my $n (1 .. $fast) {
        reload($n, 2);
        my $seen = http_get($port, '/n')->{body};
        is($seen, $n, "reload $n is in force when it has been answered") if $seen ne $n;
    }
    diag(sprintf '%d reloads, %.0f ms each', $fast, (time - $t0) * 1000 / $fast);
    summary(load_finish($new), 'new connections', $fast);
    summary(load_finish($keep), 'kept connections', $fast);
    kill 'INT', $wrk->{pid};
    my $w = $wrk->{finish}->();
    is($w->{errors}, undef, 'wrk saw no socket error') or diag($w->{text});
    is($w->{bad}, 0, 'and no bad answer');
    cmp_ok($w->{requests}, '>', 1000, "in $w->{requests} requests");
};

subtest "at least $slow reloads under transfers, workers coming and going" => sub {
    my $n = 4 << 20;
    my $down = load_start(sub {
        my $c = client($port, rcvbuf => 65536, keep => 0);
        $c->send(request('GET', "/download?n=$n&length=1", ['Host', 'node.test', 'Connection', 'close']));
        my $head = $c->read_head;
        die "head $head" if $head !~ /^HTTP\/1.1 200/;
        my $got = 0;
        # Slowly: a pause after every half a megabyte, so that a transfer spans several reloads.
        for (1 .. 8) {
            $got += $c->drain($n / 8);
            select undef, undef, undef, 0.05;
        }
        die "short: $got" if $got != $n;
    }, processes => 3);
    my $up = load_start(sub {
        my $c = client($port, keep => 0);
        $c->send(request('POST', '/upload', ['Host', 'node.test', 'Connection', 'close', 'Content-Length', $n]));
        my $piece = random_bytes($n / 8);
        for (1 .. 8) {
            $c->send($piece);
            select undef, undef, undef, 0.05;
        }
        my $r = $c->read_response;
        die "answer $r->{status} $r->{body}" if $r->{body} !~ /"n":$n,/;
    }, processes => 3);
    my $ws = load_start(sub {
        my $c = ws_connect($port, host => 'node.test');
        for (1 .. 20) {
            ws_echo($c, 'x' x 1000) or die 'echo';
            select undef, undef, undef, 0.02;
        }
        $c->close;
    }, processes => 3);
    my $wrk = wrk(url => "http://127.0.0.1:$port/small", connections => 5, seconds => 3600);
    my $t0 = time;
    for (my $k = 1; $k <= $slow || time - $t0 < 10; $k++) {
        reload($fast + $k, (2, 4, 1, 3)[$k % 4]);
    }
    summary(load_finish($down), 'downloads', 10);
    summary(load_finish($up), 'uploads', 10);
    summary(load_finish($ws), 'WebSockets', 10);
    kill 'INT', $wrk->{pid};
    my $w = $wrk->{finish}->();
    is($w->{errors}, undef, 'wrk saw no socket error') or diag($w->{text});
    is($w->{bad}, 0, "and no bad answer in $w->{requests}");
    is($s->metric('rpd_connections_aborted_total'), 0, 'nothing was aborted');
};

is(($s->rpctl('wait', 'idle', '--timeout', '40s'))[0], 0, 'old generations end');
$s->stop(idle_timeout => 30);
done_testing;
