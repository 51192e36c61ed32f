#!/usr/bin/perl
# The exchange between two sides that do things at the wrong moment: bodies during another try, expectations, answers that come too
# early or to nobody, waiters that cannot use the place that became free, ends of long pipelines.
use strict;
use warnings;
use RPD::Test;

my $port = free_port();
my %o = map { $_ => origin() } qw(a b c solo);
my $upstream = sub { my ($name, $keys, @o) = @_; "[upstream $name]\nmax_fails = 0\n$keys\n" . join('', map { "server = " . $_->address . "\n" } @o) };
my $host = sub { my ($name, $keys) = @_; "[host $name]\nnames = $name\nupstream = $name\n$keys\n" };
my $s = rpd(config => join('',
    "[defaults]\naccess_log = main\n[log main]\nfile = <DIR>/access.log\nflush = 10ms\nformat = \"%{host} %{uri} %{resp_header.x-mark} %{status} %{reason}\"\n",
    "[listen main]\naddress = 127.0.0.1:$port\nkeepalive_requests = 4\nmax_head = 256k\nmax_field = 64k\n",
    $upstream->('three', 'balance = round_robin', @o{qw(a b c)}), $host->('three', 'retry = 5 on connect reused reset'),
    $upstream->('solo', 'max_head = 256k', $o{solo}), $host->('solo', "tunnel_timeout = 400ms\nretry = 3 on reused 503"),
    $upstream->('two', 'balance = round_robin', @o{qw(a b)}), $host->('two', 'retry = 3 on 503'),
    $upstream->('narrow', "balance = round_robin\nmax_conns = 1\nqueue_timeout = 10s", @o{qw(a b)}), $host->('narrow', ''),
), global => "workers = 1\n");

# The origin that gets the next connection, and the connection.
sub whoever {
    my @names = @_;
    my ($name, $conn);
    wait_for(sub { for (@names) { return 1 if $conn = $o{ $name = $_ }->try_accept(0.02) } return 0 }) or die "nobody came to @names\n";
    return ($name, $conn);
}

