#!/usr/bin/perl
# The configuration as a sysadmin meets it: diagnostics, the dump, quick start, the example with three sites, many hosts and routes.
use strict;
use warnings;
use RPD::Test;
use RPD::Cert;

my $rpd = RPD::Util::program('rpd');
my $rpctl = RPD::Util::program('rpctl');
my $dir = tempdir();
my $file = "$dir/rpd.conf";
sub check { spew($file, $_[0]); return run_program($rpd, '-t', '-c', $file) }
my $tail = "[upstream a]\nserver = 127.0.0.1:1\n[listen l]\naddress = 127.0.0.1:8080\n[host h]\nnames = *\nupstream = a\n";

subtest 'a file that is right' => sub {
    my ($status, $out, $err) = check($tail);
    is($status, 0, 'exit 0') or diag($out, $err);
    like("$out$err", qr/\bok\b/i, 'says ok');
    like("$out$err", qr/memory/i, 'prints the memory bound');
    ($status, $out) = run_program($rpctl, 'check', $file);
    is($status, 0, 'rpctl check needs no running rpd') or diag($out);
};

# text, line, column, what the message must say
my @bad = (
    ['unknown key', "[global]\nworkerz = 2\n$tail", 2, 1, qr/unknown key "workerz".*did you mean "workers"/],
    ['unknown section', "[globl]\nworkers = 2\n$tail", 1, undef, qr/unknown section.*did you mean.*global/],
    ['unknown key of a later version', "[defaults]\nwaf = on\n$tail", 2, 1, qr/unknown key "waf"/],
    ['unknown compression', "[defaults]\ncompress = standart\n$tail", 2, 12, qr/no \[compress standart\]; did you mean "standard"/],
    ['unknown coding', "[compress standard]\nalgorithms = br:4 lzma\n$tail", 2, 19, qr/"lzma" is not br, gzip or zstd/],
    ['a level too high', "[compress standard]\nalgorithms = gzip:10\n$tail", 2, 14, qr/level from 1 to 9/],
    ['a coding twice', "[compress standard]\nalgorithms = gzip br gzip:1\n$tail", 2, 22, qr/named twice/],
    ['no media type', "[compress standard]\ntypes = text\n$tail", 2, 9, qr/media type/],
    ['less is more', "[compress standard]\ncpu_low = 90%\ncpu_off = 80%\n$tail", 2, undef, qr/cpu_low .* above/],
    ['bad number', "[global]\nworkers = many\n$tail", 2, 11, qr/many/],
    ['bad unit', "[defaults]\nconnect_timeout = 3x\n$tail", 2, 19, qr/3x/],
    ['out of range', "[global]\nworkers = 9999\n$tail", 2, 11, qr/\b80\b/],
    ['bad address', "[listen x]\naddress = 300.1.1.1:80\n$tail", 2, 11, qr/300\.1\.1\.1/],
    ['scalar twice', "[global]\nworkers = 2\nworkers = 3\n$tail", 3, 1, qr/line 2|:2\b/],
    ['section twice', "$tail\[upstream a]\nserver = 127.0.0.1:2\n", 8, undef, qr/a\b/],
    ['unknown upstream', "[upstream app]\nserver = 127.0.0.1:1\n[listen l]\naddress = :81\n[host h]\nnames = *\nupstream = ap\n", 7, 12, qr/upstream ap\].*did you mean "app"/],
    ['unknown listener', "$tail\[host x]\nnames = x\nlisten = nope\nupstream = a\n", 10, 10, qr/nope/],
    ['route of no host', "$tail\[route nohost/x]\npath = /x\n", 8, undef, qr/nohost/],
    ['same name twice', "$tail\[host x]\nnames = *\nupstream = a\n", 9, undef, qr/\*/],
    ['no server', "[upstream x]\nbalance = least_conn\n$tail", 1, undef, qr/server/],
    ['bad regex', "$tail\[route h/x]\npath = ~(\n", 9, undef, qr/\(/],
    ['no equals sign', "[global]\nworkers 2\n$tail", 2, undef, qr/./],
    ['line outside', "foo = bar\n$tail", 1, undef, qr/foo/],
    ['bad return', "$tail\[route h/x]\npath = /x\nreturn = 99\n", 10, undef, qr/99/],
    ['bad format', "[log l]\nfile = $dir/x.log\nformat = \"%{nope}\"\n$tail", 3, undef, qr/nope/],
);
for my $row (@bad) {
    my ($name, $text, $line, $col, $like) = @$row;
    my ($status, $out, $err) = check($text);
    is($status, 1, "$name: exit 1");
    my $where = defined $col ? "$line:$col" : "$line:\\d+";
    like("$out$err", qr/^\Q$file\E:$where: error: /m, "$name: file, line and column") or diag($out, $err);
    like("$out$err", $like, "$name: says what");
    like("$out$err", qr/^\s*\^/m, "$name: a caret") if defined $col;
}

