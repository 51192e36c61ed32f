#!/usr/bin/perl
# Certificates of clients: required, optional, by host and route; what logs and servers are told of them.
use strict;
use warnings;
use MIME::Base64;
use RPD::Test;
use RPD::Cert;
use RPD::TLS;
use RPD::H2;

my $ca = ca('Server CA');
my $clients = ca('Client CA', key => 'ec:clients');
my $strangers = ca('Other CA', key => 'ec:strangers');
my $int = ca('Client Intermediate', issuer => $clients, key => 'ec:cint');
my $srv = cert($ca, 'a.test', 'strict.test');
my $good = cert($clients, 'alice', { client => 1, subject => { CN => 'alice', O => 'Org, Inc.', C => 'DE' }, key => 'ec:alice', serial => 0xabc123 });
my $chained = cert($int, 'bob', { client => 1, key => 'ec:bob' });
my $stranger = cert($strangers, 'mallory', { client => 1, key => 'ec:m' });
my $expired = cert($clients, 'old', { client => 1, days => -1, key => 'ec:old' });
my $future = cert($clients, 'young', { client => 1, start => 86400, key => 'ec:young' });
my $server_kind = cert($clients, 'server.kind', { key => 'ec:kind' });

my $o = origin()->serve_requests(sub { my ($r) = @_; response(200, [], $r->{head}) });
my ($required, $optional, $never) = (free_port(), free_port(), free_port());
my $s = rpd(config => <<"END", global => "workers = 1\n");
[log main]
file = <DIR>/access.log
flush = 10ms
format = "%{status} %{reason}|%{tls_version}|%{tls_cipher}|%{tls_sni}|%{tls_alpn}|%{tls_resumed}|%{client_cert_verify}|%{client_cert_subject}|%{client_cert_issuer}|%{client_cert_serial}|%{client_cert_fingerprint}|%{uri}"
[certificate srv]
pair = $srv->{both}
default = on
[listen required]
address = 127.0.0.1:$required
tls = on
client_ca = $clients->{file}
[listen optional]
address = 127.0.0.1:$optional
tls = on
client_ca = $clients->{file}
client_verify = optional
[listen never]
address = 127.0.0.1:$never
tls = on
[upstream app]
server = @{[ $o->address ]}
[host a]
names = a.test
upstream = app
client_cert_headers = on
[route a/admin]
path = /admin
client_cert = required
[host strict]
names = strict.test
upstream = app
client_cert = required
END
sub with { my ($c) = @_; return $c ? (cert => $c->{cert}, key => $c->{key}) : () }
# A request with that certificate: its answer, or why there is none. TLS 1.3 tells a client of a refusal only after its handshake.
sub get {
    my ($port, $cert, $path, %opt) = @_;
    my $c = RPD::TLS->connect($port, sni => $opt{host} || 'a.test', ca => $ca->{file}, quiet => 1, with($cert), %opt);
    return { error => $c->error } if $c->error;
    my $r = eval { $c->send(request('GET', $path || '/', ['Host', $opt{host} || 'a.test', @{ $opt{fields} || [] }])); $c->read_response };
    $r ||= { error => $c->error || $@ };
    $r->{session} = $c->session if $r->{status};
    $r->{resumed} = $c->resumed;
    $c->close;
    return $r;
}