subtest 'a client that waits for 100' => sub {
    my $c = client($port);
    my $oc;
    for my $n (1, 2) {
        $c->send("PUT /$n HTTP/1.1\r\nHost: solo\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
        $oc ||= $o{solo}->accept;
        like($oc->read_head, qr/^PUT \/$n .*\r\nExpect: 100-continue\r\n/si, ($n == 1 ? 'new' : 'pooled') . ' connection: the head goes alone');
        $oc->send("HTTP/1.1 100 Continue\r\n\r\n");
        like($c->read_head, qr/^HTTP\/1.1 100 /, '100 passes');
        $c->send('hello');
        is($oc->read_n(5), 'hello', 'then the body');
        $oc->send(response(200, [], 'ok'));
        is($c->read_response->{status}, 200, 'and the answer');
    }
};

subtest 'body bytes that come while another server is tried' => sub {
    my $c = client($port);
    my $body = join '', map { "piece $_\n" } 1 .. 60;
    my @pieces = $body =~ /.{1,40}/gs;
    my $more = sub { for (1 .. $_[0]) { my $p = shift @pieces; $c->send(sprintf("%x\r\n%s\r\n", length $p, $p)) if defined $p } };
    $c->send("PUT /retry HTTP/1.1\r\nHost: three\r\nTransfer-Encoding: chunked\r\n\r\n");
    $more->(2);
    my %seen;
    for my $try (1, 2) {
        my ($name, $oc) = whoever(grep { !$seen{$_} } qw(a b c));
        $seen{$name} = 1;
        $oc->read_until(qr/piece 1\n/);
        $oc->reset;
        $more->(3); # the second time there is a pause before the next try
    }
    my ($name, $oc) = whoever(grep { !$seen{$_} } qw(a b c));
    $more->(1000);
    $c->send("0\r\n\r\n");
    is($oc->read_request->{body}, $body, 'the third server gets all of it, once');
    $oc->send(response(200, [], 'ok'));
    is($c->read_response->{status}, 200, 'answered');
};

subtest 'a tunnel in which only the server speaks' => sub {
    my $c = client($port);
    $c->send(request('GET', '/ws', ['Host', 'solo', 'Connection', 'Upgrade', 'Upgrade', 'websocket']));
    my $oc = $o{solo}->accept;
    $oc->read_request;
    $oc->send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    $c->read_head;
    for my $n (1 .. 6) {
        ok($c->silent(0.15), 'a pause') if $n > 1;
        $oc->send($n);
        is($c->read_n(1), $n, 'is not idle');
    }
    ok(wait_for(sub { $c->closed(timeout => 0.1) || $c->is_reset }, quiet => 1), 'silence is');
};

subtest '101 before the request is complete' => sub {
    my $c = client($port);
    $c->send("POST /ws HTTP/1.1\r\nHost: solo\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 10\r\n\r\nabc");
    my $oc = $o{solo}->accept;
    $oc->read_until(qr/abc/);
    $oc->send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    is($c->read_response->{status}, 502, 'is a bad answer: the rest of the body would be taken for the tunnel');
};

subtest 'a gateway status of the last server' => sub {
    my $c = client($port);
    $c->send(request('GET', '/503', ['Host', 'two']));
    for (1, 2) {
        my ($name, $oc) = whoever('a', 'b');
        $oc->read_request;
        $oc->send(response(503, ['Retry-After', 77], "busy $name"));
    }
    my $r = $c->read_response;
    is($r->{status}, 503, 'passes');
    is_deeply($r->{fields}{'retry-after'}, [77], 'with what it said');
};

subtest 'waiters behind one that cannot use the free place' => sub {
    my @c = map { client($port) } 1 .. 4;
    my $ask = sub { my ($n) = @_; $c[$n]->send(request('GET', "/$n", ['Host', 'narrow'])) };
    my %conn;
    $ask->(0);
    my ($first, $oc) = whoever('a', 'b');
    $oc->read_request;
    $ask->(1);
    my ($second, $busy) = whoever('a', 'b');
    isnt($second, $first, 'both servers are taken');
    $busy->read_request;
    $ask->(2);
    $s->wait_metric('rpd_queue_length', 1);
    $oc->send(response(200, ['Connection', 'close'], 'x'));
    $oc->close;
    $oc = $o{$first}->accept; # the request of client 2, which dies here and then can only wait for the other server
    $oc->read_request;
    $ask->(3);
    $s->wait_metric('rpd_queue_length', 1);
    $oc->reset;
    $oc = $o{$first}->accept;
    like($oc->read_request->{target}, qr/^\/3/, 'the next one passes it');
    $oc->send(response(200, [], 'three'));
    is($c[3]->read_response->{body}, 'three', 'answered');
    $busy->send(response(200, [], 'one'));
    is($c[1]->read_response->{body}, 'one', 'the busy server is done');
    is($busy->read_request->{target}, '/2', 'the one that was passed gets its place');
    $busy->send(response(200, [], 'two'));
    is($c[2]->read_response->{body}, 'two', 'answered');
    is($s->metric('rpd_queue_length'), 0, 'nobody waits');
};

subtest 'a pipeline longer than a connection may have requests' => sub {
    for my $round (1 .. 5) {
        my $c = client($port);
        $c->send(join('', map { request('GET', "/$_", ['Host', 'solo', 'X-Fill', 'f' x 4000]) } 1 .. 100), quiet => 1);
        my ($n, $oc) = (0);
        for (;;) {
            $oc ||= $o{solo}->accept;
            my $r = $oc->read_request;
            $oc->send(response(200, [], $r->{target}));
            my $a = $c->read_response;
            $n++;
            is($a->{body}, "/$n", "answer $n") if $a->{body} ne "/$n";
            last if ($a->{fields}{connection}[0] || '') eq 'close';
        }
        ok($c->closed && !$c->is_reset, "the last of $n answers is not destroyed by a reset");
        $oc->close;
    }
};

subtest 'heads as large as can be configured' => sub {
    my $c = client($port);
    my $fields = join '', map { "F$_: " . 'v' x 60_000 . "\r\n" } 1 .. 4;
    my $rest = 'w' x (262_144 - length("GET / HTTP/1.1\r\nHost: solo\r\nG: \r\n\r\n$fields") - 400);
    my $head = "GET / HTTP/1.1\r\nHost: solo\r\nG: $rest\r\n$fields\r\n";
    $c->send_split($head, map { $_ * 9000 } 1 .. length($head) / 9000);
    my $oc = $o{solo}->accept;
    like($oc->read_head, qr/\r\nG: w+\r\n/, 'of a request');
    $head = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nG: $rest\r\n$fields\r\n";
    $oc->send_split($head . 'ok', map { $_ * 9000 } 1 .. length($head) / 9000);
    my $r = $c->read_response;
    is($r->{body}, 'ok', 'of an answer');
    is(length $r->{fields}{g}[0], length $rest, 'whole');
};

subtest 'log lines belong to their answers' => sub {
    my (@c, @oc, %want);
    for my $n (1 .. 6) {
        my $c = client($port, rcvbuf => 4096);
        $c->send(request('GET', "/mark$n", ['Host', 'solo']));
        my $oc = $o{solo}->accept;
        $oc->read_request;
        push @c, $c;
        push @oc, $oc;
        $want{"solo /mark$n m$n 200 -"} = 1;
    }
    my $big = 'x' x 400_000;
    for my $n (1 .. 6) { $oc[$n - 1]->send("HTTP/1.1 200 OK\r\nContent-Length: 400000\r\nX-Mark: m$n\r\n\r\n" . substr $big, 0, 1000 * $n) }
    for my $n (reverse 1 .. 6) {
        my $pid = fork // die;
        if (!$pid) { eval { $oc[$n - 1]->send(substr $big, 1000 * $n) }; POSIX::_exit(0) }
        is(length $c[$n - 1]->read_response->{body}, 400_000, "answer $n");
        waitpid $pid, 0;
    }
    ok(wait_for(sub {
        my %got = map { $_ => 1 } grep { /mark/ } split /\n/, slurp($s->dir . '/access.log');
        return !grep { !$got{$_} } keys %want;
    }), 'each says what its server sent');
};

$s->stop;
done_testing();
