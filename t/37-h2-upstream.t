#!/usr/bin/perl
# HTTP/2 towards servers, against an origin that goes by frames: sharing of connections, limits, GOAWAY, refusals, losses, trailers.
use strict;
use warnings;
use POSIX ();
use RPD::HPACK;
use RPD::Test;
use RPD::Cert;
use RPD::TLS;
use RPD::H2 qw(frame_bytes);
use RPD::Real;

my $port = free_port();
my $log = "[log main]\nfile = <DIR>/access.log\nflush = 10ms\nformat = \"%{status} %{reason} %{uri}\"\n";
# rpd before h2c servers that the test plays itself.
sub setup {
    my (%opt) = @_;
    my @o = map { origin() } 1 .. $opt{servers} || 1;
    my $s = rpd(config => simple_config(
        listen => "127.0.0.1:$port", server => [map { $_->address } @o], upstream => join("\n", 'protocol = h2c', $opt{upstream} // ''),
        defaults => $opt{defaults} // '', host => $opt{host} // '', top => $log
    ), global => "workers = 1\n");
    return ($s, @o);
}
sub session { my ($o, %opt) = @_; return RPD::H2->new($o->accept, server => 1, %opt) }
sub ask { my ($path, $fields, $method) = @_; my $c = client($port); $c->send(request($method || 'GET', $path, $fields)); return $c }
sub last_line { my ($s, $n) = @_; my @all = $s->access_lines($n); return $all[$n - 1] }

subtest 'requests and answers' => sub {
    my ($s, $o) = setup(defaults => 'max_body = 100m');
    my $c = ask('/x?y', ['Host', 'a.test', 'X-Up', 'UP', 'Cookie', 'a=1; b=2', 'Connection', 'x-hop', 'X-Hop', '1']);
    my $h = session($o);
    my $r = $h->read_request;
    my @pseudo = grep { /^:/ } @{ $r->{list} }[grep { !($_ & 1) } 0 .. $#{ $r->{list} }];
    is_deeply([sort @pseudo], [':authority', ':method', ':path', ':scheme'], 'pseudo-fields');
    is("$r->{method} $r->{scheme} $r->{authority} $r->{path}", 'GET http a.test /x?y', 'their values');
    is($r->{fields}{'x-up'}[0], 'UP', 'names in lower case');
    is($r->{fields}{$_}, undef, "no $_") for qw(host connection keep-alive transfer-encoding upgrade x-hop proxy-connection);
    is(join('; ', @{ $r->{fields}{cookie} || [] }), 'a=1; b=2', 'cookies');
    ok($r->{fields}{'x-forwarded-for'}, 'X-Forwarded-For');
    ok(($h->{peer}{2} // 1) == 0, 'SETTINGS forbid pushes');
    $h->respond($r->{id}, 200, ['content-type', 'text/plain', 'set-cookie', 'a=1', 'set-cookie', 'b=2'], 'hello');
    my $a = $c->read_response;
    is("$a->{status} $a->{body}", '200 hello', 'the answer');
    is_deeply($a->{fields}{'set-cookie'}, ['a=1', 'b=2'], 'repeated fields');
    for my $n (0, 1, 16384, 65536, 1_000_000) {
        my $body = random_bytes($n, $n + 1);
        $c->send(request('POST', '/b', [], $body));
        $r = $h->read_request;
        ok($r->{body} eq $body, "$n bytes up");
        is($r->{fields}{'content-length'}[0], $n, 'with their length');
        $h->respond($r->{id}, 200, ['content-length', $n], $body);
        ok($c->read_response->{body} eq $body, 'and down');
        $c->send(request('POST', '/c', ['Transfer-Encoding', 'chunked'], sprintf("%x\r\n", $n || 1) . ($body || 'x') . "\r\n0\r\n\r\n"));
        $r = $h->read_request;
        ok($r->{body} eq ($body || 'x'), "$n bytes up in chunks");
        $h->respond($r->{id}, 200, [], $body);
        ok($c->read_response->{body} eq $body, 'and down without a length');
    }
    $c->send(request('HEAD', '/'));
    $r = $h->read_request;
    $h->respond($r->{id}, 200, ['content-length', 77]);
    is($c->read_response(method => 'HEAD')->{fields}{'content-length'}[0], 77, 'HEAD');
    $c->send(request('GET', '/204'));
    $r = $h->read_request;
    $h->respond($r->{id}, 204, []);
    is($c->read_response->{status}, 204, 'no content');
    $c->send(request('POST', '/t', ['Transfer-Encoding', 'chunked', 'TE', 'trailers', 'Connection', 'TE', 'Trailer', 'x-sum']) . "3\r\nabc\r\n0\r\nX-Sum: 42\r\n\r\n");
    $r = $h->read_request;
    is_deeply($r->{trailers}{'x-sum'}, ['42'], 'trailers up');
    is(($r->{fields}{te} || [''])->[0], 'trailers', 'TE: trailers');
    $h->respond($r->{id}, 200, [], 'abc', trailers => ['x-sum', '43']);
    is_deeply($c->read_response->{trailers}{'x-sum'}, ['43'], 'trailers down');
    $c->send(request('GET', '/hints'));
    $r = $h->read_request;
    $h->headers($r->{id}, [':status', 103, 'link', '</s.css>']);
    like($c->read_head, qr{^HTTP/1.1 103 .*link: </s.css>}is, '103 at once');
    $h->respond($r->{id}, 200, [], 'x');
    is($c->read_response->{body}, 'x', 'then the answer');
    $_->close for $c, $h;
    $s->stop;
};

subtest 'one connection for many requests' => sub {
    my ($s, $o) = setup();
    my @c = map { ask("/$_") } 1 .. 50;
    my $h = session($o);
    my @r = map { $h->read_request } 1 .. 50;
    is(scalar @r, 50, '50 requests on one connection');
    ok(!$o->try_accept(0.1), 'and no second one');
    $h->respond($_->{id}, 200, [], $_->{path}) for reverse @r;
    is(scalar(grep { $c[$_ - 1]->read_response->{body} eq "/$_" } 1 .. 50), 50, 'answered in another order, each to whom it belongs');
    $c[0]->send(request('GET', '/again'));
    $h->respond($h->read_request->{id}, 200, [], 'again');
    is($c[0]->read_response->{body}, 'again', 'the connection is kept');
    $_->close for @c, $h;
    $s->stop;
};

subtest 'MAX_CONCURRENT_STREAMS' => sub {
    my ($s, $o) = setup();
    my $warm = ask('/warm');
    my $h = session($o, settings => [[3, 2]]);
    $h->respond($h->read_request->{id}, 200, [], 'warm');
    is($warm->read_response->{body}, 'warm', 'SETTINGS are known');
    my @c = map { ask("/$_") } 1 .. 6;
    my ($open, $most, $done) = (0, 0, 0);
    my @sessions = ($h);
    # Other connections may be opened, or requests wait: but no session has more than two streams.
    while ($done < 6) {
        if (my $more = $o->try_accept(0.05)) { push @sessions, RPD::H2->new($more, server => 1, settings => [[3, 2]]) }
        for my $x (@sessions) {
            my @here;
            while (my $r = eval { $x->read_request(timeout => 0.05) }) { push @here, $r }
            $most = @here if @here > $most;
            $x->respond($_->{id}, 200, [], $_->{path}) for @here;
            $done += @here;
        }
    }
    cmp_ok($most, '<=', 2, "at most $most streams at once");
    is(scalar(grep { $c[$_ - 1]->read_response->{body} eq "/$_" } 1 .. 6), 6, 'all are answered');
    $_->close for @c, $warm, @sessions;
    $s->stop;
};

subtest 'GOAWAY' => sub {
    my ($s, $o) = setup();
    my @c = map { ask("/$_") } 1 .. 3;
    my $h = session($o);
    my @r = map { $h->read_request } 1 .. 3;
    # The first was taken, the others were not: those go to a new connection, even though POST would not be repeated.
    $h->send_goaway($r[0]{id});
    my $g = session($o);
    my @again = map { $g->read_request } 1 .. 2;
    is_deeply([sort map { $_->{path} } @again], [sort map { $_->{path} } @r[1, 2]], 'what was not taken is sent again');
    $h->respond($r[0]{id}, 200, [], $r[0]{path});
    $g->respond($_->{id}, 200, [], $_->{path}) for @again;
    is(scalar(grep { $c[$_ - 1]->read_response->{body} eq "/$_" } 1 .. 3), 3, 'all are answered');
    ok($h->pump(sub { $h->{eof} }), 'the old connection is closed when its last stream has ended');
    $_->close for @c, $h;
    # A graceful one: first 2^31-1.
    my $c = ask('/graceful', ['Content-Length', 0], 'POST');
    my $r = $g->read_request;
    $g->send_goaway(0x7fffffff);
    my $d = ask('/next', ['Content-Length', 0], 'POST');
    my $i = session($o);
    my $n = $i->read_request;
    is($n->{path}, '/next', 'no new stream after a GOAWAY');
    $i->respond($n->{id}, 200, [], 'next');
    is($d->read_response->{body}, 'next', 'answered');
    $g->respond($r->{id}, 200, [], 'graceful');
    is($c->read_response->{body}, 'graceful', 'the stream before it ends in peace');
    $_->close for $c, $d, $g, $i;
    $s->stop;
};

# The next request at any of several servers, whose connections are taken as they come: (session, request).
sub anywhere {
    my ($sessions, @listeners) = @_;
    my @found;
    wait_for(sub {
        for my $o (@listeners) {
            my $c = $o->try_accept(0.002) or next;
            push @$sessions, RPD::H2->new($c, server => 1);
        }
        for my $h (grep { !$_->{eof} } @$sessions) {
            my $r = eval { $h->read_request(timeout => 0.005) } or next;
            @found = ($h, $r);
            return 1;
        }
        return 0;
    }, what => 'a request');
    return @found;
}

subtest 'REFUSED_STREAM is tried again, whatever the method' => sub {
    my ($s, @o) = setup(servers => 2, upstream => 'balance = round_robin');
    my @sessions;
    for my $method ('GET', 'POST', 'PATCH') {
        my $c = client($port);
        $c->send(request($method, '/r', [], $method eq 'GET' ? undef : 'body'));
        my ($h, $r) = anywhere(\@sessions, @o);
        $h->rst($r->{id}, 'REFUSED_STREAM');
        my ($g, $again) = anywhere(\@sessions, @o);
        is("$again->{method} $again->{path} $again->{body}", "$method /r " . ($method eq 'GET' ? '' : 'body'), "$method: sent again");
        isnt($g, $h, 'to another server');
        $g->respond($again->{id}, 200, [], 'yes');
        is($c->read_response->{body}, 'yes', 'answered');
        $c->close;
    }
    $_->close for @sessions;
    $s->stop;
};

# With the head what was kept of the body is given up: it must not go out again as an empty one.
subtest 'refused after all, together with the head' => sub {
    my ($s, @o) = setup(servers => 2, upstream => 'balance = round_robin');
    my @sessions;
    for my $method ('GET', 'POST', 'PUT') {
        my $c = client($port);
        $c->send($method eq 'PUT' ? "PUT /r HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"
            : request($method, '/r', [], $method eq 'GET' ? undef : 'body'));
        my ($h, $r) = anywhere(\@sessions, @o);
        $h->send($h->headers_bytes($r->{id}, [':status', '200']) . frame_bytes('RST_STREAM', 0, $r->{id}, pack 'N', 7));
        if ($method eq 'GET') {
            my ($g, $again) = anywhere(\@sessions, @o);
            $g->respond($again->{id}, 200, [], 'yes');
            is($c->read_response->{body}, 'yes', 'what has no body is asked for elsewhere');
        } else {
            is($c->read_response->{status}, 502, "$method is an error");
        }
        $c->close;
    }
    $_->close for @sessions;
    $s->stop;
};

subtest 'streams that fail' => sub {
    my ($s, $o) = setup(host => 'retry = 0');
    my $c = ask('/cut');
    my $h = session($o);
    my $r = $h->read_request;
    $h->headers($r->{id}, [':status', 200, 'content-length', 100]);
    $h->data($r->{id}, 'part');
    like($c->read_head, qr/^HTTP\/1.1 200/, 'an answer begins');
    $h->rst($r->{id}, 'INTERNAL_ERROR');
    is($c->read_eof, 'part', 'a reset cuts it');
    like(last_line($s, 1), qr/^200 upstream_\w+ \/cut/, 'logged');
    my $n = 1;
    for my $case (['INTERNAL_ERROR', sub { $h->rst($_[0], 'INTERNAL_ERROR') }], ['content-length that lies', sub { $h->respond($_[0], 200, ['content-length', 10], 'abc') }],
        ['no :status', sub { $h->headers($_[0], ['x-a', '1'], end => 1) }], ['upper case', sub { $h->headers($_[0], [':status', 200, 'X-A', '1'], end => 1) }],
        [':status of letters', sub { $h->headers($_[0], [':status', 'abc'], end => 1) }], ['CR LF in a value', sub { $h->headers($_[0], [':status', 200, 'x-a', "1\r\nset-cookie: evil=1"], end => 1) }],
        ['connection field', sub { $h->headers($_[0], [':status', 200, 'transfer-encoding', 'chunked'], end => 1) }], ['1xx that ends', sub { $h->headers($_[0], [':status', 103], end => 1) }],
        ['101', sub { $h->headers($_[0], [':status', 101], end => 1) }], ['DATA first', sub { $h->data($_[0], 'x', end => 1) }]) {
        my $d = ask('/fail');
        if ($h->{eof} || $h->{closed}) { $h = session($o) }
        my $got = eval { $h->read_request(timeout => 2) };
        if (!$got) { $h = session($o); $got = $h->read_request }
        $case->[1]->($got->{id});
        my $a = eval { $d->read_response } || { status => 'closed' };
        # The head may have gone before its lie came to light: the answer is cut then.
        my $late = $case->[0] =~ /lies/;
        like($a->{status}, $late ? qr/^(502|closed)$/ : qr/^502$/, "$case->[0]: 502");
        unlike($a->{head} // '', qr/evil/, 'and nothing of it');
        $n++;
        like(last_line($s, $n), $late ? qr/^(502|200) upstream_\w+/ : qr/^502 upstream_\w+/, 'reason: ' . last_line($s, $n));
        $d->close;
        $h->pump(sub { $h->{eof} }, timeout => 0.05);
    }
    $_->close for $c, $h;
    $s->stop;
};

subtest 'connections that fail' => sub {
    my ($s, $o) = setup(host => 'retry = 0');
    my $lost = sub {
        my ($what, $code, $want) = @_;
        my $c = ask('/x', ['Content-Length', 0], 'POST');
        my $h = session($o);
        my $r = $h->read_request;
        $code->($h, $r);
        is($c->read_response->{status}, 502, "$what: 502");
        $_->close for $c, $h;
    };
    $lost->('closed', sub { $_[0]->close });
    $lost->('reset', sub { $_[0]->conn->reset });
    $lost->('a broken frame', sub { $_[0]->send(frame_bytes('SETTINGS', 0, 0, 'abc')) });
    $lost->('a header block that is none', sub { $_[0]->headers($_[1]{id}, [], block => "\xff\xff\xff\xff\xff\xff", end => 1) });
    $lost->('a push', sub { $_[0]->frame('PUSH_PROMISE', 4, $_[1]{id}, pack('N', 2) . RPD::HPACK->new->encode([':method', 'GET', ':scheme', 'http', ':authority', 'a', ':path', '/'])) });
    $lost->('HTTP/1 instead', sub { $_[0]->conn->send("HTTP/1.1 400 Bad Request\r\n\r\n") });
    my $c = ask('/x');
    my $oc = $o->accept;
    $oc->read_n(24);
    $oc->send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    is($c->read_response->{status}, 502, 'a server that speaks HTTP/1 only: 502');
    $_->close for $c, $oc;
    $s->stop;
};

subtest 'a lost connection is made again' => sub {
    my ($s, $o) = setup();
    my $c = ask('/1');
    my $h = session($o);
    $h->respond($h->read_request->{id}, 200, [], 'one');
    is($c->read_response->{body}, 'one', 'the first');
    $h->close;
    $c->send(request('GET', '/2'));
    $h = session($o);
    $h->respond($h->read_request->{id}, 200, [], 'two');
    is($c->read_response->{body}, 'two', 'the second, on a new one');
    # Lost with requests in flight: those that may be repeated are.
    my @c = map { ask("/$_") } 1 .. 4;
    $h->read_request for 1 .. 4;
    $h->conn->reset;
    $h = session($o);
    my @again = map { $h->read_request } 1 .. 4;
    $h->respond($_->{id}, 200, [], $_->{path}) for @again;
    is(scalar(grep { $c[$_ - 1]->read_response->{body} eq "/$_" } 1 .. 4), 4, 'GETs in flight are sent again');
    $_->close for @c, $c, $h;
    $s->stop;
};

subtest 'clients that leave' => sub {
    my ($s, $o) = setup();
    my $c = ask('/gone');
    my $stay = ask('/stay');
    my $h = session($o);
    my @r = map { $h->read_request } 1 .. 2;
    my ($gone) = grep { $_->{path} eq '/gone' } @r;
    my ($kept) = grep { $_->{path} eq '/stay' } @r;
    $c->close;
    ok($h->pump(sub { defined $gone->{reset} }), 'the stream is reset');
    is($gone->{error}, 'CANCEL', 'with CANCEL');
    $h->respond($kept->{id}, 200, [], 'stay');
    is($stay->read_response->{body}, 'stay', 'the others on the connection go on');
    $_->close for $stay, $h;
    $s->stop;
};

subtest 'windows' => sub {
    my ($s, $o) = setup(defaults => 'max_body = 0');
    my ($worker) = $s->workers;
    # A server that lets nothing in: the client stands still.
    my $c = client($port);
    my $n = 32 << 20;
    my $pid = fork;
    if (!$pid) {
        $c->send(request('POST', '/up', ['Content-Length', $n]));
        $c->send(random_bytes(1 << 20), timeout => 60) for 1 .. 32;
        POSIX::_exit(0);
    }
    my $h = session($o, manual => 1, keep => 0);
    my $r = $h->read_request(head => 1);
    $h->pump(sub { $r->{nbody} >= 65535 });
    my $before = rss($worker);
    $s->wait_still('rpd_client_received_bytes_total');
    is($r->{nbody}, 65535, 'not a byte more than the window');
    cmp_ok(rss($worker) - $before, '<', $ENV{RPD_SANITIZED} ? 8 << 20 : 2 << 20, 'memory meanwhile');
    $h->window_update(0, 1 << 30);
    $h->window_update($r->{id}, 1 << 30);
    $h->read_rest($r->{id}, timeout => 60);
    is($r->{nbody}, $n, 'then all of it');
    waitpid $pid, 0;
    $h->respond($r->{id}, 200, [], 'ok');
    is($c->read_response->{body}, 'ok', 'answered');
    $c->close;
    # A client that does not read holds its own stream only.
    my $slow = client($port, rcvbuf => 4096, keep => 0);
    $slow->send(request('GET', '/slow'));
    my $sr = $h->read_request;
    $h->headers($sr->{id}, [':status', 200]);
    my $sent = 0;
    $h->{manual} = 0;
    while ($sent < 64 << 20) {
        my $st = $h->stream($sr->{id});
        last if $st->{window} < 16384 && !$h->pump(sub { $st->{window} >= 16384 }, timeout => 0.5);
        last if $h->{window} < 16384 && !$h->pump(sub { $h->{window} >= 16384 }, timeout => 0.5);
        $h->data($sr->{id}, 'x' x 16384);
        $st->{window} -= 16384;
        $h->{window} -= 16384;
        $sent += 16384;
    }
    cmp_ok($sent, '<', 32 << 20, "a client that does not read stops the server after $sent bytes");
    my $fast = ask('/fast');
    my $f = $h->read_request;
    is($f->{path}, '/fast', 'another stream comes through');
    $h->respond($f->{id}, 200, [], 'y' x 30_000);
    is(length $fast->read_response->{body}, 30_000, 'and is answered');
    $slow->close;
    $_->close for $fast, $h;
    $s->stop;
};

subtest 'PING, SETTINGS and unknown frames of a server' => sub {
    my ($s, $o) = setup();
    my $c = ask('/p');
    my $h = session($o);
    my $r = $h->read_request;
    ok($h->ping, 'PING is answered');
    $h->frame(0x77, 0, 0, 'abc');
    $h->settings([4, 100], [5, 20000], [1, 0], [0x99, 5]);
    ok($h->pump(sub { ($h->{settings_acked} || 0) >= 2 }), 'SETTINGS are acknowledged');
    $h->respond($r->{id}, 200, [], 'p');
    is($c->read_response->{body}, 'p', 'answered');
    $c->send(request('POST', '/q', ['X-A', 'y' x 500], 'z' x 1000));
    $r = $h->read_request(head => 1);
    $h->pump(sub { $r->{nbody} >= 100 });
    is($r->{nbody}, 100, 'a smaller window is obeyed');
    $h->window_update($r->{id}, 900);
    is($h->read_rest($r->{id})->{nbody}, 1000, 'and opened');
    $h->respond($r->{id}, 200, [], 'q');
    is($c->read_response->{body}, 'q', 'without a table of fields');
    $_->close for $c, $h;
    $s->stop;
};

subtest 'from HTTP/2 to HTTP/2' => sub {
    my ($s, $o) = setup(defaults => 'max_body = 0');
    my $d = RPD::H2->connect($port, authority => 'a.test');
    my @ids = map { $d->request('POST', "/$_", ['te', 'trailers'], 'x' x 1000, trailers => ['x-n', $_]) } 1 .. 20;
    my $h = session($o);
    for (1 .. 20) {
        my $r = $h->read_request;
        $h->respond($r->{id}, 200, ['x-path', $r->{path}], $r->{body}, trailers => ['x-n', $r->{trailers}{'x-n'}[0]]);
    }
    my $good = grep { my $a = $d->response($ids[$_ - 1]); ($a->{status} || 0) == 200 && $a->{nbody} == 1000 && ($a->{trailers}{'x-n'}[0] // '') eq $_ } 1 .. 20;
    is($good, 20, 'bodies and trailers both ways');
    $_->close for $d, $h;
    $s->stop;
};

subtest 'real servers' => sub {
    my $p = free_port();
    my $tls = free_port();
    my $ca = ca('Test CA');
    my $cert = cert($ca, 'localhost', '127.0.0.1');
    my $nginx = nginx_origin(keys => "listen 127.0.0.1:$p http2; listen 127.0.0.1:$tls ssl http2; ssl_certificate $cert->{cert}; ssl_certificate_key $cert->{key}; ssl_protocols TLSv1.2 TLSv1.3; http2_max_requests 50;");
    my $big = random_bytes(10 << 20);
    spew("$nginx->{www}/big", $big);
    for my $case (['h2c', "127.0.0.1:$p"], ['h2', "https://127.0.0.1:$tls"]) {
        my $s = rpd(config => simple_config(listen => "127.0.0.1:$port", server => $case->[1], upstream => "protocol = $case->[0]\n" . ($case->[0] eq 'h2' ? "tls_ca = $ca->{file}" : ''),
            defaults => 'max_body = 0', top => $log), global => "workers = 2\n");
        ok(http_get($port, '/big')->{body} eq $big, "nginx by $case->[0]: 10 MiB");
        # nginx ends each connection after 50 requests: nobody may see that.
        my ($st, $out, $err) = run_program('h2load', '-n', 3000, '-c', 5, '-m', 10, "http://127.0.0.1:$port/small");
        like($out, qr/3000 succeeded, 0 failed, 0 errored/, 'GOAWAY every 50 requests') or diag($out);
        like($out, qr/status codes: 3000 2xx/, 'all 200') or diag($out, join("\n", grep { !/^200/ } $s->access_lines(1)));
        $s->stop;
    }
};

done_testing;
