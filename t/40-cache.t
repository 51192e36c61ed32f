#!/usr/bin/perl
# The cache's policy through the running proxy: a table by the clauses of RFC 9111 and its relatives. The origin does what the request
# says: X-Origin holds the status and fields of its answer, X-Confirm what it answers when it is asked with conditions.
use strict;
use warnings;
use RPD::Test;

my $port = free_port();
my $origin = origin();
$origin->serve_requests(sub {
    my ($r) = @_;
    my %f = %{ $r->{fields} };
    my $conditional = $f{'if-none-match'} || $f{'if-modified-since'};
    my $script = $conditional && $f{'x-confirm'} ? $f{'x-confirm'}[0] : $f{'x-origin'} ? $f{'x-origin'}[0] : '200';
    my ($status, @fields) = split /\s*~\s*/, $script;
    return undef if $status eq 'die';
    my ($body) = map { /^Body: (.*)/s ? $1 : () } @fields;
    @fields = map { my ($n, $v) = split /: ?/, $_, 2; ($n, $v) } grep { !/^Body:/ } @fields;
    our $n++;
    $body //= "$$.$n " . join '; ', map { "$_=" . join ',', @{ $f{$_} } } grep { !/^x-/ } sort keys %f;
    $body = '' if $status == 304;
    my $bytes = response($status, [@fields], $body);
    $bytes =~ s/\r\n\r\n.*/\r\n\r\n/s if $r->{method} eq 'HEAD';
    return $bytes;
});
my $address = $origin->address;
my $s = rpd(config => <<"EOF1", global => "workers = 2\n");
[defaults]
access_log = main
upstream = origin
[log main]
file = <DIR>/access.log
flush = 10ms
format = "%{method} %{uri} %{status} %{cache} %{cache_age}"
[listen main]
address = 127.0.0.1:$port
[upstream origin]
server = $address
max_fails = 0
[cache main]
size = 16m
max_object = 1m
default_ttl = 404=1m
purge_token = secret
[cache strict]
size = 4m
client_control = off
strip_set_cookie = on
ignore_query = utm_*
sort_query = on
stale_while_revalidate = 1h
stale_if_error = 1h
min_uses = 2
cache_status = off
[host all]
names = *
cache = main
cache_bypass = cookie.session header.X-Preview query.nocache
[route all/forced]
path = /forced/*
ttl = 1h
[route all/strict]
path = /strict/*
cache = strict
[route all/off]
path = /off/*
cache = off
EOF1

# One request on a connection of its own: the answer, `was` being what Cache-Status says without what changes.
sub ask {
    my ($method, $path, @fields) = @_;
    my $c = client($port);
    $c->send(request($method, $path, [@fields], $method eq 'POST' ? 'x' : undef));
    my $r = $c->read_response(method => $method);
    my $status = join ', ', @{ $r->{fields}{'cache-status'} || [] };
    $status =~ s/; ttl=-?\d+//;
    $r->{was} = $status =~ s/^rpd;? ?//r;
    return $r;
}
my $serial = 0;

# Two requests for one URL; what the second one is. say: of the origin; first, second: request fields.
sub twice {
    my ($say, %o) = @_;
    my $path = $o{path} // '/' . ++$serial;
    my $one = ask($o{method1} // 'GET', $path, 'X-Origin', $say, @{ $o{first} || [] });
    my $two = ask($o{method2} // 'GET', $path, 'X-Origin', $o{later} // $say, @{ $o{second} || [] });
    return ($one, $two, $path);
}

# [what, origin, second answer is (hit, or what Cache-Status says), options]
my @table = (
    ['3: fresh by max-age', '200 ~ Cache-Control: max-age=60', 'hit'],
    ['3: no-store', '200 ~ Cache-Control: no-store, max-age=60', 'fwd=uri-miss; detail=hit-for-miss'],
    ['3: private', '200 ~ Cache-Control: private, max-age=60', 'fwd=uri-miss; detail=hit-for-miss'],
    ['3: nothing said', '200', 'fwd=uri-miss; detail=hit-for-miss'],
    ['3: Expires', '200 ~ Expires: Fri, 31 Dec 2100 23:59:59 GMT', 'hit'],
    ['3: Expires in the past', '200 ~ Expires: Thu, 01 Jan 1970 00:00:00 GMT', 'fwd=uri-miss; detail=hit-for-miss'],
    ['3: Expires: 0', '200 ~ Expires: 0', 'fwd=uri-miss; detail=hit-for-miss'],
    ['3: max-age before Expires', '200 ~ Cache-Control: max-age=60 ~ Expires: Thu, 01 Jan 1970 00:00:00 GMT', 'hit'],
    ['3: s-maxage before max-age', '200 ~ Cache-Control: max-age=0, s-maxage=60', 'hit'],
    ['3: a status nobody knows needs a word', '299', 'fwd=uri-miss; detail=hit-for-miss'],
    ['3: and is stored with one', '299 ~ Cache-Control: max-age=60', 'hit'],
    ['3: 206 is not stored', '206 ~ Cache-Control: max-age=60 ~ Content-Range: bytes 0-2/9 ~ Body: abc', 'fwd=uri-miss; detail=hit-for-miss'],
    ['3: redirect', '301 ~ Cache-Control: max-age=60 ~ Location: /x', 'hit'],
    ['3: 302 with a time', '302 ~ Cache-Control: max-age=60 ~ Location: /x', 'hit'],
    ['3: 302 without', '302 ~ Location: /x', 'fwd=uri-miss; detail=hit-for-miss'],
    ['3: 404 by default_ttl', '404', 'hit'],
    ['3: 500 is not', '500', 'fwd=uri-miss; detail=hit-for-miss'],
    ['3: 500 with a time is', '500 ~ Cache-Control: max-age=60', 'hit'],
    ['3: must-understand', '200 ~ Cache-Control: must-understand, no-store, max-age=60', 'hit'],
    ['3: must-understand, unknown', '299 ~ Cache-Control: must-understand, no-store, max-age=60', 'fwd=uri-miss; detail=hit-for-miss'],
    ['3.5: Authorization', '200 ~ Cache-Control: max-age=60', 'fwd=uri-miss; stored', { first => [Authorization => 'x'] }],
    ['3.5: Authorization, public', '200 ~ Cache-Control: public, max-age=60', 'hit', { first => [Authorization => 'x'], second => [Authorization => 'y'] }],
    ['3.5: Authorization, s-maxage', '200 ~ Cache-Control: s-maxage=60', 'hit', { first => [Authorization => 'x'] }],
    ['3.5: stored, asked with Authorization', '200 ~ Cache-Control: max-age=60', 'fwd=request', { second => [Authorization => 'x'] }],
    ['Set-Cookie', '200 ~ Cache-Control: max-age=60 ~ Set-Cookie: a=b', 'fwd=uri-miss; detail=hit-for-miss'],
    ['Set-Cookie, public', '200 ~ Cache-Control: public, max-age=60 ~ Set-Cookie: a=b', 'hit'],
    ['4.1: Vary, same', '200 ~ Cache-Control: max-age=60 ~ Vary: Foo', 'hit', { first => [Foo => 1], second => [Foo => 1] }],
    ['4.1: Vary, other', '200 ~ Cache-Control: max-age=60 ~ Vary: Foo', 'fwd=vary-miss; stored', { first => [Foo => 1], second => [Foo => 2] }],
    ['4.1: Vary, absent', '200 ~ Cache-Control: max-age=60 ~ Vary: Foo', 'fwd=vary-miss; stored', { second => [Foo => 2] }],
    ['4.1: Vary: *', '200 ~ Cache-Control: max-age=60 ~ Vary: *', 'fwd=uri-miss; detail=hit-for-miss'],
    ['4.1: Accept-Encoding, one class', '200 ~ Cache-Control: max-age=60 ~ Vary: Accept-Encoding', 'hit', { first => ['Accept-Encoding' => 'gzip, deflate'], second => ['Accept-Encoding' => 'gzip'] }],
    ['4.1: Accept-Encoding, another', '200 ~ Cache-Control: max-age=60 ~ Vary: Accept-Encoding', 'fwd=vary-miss; stored', { first => ['Accept-Encoding' => 'gzip'], second => ['Accept-Encoding' => 'br'] }],
    ['4.2.2: heuristic', '200 ~ Last-Modified: Thu, 01 Jan 2015 00:00:00 GMT', 'hit'],
    ['4.2.3: Age counts', '200 ~ Cache-Control: max-age=60 ~ Age: 100', 'fwd=uri-miss; detail=hit-for-miss'],
    ['5.2.1.1: max-age of the request', '200 ~ Cache-Control: max-age=600 ~ Age: 100', 'fwd=request; stored', { second => ['Cache-Control' => 'max-age=50'] }],
    ['5.2.1.1: met', '200 ~ Cache-Control: max-age=600 ~ Age: 100', 'hit', { second => ['Cache-Control' => 'max-age=500'] }],
    ['5.2.1.2: max-stale', '200 ~ Cache-Control: max-age=60 ~ Age: 100 ~ ETag: "a"', 'hit', { second => ['Cache-Control' => 'max-stale=100'] }],
    ['5.2.1.3: min-fresh', '200 ~ Cache-Control: max-age=60', 'fwd=request; stored', { second => ['Cache-Control' => 'min-fresh=100'] }],
    ['5.2.1.4: no-cache', '200 ~ Cache-Control: max-age=60', 'fwd=request; stored', { second => ['Cache-Control' => 'no-cache'] }],
    ['5.4: Pragma', '200 ~ Cache-Control: max-age=60', 'fwd=request; stored', { second => [Pragma => 'no-cache'] }],
    ['5.2.1.5: no-store is served', '200 ~ Cache-Control: max-age=60', 'hit', { second => ['Cache-Control' => 'no-store'] }],
    ['5.2.1.5: no-store is not stored', '200 ~ Cache-Control: max-age=60', 'fwd=uri-miss; stored', { first => ['Cache-Control' => 'no-store'] }],
    ['5.2.2.4: no-cache', '200 ~ Cache-Control: no-cache ~ ETag: "a"', 'fwd=stale; stored'],
    ['RFC 8246: immutable', '200 ~ Cache-Control: max-age=600, immutable ~ Age: 10', 'hit', { second => ['Cache-Control' => 'max-age=0'] }],
    ['RFC 9213: CDN-Cache-Control', '200 ~ Cache-Control: no-store ~ CDN-Cache-Control: max-age=60', 'hit'],
    ['RFC 9213: more specific', '200 ~ CDN-Cache-Control: no-store ~ RPD-Cache-Control: max-age=60', 'hit'],
    ['ttl of the route', '200', 'hit', { path => '/forced/1' }],
    ['ttl does not lift no-store', '200 ~ Cache-Control: no-store', 'fwd=uri-miss; detail=hit-for-miss', { path => '/forced/2' }],
    ['bypass by cookie', '200 ~ Cache-Control: max-age=60', 'fwd=bypass', { second => [Cookie => 'a=1; session=2'] }],
    ['bypass by header', '200 ~ Cache-Control: max-age=60', 'fwd=bypass', { second => ['X-Preview' => 1] }],
    ['bypass by query', '200 ~ Cache-Control: max-age=60', 'fwd=bypass', { path => '/q?a=1&nocache' }],
    ['If-Match is for the server', '200 ~ Cache-Control: max-age=60 ~ ETag: "a"', 'fwd=request', { second => ['If-Match' => '"a"'] }],
    ['POST goes through', '200 ~ Cache-Control: max-age=60', 'fwd=method', { method2 => 'POST' }],
    ['spelling of the URL', '200 ~ Cache-Control: max-age=60', 'hit', { path => '/%7euser' }],
    ['a route without', '200 ~ Cache-Control: max-age=60', '', { path => '/off/1' }],
);
for my $row (@table) {
    my ($name, $say, $want, $o) = @$row;
    my ($one, $two) = twice($say, %{ $o || {} });
    is($two->{was}, $want, $name);
    if ($want eq 'hit') {
        is($two->{body}, $one->{body}, "$name: the same bytes");
        is($two->{status}, $one->{status}, "$name: the same status");
    }
}

subtest 'heads' => sub {
    my ($one, $two, $path) = twice('200 ~ Cache-Control: max-age=60 ~ Surrogate-Key: a b ~ Cache-Tag: c ~ X-Foo: bar ~ Age: 7 ~ Server: them');
    like($one->{was}, qr/^fwd=uri-miss; stored/, 'stored');
    is($one->{fields}{age}[0], 7, 'the age it came with');
    ok($two->{fields}{age}[0] >= 7, 'and grows');
    for ($one, $two) {
        ok(!$_->{fields}{'surrogate-key'} && !$_->{fields}{'cache-tag'}, 'tags are not for clients');
        is($_->{fields}{'x-foo'}[0], 'bar', 'other fields are');
        is(scalar @{ $_->{fields}{date} }, 1, 'one Date');
        like($_->{fields}{via}[0], qr/rpd/, 'Via');
        is($_->{fields}{server}[0], 'them', 'Server');
    }
    isnt($one->{fields}{'x-request-id'}[0], $two->{fields}{'x-request-id'}[0], 'an id each');
    my $h = ask('HEAD', $path);
    is($h->{was}, 'hit', 'HEAD from the stored GET');
    is($h->{fields}{'content-length'}[0], length $one->{body}, 'with its length');
    my $miss = ask('HEAD', '/head', 'X-Origin', '200 ~ Cache-Control: max-age=60');
    is($miss->{was}, 'fwd=uri-miss', 'HEAD alone stores nothing');
    unlike(ask('GET', '/head', 'X-Origin', '200')->{was}, qr/hit/, 'really');
};

subtest 'validation' => sub {
    my ($one, $two, $path) = twice('200 ~ Cache-Control: max-age=0 ~ ETag: "v1" ~ X-Old: 1', second => ['X-Confirm' => '304 ~ Cache-Control: max-age=60 ~ ETag: "v1" ~ X-New: 2']);
    is($two->{was}, 'fwd=stale; fwd-status=304', 'confirmed');
    is($two->{body}, $one->{body}, 'the stored body');
    is($two->{fields}{'x-new'}[0], 2, 'with new fields');
    is($two->{fields}{'x-old'}[0], 1, 'and those that stay');
    is(ask('GET', $path)->{was}, 'hit', 'and fresh again');
    ($one, $two, $path) = twice('200 ~ Cache-Control: max-age=0 ~ ETag: "v1"', second => ['X-Confirm' => '200 ~ Cache-Control: max-age=60 ~ ETag: "v2" ~ Body: new']);
    is($two->{body}, 'new', 'another answer replaces it');
    is(ask('GET', $path)->{body}, 'new', 'for all');
    ($one, $two, $path) = twice('200 ~ Cache-Control: max-age=0 ~ Last-Modified: Thu, 01 Jan 2015 00:00:00 GMT', second => ['X-Confirm' => '304 ~ Cache-Control: max-age=60']);
    is($two->{was}, 'fwd=stale; fwd-status=304', 'by date');
    ($one, $two, $path) = twice('200 ~ Cache-Control: max-age=0 ~ ETag: "v1"', later => '200 ~ Cache-Control: max-age=60 ~ Body: whole', second => ['X-Confirm' => '304 ~ ETag: "other"']);
    is($two->{body}, 'whole', 'a 304 for something else: asked anew');
};

subtest 'conditions of clients' => sub {
    my (undef, undef, $path) = twice('200 ~ Cache-Control: max-age=60 ~ ETag: "v1" ~ Last-Modified: Thu, 01 Jan 2015 00:00:00 GMT ~ X-Foo: 1');
    my $r = ask('GET', $path, 'If-None-Match', '"x", W/"v1"');
    is($r->{status}, 304, 'If-None-Match');
    is($r->{fields}{etag}[0], '"v1"', 'with its tag');
    is($r->{was}, 'hit', 'from the cache');
    is(ask('GET', $path, 'If-None-Match', '"v2"')->{status}, 200, 'another tag');
    is(ask('GET', $path, 'If-Modified-Since', 'Thu, 01 Jan 2015 00:00:00 GMT')->{status}, 304, 'If-Modified-Since');
    is(ask('GET', $path, 'If-Modified-Since', 'Wed, 31 Dec 2014 00:00:00 GMT')->{status}, 200, 'changed since');
    $r = ask('GET', '/cond-miss', 'X-Origin', '200 ~ Cache-Control: max-age=60 ~ ETag: "v1"', 'If-None-Match', '"v1"');
    is($r->{status}, 304, 'on a miss: the whole is fetched, the client gets 304');
    wait_for(sub { ask('GET', '/cond-miss')->{was} eq 'hit' });
    pass('and the store has it');
};

subtest 'ranges' => sub {
    my $path = '/range';
    my $say = '200 ~ Cache-Control: max-age=60 ~ ETag: "v1" ~ Content-Type: text/plain ~ Body: 0123456789';
    my $r = ask('GET', $path, 'X-Origin', $say, Range => 'bytes=2-4');
    is($r->{status}, 206, 'on a miss');
    is($r->{body}, '234', 'the part');
    is($r->{fields}{'content-range'}[0], 'bytes 2-4/10', 'of the whole');
    wait_for(sub { ask('GET', $path, 'X-Origin', $say)->{was} eq 'hit' });
    my %single = ('bytes=0-0' => '0', 'bytes=-3' => '789', 'bytes=7-' => '789', 'bytes=5-100' => '56789');
    for my $range (sort keys %single) {
        my $r = ask('GET', $path, Range => $range);
        is("$r->{status} $r->{body}", "206 $single{$range}", $range);
    }
    $r = ask('GET', $path, Range => 'bytes=20-30');
    is($r->{status}, 416, 'none of it');
    is($r->{fields}{'content-range'}[0], 'bytes */10', 'says the size');
    my $long = join '', map { sprintf '%04d', $_ } 0 .. 999;
    twice("200 ~ Cache-Control: max-age=60 ~ Content-Type: text/plain ~ Body: $long", path => '/range-long');
    $r = ask('GET', '/range-long', Range => 'bytes=0-3, 3996-3999');
    is($r->{status}, 206, 'two parts');
    like($r->{fields}{'content-type'}[0], qr{^multipart/byteranges; boundary=(\S+)$}, 'multipart');
    my ($b) = $r->{fields}{'content-type'}[0] =~ /boundary=(\S+)/;
    my @parts = $r->{body} =~ /--\Q$b\E\r\nContent-Type: text\/plain\r\nContent-Range: (bytes \S+)\r\n\r\n(....)/gs;
    is("@parts", 'bytes 0-3/4000 0000 bytes 3996-3999/4000 0999', 'both of them');
    like($r->{body}, qr/--\Q$b\E--\r\n$/, 'and an end');
    is(length $r->{body}, $r->{fields}{'content-length'}[0], 'as long as said');
    is(ask('GET', $path, Range => 'bytes=0-1', 'If-Range' => '"v1"')->{status}, 206, 'If-Range');
    is(ask('GET', $path, Range => 'bytes=0-1', 'If-Range' => '"v2"')->{status}, 200, 'If-Range, another');
    is(ask('GET', $path, Range => 'lines=0-1')->{status}, 200, 'another unit');
};