subtest 'all problems at once' => sub {
    my ($status, $out, $err) = check("[global]\nworkerz = 2\nlog_level = loud\n[listen x]\naddress = nonsense\n[upstream y]\n$tail");
    my @errors = "$out$err" =~ /: error: /g;
    cmp_ok(scalar @errors, '>=', 4, 'four problems in one run') or diag($out, $err);
    my @lines = "$out$err" =~ /^\Q$file\E:(\d+):/mg;
    is_deeply(\@lines, [sort { $a <=> $b } @lines], 'in the order of the file');
};

subtest 'files that are not there' => sub {
    my ($status, $out, $err) = run_program($rpd, '-t', '-c', "$dir/nowhere.conf");
    is($status, 1, 'exit 1');
    like("$out$err", qr/nowhere\.conf/, 'names it');
    ($status, $out, $err) = check("[global]\ninclude = $dir/none/x.conf\n$tail");
    is($status, 1, 'an include that is missing');
    like("$out$err", qr/\Q$file\E:2:/, 'where it is wanted');
};

subtest 'include, environment, continuation, +=' => sub {
    mkdir "$dir/sites";
    spew("$dir/sites/a.conf", "[host a]\nnames = a.example\nupstream = \${RPD_TEST_UP}\n");
    spew("$dir/sites/b.conf", "[host b]\nnames = b.example\n   c.example\nupstream = a\n");
    local $ENV{RPD_TEST_UP} = 'a';
    my ($status, $out, $err) = check("[global]\ninclude = sites/*.conf\ntrusted_proxies = 10.0.0.0/8\ntrusted_proxies += 192.168.0.0/16\n$tail");
    is($status, 0, 'loads') or diag($out, $err);
    ($status, $out) = run_program($rpd, '-T', '-c', $file);
    is($status, 0, '-T');
    like($out, qr/^\[host a\]/m, 'first included');
    like($out, qr/b\.example.*c\.example|c\.example/s, 'continued line');
    like($out, qr{10\.0\.0\.0/8.*192\.168\.0\.0/16}s, '+= appends');
    spew("$dir/dump.conf", $out);
    my ($again, $out2, $err2) = run_program($rpd, '-T', '-c', "$dir/dump.conf");
    is($again, 0, 'the dump loads') or diag($err2);
    is($out2, $out, 'and dumps the same');
    spew("$dir/sites/c.conf", "[global]\ninclude = sites/c.conf\n");
    ($status, $out, $err) = run_program($rpd, '-t', '-c', $file);
    is($status, 1, 'an include cycle is an error') or diag($out);
};

