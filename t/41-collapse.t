#!/usr/bin/perl
# One fetch for many: requests of several workers for what is on its way get the same bytes as they arrive; what happens when the one
# who fetches, a client or the origin fails or is slow.
use strict;
use warnings;
use RPD::Test;

my $port = free_port();
my $o = origin();
my $address = $o->address;
my $s = rpd(config => <<"EOF1", global => "workers = 4\n");
[defaults]
upstream = origin
retry = off
write_timeout = 30s
[listen main]
address = 127.0.0.1:$port
[upstream origin]
server = $address
max_fails = 0
keepalive = 0
[cache main]
size = 64m
max_object = 16m
collapse_timeout = 400ms
[cache narrow]
size = 4m
max_object = 2m
[cache patient]
size = 64m
max_object = 16m
collapse_timeout = 60s
[host all]
names = *
cache = patient
[route all/hasty]
path = /hasty/*
cache = main
[route all/narrow]
path = /narrow/*
cache = narrow
EOF1

my @open;
sub get {
    my ($path, @fields) = @_;
    my $c = client($port);
    $c->send(request('GET', $path, [@fields]));
    push @open, $c;
    return $c;
}
sub head { my ($length, @more) = @_; return "HTTP/1.1 200 OK\r\nContent-Length: $length\r\nCache-Control: max-age=60\r\n" . join('', map { "$_\r\n" } @more) . "\r\n" }
sub is_got { my ($r, $body, $what) = @_; ok($r->{status} == 200 && $r->{body} eq $body, $what) or diag("status $r->{status}, " . length($r->{body}) . " bytes") }
# Nobody else comes to the origin.
sub nobody { my ($what) = @_; ok(!$o->try_accept(0.1), $what) }
# The worker that has the connection to this port of ours; the kernel's list of sockets may miss one while it is read.
sub worker_of {
    my ($port) = @_;
    my ($here, $there) = map { sprintf ':%04X', $_ } $port, $o->port;
    my $found;
    wait_for(sub {
        my %inode = map { my @f = split; @f > 9 && $f[1] =~ /$here$/ && $f[2] =~ /$there$/ ? ("socket:[$f[9]]" => 1) : () } split /\n/, slurp('/proc/net/tcp');
        for my $pid ($s->children) {
            ($found) = map { $pid } grep { $inode{ readlink($_) || '' } } glob "/proc/$pid/fd/*";
            return 1 if $found;
        }
        return 0;
    }, quiet => 1);
    return $found;
}
my $block = join '', map { sprintf "%07d\n", $_ } 0 .. 8191;    # 64 KiB

subtest 'as it arrives, in all workers' => sub {
    my @c = map { get('/one') } 1 .. 40;
    my $oc = $o->accept;
    $oc->read_request;
    nobody('one request for forty');
    $oc->send(head(2 * length $block) . $block);
    for my $c (@c) { $c->read_head; is($c->read_n(length $block), $block, 'the first half, before there is a second') || last }
    my $late = get('/one');
    $late->read_head;
    is($late->read_n(length $block), $block, 'one who comes late');
    $oc->send($block);
    my $good = grep { $_->read_n(length $block) eq $block } @c, $late;
    is($good, 41, 'and the second half');
    my $c = get('/one');
    is_got($c->read_response, $block x 2, 'a hit');
    nobody('really');
};

subtest 'without a length' => sub {
    my @c = map { get('/chunked') } 1 .. 8;
    my $old = client($port);
    my $oc = $o->accept;
    $oc->read_request;
    $oc->send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nCache-Control: max-age=60\r\n\r\n5\r\nhello\r\n");
    for my $c (@c) { $c->read_until(qr/hello/) }
    $old->send("GET /chunked HTTP/1.0\r\nHost: localhost\r\n\r\n");
    $old->read_until(qr/hello/);
    $oc->send("6\r\n world\r\n0\r\n\r\n");
    for my $c (@c) { $c->read_until(qr/ world\r\n0\r\n\r\n$/) }
    like($old->read_eof, qr/ world$/, 'HTTP/1.0: until the end');
    my $r = get('/chunked')->read_response;
    is_got($r, 'hello world', 'stored');
    is($r->{fields}{'content-length'}[0], 11, 'with its length by now');
};

subtest 'the client that was first goes away' => sub {
    my $first = get('/gone');
    my $oc = $o->accept;
    $oc->read_request;
    my @c = map { get('/gone') } 1 .. 8;
    $oc->send(head(2 * length $block) . substr $block, 0, 100);
    for my $c (@c) { $c->read_head; $c->read_n(100) }
    $first->close;
    $oc->send(substr($block, 100) . $block);
    my $good = grep { $_->read_n(2 * length($block) - 100) eq substr($block, 100) . $block } @c;
    is($good, 8, 'the others get everything');
    nobody('from the same request');
};

subtest 'all go away' => sub {
    my $c = get('/alone');
    my $oc = $o->accept;
    $oc->read_request;
    $oc->send(head(64 << 20) . $block);
    $c->read_head;
    $c->close;
    ok($oc->closed, 'nothing is fetched for nobody');
    get('/alone');
    $oc = $o->accept;
    $oc->read_request;
    pass('and the next one is asked for');
    $oc->close;
};

subtest 'slow clients' => sub {
    my $slow = client($port, rcvbuf => 4096);
    $slow->send(request('GET', '/slow'));
    my $oc = $o->accept;
    $oc->read_request;
    my $follower = client($port, rcvbuf => 4096);
    $follower->send(request('GET', '/slow'));
    my $fast = get('/slow');
    my $n = 96;    # 6 MiB
    $oc->send(head($n * length $block));
    $oc->send($block) for 1 .. $n;
    is_got($fast->read_response, $block x $n, 'do not hold up others');
    is_got(get('/slow')->read_response, $block x $n, 'nor the store');
    is_got($_->read_response, $block x $n, 'and get all in the end') for $slow, $follower;
};

subtest 'not for the store' => sub {
    my @c = map { get('/private') } 1 .. 6;
    my $oc = $o->accept;
    $oc->read_request;
    nobody('five wait');
    $oc->send(response(200, ['Cache-Control', 'private'], 'mine'));
    my @oc = map { $o->accept } 1 .. 5;
    pass('then all go, at once');
    for (@oc) { $_->read_request; $_->send(response(200, ['Cache-Control', 'private'], 'mine')) }
    is($_->read_response->{body}, 'mine', 'answer') for @c;
    @c = map { get('/private') } 1 .. 3;
    for (map { $o->accept } 1 .. 3) { $_->read_request; $_->send(response(200, ['Cache-Control', 'private'], 'mine')) }
    is($_->read_response->{body}, 'mine', 'known from then on') for @c;
};

subtest 'the origin fails' => sub {
    my @c = map { get('/fails') } 1 .. 5;
    my $oc = $o->accept;
    $oc->read_request;
    nobody('they wait');
    $oc->close;
    is($_->read_response->{status}, 502, 'for the same failure') for @c;
    nobody('once');
    @c = map { get('/breaks') } 1 .. 5;
    $oc = $o->accept;
    $oc->read_request;
    $oc->send(head(2 * length $block) . $block);
    for my $c (@c) { $c->read_head; $c->read_n(length $block) }
    $oc->close;
    is(scalar(grep { my $c = $_; my $whole = eval { $c->read_n(length $block) }; $whole } @c), 0, 'half of it is not the whole for anybody');
};

subtest 'no head in time' => sub {
    my $first = get('/hasty/1');
    my $oc = $o->accept;
    $oc->read_request;
    my @c = map { get('/hasty/1') } 1 .. 3;
    my @oc = map { $o->accept } 1 .. 3;
    pass('the others go alone');
    for (@oc) { $_->read_request; $_->send(response(200, ['Cache-Control', 'max-age=60'], 'x')) }
    is($_->read_response->{status}, 200, 'answered') for @c;
    $oc->send(response(200, ['Cache-Control', 'max-age=60'], 'y'));
    is($first->read_response->{body}, 'y', 'and the first');
};

subtest 'ranges of what arrives' => sub {
    my $all = get('/ranges');
    my $oc = $o->accept;
    $oc->read_request;
    $oc->send(head(2 * length($block), 'ETag: "r"') . $block);
    $all->read_head;
    $all->read_n(length $block);
    my $r = get('/ranges', Range => 'bytes=8-15')->read_response;
    is("$r->{status} $r->{body}", "206 0000001\n", 'that are there');
    my $c = get('/ranges', Range => 'bytes=-8');
    like($c->read_head, qr/^HTTP.1.1 206 .*Content-Range: bytes 131064-131071.131072/s, 'and such that are not yet');
    ok($c->silent(0.1), 'nothing before its time');
    $oc->send($block);
    is($c->read_n(8), "0008191\n", 'come');
    is($all->read_n(length $block), $block, 'the whole');
};

subtest 'variants' => sub {
    my %c = map { $_ => [map { my $k = $_; get('/vary', Foo => $k) } ($_) x 3] } qw(a b);
    my $seen = 0;
    my $first = $o->accept;
    my $head = $first->read_head;
    my ($which) = $head =~ /\r\nFoo: (\w)/;
    $first->send(response(200, ['Cache-Control', 'max-age=60', 'Vary', 'Foo'], "for $which"));
    is($_->read_response->{body}, "for $which", 'its own variant') for @{ $c{$which} };
    my $other = $which eq 'a' ? 'b' : 'a';
    my $oc = $o->accept;
    like($oc->read_head, qr/\r\nFoo: $other/, 'the other is asked for');
    nobody('once');
    $oc->send(response(200, ['Cache-Control', 'max-age=60', 'Vary', 'Foo'], "for $other"));
    is($_->read_response->{body}, "for $other", 'and given') for @{ $c{$other} };
};

subtest 'a purge while it arrives' => sub {
    my @early = map { get('/purged') } 1 .. 4;
    my $old = $o->accept;
    $old->read_request;
    nobody('one request for all');
    is($s->ctl_json('cache', 'purge', "http://localhost:$port/other")->{objects}, 0, 'something else of the host is purged');
    push @early, get('/purged');
    nobody('which concerns nobody here');
    $s->ctl_json('cache', 'purge', "http://localhost:$port/purged");
    my @late = map { get('/purged') } 1 .. 20;
    my $new = $o->accept;
    $new->read_request;
    nobody('who comes after the purge does not wait for what was asked for before it, and they ask once');
    $new->send(head(3) . 'new');
    is_got($_->read_response, 'new', 'who came after it') for @late;
    $old->send(head(3) . 'o');
    nobody('who came before it has joined, and does not ask for itself');
    $old->send('ld');
    like($_->read_response->{body}, qr/^(?:old|new)$/, 'who came before it') for @early;
    is_got(get('/purged')->read_response, 'new', 'and what is stored is the new one, though the old one was complete last');
    nobody('from the cache');
    $old->close;
    $new->close;
};

subtest 'larger than the store takes, without a length' => sub {
    for my $tag (['ETag: "big"'], []) {
        my $path = '/narrow/big' . @$tag;
        my @c = map { get($path) } 1 .. 3;
        my $oc = $o->accept;
        $oc->read_request;
        my $n = 48;    # 3 MiB
        my $all = $block x $n;
        $oc->send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nCache-Control: max-age=60\r\n" . join('', map { "$_\r\n" } @$tag) . "\r\n");
        my $chunk = sprintf "%x\r\n%s\r\n", length $block, $block;
        $oc->send($chunk);
        $_->fill(time + 10) for @c;    # they have begun
        $oc->send($chunk x ($n - 1));
        $oc->send("0\r\n\r\n");
        if (@$tag) {
            for (1, 2) {
                my $next = $o->accept;
                my $request = $next->read_request;
                my ($from) = (($request->{fields}{range} || [''])->[0]) =~ /^bytes=(\d+)-$/;
                defined $from or return fail('a request for the rest');
                $next->send("HTTP/1.1 206 Partial Content\r\nETag: \"big\"\r\nContent-Range: bytes $from-" . (length($all) - 1) . '/' . length($all) .
                    "\r\nContent-Length: " . (length($all) - $from) . "\r\n\r\n" . substr $all, $from);
            }
        }
        my ($whole, $cut) = (0, 0);
        for my $c (@c) {
            my $r = eval { $c->read_response };
            if (!$r) { $cut++ } elsif ($r->{body} eq $all) { $whole++ } else { fail('wrong bytes') }
        }
        @$tag ? is("$whole $cut", '3 0', 'those who wait get the rest themselves') : cmp_ok($whole, '>=', 1, "without a tag they are cut: $cut");
    }
};

subtest 'slow clients of what is evicted' => sub {
    my @slow;
    for my $k (1 .. 6) {
        my $path = "/narrow/s$k";
        # What the clients before still hold may leave no room for it at first.
        wait_for(sub {
            my $r = client($port);
            $r->send(request('GET', $path));
            my $oc;
            for (1 .. 500) { last if $oc || !$r->silent(0.01); $oc = $o->try_accept(0.01) }
            if ($oc) {
                $oc->read_request;
                $oc->send(response(200, ['Cache-Control', 'max-age=60'], $block x (4 + $k)));
            }
            ($r->read_response->{fields}{'cache-status'}[0] || '') =~ /hit/;
        });
        my $c = client($port, rcvbuf => 4096);
        $c->send(request('GET', $path));
        $c->read_head;
        push @slow, [$c, $block x (4 + $k)];
    }
    # Twice the cache passes by.
    for my $k (1 .. 130) {
        my $c = client($port);
        $c->send(request('GET', "/narrow/churn$k"));
        my $oc = $o->accept;
        $oc->read_request;
        $oc->send(response(200, ['Cache-Control', 'max-age=60'], $block));
        $c->read_response->{body} eq $block or return fail('wrong bytes');
    }
    for (@slow) { my ($c, $body) = @$_; ok($c->read_n(length $body) eq $body, 'all of it, long gone') }
};

subtest 'a reload in between' => sub {
    my @c = map { get('/reload') } 1 .. 8;
    my $oc = $o->accept;
    $oc->read_request;
    $oc->send(head(2 * length $block) . $block);
    for my $c (@c) { $c->read_head; $c->read_n(length $block) }
    is(($s->reload)[0], 0, 'reload');
    my @new = map { get('/reload') } 1 .. 8;
    for my $c (@new) { $c->read_head; is($c->read_n(length $block), $block, 'the next generation follows the last one') || last }
    nobody('nobody asks again');
    $oc->send($block);
    is(scalar(grep { $_->read_n(length $block) eq $block } @c, @new), 16, 'all get all');
    is_got(get('/reload')->read_response, $block x 2, 'stored');
};

for my $how (['with a strong tag', 'ETag: "k"'], ['without one']) {
    my ($what, @field) = @$how;
    subtest "the worker that fetches is killed: $what" => sub {
        my $path = '/killed' . @field;
        my @c = map { get($path) } 1 .. 24;
        my $oc = $o->accept;
        $oc->read_request;
        $oc->send(head(2 * length($block), @field) . $block);
        for my $c (@c) { $c->read_head; $c->read_n(length $block) }
        my $pid = worker_of($oc->sock->peerport) or return fail('found it');
        kill 'KILL', $pid;
        my ($whole, $cut) = (0, 0);
        if (@field) {
            my $next = $o->accept;
            my $request = $next->read_request;
            is($request->{fields}{range}[0], 'bytes=' . length($block) . '-', 'another asks for the rest');
            is($request->{fields}{'if-range'}[0], '"k"', 'of the same');
            my $size = 2 * length $block;
            $next->send("HTTP/1.1 206 Partial Content\r\nETag: \"k\"\r\nContent-Range: bytes " . length($block) . '-' . ($size - 1) . "/$size\r\nContent-Length: " . length($block) . "\r\n\r\n$block");
        }
        for my $c (@c) {
            my $rest = eval { $c->read_n(length $block) };
            if (!defined $rest) { $cut++ } elsif ($rest eq $block) { $whole++ } else { fail('wrong bytes') }
        }
        @field ? cmp_ok($whole, '>=', 6, "$whole got all, $cut went with the worker") : is($whole, 0, 'all are cut');
        is_got(get($path)->read_response, $block x 2, 'stored') if @field;
        wait_for(sub { my @w = eval { $s->workers }; @w == 4 && !grep { $_ == $pid } @w });
    };
}

$_->close for @open;
$s->stop(idle_timeout => 20);
done_testing();
