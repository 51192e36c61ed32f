#!/usr/bin/perl
# What hosts and routes say over their cache, and routes that share one store with keys of different makings: none is served, or
# poisoned by, what another has.
use strict;
use warnings;
use RPD::Test;

my $port = free_port();
my $origin = origin();
$origin->serve_requests(sub {
    my ($r) = @_;
    our $n++;
    my $say = ($r->{fields}{'x-say'} || ['Cache-Control: max-age=60'])->[0];
    my $cookie = ($r->{fields}{cookie} || ['none'])->[0];
    my $body = "$n $r->{target} cookie=$cookie host=$r->{fields}{host}[0]";
    return "HTTP/1.1 200 OK\r\n$say\r\nTransfer-Encoding: chunked\r\n\r\n" . sprintf("%x\r\n%s\r\n0\r\n\r\n", 3000, 'x' x 3000) if $r->{target} =~ /chunked/;
    return response(200, [map { split /: /, $_, 2 } split /\s*~\s*/, $say], $r->{target} =~ /large/ ? 'y' x 3000 : $body);
});
my $s = rpd(config => <<"EOF1", global => "workers = 2\n");
[listen main]
address = 127.0.0.1:$port
[upstream origin]
server = @{[ $origin->address ]}
max_fails = 0
[cache main]
size = 16m
ignore_query = utm_*
purge_from = 127.0.0.0/8
[defaults]
cache = main
cache_pass_ttl = 1s
[host site]
names = *
upstream = origin
cache_ignore_query += fbclid
[route site/path]
path = /path/*
cache_key = %{host} %{path}
[route site/path-post]
path = /path/*
method = QUERY
[route site/literal]
path = /literal/*
cache_key = shop.example %{path}
[route site/header]
path = /header/*
cache_key = %{header.x-a} %{header.x-b}
[route site/other-key]
path = /path/x/*
cache_key = %{path} %{host}
[route site/cookies]
path = /vary/*
cache_ignore_cookies = track*
[route site/plain]
path = /vary/plain/*
cache_ignore_cookies = off
cache_key = one-for-both
[route site/ignoring]
path = /vary/ignoring/*
cache_ignore_cookies = track*
cache_key = one-for-both
[route site/short]
path = /short/*
cache_default_ttl = 200=1h
cache_status = off
[route site/twice]
path = /twice/*
cache_min_uses = 2
[route site/small]
path = /small/*
cache_max_object = 1k
[route site/strip]
path = /strip/*
cache_strip_set_cookie = on
[route site/deaf]
path = /deaf/*
cache_client_control = off
cache_targeted = off
[route site/encodings]
path = /encodings/*
cache_encodings = off
[host shop]
names = shop.example
upstream = origin
cache_key = %{host} %{path}
EOF1

my $client = client($port);
sub ask {
    my ($path, @fields) = @_;
    my $host = (map { $fields[$_] eq 'Host' ? $fields[ $_ + 1 ] : () } grep { !($_ % 2) } 0 .. $#fields)[0];
    my %f = @fields;
    delete $f{Host};
    $client->send("GET $path HTTP/1.1\r\nHost: " . ($host || 'localhost') . "\r\n" . join('', map { "$_: $f{$_}\r\n" } sort keys %f) . "\r\n");
    my $r = $client->read_response;
    $r->{was} = (join ', ', @{ $r->{fields}{'cache-status'} || [] }) =~ s/; ttl=-?\d+//r;
    return $r;
}
sub hit { my ($r, $what) = @_; is($r->{was}, 'rpd; hit', $what) or diag($r->{body}) }
sub miss { my ($r, $what) = @_; like($r->{was}, qr/^rpd; fwd=(?:uri|vary)-miss; stored/, $what) or diag($r->{body}) }

subtest 'keys' => sub {
    miss(ask('/path/1?a=1'), 'a key without the query');
    hit(ask('/path/1?b=2'), 'is one for all queries');
    miss(ask('/full/1?a=1'), 'elsewhere the query counts');
    miss(ask('/full/1?a=2'), 'really');
    hit(ask('/full/1?a=1&utm_x=1&fbclid=2'), 'but for what [cache] and the host ignore');
    unlike(ask('/full/2?utm_x=1')->{body}, qr/utm/, 'which servers do not see');
};

# Each pair makes the same text, and the second is somebody's who would like to be served, or to fill in, what is the first one's.
subtest 'templates do not meet' => sub {
    miss(ask('/p/1', Host => 'shop.example'), 'a key of host and path');
    miss(ask('/literal/1', Host => 'evil.example'), 'a literal that reads like the host');
    like(ask('/p/1', Host => 'shop.example')->{body}, qr{ /p/1 .*host=shop\.example}, 'the own answer is there');
    miss(ask('/header/1', 'X-A' => 'shop.example'), 'a key of fields that clients choose');
    miss(ask('/header/1', 'X-A' => 'localhost', 'X-B' => '/path/1'), 'that reads like host and path');
    like(ask('/path/1')->{body}, qr{ /path/1}, 'harms nobody');
    miss(ask('/path/x/1'), 'the same in another order');
};

subtest 'cookies that count in one place only' => sub {
    my @vary = ('X-Say' => 'Cache-Control: max-age=60 ~ Vary: Cookie');
    miss(ask('/vary/ignoring/1', @vary, Cookie => 'track=evil'), 'an ignored cookie, which the server sees');
    hit(ask('/vary/ignoring/1', @vary, Cookie => 'track=2'), 'does not count here');
    my $r = ask('/vary/plain/1', @vary);
    like($r->{body}, qr/cookie=none/, 'where it counts, nobody gets what it did');
    my $r2 = ask('/vary/plain/1', @vary, Cookie => 'track=evil');
    like($r2->{body}, qr{/vary/plain/1 cookie=track=evil}, 'but for who sent it');
};

subtest 'the rest of the policy' => sub {
    my $r = ask('/short/1', 'X-Say' => 'X-Nothing: 1');
    ok(!$r->{fields}{'cache-status'}, 'cache_status');
    is(ask('/short/1', 'X-Say' => 'X-Nothing: 1')->{body}, $r->{body}, 'cache_default_ttl');
    unlike(ask('/full/3', 'X-Say' => 'X-Nothing: 1')->{was}, qr/stored|hit/, 'which others do not have');
    unlike(ask('/twice/1')->{was}, qr/stored/, 'cache_min_uses');
    miss(ask('/twice/1'), 'the second time');
    hit(ask('/twice/1'), 'and kept');
    like(ask('/small/large')->{was}, qr/detail=too-large/, 'cache_max_object');
    is(ask('/small/chunked')->{body}, 'x' x 3000, 'of unknown length: served');
    unlike(ask('/small/chunked')->{was}, qr/hit/, 'and not kept');
    miss(ask('/small/1'), 'small ones are');
    miss(ask('/full/large'), 'elsewhere so are large ones');
    miss(ask('/strip/1', 'X-Say' => 'Cache-Control: max-age=60 ~ Set-Cookie: a=b'), 'cache_strip_set_cookie');
    miss(ask('/deaf/1', 'X-Say' => 'Cache-Control: max-age=60 ~ CDN-Cache-Control: no-store'), 'cache_targeted');
    hit(ask('/deaf/1', 'Cache-Control' => 'no-cache'), 'cache_client_control');
    my @vary = ('X-Say' => 'Cache-Control: max-age=60 ~ Vary: Accept-Encoding');
    miss(ask('/encodings/1', @vary, 'Accept-Encoding' => 'gzip, x'), 'cache_encodings');
    miss(ask('/encodings/1', @vary, 'Accept-Encoding' => 'gzip'), 'as clients spell it');
    miss(ask('/full/4', @vary, 'Accept-Encoding' => 'gzip, x'), 'elsewhere');
    hit(ask('/full/4', @vary, 'Accept-Encoding' => 'gzip'), 'by what they take');
};

# A URL names what is stored as its key has it.
subtest 'purges' => sub {
    my $purge = sub {
        my ($method, $path) = @_;
        $client->send(request($method, $path, [], $method eq 'POST' ? 'x' : undef));
        is($client->read_response->{status}, 200, "$method $path");
    };
    for (['PURGE', '/path/7'], ['PURGE', '/path/7?other=1'], ['POST', '/path/7?x'], ['rpctl', '/path/7']) {
        my ($how, $path) = @$_;
        ask('/path/7?a=1');
        hit(ask('/path/7?b=2'), 'a key without the query');
        $how eq 'rpctl' ? $s->ctl('cache', 'purge', "http://localhost$path") : $purge->($how, $path);
        miss(ask('/path/7?c=3'), 'taken out for all queries');
    }
    for (['PURGE', '/full/7?x=1'], ['PURGE', '/full/7?utm_b=2&x=1&fbclid=9'], ['POST', '/full/7?utm_c&x=1'], ['rpctl', '/full/7?x=1']) {
        my ($how, $path) = @$_;
        ask('/full/7?utm_a=1&x=1');
        ask('/full/7?x=2');
        hit(ask('/full/7?x=1'), 'a key without some parameters');
        $how eq 'rpctl' ? $s->ctl('cache', 'purge', "http://localhost$path") : $purge->($how, $path);
        miss(ask('/full/7?utm_z=1&x=1'), 'taken out whatever they are');
        hit(ask('/full/7?x=2'), 'and nothing else');
    }
};

subtest 'what holds, to an operator' => sub {
    my $said = $s->ctl('explain', 'GET', 'http://localhost/path/1?utm_x=1');
    like($said, qr{^cache +main \(.*:\d+\)$}m, 'the cache');
    like($said, qr{^  key +localhost /path/1$}m, 'the key');
    like($said, qr{^  cache_key = "%\{host\} %\{path\}" ; \S+:\d+$}m, 'where it is said');
    like($said, qr{^  cache_ignore_query = utm_\* fbclid ; \S+:\d+$}m, 'the host\'s word');
    like($s->ctl('explain', 'GET', 'http://localhost/small/1'), qr{^  cache_max_object = 1k ; \S+:\d+$}m, 'a limit');
    like($said, qr{^  cache_pass_ttl = 1s ; \S+:\d+$}m, 'that of [defaults]');
    like($s->ctl('explain', 'GET', 'http://localhost/full/1?b=1&utm_x=1'), qr{^  key +http localhost /full/1 \?b=1$}m, 'the usual key');
    like($s->ctl('config', '--origin'), qr{^cache_min_uses = 2 ; \S+:\d+$}m, 'the dump says where');
};

subtest 'a reload tells' => sub {
    my $text = slurp($s->conf) =~ s/cache_min_uses = 2/cache_min_uses = 3/r;
    spew($s->conf, $text);
    my ($status, $out) = $s->reload;
    is($status, 0, 'a reload');
    like($out, qr{route site/twice: cache_min_uses 2 -> 3}, 'says what changed');
};
$s->stop;

subtest 'bad keys are told of where they stand' => sub {
    my $dir = tempdir();
    spew("$dir/c", "[listen l]\naddress = 127.0.0.1:80\n[upstream u]\nserver = 127.0.0.1:1\n[cache c]\n[host h]\nnames = *\nupstream = u\ncache = c\n"
        . "[route h/r]\npath = /r\ncache_key = %{nope} x\n[route */s]\npath = /s\ncache_key = %{host}\n");
    my ($status, undef, $out) = run_program(program('rpd'), '-t', '-c', "$dir/c");
    isnt($status, 0, 'refused');
    like($out, qr{/c:12:1: error: key of \[cache c\]: no such variable.*%\{nope\} x}, 'an unknown variable');
    is(scalar(() = $out =~ /nope/g), 1 + ($out =~ /    cache_key = %\{nope\}/), 'once');
    like($out, qr{/c:15:1: warning: key of \[cache c\] lacks %\{path\}}, 'a route of all hosts');
};
done_testing;
