#!/usr/bin/perl
# Bodies in every framing, both ways, streamed: sizes, trailers, interim answers, back-pressure with bounded memory.
use strict;
use warnings;
use Digest::MD5;
use RPD::Test;

my $port = free_port();
my $o = origin();
my $s = rpd(
    config => simple_config(listen => "127.0.0.1:$port", server => $o->address, defaults => 'max_body = 256m'),
    global => "workers = 1\n"
);
my ($worker) = $s->workers;

sub md5 { Digest::MD5::md5_hex($_[0]) }
sub chunked {
    my ($body, $size) = @_;
    my $out = '';
    for (my $at = 0; $at < length $body; $at += $size) {
        my $piece = substr $body, $at, $size;
        $out .= sprintf("%x\r\n", length $piece) . "$piece\r\n";
    }
    return $out;
}

subtest 'requests: length and chunks, small and over every buffer' => sub {
    my $c = client($port);
    my $oc;
    for my $n (0, 1, 100, 16384, 65536, 200_000) {
        my $body = random_bytes($n, $n);
        $c->send(request('POST', "/l$n", [], $body));
        $oc ||= $o->accept;
        my $r = $oc->read_request;
        is(md5($r->{body}), md5($body), "length $n");
        is_deeply($r->{fields}{'content-length'}, [$n], 'length passed on');
        $oc->send(response(200, [], ''));
        $c->read_response;
        for my $chunk (1 + int $n / 3, 4096) {
            next if !$n;
            $c->send(request('POST', "/c$n", ['Transfer-Encoding', 'chunked'], chunked($body, $chunk) . "0\r\n\r\n"));
            $r = $oc->read_request;
            is(md5($r->{body}), md5($body), "$n in chunks of $chunk");
            is($r->{fields}{'content-length'}, undef, 'no length invented');
            $oc->send(response(200, [], ''));
            $c->read_response;
        }
    }
    $_->close for $c, $oc;
};

subtest 'answers: length, chunks, close' => sub {
    my $c = client($port);
    my $oc;
    for my $n (0, 1, 16384, 200_000) {
        my $body = random_bytes($n, $n + 1);
        $c->send(request('GET', '/'));
        $oc ||= $o->accept;
        $oc->read_request;
        $oc->send(response(200, [], $body));
        my $a = $c->read_response;
        is(md5($a->{body}), md5($body), "length $n");
        $c->send(request('GET', '/'));
        $oc->read_request;
        $oc->send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" . chunked($body, 5000) . "0\r\n\r\n");
        $a = $c->read_response;
        is(md5($a->{body}), md5($body), "$n in chunks");
        is($a->{fields}{'content-length'}, undef, 'chunks have no length');
    }
    $c->send(request('GET', '/'));
    $oc->read_request;
    my $body = random_bytes(300_000, 9);
    $oc->send("HTTP/1.1 200 OK\r\n\r\n$body");
    $oc->close;
    my $a = $c->read_response;
    is(md5($a->{body}), md5($body), 'until close');
    $c->send(request('GET', '/'));
    $oc = $o->accept;
    $oc->read_request;
    $oc->send(response(200, [], 'still'));
    is($c->read_response->{body}, 'still', 'the client\'s connection goes on');
    $_->close for $c, $oc;
};

subtest 'chunked answers in hostile pieces' => sub {
    my $text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;ext=\"a;b\"\r\nhello\r\n1\r\n \r\n5\r\nworld\r\n0\r\nX-Sum: 1\r\n\r\n";
    for my $step (1, 3, 10) {
        my $c = client($port);
        $c->send(request('GET', '/', ['TE', 'trailers', 'Connection', 'TE']));
        my $oc = $o->accept;
        $oc->read_request;
        $oc->send_split($text, grep { $_ % $step == 0 } 1 .. length $text);
        my $a = $c->read_response;
        is($a->{body}, 'hello world', "cut every $step bytes");
        is_deeply($a->{trailers}{'x-sum'}, ['1'], 'trailer');
        $_->close for $c, $oc;
    }
};

subtest 'request trailers' => sub {
    my $c = client($port);
    $c->send(request('POST', '/t', ['Transfer-Encoding', 'chunked', 'Trailer', 'X-Sum']) .
        "3\r\nabc\r\n0\r\nX-Sum: 42\r\nContent-Length: 99\r\nHost: evil\r\n\r\n");
    my $oc = $o->accept;
    my $r = $oc->read_request;
    is($r->{body}, 'abc', 'body');
    is_deeply($r->{trailers}, { 'x-sum' => ['42'] }, 'the trailer passes, fields that frame or route do not');
    $oc->send(response(200, ['Connection', 'close'], ''));
    $c->read_response;
    $_->close for $c, $oc;
};

subtest 'Expect: 100-continue' => sub {
    my $c = client($port);
    $c->send(request('POST', '/e', ['Expect', '100-continue', 'Content-Length', 4]));
    my $oc = $o->accept;
    my $head = $oc->read_head;
    if ($head =~ /^expect: *100-continue/mi) {
        $oc->send("HTTP/1.1 100 Continue\r\n\r\n");
    }
    like($c->read_head, qr{^HTTP/1.1 100 }, 'the client is told to go on');
    $c->send('body');
    is($oc->read_n(4), 'body', 'and its body passes');
    $oc->send(response(200, [], 'done'));
    is($c->read_response->{body}, 'done', 'final answer');

    $c->send(request('POST', '/e', ['Expect', '100-continue', 'Content-Length', 100]));
    my $head2 = $oc->read_head;
    $oc->send(response(403, ['Connection', 'close'], 'no'));
    $oc->close;
    my $a = $c->read_response;
    is($a->{status}, 403, 'an answer instead of 100');
    ok($c->closed, 'a body that never comes cannot confuse the next request');

    $c = client($port);
    $c->send(request('GET', '/', ['Expect', 'miracles']));
    is($c->read_response->{status}, 417, 'other expectations fail');
    $c->close;
};

