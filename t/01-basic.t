#!/usr/bin/perl
# Requests and answers pass, connections persist, and what a proxy must not pass is answered here.
use strict;
use warnings;
use RPD::Test;

my $port = free_port();
my $o = origin();
my $s = rpd(config => simple_config(listen => "127.0.0.1:$port", server => $o->address), global => "workers = 1\n");

subtest 'GET, and the same connections again' => sub {
    my $c = client($port);
    $c->send(request('GET', '/a/b?x=%20y', ['X-Mine', 'v 1', 'Accept', '*/*']));
    my $oc = $o->accept;
    my $r = $oc->read_request;
    is($r->{line}, 'GET /a/b?x=%20y HTTP/1.1', 'request line as sent');
    is_deeply($r->{fields}{host}, ['localhost'], 'host');
    is_deeply($r->{fields}{'x-mine'}, ['v 1'], 'own field');
    $oc->send(response(200, ['X-Origin', 'a', 'X-Origin', 'b'], 'hello'));
    my $a = $c->read_response;
    is($a->{line}, 'HTTP/1.1 200 Text', 'status line with the origin\'s reason');
    is_deeply($a->{fields}{'x-origin'}, ['a', 'b'], 'fields in order');
    is($a->{body}, 'hello', 'body');
    ok($a->{fields}{date}, 'a Date was added');
    is($a->{fields}{connection}, undef, 'the connection persists silently');

    $c->send(request('GET', '/2'));
    is($oc->read_request->{target}, '/2', 'second request on the same two connections');
    $oc->send(response(404, [], 'no'));
    is($c->read_response->{status}, 404, 'status passed on');

    my $c2 = client($port);
    $c2->send(request('GET', '/3'));
    is($oc->read_request->{target}, '/3', 'another client uses the pooled connection');
    $oc->send(response(200, ['Date', 'Sun, 06 Nov 1994 08:49:37 GMT'], ''));
    my $a3 = $c2->read_response;
    is_deeply($a3->{fields}{date}, ['Sun, 06 Nov 1994 08:49:37 GMT'], 'the origin\'s Date stays');
    is($a3->{body}, '', 'empty body');
    $oc->close;
    $_->close for $c, $c2;
};

subtest 'POST, PUT, unknown methods, HEAD' => sub {
    my $c = client($port);
    for my $method (qw(POST PUT PATCH DELETE PROPFIND x-Custom)) {
        $c->send(request($method, '/m', [], 'payload'));
        my $oc = $o->accept;
        my $r = $oc->read_request;
        is("$r->{method} $r->{body}", "$method payload", "$method");
        is_deeply($r->{fields}{'content-length'}, [7], "$method length");
        $oc->send(response(201, ['Connection', 'close'], $method));
        is($c->read_response->{body}, $method, "$method answer");
        $oc->close;
    }
    $c->send(request('HEAD', '/h') . request('GET', '/g'));
    my $oc = $o->accept;
    is($oc->read_request->{method}, 'HEAD', 'HEAD');
    $oc->send("HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n");
    my $a = $c->read_response(method => 'HEAD');
    is_deeply($a->{fields}{'content-length'}, [12345], 'length of what GET would give');
    is($oc->read_request->{target}, '/g', 'the connection is in step after HEAD');
    $oc->send(response(200, [], 'g'));
    is($c->read_response->{body}, 'g', 'answer after HEAD');
    $oc->close;
    $c->close;
};

subtest 'answers without a body' => sub {
    my $c = client($port);
    my $oc;
    for my $status (204, 304) {
        $c->send(request('GET', "/$status"));
        $oc ||= $o->accept;
        $oc->read_request;
        $oc->send("HTTP/1.1 $status X\r\nETag: \"e\"\r\n\r\n");
        my $a = $c->read_response;
        is($a->{status}, $status, "status $status");
        is($a->{fields}{'transfer-encoding'}, undef, "$status has no coding");
    }
    $oc->close;
    $c->close;
};

subtest 'pipelining' => sub {
    my $c = client($port);
    $c->send(join '', map { request('GET', "/p$_") } 1 .. 20);
    my $oc;
    for my $n (1 .. 20) {
        $oc ||= $o->accept;
        is($oc->read_request->{target}, "/p$n", "request $n in order");
        $oc->send(response(200, [], "answer $n"));
    }
    is($c->read_response->{body}, "answer $_", "answer $_ in order") for 1 .. 20;
    $oc->close;
    $c->close;
};

subtest 'a request in pieces' => sub {
    my $text = request('POST', '/split', ['X-Long', 'v' x 300], 'body');
    for my $step (1, 7, 50) {
        my $c = client($port);
        $c->send_split($text, grep { $_ % $step == 0 } 1 .. length $text);
        my $oc = $o->accept;
        my $r = $oc->read_request;
        is($r->{body}, 'body', "cut every $step bytes");
        $oc->send(response(200, ['Connection', 'close'], 'ok'));
        is($c->read_response->{body}, 'ok', 'answer');
        $_->close for $c, $oc;
    }
};

