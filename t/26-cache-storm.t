#!/usr/bin/perl
# The cache in a storm: workers killed, reloads and purges while everything is filled, confirmed, evicted and read at once. Each body
# says which URL it is of, so that one wrong byte is seen. Before that, ten thousand clients of both protocols on one cold URL of a slow origin.
use strict;
use warnings;
use RPD::Test;
use RPD::H2;
use RPD::Load;

my $long = ($ENV{RPD_STORM} || '') eq 'long';
my $rounds = $long ? 100 : $ENV{RPD_SANITIZED} ? 10 : 24;

# What a URL is answered with: its number of bytes hangs on it, and every line names it.
sub body_of {
    my ($path) = @_;
    my ($n) = $path =~ /(\d+)/;
    my $size = ($n * 7919) % 50 ? ($n * 104729) % 9000 + 20 : ($n * 104729) % 300_000 + 20;
    my $line = "$path " . ('x' x ($n % 60)) . "\n";
    return substr $line x ($size / length($line) + 1), 0, $size;
}
my $slow = origin();
my $origin = origin();
$origin->serve_requests(sub {
    my ($r) = @_;
    my $path = $r->{target};
    my $body = body_of($r->{method} eq 'QUERY' ? "$path $r->{body}" : $path);
    my ($n) = $path =~ /(\d+)/;
    my @say = ('ETag', "\"$n\"", 'Cache-Control', $n % 5 ? 'max-age=1, stale-while-revalidate=1' : 'max-age=0', $n % 7 ? () : ('Vary', 'Foo'));
    my $have = ($r->{fields}{'if-none-match'} || [''])->[0];
    return response(304, \@say, '') =~ s/Content-Length: 0\r\n//r if $have eq "\"$n\"";
    if ((($r->{fields}{range} || [''])->[0]) =~ /^bytes=(\d+)-(\d*)$/ && $1 < length $body) {
        my $last = length($2) ? $2 : length($body) - 1;
        return response(206, [@say, 'Content-Range', "bytes $1-$last/" . length $body], substr $body, $1, $last - $1 + 1);
    }
    return response(200, ['Cache-Control', 'private'], $body) if $n % 31 == 0;
    return "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nETag: \"$n\"\r\nCache-Control: max-age=1\r\n\r\n" . sprintf("%x\r\n%s\r\n0\r\n\r\n", length $body, $body)
        if $n % 3 == 0;
    return response(200, \@say, $body);
});
my $port = free_port();
my $config = sub {
    my ($comment) = @_;
    return "# $comment\n" . <<"EOF1";
[listen main]
address = 127.0.0.1:$port
[upstream origin]
server = @{[ $origin->address ]}
max_fails = 0
[upstream slow]
server = @{[ $slow->address ]}
[cache main]
size = 4m
max_object = 1m
methods = GET HEAD QUERY
purge_from = 127.0.0.1
[cache big]
size = 16m
max_object = 8m
collapse_timeout = 10m
[host all]
names = *
upstream = origin
cache = main
[route all/slow]
path = /slow
upstream = slow
cache = big
EOF1
};
my $s = rpd(config => $config->(0), global => "workers = 4\n", expect_alerts => qr/crash_loop/);

