#!/usr/bin/perl
# HTTP/2 clients and the cache: what HTTP/1 gets from it, over h2c and TLS, alone and mixed with HTTP/1; objects that arrive, narrow
# windows, slow clients, resets, many streams at once. Every byte is compared.
use strict;
use warnings;
use RPD::Test;
use RPD::Cert;
use RPD::TLS;
use RPD::H2;

my $ca = ca('Test CA');
my $cert = cert($ca, 'a.test', 'localhost');
my ($port, $tls) = (free_port(), free_port());
my $o = origin();    # by hand
my $served = origin();
# Bytes that say where they stand, and of what.
sub body_of {
    my ($path, $n) = @_;
    my $text = '';
    for (my $i = 0; length($text) < $n; $i++) { $text .= sprintf "%s:%06d;", $path, $i }
    return substr $text, 0, $n;
}
my %made;
sub made { my ($path) = @_; return $made{$path} //= body_of($path, $path =~ m{/(\d+)$} ? $1 : 100) }
$served->serve_requests(sub {
    my ($r) = @_;
    my %f = %{ $r->{fields} };
    our $n++;
    my @say = ('Cache-Control', $r->{target} =~ /stale/ ? 'max-age=0' : 'max-age=600', 'ETag', "\"$r->{target}\"", 'X-Nth', "$$.$n");
    return response(304, \@say, '') =~ s/Content-Length: 0\r\n//r if ($f{'if-none-match'} || [''])->[0] eq "\"$r->{target}\"";
    my $bytes = response(200, [@say, 'Content-Type', 'text/x'], made($r->{target}));
    $bytes =~ s/\r\n\r\n.*/\r\n\r\n/s if $r->{method} eq 'HEAD';
    return $bytes;
});
my $s = rpd(config => <<"EOF1", global => "workers = 3\n");
[defaults]
retry = off
write_timeout = 60s
[listen main]
address = 127.0.0.1:$port
https_redirect = off
[listen tls]
address = 127.0.0.1:$tls
tls = on
[certificate one]
pair = $cert->{both}
default = on
[upstream origin]
server = @{[ $o->address ]}
max_fails = 0
keepalive = 0
[upstream served]
server = @{[ $served->address ]}
max_fails = 0
[cache main]
size = 96m
max_object = 24m
collapse_timeout = 60s
key = %{host} %{path} %{query}
purge_from = 127.0.0.0/8
[host all]
names = *
upstream = served
cache = main
[route all/hand]
path = /hand/*
upstream = origin
EOF1

sub h2 { return RPD::H2->connect($port, @_) }
sub h1 { my ($path, @fields) = @_; my $c = client($port); $c->send(request('GET', $path, [@fields])); return $c }
sub was { my ($r) = @_; return (join ', ', @{ $r->{fields}{'cache-status'} || [] }) =~ s/; ttl=-?\d+//r }
sub nobody { my ($what) = @_; ok(!$o->try_accept(0.1), $what) }
sub head { my ($length, @more) = @_; return "HTTP/1.1 200 OK\r\nContent-Length: $length\r\nCache-Control: max-age=600\r\n" . join('', map { "$_\r\n" } @more) . "\r\n" }
my $hit = 'rpd; hit';
my $miss = 'rpd; fwd=uri-miss; stored';
my $block = body_of('block', 65536);

subtest 'miss and hit' => sub {
    my $h = h2();
    for my $n (0, 1, 100, 5000, 65536, 70_000, 1_000_000) {
        my $one = $h->get("/a/$n");
        is(was($one), $miss, "$n bytes: a miss");
        ok($one->{body} eq made("/a/$n"), 'the bytes');
        my $two = $h->get("/a/$n");
        is(was($two), $hit, 'a hit');
        ok($two->{body} eq made("/a/$n"), 'the same bytes');
        is($two->{fields}{'x-nth'}[0], $one->{fields}{'x-nth'}[0], 'and fields');
        is($two->{fields}{'content-length'}[0], $n, 'its length');
        ok(defined $two->{fields}{age}, 'its age');
        my $three = h1("/a/$n")->read_response;
        ok(was($three) eq $hit && $three->{body} eq made("/a/$n"), 'over HTTP/1');
    }
    h1('/b/3000')->read_response;
    my $r = $h->get('/b/3000');
    ok(was($r) eq $hit && $r->{body} eq made('/b/3000'), 'what HTTP/1 brought');
    my $t = RPD::H2->connect($tls, tls => { sni => 'a.test', ca => $ca->{file} }, authority => 'localhost');
    $r = $t->get('/a/1000000');
    ok(was($r) eq $hit && $r->{body} eq made('/a/1000000'), 'over TLS');
};

subtest 'HEAD, conditions, ranges' => sub {
    my $h = h2();
    my $path = '/c/300000';
    my $body = made($path);
    $h->get($path);
    my $r = $h->response($h->request('HEAD', $path));
    is_deeply([$r->{status}, was($r), $r->{fields}{'content-length'}[0], $r->{nbody} // 0], [200, $hit, 300_000, 0], 'HEAD');
    $r = $h->get($path, ['if-none-match', "\"$path\""]);
    is_deeply([$r->{status}, was($r), $r->{nbody} // 0, $r->{fields}{etag}[0]], [304, $hit, 0, "\"$path\""], 'a condition that holds');
    $r = $h->get($path, ['if-none-match', '"other"']);
    ok($r->{status} == 200 && $r->{body} eq $body, 'a condition that does not hold');
    for my $range ('0-0', '5-9', '65530-65545', '0-', '-1000', '299999-', '131072-262143') {
        my ($a, $b) = split /-/, $range;
        my ($from, $to) = length $a ? ($a, length($b // '') ? $b : 299_999) : (300_000 - $b, 299_999);
        $r = $h->get($path, ['range', "bytes=$range"]);
        ok($r->{status} == 206 && $r->{body} eq substr($body, $from, $to - $from + 1) && $r->{fields}{'content-range'}[0] eq "bytes $from-$to/300000", "bytes=$range");
    }
    $r = $h->get($path, ['range', 'bytes=300000-']);
    is_deeply([$r->{status}, $r->{fields}{'content-range'}[0]], [416, 'bytes */300000'], 'behind the end');
    $r = $h->get($path, ['range', 'bytes=5-9', 'if-range', '"other"']);
    ok($r->{status} == 200 && $r->{body} eq $body, 'If-Range of something else');
    $r = $h->get($path, ['range', 'bytes=0-9,1000-70000,-5']);
    is($r->{status}, 206, 'several');
    my ($b) = ($r->{fields}{'content-type'}[0] || '') =~ m{^multipart/byteranges; boundary=(\S+)$};
    is($r->{fields}{'content-length'}[0], length $r->{body}, 'of the length that was said');
    my @parts = $r->{body} =~ /--\Q$b\E\r\nContent-Type: text\/x\r\nContent-Range: bytes (\d+)-(\d+)\/300000\r\n\r\n/g;
    is_deeply(\@parts, [0, 9, 1000, 70_000, 299_995, 299_999], 'their heads');
    my $want = join '', map { my ($f, $l) = @$_; "\r\n--$b\r\nContent-Type: text/x\r\nContent-Range: bytes $f-$l/300000\r\n\r\n" . substr $body, $f, $l - $f + 1 } [0, 9], [1000, 70_000], [299_995, 299_999];
    ok($r->{body} eq substr("$want\r\n--$b--\r\n", 2) || $r->{body} eq "$want\r\n--$b--\r\n", 'all bytes');
    $h->get('/stale/500');
    $r = $h->get('/stale/500');
    ok(was($r) eq 'rpd; fwd=stale; fwd-status=304' && $r->{body} eq made('/stale/500'), 'confirmed at the server');
    $h->request('GET', '/stale/501');
    is($h->response($h->request('PURGE', $path))->{status}, 200, 'PURGE');
    is(was($h->get($path)), $miss, 'takes it out');
};

