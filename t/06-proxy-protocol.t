#!/usr/bin/perl
# PROXY protocol v1 and v2: addresses conveyed by those who may, everything malformed closed without a word.
use strict;
use warnings;
use Socket qw(inet_aton inet_pton AF_INET6);
use RPD::Test;

my ($on, $from, $strangers) = map { free_port() } 1 .. 3;
my $o = origin();
my $s = rpd(config => <<"END", global => "workers = 1\n");
[defaults]
head_timeout = 1s
[log main]
file = <DIR>/access.log
flush = 10ms
format = "%{client_ip} %{status}"
[listen on]
address = 127.0.0.1:$on
proxy_protocol = on
[listen from]
address = 127.0.0.1:$from
proxy_protocol = from 127.0.0.0/24
[listen strangers]
address = 127.0.0.1:$strangers
proxy_protocol = from 192.0.2.0/24
[upstream app]
server = @{[ $o->address ]}
[host any]
names = *
upstream = app
END

sub v2 {
    my ($command, $family, $payload, %opt) = @_;
    return "\r\n\r\n\0\r\nQUIT\n" . pack('CCn', $opt{version} // (0x20 | $command), $family, $opt{length} // length $payload) . $payload;
}
my $tcp4 = inet_aton('203.0.113.9') . inet_aton('192.0.2.1') . pack('nn', 4711, 443);
my $tcp6 = inet_pton(AF_INET6, '2001:db8::9') . inet_pton(AF_INET6, '2001:db8::1') . pack('nn', 4711, 443);
my $tlv = sub { pack('Cn', $_[0], length $_[1]) . $_[1] };

my @good = (
    ['v1 TCP4', "PROXY TCP4 203.0.113.9 192.0.2.1 4711 443\r\n", '203.0.113.9'],
    ['v1 TCP6', "PROXY TCP6 2001:db8::9 2001:db8::1 4711 443\r\n", '2001:db8::9'],
    ['v1 UNKNOWN', "PROXY UNKNOWN\r\n", '127.0.0.1'],
    ['v1 UNKNOWN with rubbish', "PROXY UNKNOWN ffff:f ff 1 2\r\n", '127.0.0.1'],
    ['v2 TCP4', v2(1, 0x11, $tcp4), '203.0.113.9'],
    ['v2 TCP6', v2(1, 0x21, $tcp6), '2001:db8::9'],
    ['v2 with TLVs', v2(1, 0x11, $tcp4 . $tlv->(4, 'x' x 100) . $tlv->(0xe0, 'y' x 1000)), '203.0.113.9'],
    ['v2 LOCAL', v2(0, 0x00, ''), '127.0.0.1'],
    ['v2 LOCAL with an address', v2(0, 0x11, $tcp4), '127.0.0.1'],
    ['v2 UNSPEC', v2(1, 0x00, ''), '127.0.0.1'],
);
for my $row (@good) {
    my ($name, $bytes, $ip) = @$row;
    for my $split (0, 1) {
        my $c = client($on);
        my $all = $bytes . request('GET', '/');
        $split ? $c->send_split($all, 1 .. length $bytes) : $c->send($all);
        my $oc = $o->accept;
        my $r = $oc->read_request;
        is_deeply($r->{fields}{'x-forwarded-for'}, [$ip], "$name" . ($split ? ', byte by byte' : ''));
        $oc->send(response(200, ['Connection', 'close'], ''));
        is($c->read_response->{status}, 200, "$name: answered");
        $_->close for $c, $oc;
    }
}
my @lines = $s->access_lines(2 * @good);
is_deeply([map { (split / /)[0] } @lines], [map { ($_->[2]) x 2 } @good], 'the access log shows the conveyed address');

my @bad = (
    ['no header', ''], ['v1 unknown family', "PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n"], ['v1 bad address', "PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n"],
    ['v1 family and address differ', "PROXY TCP4 2001:db8::9 2001:db8::1 1 2\r\n"],
    ['v1 bad port', "PROXY TCP4 1.2.3.4 1.2.3.4 1 99999\r\n"], ['v1 leading zero', "PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n"],
    ['v1 bare LF', "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n"], ['v1 two blanks', "PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n"],
    ['v1 too long', 'PROXY UNKNOWN ' . ('x' x 200) . "\r\n"], ['v1 in small letters', "proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n"],
    ['v2 bad signature', "\r\n\r\n\0\r\nQUIX\n" . pack('CCn', 0x21, 0x11, 12) . $tcp4],
    ['v2 version 3', v2(1, 0x11, $tcp4, version => 0x31)], ['v2 bad command', v2(2, 0x11, $tcp4)],
    ['v2 address cut', v2(1, 0x11, substr($tcp4, 0, 8))], ['v2 too long', v2(1, 0x11, $tcp4, length => 60000)],
);
for my $row (@bad) {
    my ($name, $bytes) = @$row;
    my $c = client($on);
    $c->send($bytes . request('GET', '/'), quiet => 1);
    is(eval { $c->read_eof }, '', "$name: closed without an answer");
    $c->close;
}
ok(!$o->try_accept(0.1), 'no origin has seen these');

subtest 'only from those who may' => sub {
    my $c = client($from);
    $c->send("PROXY TCP4 203.0.113.9 192.0.2.1 4711 443\r\n" . request('GET', '/'));
    my $oc = $o->accept;
    is_deeply($oc->read_request->{fields}{'x-forwarded-for'}, ['203.0.113.9'], 'a listed peer');
    $oc->send(response(200, ['Connection', 'close'], ''));
    $c->read_response;
    $_->close for $c, $oc;
    $c = client($strangers);
    $c->send(request('GET', '/'));
    $oc = $o->accept;
    is_deeply($oc->read_request->{fields}{'x-forwarded-for'}, ['127.0.0.1'], 'others need none');
    $oc->send(response(200, ['Connection', 'close'], ''));
    $c->read_response;
    $_->close for $c, $oc;
    $c = client($strangers);
    $c->send("PROXY TCP4 203.0.113.9 192.0.2.1 4711 443\r\n" . request('GET', '/'));
    is($c->read_response->{status}, 400, 'and may not send one');
    $c->close;
};

subtest 'a header that never ends' => sub {
    my $c = client($on);
    $c->send('PROXY TCP4 ');
    ok($c->closed(timeout => 10), 'is closed after head_timeout');
    $c->close;
};

$s->stop;
done_testing;