# Clients are processes with many connections, or with connections of many streams. A worker gives half of its files to clients, and
# the kernel spreads connections unevenly: one may get a third more than its share.
subtest 'ten thousand on one cold URL' => sub {
    my ($processes, $each, $h2, $streams) = $ENV{RPD_SANITIZED} ? (5, 200, 5, 40) : (20, 500, 30, 100);
    my ($files) = slurp('/proc/self/limits') =~ /^Max open files\s+\S+\s+(\d+)/m;
    my $most = int(4 * ($files - 500) / 2 / 1.33) - $h2;
    if ($most < $processes * $each) {
        $each = int($most / $processes);
        diag("only " . $processes * $each . " connections: no more than $files files may be open");
    }
    my $half = join '', map { sprintf "slow and cold %06d.\n", $_ } 1 .. 2000;    # 42,000 bytes
    my $mine = sub { my $sum = 0; $sum += slurp("/proc/$_/status") =~ /^RssAnon:\s+(\d+)/m ? $1 * 1024 : 0 for $s->workers; return $sum };
    my $before = $mine->();
    my @pids;
    my $start = sub {
        my ($want, $code) = @_;
        my $pid = fork // die "fork: $!";
        POSIX::_exit((eval { $code->() } // 0) == $want ? 0 : 1) if !$pid;
        push @pids, $pid;
    };
    for (1 .. $processes) {
        $start->($each, sub {
            my @c = map { my $c = client($port, keep => 0); $c->send(request('GET', '/slow')); $c } 1 .. $each;
            grep { $_->read_response(timeout => 120)->{body} eq $half x 2 } @c;
        });
    }
    for (1 .. $h2 / 5) {
        $start->(5 * $streams, sub {
            my @h = map { my $h = RPD::H2->connect($port); [$h, map { $h->request('GET', '/slow') } 1 .. $streams] } 1 .. 5;
            my $good = 0;
            for (@h) { my ($h, @id) = @$_; $good += grep { my $r = $h->response($_, timeout => 120); $r->{ended} && $r->{body} eq $half x 2 } @id }
            $good;
        });
    }
    my $all = $processes * $each + $h2 * $streams;
    my $oc = $slow->accept;
    $oc->read_request;
    ok(wait_for(sub { $s->metric('rpd_requests_in_flight') >= $all }, quiet => 1, timeout => 60), "all $all are there");
    ok(!$slow->try_accept(0.2), 'and one request at the origin');
    my $waiting = ($mine->() - $before) / $all;
    $oc->send("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: " . 2 * length($half) . "\r\n\r\n$half");
    ok(!$slow->try_accept(0.2), 'nor another one when it answers');
    $oc->send($half);
    my $bad = 0;
    for (@pids) { waitpid $_, 0; $bad++ if $? }
    is($bad, 0, 'everyone got everything');
    ok(!$slow->try_accept(0.1), 'from that one');
    if (!$ENV{RPD_SANITIZED}) {
        cmp_ok($waiting, '<', 12 << 10, sprintf 'who waits takes %d bytes', $waiting);
        my $peak = ($mine->() - $before) / $all;
        cmp_ok($peak, '<', length $half, sprintf 'and %d when all is served, of %d', $peak, 2 * length $half);
    }
};

my $kept;
my $load = load_start(sub {
    my $path = '/' . (rand() < 0.5 ? int rand 20 : int rand 2000);
    $kept ||= client($port, keep => 0);
    my @fields = rand() < 0.3 ? (Foo => int rand 3) : ();
    my $content = rand() < 0.2 ? 'q' . int(rand 4) x (1 + rand 3000) : undef;
    my $r = eval { $kept->send(request(defined $content ? 'QUERY' : 'GET', $path, \@fields, $content)); $kept->read_response };
    if (!$r || lc(($r->{fields}{connection} || [''])->[0]) eq 'close') {
        $kept->close;
        undef $kept;
    }
    die 'connection lost' if !$r;
    die "status $r->{status}" if $r->{status} != 200;
    die "WRONG BYTES of $path" if $r->{body} ne body_of(defined $content ? "$path $content" : $path);
}, processes => 10);

my ($kills, $healthy) = (0, 0);
for my $n (1 .. $rounds) {
    my $seen = load_count($load);
    if ($n % 6 == 0) {
        $s->write_config($config->($n), global => "workers = 4\n");
        is(($s->reload)[0], 0, "reload $n");
    } elsif ($n % 6 == 3) {
        my $c = client($port);
        for my $k (1 .. 20) {
            $c->send(request('PURGE', '/' . int rand 20));
            last if !eval { $c->read_response };
        }
        is(($s->rpctl('fsck'))[0], 0, "fsck, $n");
    } else {
        my @workers = eval { $s->workers };
        my ($victim) = grep { $_ && kill 0, $_ } map { $workers[rand @workers] } 1 .. 8;
        $kills++ if $victim && kill 'KILL', $victim;
    }
    $healthy += wait_for(sub { load_count($load) > $seen + 100 }, quiet => 1, timeout => 30) ? 1 : 0;
}
is($healthy, $rounds, 'service went on all the time');
my $r = load_finish($load);
my @wrong = grep { /WRONG/ } @{ $r->{failures} };
is(scalar @wrong, 0, "no wrong byte in $r->{count} answers") or diag(join "\n", @wrong[0 .. ($#wrong > 9 ? 9 : $#wrong)]);
my @other = grep { !/WRONG|connection lost/ } @{ $r->{failures} };
cmp_ok(scalar @other, '<=', $kills, 'and hardly an error answer') or diag(join "\n", @other[0 .. ($#other > 9 ? 9 : $#other)]);
cmp_ok(scalar(grep { /lost/ } @{ $r->{failures} }), '<=', $kills * 12 + 40, 'only who was at a killed worker lost a connection');
ok(wait_for(sub { ($s->rpctl('wait', 'healthy', '--timeout', '20s'))[0] == 0 }, quiet => 1, timeout => 60), 'healthy at the end');
is(($s->rpctl('cache', 'fsck'))[0], 0, 'the caches are sound');
$s->stop(idle_timeout => 30);
done_testing;
