#!/usr/bin/perl
# The method QUERY (RFC 10008) and the cache: the content is part of the key, over HTTP/1 and HTTP/2, however it comes, and servers get
# all of it whenever they are asked; what is too large, slow, or cut.
use strict;
use warnings;
use RPD::Test;
use RPD::H2;

my $port = free_port();
my $o = origin();    # by hand
my $o2 = origin();
my $served = origin();
$served->serve_requests(sub {
    my ($r) = @_;
    our $n++;
    my %f = %{ $r->{fields} };
    my $have = ($f{'if-none-match'} || [''])->[0];
    my $sum = unpack '%32C*', $r->{body};
    my @about = map { $f{$_} ? "$_=$f{$_}[0]" : () } qw(content-type content-encoding content-length transfer-encoding trailer expect);
    my $body = "$r->{method} $r->{target} " . length($r->{body}) . " $sum @about $$.$n\n";
    return "HTTP/1.1 304 Not Modified\r\nETag: \"$sum\"\r\nCache-Control: max-age=60\r\nX-Asked: " . length($r->{body}) . "\r\n\r\n" if $have eq "\"$sum\"";
    my $age = $r->{target} =~ m{^/(?:old|swr)} ? 'max-age=0' : 'max-age=60';
    return response(200, ['Cache-Control', $age, 'ETag', "\"$sum\"", $r->{target} =~ m{^/vary} ? (Vary => 'X-Kind') : ()], $body);
});
my $over_h2 = origin();
$over_h2->serve(sub {
    my ($conn) = @_;
    RPD::H2->new($conn, server => 1)->serve(sub { my ($r) = @_; return [200, ['cache-control', 'max-age=60'], "$r->{method} " . length($r->{body}) . ' ' . unpack '%32C*', $r->{body}] });
});
my $s = rpd(config => <<"EOF1", global => "workers = 2\n");
[listen main]
address = 127.0.0.1:$port
[log main]
file = <DIR>/access.log
flush = 10ms
format = "%{method} %{uri} %{status} %{cache}"
[upstream served]
server = @{[ $served->address ]}
max_fails = 0
[upstream origin]
server = @{[ $o->address ]}
max_fails = 0
keepalive = 0
[upstream h2]
server = @{[ $over_h2->address ]}
protocol = h2c
max_fails = 0
[upstream pair]
server = @{[ $o->address ]}
server = @{[ $o2->address ]}
balance = round_robin
max_fails = 0
keepalive = 0
[cache main]
size = 16m
methods = GET HEAD QUERY
purge_from = 127.0.0.0/8
[host all]
names = *
upstream = served
cache = main
max_body = 1m
[route all/hand]
path = /hand/*
upstream = origin
body_timeout = 300ms
[route all/pair]
path = /pair/*
upstream = pair
[route all/to-h2]
path = /to-h2/*
upstream = h2
[route all/swr]
path = /swr/*
cache_stale_while_revalidate = 1h
[route all/plain]
path = /plain/*
cache_methods = GET HEAD
[route all/small]
path = /small/*
max_body = 10
EOF1

my $client = client($port);
sub was { my ($r) = @_; return (join ', ', @{ $r->{fields}{'cache-status'} || [] }) =~ s/; ttl=-?\d+//r }
sub query {
    my ($path, $body, @fields) = @_;
    $client->send(request('QUERY', $path, ['Content-Type', 'text/q', @fields], $body));
    my $r = $client->read_response;
    $r->{was} = was($r);
    return $r;
}
sub chunked {
    my ($body, $size) = @_;
    return join('', map { sprintf("%x\r\n%s\r\n", length $_, $_) } $body =~ /(.{1,$size})/gs) . "0\r\n\r\n";
}
my $hit = 'rpd; hit';
my $miss = 'rpd; fwd=uri-miss; stored';

subtest 'the content is part of the key' => sub {
    my $one = query('/a', 'select 1');
    is($one->{was}, $miss, 'a miss');
    like($one->{body}, qr{^QUERY /a 8 \d+ content-type=text/q content-length=8 }, 'the server has it all');
    my $two = query('/a', 'select 1');
    is($two->{was}, $hit, 'a hit');
    is($two->{body}, $one->{body}, 'the same answer');
    is(query('/a', 'select 2')->{was}, $miss, 'other content');
    is(query('/a', 'select 11')->{was}, $miss, 'longer content');
    is(query('/a', '')->{was}, $miss, 'none');
    is(query('/a', '')->{was}, $hit, 'again');
    $client->send(request('QUERY', '/a', ['Content-Type', 'text/other'], 'select 1'));
    is(was($client->read_response), $miss, 'another type');
    is(query('/a', 'select 1', 'Content-Encoding', 'x')->{was}, $miss, 'another coding');
    is(query('/a', 'select 1', 'Content-Language', 'de')->{was}, $miss, 'another language');
    is(query('/a?x', 'select 1')->{was}, $miss, 'another URL');
    is(http_get($port, '/a')->{body} =~ /^GET/, 1, 'GET is something else');
    $client->send("QUERY /a HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/q\r\n\r\n");
    is(was($client->read_response), $hit, 'no content is empty content');
    is(query('/plain/1', 'select 1')->{was}, 'rpd; fwd=method', 'where the route does not name it');
};

subtest 'however it comes' => sub {
    my $body = join ' ', 1 .. 3000;
    my $one = query('/b', $body);
    for my $size (1000, 20_000) {
        $client->send("QUERY /b HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/q\r\nTransfer-Encoding: chunked\r\n\r\n" . chunked($body, $size));
        my $r = $client->read_response;
        is(was($r), $hit, "in chunks of $size");
        is($r->{body}, $one->{body}, 'the same');
    }
    my $bytes = "QUERY /c HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/q\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n5\r\nabcde\r\n3\r\nfgh\r\n0\r\nX: y\r\n\r\n";
    $client->send($bytes);
    my $r = $client->read_response;
    is(was($r), $miss, 'chunks, with a trailer');
    like($r->{body}, qr/^QUERY \S+ 8 \d+ content-type=text\/q content-length=8 \d/, 'servers get a length');
    my $good = 0;
    for my $at (1 .. length($bytes) - 1) {
        $client->send(substr $bytes, 0, $at);
        $client->send(substr $bytes, $at);
        my $again = $client->read_response;
        $good++ if was($again) eq $hit && $again->{body} eq $r->{body};
    }
    is($good, length($bytes) - 1, 'split everywhere');
    $client->send(request('QUERY', '/b', ['Content-Type', 'text/q'], $body) . $bytes . request('QUERY', '/b', ['Content-Type', 'text/q'], $body) . request('GET', '/z'));
    my @r = map { $client->read_response } 1 .. 4;
    is_deeply([map { was($_) } @r], [$hit, $hit, $hit, $miss], 'pipelined: four requests, four answers');
    is($r[1]{body}, $r->{body}, 'each its own');
    # The end of a body and the next request in one read, when the head has come before.
    for my $next ("GET /z HTTP/1.1\r\nHost: localhost\r\n\r\n", "GET /z HTTP/1.1\r\nHo") {
        $client->send(substr $bytes, 0, -20);
        is($client->silent(0.05), 1, 'waits for the rest');
        $client->send(substr($bytes, -20) . $next);
        is(was($client->read_response), $hit, 'a hit');
        $client->send("st: localhost\r\n\r\n") if $next =~ /Ho$/;
        is(was($client->read_response), $hit, 'and what came behind it');
    }
};

subtest 'sizes' => sub {
    for my $n (65535, 65536) {
        is(query("/n$n", 'x' x $n)->{was}, $miss, "$n bytes");
        is(query("/n$n", 'x' x $n)->{was}, $hit, 'are kept');
    }
    for my $n (65537, 200_000, 1_000_000) {
        for my $how (0, 1) {
            my $body = join '', map { chr(32 + $_ % 90) } 1 .. $n;
            $client->send($how ? "QUERY /n$n HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" . chunked($body, 8000) : request('QUERY', "/n$n", [], $body));
            my $r = $client->read_response;
            is(was($r), 'rpd; fwd=request; detail=request-body', "$n bytes go through, " . ($how ? 'in chunks' : 'with a length'));
            is_deeply([(split ' ', $r->{body})[2, 3]], [$n, unpack '%32C*', $body], 'unharmed');
        }
    }
    $client->send(request('QUERY', '/small/1', [], 'x' x 11));
    is($client->read_response->{status}, 413, 'max_body');
    $client = client($port);
    $client->send("QUERY /small/1 HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" . chunked('x' x 11, 4));
    is($client->read_response->{status}, 413, 'of unknown length');
    $client = client($port);
    $client->send("QUERY /a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n");
    is($client->read_response->{status}, 400, 'no chunk');
    $client = client($port);
};

subtest 'one fetch for many' => sub {
    my @c = map { my $c = client($port); $c->send(request('QUERY', '/hand/1', [], 'q')); $c } 1 .. 20;
    my $other = client($port);
    my $oc = $o->accept;
    is($oc->read_request->{body}, 'q', 'the content');
    ok(!$o->try_accept(0.1), 'once');
    $other->send(request('QUERY', '/hand/1', [], 'other'));
    my $oc2 = $o->accept;
    is($oc2->read_request->{body}, 'other', 'another one is asked for');
    $oc2->send(response(200, ['Cache-Control', 'max-age=60'], 'other answer'));
    is($other->read_response->{body}, 'other answer', 'and answered');
    $oc->send(response(200, ['Cache-Control', 'max-age=60'], 'answer'));
    is(scalar(grep { $_->read_response->{body} eq 'answer' } @c), 20, 'all have it');
};

subtest 'released, all go with their content' => sub {
    my @c = map { my $c = client($port); $c->send(request('QUERY', '/hand/private', [], 'secret')); $c } 1 .. 6;
    my @oc = $o->accept;
    $oc[0]->read_request;
    $oc[0]->send(response(200, ['Cache-Control', 'private'], 'p'));
    for (1 .. 5) {
        my $oc = $o->accept;
        is($oc->read_request->{body}, 'secret', 'content');
        $oc->send(response(200, ['Cache-Control', 'private'], 'p'));
        push @oc, $oc;
    }
    is(scalar(grep { $_->read_response->{body} eq 'p' } @c), 6, 'all answered');
};

subtest 'another server, the same content' => sub {
    my $c = client($port);
    my $body = 'tell me ' x 3000;
    $c->send(request('QUERY', '/pair/1', [], $body));
    my $oc = wait_for(sub { $o->try_accept(0.02) || $o2->try_accept(0.02) });
    is($oc->read_request->{body}, $body, 'the first one has it');
    $oc->reset;
    $oc = wait_for(sub { $o->try_accept(0.02) || $o2->try_accept(0.02) });
    is($oc->read_request->{body}, $body, 'and the second');
    $oc->send(response(200, ['Cache-Control', 'max-age=60'], 'done'));
    is($c->read_response->{body}, 'done', 'answered');
    $c->send(request('QUERY', '/pair/1', [], $body));
    is($c->read_response->{body}, 'done', 'stored');
    ok(!$o->try_accept(0.05) && !$o2->try_accept(0.05), 'really');
};

subtest 'slow and cut' => sub {
    my $c = client($port);
    $c->send("QUERY /hand/slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n12345");
    is($c->read_response->{status}, 408, 'body_timeout');
    $c = client($port);
    $c->send("QUERY /hand/slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n12345");
    $c->close;
    my $h = RPD::H2->connect($port);
    my $id = $h->request('QUERY', '/hand/slow', [], 'part', end => 0);
    is($h->response($id)->{status}, 408, 'body_timeout, HTTP/2');
    $h->request('QUERY', '/hand/slow', [], 'part', end => 0);
    $h->rst(3, 'CANCEL');
    ok($h->ping, 'reset half way');
    ok(!$o->try_accept(0.1), 'no server was bothered');
};

subtest '100 (Continue)' => sub {
    my $c = client($port);
    $c->send("QUERY /cont HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    is($c->read_head, "HTTP/1.1 100 Continue\r\n\r\n", 'comes from here');
    $c->send('12345');
    my $r = $c->read_response;
    like($r->{body}, qr/^QUERY \S+ 5 \d+ content-length=5 \d/, 'servers are not asked for it');
    is(scalar @{ $r->{interim} }, 0, 'once');
    $c->send("QUERY /cont HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    $c->read_head;
    $c->send('12345');
    is(was($c->read_response), $hit, 'a hit');
};

subtest 'HTTP/2' => sub {
    my $h = RPD::H2->connect($port);
    my $body = join ' ', 1 .. 10_000;    # 48,893 bytes
    my @f = ('content-type', 'text/q');
    my $ask = sub { my ($path, $b) = @_; my $r = $h->response($h->request('QUERY', $path, \@f, $b)); return ($r, was($r)) };
    my ($one, $was) = $ask->('/h2', $body);
    is($was, $miss, 'a miss');
    like($one->{body}, qr{^QUERY /h2 48893 }, 'whole');
    (my $two, $was) = $ask->('/h2', $body);
    is($was, $hit, 'a hit');
    is($two->{body}, $one->{body}, 'the same');
    is(query('/h2', $body)->{was}, $hit, 'for HTTP/1, too');
    is(($ask->('/b', join ' ', 1 .. 3000))[1], $hit, 'and what HTTP/1 began');
    is(($ask->('/h2', "$body."))[1], $miss, 'other content');
    is(($ask->('/h2', ''))[1], $miss, 'none');
    my ($big, $why) = $ask->('/h2', 'y' x 300_000);
    is($why, 'rpd; fwd=request; detail=request-body', 'too much');
    is((split ' ', $big->{body})[2], 300_000, 'goes through');
    my @id = map { $h->request('QUERY', '/h2/many', \@f, "q$_", piece => 1) } 1 .. 50;
    is(scalar(grep { $h->response($_)->{status} == 200 } @id), 50, 'many streams');
    is(($ask->('/h2/many', 'q7'))[1], $hit, 'each stored');
};

subtest 'servers of HTTP/2' => sub {
    for my $n (0, 1, 40_000, 65_536, 150_000) {
        my $body = join '', map { chr(33 + ($_ * 7) % 90) } 1 .. $n;
        my $want = "QUERY $n " . unpack '%32C*', $body;
        my $one = query("/to-h2/$n", $body);
        is($one->{body}, $want, "$n bytes");
        my $two = query("/to-h2/$n", $body);
        is($two->{body}, $want, 'again');
        is($two->{was}, $n > 65_536 ? 'rpd; fwd=request; detail=request-body' : $hit, 'as is due');
    }
};

subtest 'confirmed and renewed with its content' => sub {
    is(query('/old/1', 'abc')->{was}, $miss, 'stale at once');
    my $r = query('/old/1', 'abc');
    is($r->{was}, 'rpd; fwd=stale; fwd-status=304', 'confirmed');
    is($r->{fields}{'x-asked'}[0], 3, 'by a server that had the content');
    query('/swr/1', 'abcd');
    $r = query('/swr/1', 'abcd');
    is($r->{was}, $hit, 'stale while it is asked for anew');
    my $x = wait_for(sub { my $a = query('/swr/1', 'abcd'); ($a->{fields}{'x-asked'} || [0])->[0] });
    is($x, 4, 'with the content');
    is(query('/vary/1', 'v', 'X-Kind', 1)->{was}, $miss, 'Vary');
    is(query('/vary/1', 'v', 'X-Kind', 2)->{was}, 'rpd; fwd=vary-miss; stored', 'selects');
    is(query('/vary/1', 'v', 'X-Kind', 1)->{was}, $hit, 'too');
    my $whole = query('/part', 'p')->{body};
    my $part = query('/part', 'p', 'Range', 'bytes=2-5');
    is($part->{status}, 206, 'a range');
    is($part->{body}, substr($whole, 2, 4), 'of it');
    is(query('/part', 'p', 'If-None-Match', '"112"')->{status}, 304, 'and a condition');
};

subtest 'taken out by URL' => sub {
    query('/out', "q$_") for 1 .. 5;
    is(query('/out', 'q3')->{was}, $hit, 'five answers');
    $client->send(request('PURGE', '/out'));
    is($client->read_response->{status}, 200, 'PURGE');
    is(scalar(grep { query('/out', "q$_")->{was} eq $miss } 1 .. 5), 5, 'all gone');
    $client->send(request('POST', '/out', [], 'x'));
    $client->read_response;
    is(scalar(grep { query('/out', "q$_")->{was} eq $miss } 1 .. 5), 5, 'POST does it, too');
    $s->ctl('cache', 'purge', 'http://localhost/out');
    is(scalar(grep { query('/out', "q$_")->{was} eq $miss } 1 .. 5), 5, 'and rpctl');
};
$s->stop;
done_testing;