subtest 'one fetch for both protocols, as it arrives' => sub {
    for my $leader (qw(h1 h2)) {
        my $path = "/hand/$leader";
        my @h = map { h2() } 1 .. 4;
        my (@c, @id);
        if ($leader eq 'h1') { push @c, h1($path) } else { push @id, [$h[0], $h[0]->request('GET', $path)] }
        my $oc = $o->accept;
        $oc->read_request;
        push @c, map { h1($path) } 1 .. 8;
        for my $h (@h) { push @id, [$h, $h->request('GET', $path)] for 1 .. 5 }
        nobody("$leader leads: one request for all");
        $oc->send(head(2 * length $block) . $block);
        is(scalar(grep { my ($h, $id) = @$_; $h->pump(sub { length($h->stream($id)->{body} // '') == 65536 }, timeout => 20) } @id), scalar @id, 'streams have the first half before there is a second');
        is(scalar(grep { $_->read_head; $_->read_n(65536) eq $block } @c), scalar @c, 'and so have connections');
        my $late = h2();
        my $l = $late->request('GET', $path);
        $late->pump(sub { length($late->stream($l)->{body} // '') == 65536 });
        $oc->send($block);
        is(scalar(grep { $_->[0]->response($_->[1])->{body} eq $block x 2 } @id, [$late, $l]), @id + 1, 'streams have all');
        is(scalar(grep { $_->read_n(65536) eq $block } @c), scalar @c, 'connections, too');
        my $words = join ' ', map { was($_->[0]->stream($_->[1])) =~ /collapsed|stored/ ? 'ok' : was($_->[0]->stream($_->[1])) } @id;
        unlike($words, qr/rpd/, 'and say so');
        is(was(h2()->get($path)), $hit, 'then a hit');
        nobody('really one');
    }
};

subtest 'without a length, and parts of what arrives' => sub {
    my @h = map { h2() } 1 .. 3;
    my @id = map { [$_, $_->request('GET', '/hand/chunked')] } @h;
    my $oc = $o->accept;
    $oc->read_request;
    $oc->send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nCache-Control: max-age=60\r\n\r\n5\r\nhello\r\n");
    for (@id) { my ($h, $id) = @$_; $h->pump(sub { ($h->stream($id)->{body} // '') eq 'hello' }) }
    ok(!defined $h[0]->stream($id[0][1])->{fields}{'content-length'}, 'no length yet');
    $oc->send("6\r\n world\r\n0\r\n\r\n");
    is(scalar(grep { my $r = $_->[0]->response($_->[1]); $r->{body} eq 'hello world' && $r->{ended} } @id), 3, 'all of it');
    is(h2()->get('/hand/chunked')->{fields}{'content-length'}[0], 11, 'stored with its length');
    my $lead = $h[0]->request('GET', '/hand/part');
    $oc = $o->accept;
    $oc->read_request;
    $oc->send(head(3 * length($block), 'ETag: "p"') . $block . substr $block, 0, 100);
    $h[0]->pump(sub { length($h[0]->stream($lead)->{body} // '') >= 65636 });
    my $r = $h[1]->get('/hand/part', ['range', 'bytes=65000-65599']);
    ok($r->{status} == 206 && $r->{body} eq substr($block x 2, 65_000, 600), 'a part that is there is served before the end');
    my $id = $h[1]->request('GET', '/hand/part', ['range', 'bytes=196000-']);
    ok($h[1]->ping && !$h[1]->stream($id)->{nbody}, 'one that is not there yet waits');
    nobody('and is not asked for');
    $oc->send(substr($block, 100) . $block);
    ok($h[1]->response($id)->{body} eq substr($block x 3, 196_000), 'until it comes');
    ok($h[0]->response($lead)->{body} eq $block x 3, 'the rest');
};

# The leader and a follower read nothing; others, and the fetch, are not held up.
subtest 'slow clients' => sub {
    my $n = 96;    # 6 MiB
    my @slow = map { h2(manual => 1, settings => [[4, 1000]]) } 1 .. 2;
    my @id = $slow[0]->request('GET', '/hand/slow');
    my $oc = $o->accept;
    $oc->read_request;
    push @id, $slow[1]->request('GET', '/hand/slow');
    my $h = h2();
    my $fast = $h->request('GET', '/hand/slow');
    my $c = h1('/hand/slow');
    $oc->send(head($n * length $block));
    $oc->send($block) for 1 .. $n;
    ok($h->response($fast, timeout => 60)->{body} eq $block x $n, 'a fast stream has all');
    ok($c->read_response->{body} eq $block x $n, 'and a connection');
    is(was(h2()->get('/hand/slow')), $hit, 'it is stored');
    for (0, 1) {
        my ($s, $id) = ($slow[$_], $id[$_]);
        $s->pump(sub { ($s->stream($id)->{nbody} // 0) == 1000 });
        is($s->stream($id)->{nbody}, 1000, 'the slow one got what its window takes');
        $s->window_update(0, 1 << 30);
        $s->window_update($id, 1 << 30);
        ok($s->response($id, timeout => 60)->{body} eq $block x $n, 'and in the end everything');
    }
    nobody('from one fetch');
};

subtest 'narrow windows' => sub {
    my $path = '/n/3000000';
    for my $window (16384, 100_000, 1 << 20) {
        my $h = h2(settings => [[4, $window]]);
        my @id = map { $h->request('GET', $path) } 1 .. ($window > 16384 ? 3 : 1);
        is(scalar(grep { my $r = $h->response($_, timeout => 60); $r->{body} eq made($path) && $r->{ended} } @id), scalar @id, scalar(@id) . " times 3 MB over windows of $window");
    }
    my $h = h2(settings => [[4, 0]]);
    my $id = $h->request('GET', $path);
    $h->response($id, head => 1);
    $h->ping;
    is($h->stream($id)->{nbody} // 0, 0, 'no window, no byte');
    $h->settings([4, 50_000]);
    $h->{own_initial} = 50_000;
    ok($h->response($id)->{body} eq made($path), 'one that opens later');
    my @few = map { $h->request('GET', $path) } 1 .. 4;
    for (@few[0, 2]) { $h->pump(sub { ($h->stream($_)->{nbody} // 0) > 0 }); $h->rst($_, 'CANCEL') }
    is(scalar(grep { $h->response($_, timeout => 60)->{body} eq made($path) } @few[1, 3]), 2, 'two of four reset half way: the others have all');
};

subtest 'the leader is reset' => sub {
    my $lead = h2();
    my $id = $lead->request('GET', '/hand/reset');
    my $oc = $o->accept;
    $oc->read_request;
    my @h = map { h2() } 1 .. 3;
    my @follow = map { [$_, $_->request('GET', '/hand/reset')] } @h;
    my $same = $lead->request('GET', '/hand/reset');
    my $c = h1('/hand/reset');
    nobody('one request');
    $lead->rst($id, 'CANCEL');
    $lead->ping;
    $oc->send(head(2 * length $block) . $block);
    $c->read_head;
    $c->read_n(65536);
    $oc->send($block);
    is(scalar(grep { $_->[0]->response($_->[1])->{body} eq $block x 2 } @follow, [$lead, $same]), 4, 'before the head: streams have all');
    ok($c->read_n(65536) eq $block, 'and the connection');
    $lead = h2();
    $id = $lead->request('GET', '/hand/reset2');
    $oc = $o->accept;
    $oc->read_request;
    @follow = map { [$_, $_->request('GET', '/hand/reset2')] } @h;
    $oc->send(head(2 * length $block) . $block);
    for (@follow) { my ($h, $i) = @$_; $h->pump(sub { length($h->stream($i)->{body} // '') == 65536 }) }
    $lead->close;
    $oc->send($block);
    is(scalar(grep { $_->[0]->response($_->[1])->{body} eq $block x 2 } @follow), 3, 'its connection closed half way: they, too');
    nobody('from the same request');
    $id = $h[0]->request('GET', '/hand/alone');
    $oc = $o->accept;
    $oc->read_request;
    $oc->send(head(64 << 20) . $block);
    $h[0]->pump(sub { length($h[0]->stream($id)->{body} // '') > 0 });
    $h[0]->rst($id, 'CANCEL');
    ok($oc->closed, 'nobody left: nothing is fetched');
    $id = $h[0]->request('GET', '/hand/cut');
    my $f = $h[1]->request('GET', '/hand/cut');
    $oc = $o->accept;
    $oc->read_request;
    $oc->send(head(2 * length $block) . $block);
    for ([$h[0], $id], [$h[1], $f]) { my ($h, $i) = @$_; $h->pump(sub { length($h->stream($i)->{body} // '') == 65536 }) }
    $oc->close;
    is_deeply([map { my $r = $_->[0]->response($_->[1]); [$r->{ended} ? 'whole' : $r->{error}, length $r->{body}] } [$h[0], $id], [$h[1], $f]],
        [(['INTERNAL_ERROR', 65536]) x 2], 'the server cuts it: nobody takes a part for the whole');
};

subtest 'many streams at once' => sub {
    my @paths = map { "/m/$_" } 10, 900, 20_000, 66_000, 150_000;
    my @h = map { h2() } 1 .. 3;
    for my $round (1 .. 3) {
        my @all;
        for my $i (1 .. 90) {
            for my $h (@h) { my $path = $paths[ ($i * 7 + $round) % @paths ]; push @all, [$h, $h->request('GET', $path), $path] }
        }
        is(scalar(grep { $_->[0]->response($_->[1], timeout => 60)->{body} eq made($_->[2]) } @all), 270, "270 streams, round $round");
        delete $_->[0]{streams}{ $_->[1] } for @all;
    }
};

subtest 'clients of others' => sub {
    SKIP: {
        skip 'no h2load', 4 if !have('h2load');
        for my $path ('/x/100', '/x/50000') {
            my ($st, $out, $err) = run_program('h2load', '-n', 2000, '-c', 5, '-m', 50, "http://127.0.0.1:$port$path");
            like($out, qr/2000 total, .* 2000 done, 2000 succeeded, 0 failed, 0 errored/, "h2load $path") or diag("$out$err");
            my ($data) = $out =~ /\((\d+)\) data/;
            is($data, 2000 * (split '/', $path)[2], 'all bytes');
        }
    }
    my ($st, $out, $err) = run_program('curl', '-sS', '--http2-prior-knowledge', '-r', '100-199', '-w', '%{http_version} %{http_code}', "http://127.0.0.1:$port/c/300000", '-H', 'Host: localhost');
    is($out, substr(made('/c/300000'), 100, 100) . '2 206', 'curl, a range') or diag($err);
    ($st, $out, $err) = run_program('curl', '-sS', '--http2', '--cacert', $ca->{file}, '--resolve', "a.test:$tls:127.0.0.1", '-w', '%{http_version}', "https://a.test:$tls/a/70000");
    is($out, made('/a/70000') . '2', 'curl over TLS') or diag($err);
};
$s->stop;
done_testing;
