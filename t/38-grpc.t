#!/usr/bin/perl
# gRPC from end to end, with its own client and server: every kind of call, metadata both ways, errors, deadlines, over h2c and TLS.
use strict;
use warnings;
use RPD::Test;
use RPD::Cert;
use RPD::H2;
use RPD::Real;

my $ca = ca('Test CA');
my $cert = cert($ca, 'grpc.test', 'localhost');
my $plain = grpc_origin() or plan(skip_all => 'python3-grpcio is not installed');
my $secure = grpc_origin(cert => $cert->{cert}, key => $cert->{key});
my ($h2c, $tls, $both) = (free_port(), free_port(), free_port());
my $o = origin();
my $s = rpd(config => <<"END", global => "workers = 2\n");
[log main]
file = <DIR>/access.log
flush = 10ms
format = "%{status} %{reason} %{uri}"
[defaults]
max_body = 0
[certificate grpc]
pair = $cert->{both}
[listen h2c]
address = 127.0.0.1:$h2c
protocols = h2
https_redirect = off
[listen tls]
address = 127.0.0.1:$tls
tls = on
[listen both]
address = 127.0.0.1:$both
protocols = h2
https_redirect = off
[upstream plain]
server = $plain->{address}
protocol = h2c
[upstream secure]
server = https://$secure->{address} tls_name=grpc.test tls_ca=$ca->{file}
protocol = h2
[upstream raw]
server = @{[ $o->address ]}
protocol = h2c
[host plain]
names = *
listen = h2c
upstream = plain
[host secure]
names = grpc.test localhost
listen = tls
upstream = secure
[host raw]
names = raw.test
listen = both
upstream = raw
END
my %want = (
    unary => sub { $_[0]{value} eq 'hello' && $_[0]{initial} eq 'yes' && $_[0]{code} eq 'OK' && $_[0]{trailing}{'x-trailing'} eq 'after' && $_[0]{trailing}{'x-bin-bin'} eq '0001ff' },
    big => sub { $_[0]{same} && $_[0]{digest} },
    stream => sub { $_[0]{n} == 1000 && $_[0]{last} eq '999' },
    broken => sub { $_[0]{n} == 2 && $_[0]{code} eq 'DATA_LOSS' && $_[0]{details} eq 'in the middle' },
    client_stream => sub { $_[0]{value} eq '500000' },
    bidi => sub { $_[0]{n} == 50 && $_[0]{last} eq 're: 49' },
    parallel => sub { $_[0]{right} == 200 },
    fail => sub { $_[0]{code} eq 'FAILED_PRECONDITION' && $_[0]{details} eq "no: why \xe4 %" },
    unknown => sub { $_[0]{code} eq 'UNIMPLEMENTED' },
    deadline => sub { $_[0]{code} eq 'DEADLINE_EXCEEDED' && $_[0]{seconds} < 5 },
    cancel => sub { $_[0]{cancelled} },
    after => sub { $_[0]{value} eq 'hello' },
);
for my $case (['h2c', "127.0.0.1:$h2c"], ['TLS on both sides', "127.0.0.1:$tls", $ca->{file}, 'grpc.test']) {
    my ($name, @args) = @$case;
    subtest $name => sub {
        my ($status, $lines, $err) = tool('grpc_app.py', 'client', @args);
        is($status, 0, 'the client ends well') or diag($err);
        my %got = map { ($_->{name} // 'text') => $_ } @$lines;
        for my $call (qw(unary big stream broken client_stream bidi parallel fail unknown deadline cancel after)) {
            ok($got{$call} && $want{$call}->($got{$call}), $call) or diag(explain($got{$call}));
        }
    };
}

subtest 'logs' => sub {
    my @lines = $s->access_lines(20);
    ok((grep { m{^200 grpc_failed_precondition /test.App/Fail} } @lines), 'the status of gRPC is the reason') or diag(grep { /Fail/ } map { "$_\n" } @lines);
    ok((grep { m{^200 (ok|-) /test.App/Echo} } @lines), 'success') or diag(grep { /Echo/ } map { "$_\n" } @lines);
};

# The frames of it, seen at an origin that goes by frames.
subtest 'frames' => sub {
    my $h = RPD::H2->connect($both, authority => 'raw.test');
    my $open = sub { $h->request('POST', '/s/M', ['content-type', 'application/grpc+proto', 'te', 'trailers', 'grpc-timeout', '5S', @_], undef, end => 0) };
    my $id = $open->('x-key-bin', 'AAH/');
    my $g = RPD::H2->new($o->accept, server => 1);
    my $r = $g->read_request(head => 1);
    is($r->{fields}{te}[0], 'trailers', 'te: trailers');
    is($r->{fields}{'grpc-timeout'}[0], '5S', 'grpc-timeout');
    is($r->{fields}{'x-key-bin'}[0], 'AAH/', 'binary metadata');
    is($r->{fields}{'content-length'}, undef, 'no length');
    my $st = $h->stream($id);
    # Ping-pong before either side has ended: nothing may wait for more.
    $g->headers($r->{id}, [':status', 200, 'content-type', 'application/grpc+proto']);
    ok($h->pump(sub { $st->{status} }), 'the head of the answer comes while the request is open');
    for my $k (1 .. 5) {
        my $m = "\0\0\0\0\5hell$k";
        $h->data($id, $m);
        ok($g->pump(sub { $r->{nbody} == 10 * $k }), "message $k up at once");
        $g->data($r->{id}, $m);
        ok($h->pump(sub { $st->{nbody} == 10 * $k }), 'and down at once');
    }
    $h->data($id, '', end => 1);
    ok($g->pump(sub { $r->{ended} }), 'an empty DATA frame ends the request');
    $g->headers($r->{id}, ['grpc-status', '0', 'grpc-message', '', 'x-end', 'now'], end => 1);
    $h->response($id);
    is_deeply([map { $_->[0] } @{ $st->{trailers} }{qw(grpc-status x-end)}], ['0', 'now'], 'trailers');
    is($st->{body}, join('', map { "\0\0\0\0\5hell$_" } 1 .. 5), 'the messages');
    # Trailers only.
    $id = $open->();
    $r = $g->read_request(head => 1);
    $g->headers($r->{id}, [':status', 200, 'content-type', 'application/grpc', 'grpc-status', '7', 'grpc-message', 'denied'], end => 1);
    $h->pump(sub { $h->stream($id)->{status} });
    is($h->stream($id)->{fields}{'grpc-status'}[0], '7', 'trailers-only answers');
    $h->data($id, '', end => 1);
    ok($h->response($id)->{ended}, 'end');
    # The server ends before the client: NO_ERROR tells it to stop (RFC 9113 8.1).
    $id = $open->();
    $h->data($id, 'x' x 100);
    $r = $g->read_request(head => 1);
    $g->headers($r->{id}, [':status', 200, 'content-type', 'application/grpc']);
    $g->headers($r->{id}, ['grpc-status', '3'], end => 1);
    $g->rst($r->{id}, 'NO_ERROR');
    $st = $h->response($id);
    is(($st->{trailers}{'grpc-status'} || ['none'])->[0], '3', 'an early end keeps its trailers');
    # An error of our own is one of gRPC: status 200 and UNAVAILABLE, or a plain 50x, which clients map to it.
    $g->close;
    $o->close;
    $id = $h->request('POST', '/s/M', ['content-type', 'application/grpc', 'te', 'trailers'], "\0\0\0\0\0");
    $st = $h->response($id);
    my $code = ($st->{fields}{'grpc-status'} || $st->{trailers}{'grpc-status'} || [''])->[0];
    ok($code eq '14' || $st->{status} =~ /^50[234]$/, "no server: status $st->{status}, grpc-status '$code'");
    $h->close;
};

$s->stop;
done_testing;