subtest 'only-if-cached' => sub {
    is(ask('GET', '/oic', 'Cache-Control' => 'only-if-cached')->{status}, 504, 'nothing there');
    twice('200 ~ Cache-Control: max-age=60', path => '/oic');
    is(ask('GET', '/oic', 'Cache-Control' => 'only-if-cached')->{status}, 200, 'there');
};

subtest 'staleness (RFC 5861)' => sub {
    my $say = '200 ~ Cache-Control: max-age=1, stale-while-revalidate=600 ~ Age: 5 ~ ETag: "a" ~ Body: old';
    my ($one, $two, $path) = twice($say, later => '200 ~ Cache-Control: max-age=60 ~ Body: new', second => ['X-Confirm' => '200 ~ Cache-Control: max-age=60 ~ Body: new']);
    is($two->{body}, 'old', 'stale while it is fetched');
    ok($two->{was} eq 'hit', 'a hit');
    wait_for(sub { my $r = ask('GET', $path); $r->{body} eq 'new' && $r->{was} eq 'hit' });
    pass('and fetched in the background');
    for my $fail ('503', 'die') {
        ($one, $two) = twice('200 ~ Cache-Control: max-age=1, stale-if-error=600 ~ Age: 5 ~ ETag: "a" ~ Body: old', second => ['X-Confirm' => $fail]);
        is("$two->{status} $two->{body}", '200 old', "stale-if-error: $fail");
        ($one, $two) = twice('200 ~ Cache-Control: max-age=1, must-revalidate, stale-if-error=600 ~ Age: 5 ~ ETag: "a" ~ Body: old', second => ['X-Confirm' => $fail]);
        ok($two->{status} >= 502, "must-revalidate: $fail");
    }
};

