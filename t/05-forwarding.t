#!/usr/bin/perl
# What rpd tells servers about clients, whom it believes, and which fields never pass.
use strict;
use warnings;
use RPD::Test;

my ($port, $port2, $port3) = map { free_port() } 1 .. 3;
my $o = origin();
my $listen = sub { "[listen $_[0]]\naddress = 127.0.0.1:$_[1]\n" };
my $host = sub { my ($name, $listen, $keys) = @_; "[host $name]\nnames = *\nlisten = $listen\nupstream = app\n$keys\n" };
my $config = $listen->('plain', $port) . $listen->('more', $port2) . "[upstream app]\nserver = " . $o->address . "\n"
    . "[host plain]\nnames = *\nlisten = plain\nupstream = app\n"
    . "[host more]\nnames = *\nlisten = more\nupstream = app\nforwarded = on\nvia = off\nrequest_id = keep\nserver_header = hide\n"
    . "host_header = fixed.example\n";
my $s = rpd(config => $config, global => "workers = 1\n");
my $trusting = rpd(
    config => simple_config(listen => "127.0.0.1:$port3", server => $o->address, defaults => 'forwarded = on'),
    global => "workers = 1\ntrusted_proxies = 127.0.0.0/8 10.0.0.0/8\n"
);

# Sends a request and returns what the origin saw and what came back.
sub through {
    my ($to, $fields, $answer_fields) = @_;
    my $c = client($to);
    $c->send(request('GET', '/', [@$fields]));
    my $oc = $o->accept;
    my $r = $oc->read_request;
    $oc->send(response(200, [@{ $answer_fields || [] }, 'Connection', 'close'], 'x'));
    my $a = $c->read_response;
    $_->close for $c, $oc;
    return ($r->{fields}, $a->{fields}, $r);
}

subtest 'defaults, and a client that lies' => sub {
    my ($f, $a) = through($port, [
        'X-Forwarded-For', '6.6.6.6', 'X-Forwarded-Proto', 'https', 'X-Forwarded-Host', 'evil', 'X-Forwarded-Port', '1',
        'X-Real-IP', '6.6.6.6', 'Forwarded', 'for=6.6.6.6', 'X-Request-Id', 'mine-12345678', 'Host', 'site.example:8080',
    ]);
    is_deeply($f->{'x-forwarded-for'}, ['127.0.0.1'], 'X-Forwarded-For is the peer');
    is_deeply($f->{'x-forwarded-proto'}, ['http'], 'X-Forwarded-Proto');
    is_deeply($f->{'x-forwarded-host'}, ['site.example:8080'], 'X-Forwarded-Host');
    is_deeply($f->{'x-forwarded-port'}, [$port], 'X-Forwarded-Port');
    is_deeply($f->{'x-real-ip'}, ['127.0.0.1'], 'X-Real-IP');
    is($f->{forwarded}, undef, 'Forwarded of the client is gone');
    is_deeply($f->{host}, ['site.example:8080'], 'Host as the client sent it');
    like($f->{via}[0], qr/^1\.1 \S+/, 'Via');
    is(scalar @{ $f->{'x-request-id'} }, 1, 'one request id');
    isnt($f->{'x-request-id'}[0], 'mine-12345678', 'of our own');
    like($a->{via}[0], qr/^1\.1 \S+/, 'Via in the answer');
};

subtest 'switches' => sub {
    my ($f, $a) = through($port2, ['X-Request-Id', 'mine-12345678', 'Host', 'site.example'], ['Server', 'secret/1.0']);
    like($f->{forwarded}[0], qr/for="?127\.0\.0\.1"?/, 'Forwarded: for');
    like($f->{forwarded}[0], qr/proto=http/, 'Forwarded: proto');
    like($f->{forwarded}[0], qr/host="?site\.example"?/, 'Forwarded: host');
    is($f->{via}, undef, 'no Via to the server');
    is($a->{via}, undef, 'nor to the client');
    is_deeply($f->{'x-request-id'}, ['mine-12345678'], 'request id kept');
    is_deeply($f->{host}, ['fixed.example'], 'fixed host');
    is_deeply($f->{'x-forwarded-host'}, ['site.example'], 'X-Forwarded-Host tells the original');
    is($a->{server}, undef, 'Server is hidden');
    ($f) = through($port2, ['X-Request-Id', "bad id\t!" . ('x' x 300)]);
    unlike($f->{'x-request-id'}[0], qr/bad/, 'a request id that is not well-formed is replaced');
};