subtest 'HTTP/1.0 clients' => sub {
    my $c = client($port);
    $c->send("GET /old HTTP/1.0\r\nHost: localhost\r\n\r\n");
    my $oc = $o->accept;
    my $r = $oc->read_request;
    is($r->{version}, '1.1', 'the server is spoken to in HTTP/1.1');
    $oc->send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
    my $a = $c->read_response;
    is($a->{fields}{'transfer-encoding'}, undef, 'no chunks for HTTP/1.0');
    is($a->{body}, 'abc', 'body until the close');
    ok($c->closed, 'closed');
    $oc->close;

    $c = client($port);
    $c->send("GET /old HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    $oc = $o->accept;
    my $old = $oc->read_request;
    is($old->{target}, '/old', 'HTTP/1.0 without Host');
    is($old->{fields}{host}[0], $o->address, 'gets the server\'s own name');
    $oc->send(response(200, [], 'kept'));
    $a = $c->read_response;
    like($a->{fields}{connection}[0], qr/^keep-alive$/i, 'keep-alive is confirmed');
    $c->send("GET /again HTTP/1.0\r\nHost: localhost\r\n\r\n");
    is($oc->read_request->{target}, '/again', 'and true');
    $oc->send(response(200, [], 'x'));
    is($c->read_response->{body}, 'x', 'last answer');
    ok($c->closed, 'then closed');
    $oc->close;
};

subtest 'HTTP/1.0 origins' => sub {
    my $c = client($port);
    $c->send(request('GET', '/'));
    my $oc = $o->accept;
    $oc->read_request;
    $oc->send("HTTP/1.0 200 OK\r\nServer: old\r\n\r\nuntil close");
    $oc->close;
    my $a = $c->read_response;
    is($a->{version}, '1.1', 'the client sees HTTP/1.1');
    is($a->{fields}{'transfer-encoding'}[0], 'chunked', 'and keeps its connection thanks to chunks');
    is($a->{body}, 'until close', 'body');
    $c->send(request('GET', '/next'));
    $oc = $o->accept;
    $oc->read_request;
    $oc->send("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi");
    is($c->read_response->{body}, 'hi', 'with a length');
    ok($oc->closed, 'an HTTP/1.0 connection is not pooled');
    $c->close;
};

subtest 'absolute form, OPTIONS *, Connection: close' => sub {
    my $c = client($port);
    $c->send("GET http://other.example:81/p?q HTTP/1.1\r\nHost: localhost\r\n\r\n");
    my $oc = $o->accept;
    my $r = $oc->read_request;
    is($r->{target}, '/p?q', 'origin form to the server');
    is_deeply($r->{fields}{host}, ['other.example:81'], 'the target\'s authority is the host (RFC 9112 3.2.2)');
    $oc->send(response(200, [], ''));
    $c->read_response;
    $c->send("GET http://other.example HTTP/1.1\r\nHost: other.example\r\n\r\n");
    is($oc->read_request->{target}, '/', 'an empty path becomes /');
    $oc->send(response(200, [], ''));
    $c->read_response;
    $c->send(request('OPTIONS', '*'));
    is($oc->read_request->{line}, 'OPTIONS * HTTP/1.1', 'OPTIONS * is passed');
    $oc->send(response(200, ['Allow', 'GET'], ''));
    is($c->read_response->{fields}{allow}[0], 'GET', 'its answer');
    $c->send(request('GET', '/last', ['Connection', 'close']));
    $r = $oc->read_request;
    unlike($r->{head}, qr/^connection: *close/mi, 'the server\'s connection stays');
    $oc->send(response(200, [], 'bye'));
    my $a = $c->read_response;
    is(lc $a->{fields}{connection}[0], 'close', 'close is announced');
    ok($c->closed, 'and done');
    $oc->close;
};

subtest 'refused methods' => sub {
    for my $line ('TRACE / HTTP/1.1', 'CONNECT example.org:443 HTTP/1.1') {
        my $c = client($port);
        my ($method) = split / /, $line;
        $c->send("$line\r\nHost: example.org:443\r\n\r\n");
        my $a = $c->read_response;
        is($a->{status}, 405, "$method is refused");
        ok(!$o->try_accept(0.1), "$method reaches no origin");
        $c->close;
    }
};

subtest 'an empty line before a request is skipped' => sub {
    my $c = client($port);
    $c->send("\r\n" . request('GET', '/crlf'));
    my $oc = $o->accept;
    is($oc->read_request->{target}, '/crlf', 'served');
    $oc->send(response(200, ['Connection', 'close'], ''));
    is($c->read_response->{status}, 200, 'answered');
    $_->close for $c, $oc;
};

subtest 'clients that leave' => sub {
    my $c = client($port);
    $c->send(request('GET', '/leave'));
    my $oc = $o->accept;
    $oc->read_request;
    $c->reset;
    ok($oc->closed, 'the server is told when the client resets');
    $c = client($port);
    $c->send('GET / HT');
    $c->close;
    $c = client($port);
    $c->close;
    ok($s->wait_metric('rpd_connections', 0), 'no connection is left');
};

$s->stop;
done_testing;
