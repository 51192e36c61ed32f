#!/usr/bin/perl
# Upstreams: balancing, weights, backups, retries, ejection and recovery, max_conns with its queue, and all servers down.
use strict;
use warnings;
use RPD::Test;

# An origin that answers with its own name; paths: /slow waits for a file, /fail is 503, anything else 200.
sub named {
    my ($name, $address) = @_;
    my $o = $address ? origin(address => $address) : origin();
    return $o->serve_requests(sub {
        my ($r) = @_;
        return response($r->{target} =~ /^\/fail/ ? 503 : 200, [], $name);
    });
}
sub ask { my ($port, $path, $n) = @_; my %seen; $seen{ $_->{status} == 200 ? $_->{body} : $_->{status} }++ for map { http_get($port, $path || '/') } 1 .. ($n || 1); return \%seen }

my ($a, $b, $c) = map { named($_) } qw(a b c);

subtest 'balancing' => sub {
    my %port = map { $_ => free_port() } qw(rr weight least two ip);
    my $up = sub { my ($name, $keys, @servers) = @_; "[upstream $name]\n$keys\n" . join('', map { "server = $_\n" } @servers) };
    my @abc = map { $_->address } $a, $b, $c;
    my $s = rpd(config => join('',
        $up->('rr', 'balance = round_robin', @abc), $up->('weight', 'balance = round_robin', "$abc[0] weight=5", "$abc[1] weight=1"),
        $up->('least', 'balance = least_conn', @abc), $up->('two', '', @abc), $up->('ip', 'balance = ip_hash', @abc),
        map { "[listen $_]\naddress = 127.0.0.1:$port{$_}\n[host $_]\nnames = *\nlisten = $_\nupstream = $_\n" } sort keys %port
    ), global => "workers = 1\n");
    is_deeply(ask($port{rr}, '/', 30), { a => 10, b => 10, c => 10 }, 'round robin');
    is_deeply(ask($port{weight}, '/', 30), { a => 25, b => 5 }, 'weights');
    is(scalar keys %{ ask($port{least}, '/', 60) }, 3, 'least_conn uses all');
    is(scalar keys %{ ask($port{two}, '/', 60) }, 3, 'random_two uses all');
    is(scalar keys %{ ask($port{ip}, '/', 20) }, 1, 'ip_hash keeps a client on its server');
    $s->stop;
};

subtest 'backup, down, server commands' => sub {
    my $port = free_port();
    my $s = rpd(config => simple_config(
        listen => "127.0.0.1:$port", server => [$a->address, $b->address . ' down', $c->address . ' backup'], upstream => 'slow_start = 0'
    ), global => "workers = 2\n");
    is_deeply(ask($port, '/', 20), { a => 20 }, 'neither the backup nor the one that is down');
    $s->ctl('server', 'app/' . $a->address, 'down');
    is_deeply(ask($port, '/', 20), { c => 20 }, 'the backup when the primary is taken down');
    my ($status) = $s->reload;
    is($status, 0, 'reload');
    is_deeply(ask($port, '/', 20), { c => 20 }, 'an override survives a reload');
    $s->ctl('server', 'app/' . $a->address, 'ready');
    is_deeply(ask($port, '/', 20), { a => 20 }, 'until it is cleared');
    $s->ctl('server', 'app/' . $a->address, 'drain');
    is_deeply(ask($port, '/', 5), { c => 5 }, 'drain');
    $s->ctl('server', 'app/' . $a->address, 'ready');
    like($s->ctl('upstream', 'app'), qr/\Q@{[ $a->address ]}\E/, 'rpctl upstream shows the servers');
    $s->stop;
};