subtest 'a trusted proxy' => sub {
    my ($f) = through($port3, [
        'X-Forwarded-For', '6.6.6.6, 8.8.4.4, 10.1.1.1', 'X-Forwarded-Proto', 'https', 'X-Forwarded-Host', 'public.example',
        'X-Forwarded-Port', '443', 'X-Request-Id', 'edge-12345678',
    ]);
    is_deeply($f->{'x-forwarded-for'}, ['6.6.6.6, 8.8.4.4, 10.1.1.1, 127.0.0.1'], 'the chain is kept and extended');
    is_deeply($f->{'x-real-ip'}, ['8.8.4.4'], 'X-Real-IP is the first address from the right that is not trusted');
    is_deeply($f->{'x-forwarded-proto'}, ['https'], 'its proto stays');
    is_deeply($f->{'x-forwarded-host'}, ['public.example'], 'its host stays');
    is_deeply($f->{'x-forwarded-port'}, ['443'], 'its port stays');
    is_deeply($f->{'x-request-id'}, ['edge-12345678'], 'its request id stays');
    ($f) = through($port3, ['X-Forwarded-For', 'rubbish, 8.8.8.8']);
    is_deeply($f->{'x-real-ip'}, ['8.8.8.8'], 'rubbish further left does not matter');
    ($f) = through($port3, ['X-Forwarded-For', '8.8.8.8, rubbish']);
    is_deeply($f->{'x-real-ip'}, ['127.0.0.1'], 'rubbish at the right end ends the chain');
    ($f) = through($port3, ['Forwarded', 'for=8.8.8.8;proto=https']);
    like($f->{forwarded}[0], qr/^for=8\.8\.8\.8;proto=https, ?.*for="?127\.0\.0\.1"?/i, 'Forwarded is extended');
};

subtest 'hop-by-hop fields' => sub {
    my ($f, $a) = through($port, [
        'Connection', 'keep-alive, X-Drop, close, x-two', 'X-Drop', '1', 'X-Two', '2', 'X-Keep', '3', 'Keep-Alive', 'timeout=5',
        'Proxy-Connection', 'keep-alive', 'Proxy-Authorization', 'Basic x', 'TE', 'gzip', 'Trailer', 'X-T', 'Upgrade', 'h2c',
        'HTTP2-Settings', 'AAA',
    ], ['Connection', 'X-Secret', 'X-Secret', 'LEAK', 'Keep-Alive', 'timeout=9', 'Proxy-Authenticate', 'Basic', 'X-Keep', '1']);
    is($f->{$_}, undef, "$_ does not pass") for qw(x-drop x-two keep-alive proxy-connection te upgrade);
    is_deeply($f->{'x-keep'}, [3], 'others do');
    unlike(join(',', @{ $f->{connection} || [] }), qr/drop|two/i, 'what Connection named is not named again');
    is($a->{'x-secret'}, undef, 'nominated field of an answer');
    is($a->{'keep-alive'}, undef, 'Keep-Alive of an answer');
    is_deeply($a->{'x-keep'}, [1], 'others pass');
    # A client must not be able to have our own fields removed.
    ($f) = through($port, ['Connection', 'X-Forwarded-For, X-Real-IP, Host, Via, X-Request-Id']);
    ok($f->{$_}, "$_ cannot be nominated away") for qw(x-forwarded-for x-real-ip host via x-request-id);
};

subtest 'loops' => sub {
    my ($f) = through($port, []);
    my ($own) = $f->{via}[0] =~ /^1\.1 (.*)$/;
    my $c = client($port);
    $c->send(request('GET', '/', ['Via', join ', ', ("1.1 $own") x 30]));
    is($c->read_response->{status}, 508, 'a request that came through here again and again ends');
    $c->close;
    ok(!$o->try_accept(0.1), 'without a server seeing it');
};

subtest 'Max-Forwards' => sub {
    my $c = client($port);
    $c->send(request('OPTIONS', '/', ['Max-Forwards', '0']));
    is($c->read_response->{status}, 200, 'OPTIONS with 0 is answered here (RFC 9110 7.6.2)');
    $c->close;
    ok(!$o->try_accept(0.1), 'without a server seeing it');
};

subtest 'IPv6 and unix listeners' => sub {
    my $p = free_port();
    my $s6 = rpd(config => simple_config(listen => ["[::1]:$p", 'unix:<DIR>/web.sock'], server => $o->address), global => "workers = 1\n");
    my ($f) = through("[::1]:$p", []);
    is_deeply($f->{'x-forwarded-for'}, ['::1'], 'IPv6 peer');
    ($f) = through('unix:' . $s6->dir . '/web.sock', []);
    ok($f->{host}, 'unix listener serves');
    $s6->stop;
};

$trusting->stop;
$s->stop;
done_testing;
