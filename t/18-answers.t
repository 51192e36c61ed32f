#!/usr/bin/perl
# Answers of rpd's own: error pages per status, their types and escapes, HEAD and HTTP/1.0, what `return` says.
use strict;
use warnings;
use JSON::PP;
use RPD::Test;

my ($port, $dead) = (free_port(), free_port());
my $dir = tempdir();
spew("$dir/gone.html", "<h1>%{status} %{reason}</h1><p>%{request_id}</p>\n");
spew("$dir/any.json", "{\"status\":%{status},\"reason\":\"%{reason}\",\"id\":\"%{request_id}\"}\n");
spew("$dir/five.txt", "sorry, %{status}\n");
my $s = rpd(config => <<"END", global => "workers = 1\n");
[defaults]
error_page = 404,410 $dir/gone.html
error_page = 5xx $dir/five.txt
[listen l]
address = 127.0.0.1:$port
[upstream dead]
server = 127.0.0.1:$dead
[host h]
names = h
upstream = dead
[route h/gone]
path = /gone
return = 410
[route h/text]
path = /text
return = 200 "plain words"
[route h/to]
path = /to/*
return = 301 https://%{host}%{path}?%{query}
[route h/empty]
path = /empty
return = 204
[route h/get]
path = /get
method = GET HEAD
return = 200 yes
[host api]
names = api
error_page = 4xx $dir/any.json
[route api/forbidden]
path = /forbidden
return = 403
END

sub ask {
    my ($host, $path, %opt) = @_;
    my $c = client($port);
    $c->send(($opt{method} || 'GET') . " $path HTTP/" . ($opt{version} || '1.1') . "\r\nHost: $host\r\n\r\n");
    my $r = $c->read_response(method => $opt{method});
    $r->{open} = !$opt{version} ? 1 : $c->closed ? 0 : 1;
    $c->close;
    return $r;
}

subtest 'error pages' => sub {
    my $r = ask('h', '/gone');
    is($r->{status}, 410, 'status');
    like($r->{fields}{'content-type'}[0], qr{^text/html}, 'type of the file');
    like($r->{body}, qr{^<h1>410 Gone</h1><p>[0-9a-f]{32}</p>$}, 'variables');
    is($r->{fields}{'x-request-id'}[0], $r->{body} =~ m{<p>(.*)</p>} ? $1 : '', 'the id is that of the answer') if $r->{fields}{'x-request-id'};
    $r = ask('h', '/');
    is($r->{status}, 502, 'a dead server') or diag($r->{line});
    is($r->{body}, "sorry, 502\n", 'class page');
    $r = ask('nobody', '/');
    is($r->{status}, 404, 'no such host');
    like($r->{body}, qr/^<h1>404/, 'has the defaults\' page');
    $r = ask('api', '/forbidden');
    like($r->{fields}{'content-type'}[0], qr{^application/json}, 'JSON');
    my $json = eval { decode_json($r->{body}) };
    is($json->{status}, 403, 'with the status') or diag($r->{body});
    $r = ask('api', '/nothing');
    is(eval { decode_json($r->{body})->{status} }, 404, 'a class covers 404: the list of the host replaces that of the defaults');
};

subtest 'HEAD and HTTP/1.0' => sub {
    my $get = ask('h', '/gone');
    my $head = ask('h', '/gone', method => 'HEAD');
    is($head->{status}, 410, 'HEAD');
    is($head->{fields}{'content-length'}[0], length $get->{body}, 'says how long GET would be');
    my $old = ask('h', '/gone', version => '1.0');
    is($old->{status}, 410, 'HTTP/1.0');
    is($old->{open}, 0, 'and closed');
};

subtest 'return' => sub {
    my $r = ask('h', '/text');
    is("$r->{status} $r->{body}", '200 plain words', 'text');
    like($r->{fields}{'content-type'}[0], qr{^text/plain}, 'its type');
    $r = ask('h', '/to/a%20b?x=1&y=%0d%0aSet-Cookie:z');
    is($r->{status}, 301, 'redirect');
    is($r->{fields}{location}[0], 'https://h/to/a%20b?x=1&y=%0d%0aSet-Cookie:z', 'with host, path and query as they came');
    $r = ask('h', '/empty');
    is($r->{status}, 204, 'a status without a body');
    is($r->{fields}{'content-length'}, undef, 'has no length');
    $r = ask('h', '/get', method => 'POST');
    is($r->{status} == 405 || $r->{status} == 502 ? 1 : 0, 1, 'another method is passed over or refused') or diag($r->{line});
};

subtest 'a request with a body that nobody reads' => sub {
    my $c = client($port);
    $c->send(request('POST', '/text', ['Host', 'h'], 'x' x 100_000) . request('GET', '/text', ['Host', 'h']));
    is($c->read_response->{body}, 'plain words', 'the answer');
    my $next = eval { $c->read_response };
    ok(!$next || $next->{body} eq 'plain words', 'the body is not taken for a request: the next is served, or the connection ends');
    $c->close;
};

subtest 'a page that cannot be read is a mistake of the configuration' => sub {
    spew("$dir/bad.conf", "[defaults]\nerror_page = 404 $dir/nowhere.html\n[listen l]\naddress = :1\n[host h]\nnames = *\n");
    my ($status, $out, $err) = run_program(RPD::Util::program('rpd'), '-t', '-c', "$dir/bad.conf");
    is($status, 1, 'exit 1');
    like("$out$err", qr/bad\.conf:2:\d+: error: .*nowhere\.html/, 'with its place');
};

$s->stop;
done_testing;