subtest 'retries' => sub {
    my $port = free_port();
    my $dead = '127.0.0.1:' . free_port();
    my $o = origin();
    my $s = rpd(config => simple_config(
        listen => "127.0.0.1:$port", server => [$dead, $a->address], upstream => "balance = round_robin\nmax_fails = 0"
    ) . "[upstream single]\nserver = @{[ $o->address ]}\nmax_fails = 0\n[host single]\nnames = single\nupstream = single\n",
        global => "workers = 1\n");
    is_deeply(ask($port, '/', 20), { a => 20 }, 'a refused connection is tried on another server');
    cmp_ok($s->metric('rpd_upstream_retries_total'), '>=', 9, 'counted');
    my $cl = client($port);
    $cl->send(request('POST', '/', [], 'body'));
    is($cl->read_response->{status}, 200, 'a POST too: no byte of it had been sent');

    # A pooled connection that dies before a byte of the answer, after the server has read the request.
    my $pooled = sub {
        my ($method) = @_;
        my $c = client($port);
        $c->send(request($method, '/1', ['Host', 'single'], $method eq 'POST' ? 'x' : undef));
        my $oc = $o->accept;
        $oc->read_request;
        $oc->send(response(200, [], ''));
        $c->read_response;
        return ($c, $oc);
    };
    my ($c1, $oc1) = $pooled->('GET');
    $c1->send(request('GET', '/2', ['Host', 'single']));
    $oc1->read_request;
    $oc1->close;
    my $again = $o->try_accept(3);
    if (ok($again, 'GET: sent again on a new connection')) {
        is($again->read_request->{target}, '/2', 'the same request');
        $again->send(response(200, ['Connection', 'close'], 'ok'));
        is($c1->read_response->{body}, 'ok', 'answered');
        $again->close;
    }
    $c1->close;
    ($c1, $oc1) = $pooled->('POST');
    $c1->send(request('POST', '/2', ['Host', 'single'], 'payload'));
    is($oc1->read_request->{body}, 'payload', 'POST: the server has it');
    $oc1->close;
    is($c1->read_response->{status}, 502, 'it may have acted: not sent again (RFC 9110 9.2.2)');
    ok(!$o->try_accept(0.1), 'no second attempt');
    $c1->close;
    # One that the server had closed when the request came: nothing of it was read, so any may go again.
    ($c1, $oc1) = $pooled->('POST');
    my ($worker) = $s->workers;
    kill 'STOP', $worker;
    $oc1->close;
    $c1->send(request('POST', '/3', ['Host', 'single'], 'payload'));
    kill 'CONT', $worker;
    $again = $o->try_accept(3);
    if (ok($again, 'POST: a connection closed before it is no obstacle')) {
        is($again->read_request->{body}, 'payload', 'with its body');
        $again->send(response(200, ['Connection', 'close'], 'ok'));
        is($c1->read_response->{body}, 'ok', 'answered');
        $again->close;
    }
    $c1->close;
    # A fresh connection that dies: GET may be repeated (elsewhere), POST never.
    my $c2 = client($port);
    $c2->send(request('POST', '/once', ['Host', 'single'], 'x'));
    my $oc = $o->accept;
    $oc->read_request;
    $oc->close;
    is($c2->read_response->{status}, 502, 'POST on a fresh connection is not repeated');
    ok(!$o->try_accept(0.1), 'no second attempt');
    $c2->close;
    $cl->close;
    $s->stop;
};

subtest 'retry on a status' => sub {
    my $port = free_port();
    my $bad = origin()->serve_requests(sub { response(503, [], 'bad') });
    my $s = rpd(config => simple_config(
        listen => "127.0.0.1:$port", server => [$bad->address, $a->address], upstream => "balance = round_robin\nmax_fails = 0",
        defaults => 'retry = 1 on connect 503',
    ), global => "workers = 1\n");
    is_deeply(ask($port, '/', 10), { a => 10 }, '503 is tried elsewhere when the configuration says so');
    $s->stop;
};