subtest 'interim answers' => sub {
    my $c = client($port);
    $c->send(request('GET', '/hints'));
    my $oc = $o->accept;
    $oc->read_request;
    $oc->send("HTTP/1.1 103 Early Hints\r\nLink: </s.css>; rel=preload\r\n\r\n");
    my $early = $c->read_head;
    like($early, qr{^HTTP/1.1 103 .*Link: </s.css>}s, '103 is relayed before the answer exists');
    $oc->send("HTTP/1.1 102 Processing\r\n\r\n" . response(200, [], 'x'));
    my $a = $c->read_response;
    is(scalar @{ $a->{interim} }, 1, '102 too');
    is($a->{body}, 'x', 'the answer');
    $c->send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    $oc->read_request;
    $oc->send("HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n" . response(200, [], 'y'));
    $a = $c->read_response;
    is(scalar @{ $a->{interim} }, 0, 'HTTP/1.0 gets no interim answer');
    is($a->{body}, 'y', 'but the final one');
    $_->close for $c, $oc;
};

subtest 'an answer before the end of the request' => sub {
    my $c = client($port);
    $c->send(request('POST', '/early', ['Content-Length', 50_000_000], random_bytes(100_000)));
    my $oc = $o->accept;
    $oc->read_head;
    $oc->send(response(413, ['Connection', 'close'], 'too much'));
    $oc->shutdown_write;
    my $a = $c->read_response;
    is($a->{status}, 413, 'reaches the client while it sends');
    $_->close for $c, $oc;
};

# A client that does not read, an origin that sends: what rpd holds is bounded, whatever the kernel's buffers take.
subtest 'back-pressure: 64 MiB to a client that waits' => sub {
    my $n = 64 << 20;
    my $sender = origin()->serve(sub {
        my ($conn) = @_;
        $conn->read_request;
        $conn->send("HTTP/1.1 200 OK\r\nContent-Length: $n\r\n\r\n");
        my $block = random_bytes(1 << 20);
        $conn->send($block, timeout => 60) for 1 .. 64;
        $conn->closed(timeout => 60);
    });
    my $p2 = free_port();
    my $s2 = rpd(
        config => simple_config(listen => "127.0.0.1:$p2", server => $sender->address), global => "workers = 1\n"
    );
    my ($w) = $s2->workers;
    my $before = rss($w);
    my $c = client($p2, rcvbuf => 65536, keep => 0);
    $c->send(request('GET', '/'));
    like($c->read_head, qr/^HTTP\/1.1 200/, 'the answer begins');
    # The stream stands still when the counter of bytes received from the server does.
    $s2->wait_still('rpd_upstream_received_bytes_total');
    my $held = rss($w) - $before;
    my $limit = $ENV{RPD_SANITIZED} ? 8 << 20 : 1 << 20;
    cmp_ok($held, '<', $limit, "memory held meanwhile: $held bytes");
    is($c->drain($n), $n, 'then all of it arrives');
    $c->close;
    $held = rss($w) - $before;
    cmp_ok($held, '<', $limit, "and after: $held bytes");
    $s2->stop;
};

subtest 'back-pressure: 64 MiB from a client to an origin that waits' => sub {
    my $c = client($port, keep => 0);
    my $before = rss($worker);
    my $n = 64 << 20;
    my $pid = fork;
    if (!$pid) {
        $c->send(request('POST', '/up', ['Content-Length', $n]));
        $c->send(random_bytes(1 << 20), timeout => 60) for 1 .. 64;
        POSIX::_exit(0);
    }
    my $oc = $o->accept;
    $oc->{keep} = 0;
    like($oc->read_head, qr/^POST \/up/, 'the request begins');
    $s->wait_still('rpd_client_received_bytes_total');
    my $held = rss($worker) - $before;
    cmp_ok($held, '<', $ENV{RPD_SANITIZED} ? 8 << 20 : 1 << 20, "memory held meanwhile: $held bytes");
    is($oc->drain($n), $n, 'then all of it arrives');
    waitpid $pid, 0;
    $oc->send(response(200, ['Connection', 'close'], 'got it'));
    is($c->read_response->{body}, 'got it', 'answer');
    $_->close for $c, $oc;
};

subtest 'max_body' => sub {
    my $p2 = free_port();
    my $s2 = rpd(
        config => simple_config(listen => "127.0.0.1:$p2", server => $o->address, defaults => 'max_body = 1k'),
        global => "workers = 1\n"
    );
    my $c = client($p2);
    $c->send(request('POST', '/', ['Content-Length', 1025]));
    is($c->read_response->{status}, 413, 'a length over the limit is refused at the head');
    ok(!$o->try_accept(0.1), 'before an origin sees it');
    $c->close;
    $c = client($p2);
    $c->send(request('POST', '/', [], 'x' x 1024));
    my $oc = $o->accept;
    is(length $oc->read_request->{body}, 1024, 'exactly the limit passes');
    $oc->send(response(200, [], ''));
    $c->read_response;
    $c->send(request('POST', '/', ['Transfer-Encoding', 'chunked'], chunked('y' x 2000, 500)));
    is($c->read_response->{status}, 413, 'chunks are counted');
    $_->close for $c, $oc;
    $s2->stop;
};

$s->stop;
done_testing;