subtest 'required' => sub {
    for my $version ('1.2', '1.3') {
        for my $case (['none', undef, qr/certificate required|handshake failure|closed|reset/], ['of a stranger', $stranger, qr/unknown ca|closed|reset/i], ['expired', $expired, qr/expired|closed|reset/],
            ['not yet valid', $future, qr/bad certificate|expired|closed|reset/], ['a server\'s', $server_kind, qr/unsupported certificate|closed|reset/]) {
            my $r = get($required, $case->[1], '/', version => $version);
            like($r->{error} // "status $r->{status}", $case->[2], "TLS $version, $case->[0]: refused");
        }
        is(get($required, $good, '/', version => $version)->{status}, 200, "TLS $version, a good one");
        is(get($required, $chained, '/', version => $version)->{status}, 200, 'by an intermediate');
    }
};

subtest 'optional' => sub {
    my $r = get($optional, undef);
    is($r->{status}, 200, 'none is fine');
    is(get($optional, undef, '/admin')->{status}, 403, 'but not where it is required');
    is(get($optional, undef, '/', host => 'strict.test')->{status}, 403, 'nor at that host');
    is(get($optional, $good, '/admin')->{status}, 200, 'a good one there');
    is(get($optional, $good, '/', host => 'strict.test')->{status}, 200, 'and at that host');
    $r = get($optional, $stranger, '/admin');
    ok($r->{error} || $r->{status} == 403, 'a bad one is no better than none');
    my ($line) = grep { /client_certificate/ } $s->access_lines(1);
    like($line, qr/^403 client_certificate\|/, 'reason');
};

subtest 'what is logged' => sub {
    my $line = sub {
        my ($path) = @_;
        my $found;
        wait_for(sub { ($found) = grep { /\|\Q$path\E$/ } $s->access_lines(1); $found });
        return split /\|/, $found, -1;
    };
    get($optional, $good, '/log13', version => '1.3');
    my @f = $line->('/log13');
    like($f[1], qr/^TLSv1\.3$/, 'tls_version');
    like($f[2], qr/^TLS_/, 'tls_cipher');
    is($f[3], 'a.test', 'tls_sni');
    is($f[5] =~ /^(0|off|no|false|-|\.)$/ ? 1 : 0, 1, "tls_resumed: $f[5]");
    is($f[6], 'ok', 'client_cert_verify');
    like($f[7], qr/CN=alice/, "client_cert_subject: $f[7]");
    like($f[7], qr/O=Org(\\|\\x5C), Inc\./, 'escaped as RFC 2253');
    is($f[8], 'CN=Client CA', 'client_cert_issuer');
    is(lc $f[9], 'abc123', 'client_cert_serial');
    is(lc $f[10], $good->{fingerprint}, 'client_cert_fingerprint');
    get($optional, undef, '/log12', version => '1.2');
    @f = $line->('/log12');
    is($f[1], 'TLSv1.2', 'without a certificate');
    is($f[6], 'none', 'verify: none');
    like($f[7], qr/^-?$/, 'no subject');
    get($never, undef, '/lognever');
    is(($line->('/lognever'))[6], '-', 'nothing where none is asked for');
};

subtest 'what servers are told' => sub {
    my @forged = map { ($_, 'forged') } 'Client-Cert', 'Client-Cert-Chain', 'X-Client-Verify', 'X-Client-Subject', 'X-Client-Fingerprint';
    my $head = get($optional, $good, '/', fields => \@forged)->{body};
    unlike($head, qr/forged/, 'what the client says itself is taken out');
    my ($der) = $head =~ /^client-cert: :(\S+):\r$/mi;
    (my $pem = $good->{cert_pem}) =~ s/-----[^-]+-----|\n//g;
    is($der, $pem, 'Client-Cert (RFC 9440)');
    like($head, qr/^x-client-verify: ok\r$/mi, 'X-Client-Verify');
    like($head, qr/^x-client-subject: .*CN=alice/mi, 'X-Client-Subject');
    like($head, qr/^x-client-fingerprint: $good->{fingerprint}\r$/mi, 'X-Client-Fingerprint');
    $head = get($optional, undef, '/', fields => \@forged)->{body};
    unlike($head, qr/forged/, 'without a certificate they are taken out too');
    like($head, qr/^x-client-verify: none\r$/mi, 'X-Client-Verify: none');
    unlike($head, qr/^(client-cert|x-client-(subject|fingerprint)):/mi, 'and nothing else');
    $head = get($optional, $stranger, '/', fields => \@forged)->{body};
    like($head, qr/^x-client-verify: failed:/mi, 'X-Client-Verify: failed');
    unlike($head, qr/forged|^(client-cert|x-client-(subject|fingerprint)):/mi, 'and no name that nobody has proved');
    $head = get($optional, $good, '/', host => 'strict.test', fields => \@forged)->{body};
    unlike($head, qr/forged|^x-client-(verify|subject)|^client-cert/mi, 'nothing where client_cert_headers is off');
};

subtest 'resumed sessions keep the certificate' => sub {
    for my $version ('1.2', '1.3') {
        my $first = get($optional, $good, '/admin', version => $version);
        is($first->{status}, 200, "TLS $version");
        for (1 .. 4) {
            my $r = get($optional, $good, '/admin', version => $version, session => $first->{session});
            ok($r->{resumed}, 'resumed');
            is($r->{status}, 200, 'and still vouched for');
            like($r->{body}, qr/^x-client-fingerprint: $good->{fingerprint}\r$/mi, 'with its fingerprint');
            $first = $r if $version eq '1.3';
        }
        # A session made without a certificate is no way in.
        my $none = get($optional, undef, '/', version => $version);
        my $r = get($optional, undef, '/admin', version => $version, session => $none->{session});
        is($r->{status}, 403, 'one without stays without');
        # Nor is one of the optional listener at the required one.
        $r = get($required, undef, '/', version => $version, session => $none->{session});
        ok($r->{error}, 'nor is it a way into a listener that requires one') or diag("status $r->{status}");
    }
};

subtest 'over HTTP/2' => sub {
    my $h = RPD::H2->connect($required, tls => { sni => 'a.test', ca => $ca->{file}, with($good) }, authority => 'a.test');
    my $r = $h->get('/admin');
    is($r->{status}, 200, 'a good one');
    like($r->{body}, qr/^x-client-subject: .*CN=alice/mi, 'told to the server');
    $h->close;
    $h = RPD::H2->connect($optional, tls => { sni => 'a.test', ca => $ca->{file} }, authority => 'a.test');
    is($h->get('/admin')->{status}, 403, 'none, where it is required');
    is($h->get('/')->{status}, 200, 'and where it is not');
    $h->close;
};

subtest 'configurations that cannot work' => sub {
    my $check = sub {
        my ($text) = @_;
        $s->write_config($text);
        my ($status, $out, $err) = $s->rpctl('check', $s->conf);
        return "$status $out$err";
    };
    my $base = "[upstream app]\nserver = 127.0.0.1:1\n[certificate srv]\npair = $srv->{both}\n";
    like($check->("$base\[listen l]\naddress = 127.0.0.1:$required\ntls = on\n[host a]\nnames = *\nupstream = app\nclient_cert = required\n"), qr/error: .*client_ca/, 'required without client_ca');
    like($check->("$base\[listen l]\naddress = 127.0.0.1:$required\ntls = on\nclient_verify = optional\n[host a]\nnames = *\nupstream = app\n"), qr/error: .*client_ca/, 'client_verify without client_ca');
    like($check->("$base\[listen l]\naddress = 127.0.0.1:$required\nclient_ca = $clients->{file}\n[host a]\nnames = *\nupstream = app\n"), qr/error: .*client_ca.*tls|tls.*client_ca/, 'client_ca without tls');
    like($check->("[upstream app]\nserver = 127.0.0.1:1\n[listen l]\naddress = 127.0.0.1:$required\ntls = on\n[host a]\nnames = *\nupstream = app\n"), qr/error: .*certificate/, 'tls without certificates');
};

$s->stop;
done_testing;