subtest 'ejection and recovery' => sub {
    my $port = free_port();
    my $address = '127.0.0.1:' . free_port();
    my $s = rpd(config => simple_config(
        listen => "127.0.0.1:$port", server => [$address, $a->address],
        upstream => "balance = round_robin\nmax_fails = 3\neject_time = 1500ms\nslow_start = 0"
    ), global => "workers = 2\n");
    is_deeply(ask($port, '/', 30), { a => 30 }, 'no client notices');
    is($s->metric('rpd_upstream_ejections_total'), 1, 'ejected once, by all workers together');
    ok($s->wait_log(qr/\Q$address\E/), 'the log names it');
    my $connects = $s->metric('rpd_upstream_connect_failures_total');
    cmp_ok($connects, '<=', 4, "and it is not asked any more ($connects failures)");
    my $back = named('back', $address);
    ok(wait_for(sub { ask($port, '/', 4)->{back} }, quiet => 1), 'it comes back by itself');
    ok(wait_for(sub { (ask($port, '/', 10)->{back} || 0) >= 4 }, quiet => 1), 'with its full share');
    $s->stop;
};

subtest 'all servers down' => sub {
    my $port = free_port();
    my @address = map { '127.0.0.1:' . free_port() } 1, 2;
    my $s = rpd(config => simple_config(
        listen => "127.0.0.1:$port", server => \@address, upstream => "max_fails = 2\neject_time = 300ms\nslow_start = 0"
    ), global => "workers = 2\n");
    my $t0 = time;
    my $seen = ask($port, '/', 30);
    is(join(',', grep { !/^50[23]$/ } keys %$seen), '', '502 or 503') or diag(explain($seen));
    cmp_ok(time - $t0, '<', 5, 'fast');
    my ($value, $status) = $s->ctl_json('status');
    ok($status == 10 || $status == 11, "rpctl status says so by its exit status ($status)");
    my $back = named('back', $address[0]);
    ok(wait_for(sub { ask($port, '/', 1)->{back} }, quiet => 1), 'service recovers by itself');
    $s->stop;
};

subtest 'max_conns and the queue' => sub {
    my $port = free_port();
    my $o = origin();
    my $s = rpd(config => simple_config(
        listen => "127.0.0.1:$port", server => $o->address, upstream => "max_conns = 2\nqueue = 2\nqueue_timeout = 600ms"
    ), global => "workers = 1\n");
    my @c = map { my $x = client($port); $x->send(request('GET', "/$_")); $x } 1 .. 4;
    my @oc = ($o->accept, $o->accept);
    my @r = map { $_->read_request } @oc;
    ok($s->wait_metric('rpd_queue_length', 2), 'two wait');
    ok(!$o->try_accept(0.05), 'the server sees two connections');
    my $fifth = client($port);
    $fifth->send(request('GET', '/5'));
    my $refused = $fifth->read_response;
    is($refused->{status}, 503, 'a third is refused: the queue is full');
    ok($refused->{fields}{'retry-after'}, 'with Retry-After');
    $oc[0]->send(response(200, [], 'one'));
    my $third = $oc[0]->read_request;
    is($third->{target}, '/3', 'the next in the queue takes the place, in order');
    my $fourth = $c[3]->read_response;
    is($fourth->{status}, 503, 'one that waits too long gets 503');
    ok($fourth->{fields}{'retry-after'}, 'with Retry-After');
    $oc[0]->send(response(200, [], 'three'));
    $oc[1]->send(response(200, [], 'two'));
    is($c[0]->read_response->{body}, 'one', 'first answer');
    is($c[1]->read_response->{body}, 'two', 'second answer');
    is($c[2]->read_response->{body}, 'three', 'third answer');
    # A client that leaves the queue gives its place up.
    my @busy = map { my $x = client($port); $x->send(request('GET', '/busy')); $x } 1, 2;
    $_->read_request for @oc;
    my $gone = client($port);
    $gone->send(request('GET', '/gone'));
    ok($s->wait_metric('rpd_queue_length', 1), 'queued');
    $gone->reset;
    ok($s->wait_metric('rpd_queue_length', 0), 'and gone with its client');
    $_->send(response(200, [], '')) for @oc;
    $_->read_response for @busy;
    $_->close for @c, @oc, @busy, $fifth;
    $s->stop;
};

