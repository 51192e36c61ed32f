#!/usr/bin/perl
# Requests that come together: their answers go out together, in order and whole, whatever stands among them and however the client
# reads.
use strict;
use warnings;
use RPD::Test;
use RPD::Cert;
use RPD::TLS;
use Socket qw(IPPROTO_TCP);

my ($port, $tls) = (free_port(), free_port());
my $o = origin();
my $ca = ca();
my $cert = cert($ca, 'a.test');
my $s = rpd(config => simple_config(
    listen => "127.0.0.1:$port", server => $o->address,
    top => "[listen tls]\naddress = 127.0.0.1:$tls\ntls = on\nkeepalive_requests = 100000\n[certificate a]\npair = $cert->{both}\ndefault = on\n[cache main]\nsize = 16m\n"
        . "[log main]\nfile = <DIR>/access.log\nflush = 10ms\nformat = \"%{uri} %{status} %{bytes_out} %{reason}\"",
    defaults => 'access_log = main', listen_keys => "https_redirect = off\nkeepalive_requests = 100000",
    rest => "[route any/stored]\npath = /c/*\ncache = main\n[route any/own]\npath = /own\nreturn = 200 \"mine\"\n",
), global => "workers = 1\n");
my %stored = map { $_ => "$_ " x ($_ eq 'big' ? 20_000 : 1000) } qw(one two big);

my $get = sub { return join '', map { request('GET', $_) } @_ };
my $metric = sub { return $s->metric('rpd_client_sent_bytes_total') };

for my $how (['plain', sub { return client($port, @_) }], ['TLS', sub { return RPD::TLS->connect($tls, sni => 'a.test', @_) }]) {
    my ($name, $connect) = @$how;
    # Each scheme has answers of its own.
    for my $what (sort keys %stored) {
        my $c = $connect->();
        $c->send(request('GET', "/c/$what"));
        my $oc = $o->accept;
        $oc->read_request;
        $oc->send(response(200, ['Cache-Control', 'max-age=3600'], $stored{$what}));
        is($c->read_response->{body}, $stored{$what}, "$what is stored");
        $_->close for $c, $oc;
    }

    subtest "$name: in order" => sub {
        my $c = $connect->();
        my @paths = (('/c/one', '/own', '/c/two', '/c/big', '/own') x 4, '/c/one');
        $c->send($get->(@paths));
        for my $path (@paths) {
            my $want = $path eq '/own' ? 'mine' : $stored{ ($path =~ m{([^/]+)$})[0] };
            my $r = $c->read_response;
            ok($r->{status} == 200 && $r->{body} eq $want, $path);
        }
        $c->send($get->('/c/one') . request('HEAD', '/c/one') . request('GET', '/c/two', ['Range', 'bytes=0-2']) . $get->('/own'));
        is($c->read_response->{body}, $stored{one}, 'GET');
        is($c->read_response(method => 'HEAD')->{status}, 200, 'HEAD');
        is($c->read_response->{body}, 'two', 'a range');
        is($c->read_response->{body}, 'mine', 'and one of its own');
        $c->close;
    };

    subtest "$name: answers do not wait for what comes behind them" => sub {
        my $c = $connect->();
        my $next = request('GET', '/c/two');
        $c->send($get->('/c/one', '/own') . substr $next, 0, 10);
        is($c->read_response->{body}, $stored{one}, 'before half a head: the first');
        is($c->read_response->{body}, 'mine', 'the second');
        $c->send(substr($next, 10) . $get->('/c/one', '/far', '/c/two'));
        is($c->read_response->{body}, $stored{$_}, "before a request that is forwarded: $_") for qw(two one);
        my $oc = $o->accept;
        is($oc->read_request->{target}, '/far', 'which is on its way');
        $oc->send(response(200, [], 'from afar'));
        is($c->read_response->{body}, 'from afar', 'and is answered');
        is($c->read_response->{body}, $stored{two}, 'then the last');
        $_->close for $c, $oc;
    };

    subtest "$name: the end within" => sub {
        my $c = $connect->();
        $c->send($get->('/c/one', '/own') . request('GET', '/c/two', ['Connection', 'close']) . $get->('/own'));
        is($c->read_response->{body}, $_, 'before the end') for $stored{one}, 'mine';
        my $last = $c->read_response;
        is($last->{body}, $stored{two}, 'the last');
        is($last->{fields}{connection}[0], 'close', 'says so');
        ok($c->closed && !$c->is_reset, 'closed in peace');
        $c = $connect->();
        $c->send($get->('/c/one', '/own') . "GET /a b HTTP/1.1\r\n\r\n" . $get->('/own'));
        is($c->read_response->{body}, $_, 'before what is no request') for $stored{one}, 'mine';
        is($c->read_response->{status}, 400, 'which is refused');
        ok($c->closed && !$c->is_reset, 'and closes');
    };

    subtest "$name: a client that does not read" => sub {
        my $most = 6000;
        my $before = $metric->();
        my $c = $connect->(rcvbuf => 4096, keep => 0);
        # One byte is missing in the end: a head waits while the answers do.
        my $text = $get->(('/c/one', '/own', '/c/two') x ($most / 3));
        my $late = substr $text, -1, 1, '';
        $c->send($text);
        my ($requests, $unsent);
        wait_for(sub { ($requests, $unsent) = $s->ctl('conns') =~ / req=(\d+) .*unsent=([1-9]\d*)$/m }, what => 'answers that are not read');
        cmp_ok($unsent, '<', 200_000, 'answers wait only so many');
        cmp_ok($requests, '<', $most, 'and requests wait to be read');
        my ($n, $bytes) = (0, 0);
        while ($n < $most) {
            $c->send($late) if $n == $most - 1;
            my $want = (map { $_ eq 'own' ? 'mine' : $stored{$_} } qw(one own two))[$n % 3];
            my $r = $c->read_response;
            last if $r->{status} != 200 || $r->{body} ne $want;
            $n++;
            $bytes += length($r->{head}) + length $want;
        }
        is($n, $most, 'each gets its answer');
        $c->send($get->('/own'));
        my $r = $c->read_response;
        is($r->{body}, 'mine', 'and the connection is as good as before');
        $bytes += length($r->{head}) + 4;
        $c->close;
        wait_for(sub { return $metric->() - $before >= $bytes });
        cmp_ok($metric->() - $before, '>=', $bytes, 'all bytes are counted');
        cmp_ok($metric->() - $before, '<', $bytes + 20_000, 'once');
    };
}

subtest 'together' => sub {
    my $c = client($port);
    $c->send($get->(('/c/one') x 40));
    is($c->read_response->{body}, $stored{one}, 'answered') for 1 .. 40;
    # struct tcp_info: tcpi_data_segs_in
    my $segments = unpack 'x152 L', getsockopt($c->sock, IPPROTO_TCP, 11);
    cmp_ok($segments, '<', 20, '40 answers in fewer segments');
    $c->close;
};

subtest 'the log' => sub {
    my ($text, $sum);
    wait_for(sub {
        $text = slurp($s->dir . '/access.log');
        $sum = 0;
        $sum += $_ for $text =~ /^\S+ \d+ (\d+) /mg;
        return $sum == $metric->();
    }, quiet => 1);
    is($sum, $metric->(), 'has each byte once');
    is_deeply([grep { !/^\S+ (?:200 \d+ -|206 \d+ -|400 \d+ \S+)$/ } split /\n/, $text], [], 'and nothing odd');
};

$s->stop;
done_testing();
