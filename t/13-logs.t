#!/usr/bin/perl
# Access logs: combined, JSON, own formats, conditions, sampling, reopening; the error log with its event ids.
use strict;
use warnings;
use JSON::PP;
use RPD::Test;

my $port = free_port();
my $o = origin()->serve_requests(sub {
    my ($r) = @_;
    return response($r->{target} =~ /^\/(\d{3})/ ? $1 : 200, ['Content-Type', 'text/plain'], 'body');
});
my $s = rpd(config => <<"END", global => "workers = 1\nlog_level = info\n");
[defaults]
access_log = all combined json some five sampled slow
[log combined]
file = <DIR>/combined.log
flush = 10ms
[log json]
file = <DIR>/json.log
format = json
flush = 10ms
[log all]
file = <DIR>/all.log
format = "%{client_ip} %{method} %{uri} %{status} %{reason} %{upstream} %{server} %{header.user-agent} [%{request_id}]"
flush = 10ms
[log some]
file = <DIR>/some.log
format = "%{uri}"
status = 404 5xx
flush = 10ms
[log five]
file = <DIR>/five.log
format = "%{uri}"
status = 5xx
flush = 10ms
[log sampled]
file = <DIR>/sampled.log
format = "%{uri}"
sample = 20%
flush = 10ms
[log slow]
file = <DIR>/slow.log
format = "%{uri}"
slower = 10s
flush = 10ms
[listen l]
address = 127.0.0.1:$port
[upstream app]
server = @{[ $o->address ]}
[host h]
names = *
upstream = app
[route h/quiet]
path = /quiet
access_log = off
END

http_get($port, $_, 'User-Agent', 'Test "1"', 'Referer', 'http://r/') for '/', '/404?q=1', '/quiet', '/503';

subtest 'combined' => sub {
    my @lines = $s->access_lines(3, 'combined.log');
    is(scalar @lines, 3, 'one record each, none where it is off');
    like($lines[0], qr{^127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "GET / HTTP/1\.1" 200 4 "http://r/" "Test (?:\\"|\\x22)1(?:\\"|\\x22)"$}, 'as everybody parses it');
    like($lines[1], qr{"GET /404\?q=1 HTTP/1\.1" 404 }, 'with the query');
};

subtest 'json' => sub {
    my @lines = $s->access_lines(3, 'json.log');
    my @records = map { my $r = eval { decode_json($_) }; ok($r, 'valid') or diag($_); $r } @lines;
    is($records[1]{status}, 404, 'status is a number');
    my $text = $lines[1];
    like($text, qr/"$_"/, "has $_") for qw(ts client method host uri status reason request_id upstream server);
    like($text, qr/"$_"/, "has $_") for qw(duration_ms queue_ms connect_ms first_byte_ms);
};

subtest 'own format and conditions' => sub {
    my @lines = $s->access_lines(3, 'all.log');
    like($lines[0], qr{^127\.0\.0\.1 GET / 200 - app \Q@{[ $o->address ]}\E Test .* \[\S{8,}\]$}, 'variables');
    is_deeply([$s->access_lines(2, 'some.log')], ['/404?q=1', '/503'], 'statuses and classes');
    is_deeply([$s->access_lines(1, 'five.log')], ['/503'], 'class');
    is(-s $s->dir . '/slow.log', 0, 'nothing was slow');
};

subtest 'hostile bytes' => sub {
    my $c = client($port);
    $c->send(request('GET', '/inject', ['User-Agent', "a\x80\xff\tb\\", 'Referer', '"} {"x":1']));
    $c->read_response;
    $c->send("GET /bad\x01\x1b[31m HTTP/1.1\r\nHost: x\r\n\r\n");
    $c->read_eof;
    $c->close;
    my @json = $s->access_lines(5, 'json.log');
    ok(eval { decode_json($_); 1 }, 'JSON stays JSON') or diag($_) for @json[3, 4];
    my @lines = $s->access_lines(5, 'combined.log');
    unlike(join("\n", @lines), qr/[\x00-\x08\x0b-\x1f\x7f-\xff]/, 'no control bytes in a log');
    like($lines[4], qr/ 400 /, 'a malformed request is logged too');
    like(($s->access_lines(5, 'all.log'))[4], qr/400 bad_target|400 bad_request_line/, 'with its reason');
};

subtest 'sampling' => sub {
    my $c = client($port);
    for (1 .. 500) {
        $c->send(request('GET', "/n$_"));
        $c->read_response;
    }
    $c->close;
    $s->access_lines(505, 'all.log');
    ok(wait_for(sub { my @l = split /\n/, slurp($s->dir . '/sampled.log'); @l > 50 }, quiet => 1), 'some are written');
    my @lines = split /\n/, slurp($s->dir . '/sampled.log');
    ok(@lines > 50 && @lines < 170, 'about a fifth of them: ' . @lines);
};

subtest 'reopen' => sub {
    my $file = $s->dir . '/combined.log';
    rename $file, "$file.1";
    rename $s->{error_log}, "$s->{error_log}.1";
    my ($status, $out, $err) = $s->rpctl('reopen');
    is($status, 0, 'rpctl reopen') or diag($out, $err);
    http_get($port, '/after');
    like(($s->access_lines(1, 'combined.log'))[0], qr{/after}, 'the new file gets the new record');
    unlike(slurp("$file.1"), qr{/after}, 'the old one does not');
    ok(-e $s->{error_log}, 'the error log too');
    rename $file, "$file.2";
    kill 'USR1', $s->pid;
    ok(wait_for(sub { -e $file }, quiet => 1), 'USR1 does the same');
    http_get($port, '/after2');
    like(($s->access_lines(1, 'combined.log'))[0], qr{/after2}, 'and is used');
};

subtest 'error log' => sub {
    my @lines = split /\n/, slurp("$s->{error_log}.1");
    ok(scalar @lines, 'has lines');
    my @odd = grep { !/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (?:alert|error|warn|notice|info|debug) +\d+ \[\S+\] [a-z0-9_]+: / } @lines;
    is(scalar @odd, 0, 'each of one form') or diag(join "\n", @odd[0 .. ($#odd < 3 ? $#odd : 3)]);
};

subtest 'log level' => sub {
    is(($s->rpctl('log', 'level', 'debug', '--for', '10s'))[0], 0, 'debug for a while');
    ok($s->wait_log(qr/ control: uid \d+ pid \d+: log level debug --for \S+$/), 'who did it is in the log, with all that was said');
    http_get($port, '/debugged');
    ok($s->wait_log(qr/ debug /), 'is heard');
    is(($s->rpctl('log', 'level', 'nonsense'))[0], 1, 'a level that is none');
};

subtest 'stdout' => sub {
    my $p = free_port();
    my $s2 = rpd(config => simple_config(
        listen => "127.0.0.1:$p", server => $o->address, top => "[log main]\nfile = stdout\nflush = 10ms"
    ), global => "workers = 1\n");
    http_get($p, '/to-stdout');
    ok(wait_for(sub { slurp($s2->dir . '/stdout') =~ /to-stdout/ }, quiet => 1), 'the log named main is the default, and stdout is a file');
    $s2->stop;
};

$s->stop;
done_testing;
