#!/usr/bin/perl
# TLS towards clients: versions, ciphers, the choice of certificates, resumption by every worker and over reloads, and what else a port does.
use strict;
use warnings;
use RPD::Test;
use RPD::Cert;
use RPD::TLS;
use RPD::H2;

my $ca = ca('Test CA');
my $ec = cert($ca, 'a.test', 'www.a.test');
my $rsa = cert($ca, 'a.test', 'www.a.test', { key => 'rsa' });
my $wild = cert($ca, '*.wild.test', 'wild.test');
my $exact = cert($ca, 'one.wild.test');
my $default = cert($ca, 'default.test');
my $int = ca('Intermediate', issuer => $ca, key => 'ec:int');
my $chained = cert($int, 'chained.test');
my $other = cert($ca, 'other.test');
my $rsaonly = cert($ca, 'rsa.test', { key => 'rsa' });
my $staple = ocsp_response($ca, $ec);

my %p = map { $_ => free_port() } qw(tls modern noredir notickets nocache plain plainoff h1 single);
my $o = origin()->serve_requests(sub {
    my ($r) = @_;
    return response(200, ['X-Proto', $r->{fields}{'x-forwarded-proto'}[0] // 'none', 'X-Port', $r->{fields}{'x-forwarded-port'}[0] // 'none'],
        "$r->{fields}{host}[0] $r->{target}\n");
});
my $common = "[listen %s]\naddress = 127.0.0.1:%d\n%s\n";
my $config = join '', <<"END",
[log main]
file = <DIR>/access.log
flush = 10ms
format = "%{status} %{reason} %{tls_version} %{tls_cipher} %{tls_sni} %{tls_alpn} %{tls_resumed} %{uri}"
[defaults]
handshake_timeout = 600ms
keepalive_timeout = 20s
[upstream app]
server = @{[ $o->address ]}
[certificate a]
pair = $ec->{cert} $ec->{key}
pair = $rsa->{both}
ocsp = $staple
[certificate wild]
pair = $wild->{both}
[certificate exact]
pair = $exact->{both}
[certificate default]
pair = $default->{both}
default = on
[certificate chained]
pair = $chained->{both}
[certificate rsaonly]
pair = $rsaonly->{both}
[certificate other]
pair = $other->{both}
[host a]
names = a.test www.a.test
upstream = app
hsts = 365d include_subdomains preload
[host any]
names = *
upstream = app
END
    sprintf($common, 'tls', $p{tls}, 'tls = on'), sprintf($common, 'modern', $p{modern}, "tls = on\npolicy = modern"),
    sprintf($common, 'noredir', $p{noredir}, "tls = on\nhttps_redirect = off"),
    sprintf($common, 'notickets', $p{notickets}, "tls = on\nsession_tickets = off"),
    sprintf($common, 'nocache', $p{nocache}, "tls = on\nsession_tickets = off\nsession_cache = off"),
    sprintf($common, 'plain', $p{plain}, ''), sprintf($common, 'plainoff', $p{plainoff}, 'https_redirect = off'),
    sprintf($common, 'h1', $p{h1}, "tls = on\nprotocols = http/1.1"),
    sprintf($common, 'single', $p{single}, "tls = on\ncertificate = other");
my $s = rpd(config => $config, global => "workers = 3\ntls_key_log = <DIR>/keys.log\n");

sub tls { my ($port, %opt) = @_; return RPD::TLS->connect($p{$port}, ca => $ca->{file}, %opt) }
# One request and what came of it; the session too, when the connection has read something.
sub ask {
    my ($c, $host, $path) = @_;
    $c->send(request('GET', $path || '/', ['Host', $host || 'a.test']));
    return $c->read_response;
}
sub end { $_->close for @_ }

subtest 'a request over TLS' => sub {
    for my $version ('1.2', '1.3') {
        my $c = tls('tls', sni => 'a.test', version => $version);
        is($c->version, "TLSv$version", 'version');
        my $r = ask($c);
        is($r->{status}, 200, 'status');
        is($r->{body}, "a.test /\n", 'body');
        is($r->{fields}{'x-proto'}[0], 'https', 'X-Forwarded-Proto');
        is($r->{fields}{'x-port'}[0], $p{tls}, 'X-Forwarded-Port');
        is(ask($c, 'a.test', '/second')->{body}, "a.test /second\n", 'the connection is kept');
        $c->send(request('GET', '/last', ['Host', 'a.test', 'Connection', 'close']));
        is($c->read_response->{status}, 200, 'the last one');
        ok($c->closed, 'closed');
        ok($c->{close_notify}, 'with close_notify');
        end($c);
    }
    my ($line) = grep { m{ TLSv1\.2 .* /second$} } $s->access_lines(6);
    like($line, qr{^200 \S+ TLSv1\.2 ECDHE-ECDSA-\S+ a\.test \S* \S+ /second$}, 'logged');
};

subtest 'versions and ciphers of the policies' => sub {
    for my $version ('1.0', '1.1') {
        my $c = tls('tls', sni => 'a.test', min => $version, max => $version, quiet => 1);
        like($c->error, qr/protocol version|unsupported protocol|no protocols/, "TLS $version is refused");
        end($c);
    }
    my $c = tls('modern', sni => 'a.test', version => '1.2', quiet => 1);
    like($c->error, qr/protocol version/, 'modern: not 1.2');
    end($c);
    $c = tls('modern', sni => 'a.test');
    is($c->version, 'TLSv1.3', 'modern: 1.3');
    end($c);
    for my $bad ('AES128-SHA', 'AES128-GCM-SHA256', 'ECDHE-RSA-AES128-SHA', 'ECDHE-ECDSA-AES128-SHA256', 'ECDHE-RSA-AES256-SHA384', 'DHE-RSA-AES128-GCM-SHA256') {
        my $b = tls('tls', sni => 'a.test', version => '1.2', ciphers => $bad, quiet => 1);
        like($b->error // 'accepted', qr/handshake failure/, "$bad is refused");
        end($b);
    }
    for my $good ('ECDHE-ECDSA-AES128-GCM-SHA256', 'ECDHE-ECDSA-AES256-GCM-SHA384', 'ECDHE-ECDSA-CHACHA20-POLY1305', 'ECDHE-RSA-AES128-GCM-SHA256', 'ECDHE-RSA-AES256-GCM-SHA384', 'ECDHE-RSA-CHACHA20-POLY1305') {
        my $g = tls('tls', sni => 'a.test', version => '1.2', ciphers => $good);
        is($g->cipher, $good, $good);
        is(ask($g)->{status}, 200, 'serves');
        end($g);
    }
    for my $suite ('TLS_AES_128_GCM_SHA256', 'TLS_AES_256_GCM_SHA384', 'TLS_CHACHA20_POLY1305_SHA256') {
        my $g = tls('tls', sni => 'a.test', version => '1.3', suites => $suite);
        is($g->cipher, $suite, $suite);
        end($g);
    }
    for my $group ('X25519', 'P-256') {
        my $g = tls('tls', sni => 'a.test', groups => $group, quiet => 1);
        is($g->error, undef, "group $group");
        end($g);
    }
};

subtest 'the certificate follows the name' => sub {
    for my $case (
        ['a.test', $ec], ['www.a.test', $ec], ['WWW.A.Test', $ec], ['x.wild.test', $wild], ['wild.test', $wild], ['one.wild.test', $exact],
        ['y.x.wild.test', $default], ['nobody.test', $default], [undef, $default], ['chained.test', $chained], ['rsa.test', $rsaonly]
    ) {
        for my $version ('1.2', '1.3') {
            my $c = tls('tls', sni => $case->[0], version => $version, quiet => 1);
            is($c->error // $c->peer->{serial}, $case->[1]{serial}, ($case->[0] // 'no name') . " by TLS $version: $case->[1]{name}");
            end($c);
        }
    }
    my $c = tls('single', sni => 'a.test', quiet => 1);
    my $got = $c->error ? 'refused' : $c->peer->{serial};
    isnt($got, $_->{serial}, 'a listener keeps to its own certificates') for $ec, $rsa, $default;
    end($c);
    $c = tls('single', sni => 'other.test');
    is($c->peer->{serial}, $other->{serial}, 'which it has');
    end($c);
};

subtest 'ECDSA and RSA for the same name' => sub {
    my $c = tls('tls', sni => 'a.test', version => '1.2', ciphers => 'ECDHE-RSA-AES128-GCM-SHA256');
    is($c->peer->{kind}, 'rsa', 'RSA for who knows nothing else');
    end($c);
    $c = tls('tls', sni => 'a.test', version => '1.2', ciphers => 'ECDHE-ECDSA-AES128-GCM-SHA256');
    is($c->peer->{kind}, 'ec', 'ECDSA');
    end($c);
    $c = tls('tls', sni => 'a.test', version => '1.2', ciphers => 'ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-GCM-SHA256');
    is($c->peer->{kind}, 'ec', 'ECDSA when there is the choice');
    end($c);
    my $r = RPD::TLS::s_client($p{tls}, args => ['-servername', 'a.test', '-tls1_3', '-sigalgs', 'rsa_pss_rsae_sha256', '-CAfile', $ca->{file}]);
    like($r->{text}, qr/Peer signature type: RSA-PSS/, 'TLS 1.3 by signature algorithm: RSA');
    $r = RPD::TLS::s_client($p{tls}, args => ['-servername', 'a.test', '-tls1_3', '-sigalgs', 'ECDSA+SHA256', '-CAfile', $ca->{file}]);
    like($r->{text}, qr/Peer signature type: ECDSA/, 'ECDSA');
    like($r->{text}, qr/Verify return code: 0/, 'verified');
};

subtest 'ALPN' => sub {
    for my $case (['tls', ['h2', 'http/1.1'], 'h2'], ['tls', ['http/1.1', 'h2'], 'h2'], ['tls', ['http/1.1'], 'http/1.1'], ['tls', ['http/1.0', 'http/1.1'], 'http/1.1'],
        ['h1', ['h2', 'http/1.1'], 'http/1.1'], ['tls', undef, undef]) {
        my $c = tls($case->[0], sni => 'a.test', $case->[1] ? (alpn => $case->[1]) : ());
        is($c->alpn, $case->[2], join(' ', @{ $case->[1] || ['none'] }) . ' on ' . $case->[0]);
        end($c);
    }
    my $c = tls('h1', sni => 'a.test', alpn => ['h2'], quiet => 1);
    like($c->error // 'accepted', qr/no application protocol/, 'nothing in common: refused (RFC 7301)');
    end($c);
};

subtest 'renegotiation' => sub {
    my $c = tls('tls', sni => 'a.test', version => '1.2');
    is(ask($c)->{status}, 200, 'a request');
    Net::SSLeay::renegotiate($c->{ssl});
    $c->{quiet} = 1;
    my $done = $c->handshake(timeout => 3) && eval { ask($c)->{status} };
    ok(!$done || $c->error, 'is refused: ' . ($c->error // 'ignored'));
    end($c);
};

subtest 'handshakes have a time' => sub {
    for my $case (['nothing sent', ''], ['half a ClientHello', "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" . 'x' x 20]) {
        my $c = client($p{tls});
        my $t0 = time;
        $c->send($case->[1]) if length $case->[1];
        $c->read_eof;
        my $took = time - $t0;
        ok($took > 0.4 && $took < 5, sprintf '%s: closed after %.2f s', $case->[0], $took);
        $c->close;
    }
    my $failed = $s->metric('rpd_tls_failures_total');
    my $c = client($p{tls});
    $c->send("\x16\x03\x01\x00\x05hello" . 'x' x 100);
    $c->read_eof;
    $c->close;
    $s->wait_metric('rpd_tls_failures_total', sub { $_[0] > $failed });
    ok($s->metric('rpd_tls_failures_total') > $failed, 'rubbish is counted');
};

subtest 'HTTP on the TLS port' => sub {
    my $c = client($p{tls});
    $c->send(request('GET', '/x?y', ['Host', "a.test:$p{tls}"]));
    my $r = $c->read_response;
    is($r->{status}, 308, 'a redirect');
    is($r->{fields}{location}[0], "https://a.test:$p{tls}/x?y", 'to here, but https');
    $c->close;
    $c = client($p{noredir});
    $c->send(request('GET', '/x', ['Host', 'a.test']));
    is($c->read_response->{status}, 400, 'or 400 with https_redirect = off');
    ok($c->closed, 'and closed');
    $c->close;
    $c = client($p{tls});
    $c->send("GET / HTTP/1.0\r\n\r\n");
    is($c->read_response->{status}, 400, 'without a host: 400');
    $c->close;
};

subtest 'https_redirect' => sub {
    my $r = http_get($p{plain}, '/a/b?c=d', 'Host', 'a.test');
    is($r->{status}, 308, 'auto: 308 where a certificate is');
    like($r->{fields}{location}[0], qr{^https://a\.test(:\d+)?/a/b\?c=d$}, "Location: $r->{fields}{location}[0]");
    $r = http_get($p{plain}, '/', 'Host', 'x.wild.test');
    is($r->{status}, 308, 'by wildcard');
    $r = http_get($p{plain}, '/', 'Host', 'nobody.test');
    is($r->{status}, 200, 'no certificate for it: served');
    $r = http_get($p{plain}, '/.well-known/acme-challenge/token', 'Host', 'a.test');
    is($r->{status}, 200, 'ACME challenges are never redirected');
    $r = http_get($p{plainoff}, '/', 'Host', 'a.test');
    is($r->{status}, 200, 'off');
    is($r->{fields}{'strict-transport-security'}, undef, 'no HSTS over plain HTTP');
};

subtest 'hsts' => sub {
    my $c = tls('tls', sni => 'a.test');
    my $r = ask($c);
    is_deeply($r->{fields}{'strict-transport-security'}, ['max-age=31536000; includeSubDomains; preload'], 'the field');
    $r = ask($c, 'a.test', '/%zz');
    is($r->{status}, 400, 'an error of our own');
    end($c);
    $c = tls('tls', sni => 'nobody.test');
    is(ask($c, 'nobody.test')->{fields}{'strict-transport-security'}, undef, 'not where it is not set');
    end($c);
};

# As many connections as make it sure that more than one worker answers.
sub resumes {
    my ($port, $session, $version, $n) = @_;
    my ($resumed, %worker) = (0);
    for (1 .. $n || 12) {
        my $c = tls($port, sni => 'a.test', version => $version, session => $session);
        $resumed += $c->resumed;
        ask($c)->{status} == 200 or die 'no answer';
        $session = $c->session if $version eq '1.3' && $c->resumed;    # tickets of 1.3 are for once
        end($c);
    }
    return $resumed;
}
sub first_session {
    my ($port, $version) = @_;
    my $c = tls($port, sni => 'a.test', version => $version);
    ok(!$c->resumed, 'the first handshake is whole');
    ask($c);
    my $session = $c->session;
    end($c);
    return $session;
}

subtest 'resumption, whichever worker answers' => sub {
    for my $case (['tls', '1.3', 'tickets'], ['tls', '1.2', 'tickets'], ['notickets', '1.2', 'ids'], ['notickets', '1.3', 'ids in tickets']) {
        my ($port, $version, $how) = @$case;
        my $session = first_session($port, $version);
        my $n = resumes($port, $session, $version);
        if ($how eq 'ids in tickets') {
            ok($n == 12 || $n == 0, "$how: $n of 12");
        } else {
            is($n, 12, "TLS $version, $how: all of 12");
        }
    }
    my $session = first_session('nocache', '1.2');
    is(resumes('nocache', $session, '1.2'), 0, 'neither tickets nor ids: never');
    ok($s->metric('rpd_tls_resumed_total') >= 36, 'counted');
};

subtest 'a session is good for its name only' => sub {
    # RFC 6066 3; with TLS 1.3 it is for the client to see to it (RFC 8446 4.6.1).
    for my $port ('tls', 'notickets') {
        my $session = first_session($port, '1.2');
        my $c = tls($port, sni => 'x.wild.test', version => '1.2', session => $session, quiet => 1);
        ok($c->error || !$c->resumed, 'another name: a whole handshake');
        is($c->error // $c->peer->{serial}, $wild->{serial}, 'with the certificate of that name');
        end($c);
    }
};

subtest 'resumption over reloads and deaths' => sub {
    my %session = ('1.3' => first_session('tls', '1.3'), '1.2' => first_session('tls', '1.2'), ids => first_session('notickets', '1.2'));
    for my $k (1 .. 3) {
        $s->write_config($config, global => "workers = " . (3, 1, 4)[$k - 1] . "\ntls_key_log = <DIR>/keys.log\n");
        my ($status, $out, $err) = $s->reload;
        is($status, 0, "reload $k") or diag("$out$err");
        is(resumes('tls', $session{'1.3'}, '1.3', 4), 4, 'TLS 1.3 by ticket');
        is(resumes('tls', $session{'1.2'}, '1.2', 4), 4, 'TLS 1.2 by ticket');
        is(resumes('notickets', $session{ids}, '1.2', 4), 4, 'TLS 1.2 by id');
    }
    my @before = $s->workers;
    kill 'KILL', @before;
    ok(wait_for(sub { my @now = eval { $s->workers }; @now == @before && !grep { my $p = $_; grep { $_ == $p } @before } @now }, quiet => 1), 'all workers die');
    is(($s->rpctl('wait', 'healthy', '--timeout', '10s'))[0], 0, 'and come again');
    is(resumes('tls', $session{'1.3'}, '1.3', 4), 4, 'TLS 1.3 by ticket');
    is(resumes('notickets', $session{ids}, '1.2', 4), 4, 'TLS 1.2 by id');
};

subtest 'tampered tickets and ids' => sub {
    my $session = first_session('tls', '1.2');
    my $der = Net::SSLeay::i2d_SSL_SESSION($session);
    # Whatever is turned over: never resumed, never more than an ordinary handshake.
    my ($resumed, $failed) = (0, 0);
    my $at = index $der, "\x04\x30";    # the master secret: keep it, change what lies after it
    for my $k (1 .. 20) {
        my $bad = $der;
        my $i = length($bad) - 20 - $k * 5;
        substr($bad, $i, 1) = chr(ord(substr $bad, $i, 1) ^ 0x55);
        my $changed = eval { Net::SSLeay::d2i_SSL_SESSION($bad) } or next;
        my $c = tls('tls', sni => 'a.test', version => '1.2', session => $changed, quiet => 1);
        $c->error ? $failed++ : ($resumed += $c->resumed);
        end($c);
    }
    is($resumed, 0, "none resumed, $failed failed");
};

subtest 'OCSP staple' => sub {
    my $c = tls('tls', sni => 'a.test', staple => 1, version => '1.3', suites => 'TLS_AES_128_GCM_SHA256');
    my $r = RPD::TLS::s_client($p{tls}, args => ['-servername', 'a.test', '-status', '-CAfile', $ca->{file}]);
    like($r->{text}, qr/OCSP Response Status: successful/, 'stapled');
    like($r->{text}, qr/Cert Status: good/, 'good');
    $r = RPD::TLS::s_client($p{tls}, args => ['-servername', 'wild.test', '-status', '-CAfile', $ca->{file}]);
    like($r->{text}, qr/OCSP response: no response sent/, 'not where there is none');
    end($c);
};

subtest 'key log' => sub {
    my $log = slurp($s->dir . '/keys.log');
    like($log, qr/^CLIENT_TRAFFIC_SECRET_0 [0-9a-f]{64} [0-9a-f]{64,96}$/m, 'secrets of TLS 1.3');
    like($log, qr/^CLIENT_RANDOM [0-9a-f]{64} [0-9a-f]{96}$/m, 'and of 1.2');
    is((stat $s->dir . '/keys.log')[2] & 077, 0, 'for the owner only');
    ok($s->log_lines(qr/warning.*tls_key_log|tls_key_log.*warning/i) || $s->output =~ /warning.*tls_key_log/, 'with a warning');
};

subtest 'big bodies and pieces' => sub {
    my $big = origin()->serve_requests(sub { my ($r) = @_; response(200, [], $r->{body} . $r->{body}) });
    my $port = free_port();
    my $s2 = rpd(config => simple_config(listen => "127.0.0.1:$port", listen_keys => 'tls = on', server => $big->address,
        rest => "[certificate a]\npair = $ec->{both}\n"), global => "workers = 1\n");
    my $body = random_bytes(3_000_000);
    for my $version ('1.2', '1.3') {
        my $c = RPD::TLS->connect($port, sni => 'a.test', version => $version);
        for my $n (0, 1, 16383, 16384, 16385, 100_000, 3_000_000) {
            my $part = substr $body, 0, $n;
            $c->send(request('POST', '/', ['Host', 'a.test'], $part));
            ok($c->read_response->{body} eq $part . $part, "$n bytes up and twice as many down by TLS $version");
        }
        my $text = request('POST', '/', ['Host', 'a.test'], 'hello');
        $c->send_split($text, 1 .. length $text);
        is($c->read_response->{body}, 'hellohello', 'a record per byte');
        $c->send(request('POST', '/1', ['Host', 'a.test'], 'one') . request('POST', '/2', ['Host', 'a.test'], 'two'));
        is($c->read_response->{body}, 'oneone', 'pipelined');
        is($c->read_response->{body}, 'twotwo', 'in one record');
        end($c);
    }
    $s2->stop;
};

subtest 'byte by byte, both ways' => sub {
    for my $version ('1.2', '1.3') {
        my $relay = RPD::TLS::relay($p{tls});
        my $c = RPD::TLS->connect($relay->address, sni => 'a.test', ca => $ca->{file}, version => $version);
        is(ask($c)->{body}, "a.test /\n", "TLS $version, HTTP/1.1");
        is(ask($c, 'a.test', '/2')->{body}, "a.test /2\n", 'again');
        end($c);
        $relay = RPD::TLS::relay($p{tls});
        my $h = RPD::H2->connect($relay->address, tls => { sni => 'a.test', ca => $ca->{file}, version => $version }, authority => 'a.test');
        is($h->get('/h2')->{body}, "a.test /h2\n", "TLS $version, HTTP/2");
        $h->close;
    }
};

subtest 'ends' => sub {
    my $slow = origin();
    my $port = free_port();
    my $s2 = rpd(config => simple_config(listen => "127.0.0.1:$port", listen_keys => 'tls = on', server => $slow->address,
        rest => "[certificate a]\npair = $ec->{both}\n"), global => "workers = 1\n");
    my $c = RPD::TLS->connect($port, sni => 'a.test');
    $c->send(request('POST', '/', ['Host', 'a.test', 'Connection', 'close'], 'all'));
    my $oc = $slow->accept;
    is($oc->read_request->{body}, 'all', 'the request');
    # A client that goes in the middle of its body: nothing of it is taken for whole.
    my $d = RPD::TLS->connect($port, sni => 'a.test');
    $d->send(request('POST', '/', ['Host', 'a.test', 'Content-Length', 100]) . 'part');
    my $od = $slow->accept;
    $od->read_until(qr/part/);
    CORE::close($d->{sock});
    $d->{error} = 'gone';
    is($od->read_eof, '', 'a truncated request is one');
    $oc->send(response(200, ['Connection', 'close'], 'late'));
    is($c->read_response->{body}, 'late', 'an answer');
    ok($c->closed && $c->{close_notify}, 'its end is told by close_notify') or diag(explain([map { $c->{$_} } qw(eof buf close_notify truncated error)]));
    $_->close for $oc, $od, $c;
    $s2->stop;
};

subtest 'ktls = on' => sub {
    my $big = origin()->serve_requests(sub { my ($r) = @_; response(200, [], $r->{body} . ('x' x 1_000_000)) });
    my $port = free_port();
    my $s2 = rpd(config => simple_config(listen => "127.0.0.1:$port", listen_keys => "tls = on\nktls = on", server => $big->address,
        rest => "[certificate a]\npair = $ec->{both}\n"), global => "workers = 1\n");
    for my $version ('1.2', '1.3') {
        my $c = RPD::TLS->connect($port, sni => 'a.test', version => $version);
        for my $n (0, 100_000) {
            $c->send(request('POST', '/', ['Host', 'a.test'], 'y' x $n));
            is(length $c->read_response->{body}, 1_000_000 + $n, "with or without the kernel: TLS $version");
        }
        $c->send(request('GET', '/', ['Host', 'a.test', 'Connection', 'close']));
        $c->read_response;
        ok($c->closed && !$c->{truncated}, 'close_notify');
        end($c);
        my $h = RPD::H2->connect($port, tls => { sni => 'a.test', version => $version }, authority => 'a.test');
        is($h->get('/')->{nbody}, 1_000_000, 'HTTP/2');
        $h->close;
    }
    $s2->stop;
};

subtest 'after PROXY protocol' => sub {
    my $port = free_port();
    my $s2 = rpd(config => simple_config(listen => "127.0.0.1:$port", listen_keys => "tls = on\nproxy_protocol = on", server => $o->address,
        rest => "[certificate a]\npair = $ec->{both}\n", top => "[log main]\nfile = <DIR>/access.log\nflush = 10ms\nformat = \"%{client_ip} %{tls_version}\""),
        global => "trusted_proxies = 127.0.0.0/8\n");
    my $c = RPD::TLS->connect($port, sni => 'a.test', prefix => "PROXY TCP4 9.8.7.6 127.0.0.1 1234 443\r\n");
    is(ask($c)->{status}, 200, 'served');
    is(($s2->access_lines(1))[0], '9.8.7.6 TLSv1.3', 'its address is known');
    end($c);
    $s2->stop;
};

subtest 'curl' => sub {
    my ($status, $out, $err) = run_program('curl', '-sS', '--cacert', $ca->{file}, '--resolve', "a.test:$p{tls}:127.0.0.1", '-w', '%{http_version} %{ssl_verify_result}',
        '--http1.1', "https://a.test:$p{tls}/c");
    is($out, "a.test:$p{tls} /c\n1.1 0", 'verified, HTTP/1.1') or diag($err);
    ($status, $out, $err) = run_program('curl', '-sS', '-L', '--cacert', $ca->{file}, '--resolve', "a.test:$p{tls}:127.0.0.1", "http://a.test:$p{tls}/c");
    is($out, "a.test:$p{tls} /c\n", 'follows the redirect on the same port') or diag($err);
};

$s->stop;
done_testing;