subtest 'the example with three sites, cut to the keys that exist' => sub {
    my $text = slurp("$ENV{RPD_SRCDIR}/t/etc/three-sites.conf");
    my ($p80, $p443, $p8443) = map { free_port() } 1 .. 3;
    for my $p ([80, $p80], [443, $p443]) {
        s/0\.0\.0\.0:$p->[0]\b/127.0.0.1:$p->[1]/, s/\[::\]:$p->[0]\b/[::1]:$p->[1]/ for $text;
    }
    s/10\.0\.0\.5:8443/127.0.0.1:$p8443/ for $text;
    # Certificates of the names, where the example has its own.
    my $ca = ca('three sites');
    my $ssl = tempdir();
    cert_files(cert($ca, 'shop.example.com', 'www.shop.example.com', 'api.example.com', { key => $_->[0] }), "$ssl/$_->[1].pem", "$ssl/$_->[1].key")
        for ['ec', 'ecdsa'], ['rsa', 'rsa'];
    mkdir "$ssl/customers";
    cert_files(cert($ca, '*.customers.example.com'), "$ssl/customers/any.pem");
    s{/etc/ssl/corp/}{$ssl/}g, s{/etc/ssl/customers}{$ssl/customers} for $text;
    # Sites and routes are asked without TLS here, which has tests of its own.
    s/^https_redirect = .*/https_redirect = off/m, s/^(\[listen internal\]\n.*\n)tls = on\n/$1/m, s/^protocol = h2c\n//m for $text;
    my %o = map { my $n = $_; $n => origin()->serve_requests(sub {
        my ($r) = @_; response(200, [], "$n $r->{target} " . ($r->{fields}{host}[0] || ''))
    }) } qw(shop1 api1 legacy);
    s/10\.1\.0\.\d+:8080|shop-v2\.internal:8080/$o{shop1}->address/ge, s/10\.2\.0\.\d+:9000/$o{api1}->address/ge,
        s{https://legacy\.example\.net .*}{$o{legacy}->address}ge, s{/var/log/rpd}{<DIR>}g, s/^user = .*\n//m, s/^include = .*\n//m, s/^(listen = )https internal/$1http internal/m for $text;
    # Three servers of one address stand for three machines: once is enough here.
    my %seen;
    $text = join "\n", grep { %seen = () if /^\[/; !/^server = (\S+)/ || !$seen{$1}++ } split /\n/, $text;
    my ($global) = $text =~ /\[global\]\n(.*?)(?=^\[)/ms;
    $text =~ s/\[global\]\n.*?(?=^\[)//ms;
    my $s = rpd(config => $text, global => $global);
    my $ask = sub {
        my ($host, $path, $to, $method) = @_;
        my $c = client($to || $p80);
        $c->send(request($method || 'GET', $path, ['Host', $host]));
        my $r = $c->read_response;
        $c->close;
        return "$r->{status} $r->{body}";
    };
    like($ask->('shop.example.com', '/x'), qr/^200 shop1 \/x/, 'shop');
    like($ask->('WWW.Shop.Example.COM', '/static/a.css'), qr/^200 shop1 \/static/, 'host names in any case');
    like($ask->('api.example.com', '/v1/things'), qr/^200 api1/, 'api');
    like($ask->('shop.example.com', '/x', $p8443), qr/^404/, 'the shop is not served on the internal listener');
    like($ask->('a.b.customers.example.com', '/'), qr/^200 legacy/, 'wildcard of any depth');
    like($ask->('tenant-7.example.org', '/'), qr/^200 legacy/, 'regex');
    like($ask->('nobody.example.net', '/'), qr/^404/, 'a name nobody has');
    like($ask->('api.example.com', '/docs/a'), qr/^302/, 'return with a URL');
    like($ask->('a.customers.example.com', '/old/x'), qr/^503 Back in a minute; please wait\./, 'with a quoted text of two lines');
    is($ask->($_, '/ping'), '200 pong', "a route of all hosts: $_") for 'shop.example.com', 'api.example.com';
    like($ask->('a.customers.example.com', '/admin/x'), qr/^403/, 'return with a status');
    $s->stop;
};

subtest 'which route wins' => sub {
    my $port = free_port();
    my $r = sub { "[route h/$_[0]]\npath = $_[1]\nreturn = 200 \"$_[0]\"\n" . ($_[2] || '') };
    my $s = rpd(config => "[listen l]\naddress = 127.0.0.1:$port\n[host h]\nnames = *\n"
        . $r->('regex', '~\.png$') . $r->('short', '/a/*') . $r->('long', '/a/b/*') . $r->('exact', '/a/b/c')
        . $r->('post', '/a/b/c', "method = POST\n") . $r->('first', '/first/*', "priority = 5\n") . $r->('inner', '/first/inner')
        . "[route */ping]\npath = /ping\nreturn = 204\n", global => "workers = 1\n");
    my $ask = sub { my ($path, $method) = @_; my $c = client($port); $c->send(request($method || 'GET', $path)); my $x = $c->read_response; $c->close; $x->{status} == 200 ? $x->{body} : $x->{status} };
    my %want = (
        '/a/b/c' => 'exact', '/a/b/d' => 'long', '/a/b/' => 'long', '/a/x' => 'short', '/a' => 404, '/z/i.png' => 'regex',
        '/a/i.png' => 'short', '/first/inner' => 'first', '/ping' => 204, '/none' => 404, '/a/./b/c' => 'exact', '/a//b/c' => 'exact',
        '/x/../a/x' => 'short', '/%61/b/c' => 'exact', '/a%2Fb/c' => 404,
    );
    is($ask->($_), $want{$_}, "$_ → $want{$_}") for sort keys %want;
    is($ask->('/a/b/c', 'POST'), 'post', 'a condition more wins');
    is($ask->('/a/b/c', 'DELETE'), 'exact', 'else the other');
    my ($status, $out) = $s->rpctl('explain', 'GET', 'http://x/a/b/d');
    is($status, 0, 'rpctl explain');
    like($out, qr/h\/long/, 'names the route');
    like($out, qr/rpd\.conf:\d+/, 'and where it stands');
    $s->stop;
};

subtest 'explain: which listener a URL reaches' => sub {
    my ($plain, $other) = (free_port(), free_port());
    my $s = rpd(config => "[listen one]\naddress = 127.0.0.1:$plain\n[listen two]\naddress = 127.0.0.1:$other\nhttps_redirect = 301\n"
        . "[host h]\nnames = *\nlisten = one\n[route h/all]\nreturn = 204\n[host i]\nnames = i.example\nlisten = two\n[route i/all]\nreturn = 204\n");
    my $ask = sub { ($s->rpctl('explain', 'GET', $_[0]))[1] };
    like($ask->("http://x:$plain/"), qr/^listener\s+one .*^redirect\s+308 .*a listener with tls serves/ms, 'by its port, and what auto does');
    like($ask->("http://i.example:$other/"), qr/^listener\s+two .*^redirect\s+301 to https \(/ms, 'another port');
    like($ask->("http://i.example:$other/"), qr/^host\s+i /m, 'with the hosts of that listener');
    like($ask->('http://x/'), qr/\Alistener\s+one /, 'no port: the first that speaks so');
    like($ask->('http://x:1/'), qr/\Anote\s+no listener accepts plain HTTP on port 1\n/, 'a port that nobody has');
    like($ask->('https://x/'), qr/\Anote\s+no listener speaks TLS\n/, 'nor TLS');
    $s->stop;
};

subtest 'thousands of hosts and routes' => sub {
    my $port = free_port();
    my $n = $ENV{RPD_SANITIZED} ? 1000 : 4000;
    my $s = rpd(config => "[listen l]\naddress = 127.0.0.1:$port\n" . join('', map {
        "[host h$_]\nnames = h$_.example *.w$_.example\n[route h$_/r]\npath = /r$_/*\nreturn = 200 \"r$_\"\n"
    } 1 .. $n), global => "workers = 1\n");
    my $c = client($port);
    for my $i (1, $n / 2, $n) {
        $c->send(request('GET', "/r$i/x", ['Host', "h$i.example"]));
        is($c->read_response->{body}, "r$i", "host $i");
        $c->send(request('GET', "/r$i/x", ['Host', "a.b.w$i.example"]));
        is($c->read_response->{body}, "r$i", "wildcard $i");
    }
    $c->close;
    $s->stop;
};

subtest 'quick start' => sub {
    my $o = origin()->serve_requests(sub { response(200, [], 'quick ' . $_[0]{target}) });
    my $port = free_port();
    my $d = tempdir();
    for my $args (['--from', "127.0.0.1:$port", '--to', 'http://' . $o->address]) {
        local $ENV{HOME} = $d;
        my $pid = spawn("$d/out", $rpd, '-F', @$args);
        my $ok = wait_for(sub { eval { http_get($port, '/q')->{body} eq 'quick /q' } }, quiet => 1);
        ok($ok, "rpd @$args") or diag(slurp("$d/out"));
        # One's own application may be sent anything: the usual 16 MiB do not hold here.
        my $c = client($port);
        $c->send(request('POST', '/big', ['Content-Length', 17 << 20]));
        $c->send('x' x (1 << 20)) for 1 .. 17;
        is($c->read_response->{status}, 200, 'a body of 17 MiB');
        $c->close;
        kill 'QUIT', $pid;
        waitpid $pid, 0;
        is($?, 0, 'ends well') or diag(slurp("$d/out"));
    }
    spew("$d/one.conf", 'proxy = http://' . $o->address . "\n");
    my ($status, $out, $err) = run_program($rpd, '-t', '-c', "$d/one.conf");
    is($status, 0, 'a file of one line') or diag($out, $err);
    my $c = cert(ca('quick'), 'localhost');
    ($status, $out, $err) = run_program($rpd, '-t', '--to', 'https://localhost:1', '--tls-from', "127.0.0.1:$port", '--cert', $c->{cert}, '--key', $c->{key});
    is($status, 0, 'with TLS on both sides') or diag($out, $err);
    ($status, $out, $err) = run_program($rpd, '-T', '--to', 'https://localhost', '--tls-from', ":$port", '--cert', $c->{both});
    like($out, qr{^server = https://localhost:443$}m, 'the server') or diag($err);
    like($out, qr{^pair = \Q$c->{both}\E$}m, 'the certificate, with its key in one file');
    for my $bad (['--tls-from', ':1'], ['--cert', $c->{both}], ['--key', $c->{key}]) {
        ($status, $out, $err) = run_program($rpd, '-t', '--to', 'http://localhost', @$bad);
        is($status, 2, "$bad->[0] alone");
        like($err, qr/--tls-from and --cert need each other/, 'is told');
    }
};

subtest '-V and usage' => sub {
    my ($status, $out, $err) = run_program($rpd, '-V');
    is($status, 0, '-V');
    like("$out$err", qr/rpd.*\d+\.\d+\.\d+/, 'version');
    like("$out$err", qr/$_/i, "names $_") for qw(pcre2 inih c-ares OpenSSL nghttp2);
    ($status) = run_program($rpd, '--no-such-option');
    is($status, 2, 'usage errors are exit 2');
};

done_testing;