subtest 'max_conns holds over workers' => sub {
    my $port = free_port();
    my $o = origin();
    my $s = rpd(config => simple_config(
        listen => "127.0.0.1:$port", server => $o->address, upstream => "max_conns = 3\nqueue = 100\nqueue_timeout = 30s"
    ), global => "workers = 2\n");
    my @c = map { my $x = client($port); $x->send(request('GET', "/$_")); $x } 1 .. 12;
    my @oc = map { $o->accept } 1 .. 3;
    ok(!$o->try_accept(0.1), 'three connections, not one more');
    my $served = 0;
    my $until = time + 20;
    while ($served < 12 && time < $until) {
        my $bits = '';
        vec($bits, $_->fileno, 1) = 1 for @oc;
        my $listening = fileno($o->{sock});
        vec($bits, $listening, 1) = 1;
        select($bits, undef, undef, 1) or next;
        push @oc, $o->accept if vec($bits, $listening, 1);
        my @next;
        for my $oc (@oc) {
            if (!vec($bits, $oc->fileno, 1)) { push @next, $oc; next }
            my $r = eval { $oc->read_request };
            if ($r) { $oc->send(response(200, [], 'ok')); $served++; push @next, $oc } else { $oc->close }
        }
        @oc = @next;
    }
    is($served, 12, 'all are served in turn, whichever worker they wait in');
    is($_->read_response->{status}, 200, 'answer') for @c;
    $_->close for @c, @oc;
    $s->stop;
};

subtest 'pool' => sub {
    my $port = free_port();
    my $o = origin();
    my $s = rpd(config => simple_config(
        listen => "127.0.0.1:$port", server => $o->address, upstream => 'keepalive = 2'
    ), global => "workers = 1\n");
    my @c = map { my $x = client($port); $x->send(request('GET', '/')); $x } 1 .. 5;
    my @oc = map { $o->accept } 1 .. 5;
    for my $n (0 .. 4) { $oc[$n]->read_request; $oc[$n]->send(response(200, [], '')) }
    $_->read_response for @c;
    ok($s->wait_metric('rpd_upstream_connections_idle', 2), 'two connections are kept');
    is(scalar(grep { $_->closed(timeout => 1) } @oc), 3, 'the rest is closed');
    $_->close for @c, @oc;
    ok($s->wait_metric('rpd_upstream_connections_idle', 0), 'connections the server closes leave the pool');
    $s->stop;
};

subtest 'unix and IPv6 servers, names' => sub {
    my $port = free_port();
    my $dir = tempdir();
    chmod 0777, $dir;
    my $v6 = named('six', '[::1]:' . free_port());
    my $unix = named('unix', "unix:$dir/app.sock");
    my ($aport) = $a->address =~ /(\d+)$/;
    my $s = rpd(config => simple_config(
        listen => "127.0.0.1:$port", server => [$v6->address, $unix->address, "localhost:$aport"], upstream => 'balance = round_robin',
        rest => "[upstream ghost]\nserver = no-such-name.invalid:80\n[host ghost]\nnames = ghost\nupstream = ghost\n",
    ), global => "workers = 1\n");
    ok(wait_for(sub { ask($port, '/', 3)->{a} }, quiet => 1), 'a name is resolved');
    my $seen = ask($port, '/', 30);
    is_deeply([sort keys %$seen], [qw(a six unix)], 'IPv6, unix and name') or diag(explain($seen));
    my $c = client($port);
    $c->send(request('GET', '/', ['Host', 'ghost']));
    like($c->read_response->{status}, qr/^50[234]$/, 'a name that does not resolve is a server that is down');
    $c->close;
    $s->stop;
};

done_testing;
