#!/usr/bin/perl
# What origins get wrong: bad heads are 502 and nothing of them reaches the client, bad bodies break the answer visibly, and no
# such connection is used again.
use strict;
use warnings;
use RPD::Test;

my $port = free_port();
my $o = origin();
my $s = rpd(config => simple_config(
    listen => "127.0.0.1:$port", server => $o->address, upstream => "max_fails = 0\nmax_head = 8k", defaults => "retry = 0",
    top => "[log main]\nfile = <DIR>/access.log\nflush = 10ms\nformat = \"%{status} %{reason} %{uri}\"",
), global => "workers = 1\n");

# name, what the origin sends, reason in the access log
my @heads = (
    ['not HTTP', "SSH-2.0-OpenSSH\r\n\r\n"],
    ['HTTP/2.0', "HTTP/2.0 200 OK\r\n\r\n"],
    ['HTTP/0.9', "<html>LEAK</html>\r\n\r\n"],
    ['no status', "HTTP/1.1 OK\r\n\r\n"],
    ['two digits', "HTTP/1.1 20 OK\r\n\r\n"],
    ['four digits', "HTTP/1.1 2000 OK\r\n\r\n"],
    ['status 099', "HTTP/1.1 099 X\r\n\r\n"],
    ['status 600 and over', "HTTP/1.1 999 X\r\nContent-Length: 0\r\n\r\n"],
    ['control byte in reason', "HTTP/1.1 200 O\x01K\r\nContent-Length: 0\r\n\r\n"],
    ['CL and TE', "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nLEAK"],
    ['two CL that differ', "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nLEAKX"],
    ['bad CL', "HTTP/1.1 200 OK\r\nContent-Length: 4x\r\n\r\nLEAK"],
    ['negative CL', "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nLEAK"],
    ['unknown coding', "HTTP/1.1 200 OK\r\nTransfer-Encoding: x-leak\r\n\r\nLEAK"],
    ['chunked twice', "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
    ['blank before colon', "HTTP/1.1 200 OK\r\nX-A : 1\r\nContent-Length: 0\r\n\r\n"],
    ['no colon', "HTTP/1.1 200 OK\r\nLEAK\r\nContent-Length: 0\r\n\r\n"],
    ['obs-fold', "HTTP/1.1 200 OK\r\nX-A: 1\r\n LEAK\r\nContent-Length: 0\r\n\r\n"],
    ['bare LF', "HTTP/1.1 200 OK\nContent-Length: 0\n\n"],
    ['bare CR', "HTTP/1.1 200 OK\r\nX-A: a\rLEAK: b\r\nContent-Length: 0\r\n\r\n"],
    ['NUL', "HTTP/1.1 200 OK\r\nX-A: a\0LEAK\r\nContent-Length: 0\r\n\r\n"],
    ['101 that nobody asked for', "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nLEAK"],
    ['head too large', "HTTP/1.1 200 OK\r\nX-A: " . ('LEAK' x 3000) . "\r\n\r\n", 'upstream_head_too_large'],
    ['endless interim answers', "HTTP/1.1 103 X\r\nLink: <x>\r\n\r\n" x 200, undef, qr/^(?:HTTP\/1\.1 103 .*?\r\n\r\n)*HTTP\/1\.1 502 /s],
    ['close at once', '', 'upstream_reset'],
    ['close within the head', "HTTP/1.1 200 OK\r\nX-A: LEAK", qr/upstream_(?:reset|truncated|bad_head)/],
);
my $n = 0;
for my $row (@heads) {
    my ($name, $bytes, $reason, $like) = @$row;
    my $c = client($port);
    $c->send(request('GET', "/$n"));
    my $oc = $o->accept;
    $oc->read_request;
    $oc->send($bytes, quiet => 1);
    $oc->shutdown_write if $name =~ /^close/;
    if ($like) {
        like($c->read_until(qr/ 502 /), $like, "$name: 502");
    } else {
        my $a = $c->read_response;
        is($a->{status}, 502, "$name: 502");
        unlike($a->{head} . $a->{body}, qr/LEAK/, "$name: nothing leaks");
    }
    ok($oc->closed, "$name: the connection is not used again");
    $_->close for $c, $oc;
    my $line = ($s->access_lines(++$n))[-1];
    $reason = $reason || 'upstream_bad_head';
    like($line, ref $reason ? $reason : qr/^502 \Q$reason\E /, "$name: reason in the log");
}

# Bodies: the head has gone out already, so the client must see a broken answer, not a short one that looks whole.
my @bodies = (
    ['length, closed early', "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", 'close'],
    ['length, reset', "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", 'reset'],
    ['chunks, closed early', "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", 'close'],
    ['chunks, closed within one', "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", 'close'],
    ['bad chunk size', "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\nLEAK"],
    ['chunk without end', "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcLEAK\r\n"],
    ['bare LF in chunks', "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\n"],
    ['bad trailer', "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nLEAK : 1\r\n\r\n"],
);
for my $row (@bodies) {
    my ($name, $bytes, $end) = @$row;
    for my $version ('1.1', '1.0') {
        my $c = client($port);
        $c->send("GET /body HTTP/$version\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        my $oc = $o->accept;
        $oc->read_request;
        $oc->send($bytes);
        $end && ($end eq 'reset' ? $oc->reset : $oc->close);
        my $answer = eval { $c->read_eof };
        ok(defined $answer, "$name ($version): the client's connection ends");
        if ($answer =~ /^HTTP\/1\.1 200/) {
            unlike($answer, qr/LEAK/, "$name ($version): nothing after the error passes");
            # For a body that ends with the connection only a reset can tell.
            my $broken = $answer =~ /^content-length: 10\r/mi || ($answer =~ /^transfer-encoding/mi && $answer !~ /0\r\n\r\n\z/)
                || $c->is_reset;
            ok($broken, "$name ($version): it is visibly incomplete") or diag($answer);
        } else {
            like($answer, qr/^HTTP\/1\.1 502/, "$name ($version): or it is a 502");
        }
        ok($oc->closed, "$name ($version): the server's connection is not used again") if !$end;
        $c->close;
        $oc->close if !$end;
    }
}

subtest 'bytes after an answer' => sub {
    my $c = client($port);
    $c->send(request('GET', '/extra'));
    my $oc = $o->accept;
    $oc->read_request;
    $oc->send(response(200, [], 'ok') . "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nLEAK");
    is($c->read_response->{body}, 'ok', 'the answer itself passes');
    ok($oc->closed, 'the connection is closed');
    $c->send(request('GET', '/after'));
    my $oc2 = $o->accept;
    $oc2->read_request;
    $oc2->send(response(200, [], 'own'));
    is($c->read_response->{body}, 'own', 'the next request gets its own answer');
    $_->close for $c, $oc, $oc2;
};

subtest 'bytes on an idle connection' => sub {
    my $c = client($port);
    $c->send(request('GET', '/1'));
    my $oc = $o->accept;
    $oc->read_request;
    $oc->send(response(200, [], 'ok'));
    $c->read_response;
    $oc->send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nLEAK");
    ok($oc->closed, 'end it');
    $c->send(request('GET', '/2'));
    my $oc2 = $o->accept;
    $oc2->read_request;
    $oc2->send(response(200, [], 'own'));
    is($c->read_response->{body}, 'own', 'the next request gets its own answer');
    $_->close for $c, $oc, $oc2;
};

subtest 'a body with an answer to HEAD' => sub {
    my $c = client($port);
    $c->send(request('HEAD', '/'));
    my $oc = $o->accept;
    $oc->read_request;
    $oc->send(response(200, [], 'LEAK'));
    my $a = $c->read_response(method => 'HEAD');
    is($a->{status}, 200, 'head passes');
    ok($oc->closed, 'the connection is closed');
    $c->send(request('GET', '/'));
    my $oc2 = $o->accept;
    $oc2->read_request;
    $oc2->send(response(200, [], 'own'));
    is($c->read_response->{body}, 'own', 'the client\'s connection is in step');
    $_->close for $c, $oc, $oc2;
};

subtest 'error answers' => sub {
    my $c = client($port);
    $c->send(request('GET', '/e'));
    my $oc = $o->accept;
    $oc->read_request;
    $oc->reset;
    my $a = $c->read_response;
    is($a->{status}, 502, 'status');
    like($a->{fields}{'content-type'}[0], qr{^text/plain}, 'plain');
    like($a->{body}, qr/[0-9a-f-]{16,}/, 'with a request id');
    unlike($a->{head} . $a->{body}, qr/rpd\/\d|127\.0\.0\.1/, 'without version or inside addresses');
    $c->close;
};

$s->stop;
done_testing;