subtest 'invalidation (4.4)' => sub {
    my (undef, $two, $path) = twice('200 ~ Cache-Control: max-age=60', path => '/inv/a');
    is($two->{was}, 'hit', 'there');
    twice('200 ~ Cache-Control: max-age=60', path => '/inv/b');
    ask('POST', '/inv/a', 'X-Origin', '500');
    is(ask('GET', '/inv/a')->{was}, 'hit', 'a failed POST changes nothing');
    ask('POST', '/inv/a', 'X-Origin', '201 ~ Location: b');
    unlike(ask('GET', '/inv/a', 'X-Origin', '200 ~ Cache-Control: max-age=60')->{was}, qr/hit/, 'the target');
    unlike(ask('GET', '/inv/b', 'X-Origin', '200 ~ Cache-Control: max-age=60')->{was}, qr/hit/, 'and Location');
    is(ask('PURGE', '/inv/a')->{status}, 403, 'PURGE without a token');
    is(ask('GET', '/inv/a')->{was}, 'hit', 'still there');
    is(ask('PURGE', '/inv/a', Authorization => 'Bearer secret')->{status}, 200, 'with it');
    unlike(ask('GET', '/inv/a', 'X-Origin', '200')->{was}, qr/^hit/, 'gone');
};

subtest 'another section' => sub {
    my $say = '200 ~ Cache-Control: max-age=60 ~ Set-Cookie: a=b';
    my @body = map { my $r = ask('GET', '/strict/a?b=2&a=1' . ($_ > 1 ? "&utm_x=$_" : ''), 'X-Origin', $say, 'Cache-Control' => 'no-cache'); $r->{body} } 1 .. 3;
    isnt($body[0], $body[1], 'min_uses: the first is not stored');
    is($body[1], $body[2], 'client_control = off; ignored parameters, stripped cookies');
    my $r = ask('GET', '/strict/a?a=1&b=2');
    is($r->{body}, $body[2], 'sort_query');
    ok(!$r->{fields}{'set-cookie'}, 'without the cookie');
    ok(!$r->{fields}{'cache-status'}, 'cache_status = off');
};

subtest 'the log and the numbers' => sub {
    ask('GET', '/log', 'X-Origin', '200 ~ Cache-Control: max-age=60');
    ask('GET', '/log');
    my $log = $s->dir . '/access.log';
    # Two workers may have written them, each in its own time.
    wait_for(sub { my $t = slurp($log); $t =~ m{^GET /log 200 hit}m && $t =~ m{^GET /log 200 miss}m }, quiet => 1);
    like(slurp($log), qr{^GET /log 200 miss \d+$}m, '%{cache}');
    cmp_ok($s->metric('rpd_route_cache_total'), '>', 100, 'rpd_route_cache_total');
    cmp_ok($s->metric('rpd_route_cache_bytes_total'), '>', 1000, 'rpd_route_cache_bytes_total');
    ok(wait_for(sub { slurp($log) =~ m{^GET /off/1 200 - -$}m }, quiet => 1), 'nothing where there is none');
};

$s->stop;
done_testing();
