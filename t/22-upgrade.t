#!/usr/bin/perl
# A binary upgrade under load: new master, same sockets and segment, no lost connection.
use strict;
use warnings;
use RPD::Test;
use RPD::Real;
use RPD::Load;

my $rounds = ($ENV{RPD_STORM} || '') eq 'long' ? 50 : $ENV{RPD_SANITIZED} ? 2 : 5;
my $nginx = nginx_origin();
my $node = node_origin();
my $port = free_port();
my $s = rpd(config => "[listen l]\naddress = 127.0.0.1:$port\n[upstream nginx]\nserver = $nginx->{address}\n"
    . "[upstream node]\nserver = $node->{address}\n[host any]\nnames = *\nupstream = nginx\n[host node]\nnames = node.test\nupstream = node\n",
    global => "workers = 2\nold_generations = 8\n");

my $wrk = wrk(url => "http://127.0.0.1:$port/small", connections => 20, seconds => 3600);
my $new = load_start(sub { http_get($port, '/small')->{status} == 200 or die 'status' }, processes => 2);
my $ws = ws_connect($port, host => 'node.test');
ok(ws_echo($ws, 'before'), 'a WebSocket before');
my $slow = client($port, rcvbuf => 65536, keep => 0);
my $n = 32 << 20;
$slow->send(request('GET', "/download?n=$n&length=1", ['Host', 'node.test']));
like($slow->read_head, qr/^HTTP\/1.1 200/, 'a download before');

for my $round (1 .. $rounds) {
    my $before = $s->metric('rpd_requests_total');
    my ($generation, @old) = ($s->ctl_json('status')->{generation}, $s->workers);
    my ($status, $out, $err) = $s->rpctl('upgrade');
    is($status, 0, "upgrade $round") or diag($out, $err, $s->output);
    last if $status;
    ok(wait_for(sub { ($s->rpctl('wait', 'healthy', '--timeout', '10s'))[0] == 0 }, quiet => 1, timeout => 30), 'healthy');
    my @now = $s->workers;
    is(scalar(grep { my $w = $_; grep { $w == $_ } @old } @now), 0, 'new workers');
    cmp_ok($s->metric('rpd_requests_total'), '>=', $before, 'the counters go on: the same segment');
    is(http_get($port, '/small')->{status}, 200, 'served');
}
ok(ws_echo($ws, 'after'), 'the WebSocket is still there');
is($slow->drain($n), $n, 'and the download complete');
$_->close for $ws, $slow;

my $r = load_finish($new);
is(scalar @{ $r->{failures} }, 0, "no failure in $r->{count} new connections") or diag(join "\n", splice @{ $r->{failures} }, 0, 5);
kill 'INT', $wrk->{pid};
my $w = $wrk->{finish}->();
is($w->{errors}, undef, 'wrk saw no socket error') or diag($w->{text});
is($w->{bad}, 0, "and no bad answer in $w->{requests}");

subtest 'a broken configuration stops an upgrade, not the service' => sub {
    my $good = slurp($s->conf);
    spew($s->conf, $good . "[nonsense]\n");
    my ($status, $out, $err) = $s->rpctl('upgrade');
    is($status, 1, 'refused') or diag($out, $err);
    is(http_get($port, '/small')->{status}, 200, 'served');
    is(($s->rpctl('status'))[0], 0, 'the old master answers');
    spew($s->conf, $good);
};

$s->stop(idle_timeout => 30);
done_testing;
