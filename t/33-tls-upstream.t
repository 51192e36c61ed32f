#!/usr/bin/perl
# TLS towards servers: verified unless told otherwise, names, authorities, client certificates, sessions, ALPN; each failure with its reason.
use strict;
use warnings;
use RPD::Test;
use RPD::Cert;
use RPD::TLS;
use RPD::H2;

my $ca = ca('Origin CA');
my $other = ca('Unknown CA', key => 'ec:unknown');
my $int = ca('Intermediate', issuer => $ca, key => 'ec:int');
my %cert = (
    good => cert($ca, 'origin.test', '127.0.0.1'), name => cert($ca, 'wrong.test'), expired => cert($ca, 'origin.test', '127.0.0.1', { days => -1 }),
    future => cert($ca, '127.0.0.1', { start => 86400, days => 90 }), unknown => cert($other, '127.0.0.1'), self => undef, chain => cert($int, '127.0.0.1'),
    wild => cert($ca, '*.wild.test'), cn => cert($ca, 'only cn', { subject => { CN => '127.0.0.1' } }), client => cert($ca, '127.0.0.1', { client => 1 })
);
$cert{self} = $cert{unknown};
my $client = cert($ca, 'rpd', { client => 1, key => 'ec:rpd' });

# Origins by kind: each answers with what it knows of the connection.
my %o;
for my $kind (sort keys %cert) {
    $o{$kind} = origin(tls => { cert => $cert{$kind}{cert}, key => $cert{$kind}{key} })->serve_requests(sub { response(200, [], $kind) });
}
my $speak = sub {
    my ($conn) = @_;
    if (($conn->alpn // '') eq 'h2') {
        RPD::H2->new($conn, server => 1)->serve(sub { [200, [], "h2 $_[0]{method} $_[0]{authority} $_[0]{scheme}"] });
        return;
    }
    while (my $r = eval { $conn->read_request(timeout => 3600) }) {
        my $peer = $conn->peer;
        $conn->send(response(200, [], join ' ', 'http/1.1', $conn->resumed, $peer ? $peer->{name} : 'nobody', $conn->version,
            Net::SSLeay::get_servername($conn->{ssl}) // 'none'));
    }
};
sub tls_origin { my (%tls) = @_; return origin(tls => { cert => $cert{good}{cert}, key => $cert{good}{key}, %tls })->serve($speak) }
my $both = tls_origin(alpn => ['h2', 'http/1.1']);
my $h1 = tls_origin(alpn => ['http/1.1']);
my $none = tls_origin();
my $mutual = tls_origin(ca => $ca->{file}, verify => 'required');
my $old = tls_origin(version => '1.2');
my $ancient = tls_origin(version => '1.0', ciphers => 'ALL:@SECLEVEL=0');
my $plain = origin()->serve(sub {
    my ($conn) = @_;
    while (length $conn->read_n(1)) {
        return $conn->send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n") if $conn->{buf} =~ /^\x03/;
        $conn->read_head;
        $conn->send(response(200, [], 'plain'));
    }
});
my $port = free_port();

my @host;
sub host {
    my ($name, $server, @keys) = @_;
    push @host, "[upstream $name]\nserver = $server\n" . join('', map { "$_\n" } @keys) . "[host $name]\nnames = $name.x\nupstream = $name\nretry = 0\n";
}
sub to { return 'https://' . $_[0]->address }
my $usual = "tls_ca = $ca->{file}";
host($_, to($o{$_}), $usual) for sort keys %o;
host('system', to($o{good}));
host('trusting', to($o{unknown}), 'tls_verify = off');
host('named', to($o{name}), $usual, 'tls_name = wrong.test');
host('option', to($o{name}) . " tls_name=wrong.test tls_ca=$ca->{file}");
host('wildname', to($o{wild}), $usual, 'tls_name = x.wild.test');
host('wilddeep', to($o{wild}), $usual, 'tls_name = y.x.wild.test');
host('wildbare', to($o{wild}), $usual, 'tls_name = wild.test');
host('toplain', 'https://' . $plain->address, $usual);
host('reuse', to($h1), $usual, 'tls_name = origin.test', 'keepalive = 0');
host('reuse12', to($old), $usual, 'tls_name = origin.test', 'keepalive = 0');
host('ancient', to($ancient), $usual);
host('anonymous', to($mutual), $usual);
host('identified', to($mutual), $usual, "tls_certificate = $client->{cert}", "tls_key = $client->{key}");
host('onefile', to($mutual), $usual, "tls_certificate = $client->{both}");
host('auto', to($both), $usual, 'protocol = auto');
host('auto1', to($h1), $usual, 'protocol = auto');
host('autonone', to($none), $usual, 'protocol = auto');
host('autoplain', $plain->address, 'protocol = auto');
host('h2', to($both), $usual, 'protocol = h2');
host('h2to1', to($h1), $usual, 'protocol = h2');
host('h1', to($both), $usual);
# Of two servers one is no good: the other one answers.
host('retry', to($o{expired}) . "\nserver = " . to($o{good}), $usual, 'balance = round_robin');
$host[-1] =~ s/retry = 0/retry = 2 on connect/;
my $config = join '', <<"END", @host;
[log main]
file = <DIR>/access.log
flush = 10ms
format = "%{host} %{status} %{reason}"
[listen l]
address = 127.0.0.1:$port
END
my $s = rpd(config => $config, global => "workers = 1\n");
sub get { return http_get($port, '/', 'Host', "$_[0].x") }
my $lines = 0;
sub refused {
    my ($name, $what, $want) = @_;
    my $r = get($name);
    is($r->{status}, 502, "$what: 502");
    my ($line) = grep { /^\Q$name\E\.x / } $s->access_lines(1);
    wait_for(sub { ($line) = grep { /^\Q$name\E\.x / } $s->access_lines(1); $line }, quiet => 1);
    like($line, $want || qr/502 upstream_certificate$/, "$what: the reason");
}

subtest 'verified unless told otherwise' => sub {
    is(get('good')->{body}, 'good', 'a good one');
    is(get('chain')->{body}, 'chain', 'with an intermediate');
    refused('name', 'a wrong name');
    refused('expired', 'expired');
    refused('future', 'not yet valid');
    refused('unknown', 'an unknown authority');
    refused('system', 'an authority that the system does not know');
    refused('client', 'a certificate for clients');
    refused('cn', 'a name only in the subject (RFC 9525)');
    is(get('trusting')->{body}, 'unknown', 'tls_verify = off takes anything');
};

subtest 'names' => sub {
    is(get('named')->{body}, 'name', 'tls_name');
    is(get('option')->{body}, 'name', 'tls_name as an option of the server');
    is(get('wildname')->{body}, 'wild', 'a wildcard');
    refused('wilddeep', 'a wildcard is for one label');
    refused('wildbare', 'and not for none');
    like(get('reuse')->{body}, qr/ origin\.test$/, 'SNI is tls_name');
    my $told = get('none_of_that');
    is($told->{status}, 404, 'an unknown host is none of that');
    like(get('autonone')->{body}, qr/ none$/, 'an address is never sent as SNI (RFC 6066)');
};

subtest 'broken handshakes' => sub {
    refused('toplain', 'a server without TLS', qr/502 upstream_tls$/);
    refused('ancient', 'TLS 1.0', qr/502 upstream_tls$/);
    my $silent = origin();
    my $p2 = free_port();
    my $s2 = rpd(config => simple_config(listen => "127.0.0.1:$p2", server => 'https://' . $silent->address,
        upstream => $usual, host => "retry = 0\nconnect_timeout = 400ms"), global => "workers = 1\n");
    my $t0 = time;
    my $c = client($p2);
    $c->send(request('GET', '/'));
    my $oc = $silent->accept;
    my $r = $c->read_response;
    like($r->{status}, qr/^50[24]$/, 'a server that says nothing: ' . $r->{status});
    ok(time - $t0 < 5, 'in time');
    $_->close for $c, $oc;
    $c = client($p2);
    $c->send(request('GET', '/'));
    $oc = $silent->accept;
    $oc->read_n(5);
    $oc->close;
    is($c->read_response->{status}, 502, 'a server that closes in the handshake');
    $c->close;
    $s2->stop;
};

subtest 'another server is tried' => sub {
    my %got;
    $got{ get('retry')->{body} }++ for 1 .. 6;
    is_deeply(\%got, { good => 6 }, 'the good one answers every time');
};

subtest 'client certificates' => sub {
    my $r = get('anonymous');
    is($r->{status}, 502, 'a server that wants one and gets none');
    like(get('identified')->{body}, qr/^http\/1\.1 \d rpd /, 'with certificate and key');
    like(get('onefile')->{body}, qr/^http\/1\.1 \d rpd /, 'both in one file');
};

subtest 'sessions are used again' => sub {
    for my $name ('reuse', 'reuse12') {
        my @got = map { get($name)->{body} =~ /^http\/1\.1 (\d)/ } 1 .. 6;
        my $resumed = grep { $_ } @got;
        cmp_ok($resumed, '>=', 4, "$name: $resumed of 6 resumed");
    }
    my $r = get('reuse12');
    like($r->{body}, qr/TLSv1\.2/, 'TLS 1.2 servers');
    my $c = client($port);
    my $seen = $s->metric('rpd_upstream_tls_handshakes_total');
    for (1 .. 5) {
        $c->send(request('GET', '/', ['Host', 'h1.x']));
        is($c->read_response->{status}, 200, 'kept connections');
    }
    $c->close;
    cmp_ok($s->metric('rpd_upstream_tls_handshakes_total') - $seen, '<=', 1, 'one handshake for five requests');
};

subtest 'ALPN' => sub {
    is(get('auto')->{body}, 'h2 GET auto.x https', 'auto: h2 where it is offered');
    like(get('auto1')->{body}, qr/^http\/1\.1/, 'auto: HTTP/1.1 where it is not');
    like(get('autonone')->{body}, qr/^http\/1\.1/, 'auto: a server without ALPN');
    is(get('autoplain')->{body}, 'plain', 'auto: a plain server');
    is(get('h2')->{body}, 'h2 GET h2.x https', 'h2');
    is(get('h2to1')->{status}, 502, 'h2 where it is not spoken');
    like(get('h1')->{body}, qr/^http\/1\.1/, 'HTTP/1.1 unless told');
};

subtest 'bodies both ways' => sub {
    my $echo = origin(tls => { cert => $cert{good}{cert}, key => $cert{good}{key} })->serve_requests(sub { response(200, [], $_[0]{body}) });
    my $p2 = free_port();
    my $s2 = rpd(config => simple_config(listen => "127.0.0.1:$p2", server => to($echo), upstream => $usual), global => "workers = 1\n");
    my $c = client($p2);
    for my $n (0, 1, 16384, 16385, 3_000_000) {
        my $body = random_bytes($n, $n + 1);
        $c->send(request('POST', '/', [], $body));
        ok($c->read_response->{body} eq $body, "$n bytes");
    }
    $c->close;
    $s2->stop;
};

subtest 'a truncated answer is one' => sub {
    my $cut = origin(tls => { cert => $cert{good}{cert}, key => $cert{good}{key} })->serve(sub {
        my ($conn) = @_;
        $conn->read_request;
        $conn->send("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\npart");
        CORE::close($conn->{sock});    # no close_notify: somebody may have cut it
    });
    my $p2 = free_port();
    my $s2 = rpd(config => simple_config(listen => "127.0.0.1:$p2", server => to($cut), upstream => $usual,
        top => "[log main]\nfile = <DIR>/access.log\nflush = 10ms\nformat = \"%{status} %{reason}\""), global => "workers = 1\n");
    my $c = client($p2);
    $c->send(request('GET', '/'));
    my $all = $c->read_eof;
    unlike($all, qr/\r\n0\r\n\r\n\z/, 'a body until close that ended without close_notify is not passed on as whole');
    like(($s2->access_lines(1))[0], qr/^200 upstream_(truncated|reset|tls)/, 'and logged');
    $c->close;
    $s2->stop;
};

subtest 'preflight' => sub {
    my $try = sub {
        $s->write_config("$config\n$_[0]");
        my ($status, $out, $err) = $s->reload;
        return "$status $out$err";
    };
    like($try->("[upstream z]\nserver = https://127.0.0.1:1\ntls_ca = /nowhere/ca.pem\n"), qr/^1 .*rpd\.conf:\d+:\d+: error: .*ca\.pem/s, 'tls_ca that is not there');
    like($try->("[upstream z]\nserver = https://127.0.0.1:1\ntls_certificate = $ca->{file}\n"), qr/^1 .*rpd\.conf:\d+:\d+: error: /s, 'a client certificate without key');
    like($try->("[upstream z]\nserver = 127.0.0.1:1\nprotocol = h2\n"), qr/^1 .*rpd\.conf:\d+:\d+: error: .*h2/s, 'h2 to a plain server');
    like($try->("[upstream z]\nserver = https://127.0.0.1:1\nprotocol = h2c\n"), qr/^1 .*rpd\.conf:\d+:\d+: error: .*h2c/s, 'h2c to a TLS server');
    is(get('good')->{body}, 'good', 'serving meanwhile');
};

$s->stop;
done_testing;
