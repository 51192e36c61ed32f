#!/usr/bin/perl
# Reloads, rotation of certificates and deaths of workers under TLS and HTTP/2: reloads cost nobody anything, deaths only who was there.
use strict;
use warnings;
use RPD::Test;
use RPD::Cert;
use RPD::H2;
use RPD::Load;
use RPD::Real;
use RPD::TLS;

my $long = ($ENV{RPD_STORM} || '') eq 'long';
my $fast = $long ? 500 : $ENV{RPD_SANITIZED} ? 25 : 80;
my $kills = $long ? 100 : $ENV{RPD_SANITIZED} ? 8 : 25;

my $ca = ca('Test CA');
my $nginx = nginx_origin();
my $node = node_origin();
my ($port, $plain) = (free_port(), free_port());
my $dir = tempdir();
my @certs = map { cert($ca, 'a.test', 'localhost') } 1 .. 10;
my $rotation = 0;
sub rotate { cert_files($certs[$rotation++ % @certs], "$dir/a.crt", "$dir/a.key") }
rotate();
many_certs($ca, $dir, 200) if mkdir "$dir/many";
my $config = sub {
    my ($n) = @_;
    return <<"END";
[defaults]
max_body = 0
h2_misbehaviour = 0
[certificate a]
pair = $dir/a.crt $dir/a.key
[certificate many]
directory = $dir/many
[listen tls]
address = 127.0.0.1:$port
tls = on
[listen h2c]
address = 127.0.0.1:$plain
https_redirect = off
[upstream nginx]
server = $nginx->{address}
[upstream node]
server = $node->{address}
[host any]
names = *
upstream = nginx
[host node]
names = localhost
upstream = node
[route any/n]
path = /n
return = 200 "$n"
END
};
my $global = sub { "workers = $_[0]\ncertificate_check = 100ms\n" };
my $s = rpd(config => $config->(0), global => $global->(2), expect_alerts => qr/crash_loop/);
sub reload {
    my ($n, $workers) = @_;
    $s->write_config($config->($n), global => $global->($workers));
    my ($status, $out, $err) = $s->reload;
    die "reload $n: $out$err" if $status != 0;
}
sub summary {
    my ($r, $name, $least, $share) = @_;
    my $failed = @{ $r->{failures} };
    cmp_ok($failed, '<=', $r->{count} * ($share || 0), "$name: $failed failures of $r->{count}") or diag(join "\n", splice @{ $r->{failures} }, 0, 5);
    cmp_ok($r->{count}, '>=', $least, sprintf '%s: enough was done; the slowest took %.2f s', $name, $r->{slowest});
}
sub tls { return RPD::TLS->connect($port, sni => 'a.test', ca => $ca->{file}, keep => 0, @_) }
sub get {
    my ($c) = @_;
    $c->send(request('GET', '/small', ['Host', 'a.test', 'Connection', 'close']));
    my $r = $c->read_response;
    $c->close;
    die "status $r->{status}" if $r->{status} != 200;
}

# An HTTP/2 client as they should be: it repeats what was surely not acted upon, on a new connection after GOAWAY.
my ($h2, $used);
sub h2_get {
    my ($path, $check, %opt) = @_;
    for my $try (1 .. 5) {
        if (!$h2 || $h2->{eof} || @{ $h2->goaway }) {
            $h2->close if $h2;
            $h2 = RPD::H2->connect($port, tls => { sni => 'a.test', ca => $ca->{file} }, authority => $opt{authority} || 'a.test');
        }
        my @ids = map { $h2->request('GET', $path) } 1 .. $opt{parallel} || 1;
        my $again = 0;
        for my $id (@ids) {
            my $r = $h2->response($id);
            if (($r->{status} || 0) == 200 && $r->{ended}) { $check->($r) }
            elsif ($r->{gone} || ($r->{error} // '') eq 'REFUSED_STREAM') { $again = 1 }
            # The connection was closed after its GOAWAY, before this request was seen.
            elsif ($r->{lost} && @{ $h2->goaway } && !defined $r->{status} && $id > $h2->goaway->[-1]{last}) { $again = 1 }
            else { die 'status ' . ($r->{status} // 'none') . ', ' . ($r->{error} // 'no reset') . ', ' . ($r->{lost} ? 'lost' : '') . ' goaway ' . join(',', map { "$_->{last}:$_->{error}" } @{ $h2->goaway }) }
            delete $h2->{streams}{$id};
        }
        return if !$again;
    }
    die 'refused five times';
}

subtest "$fast reloads, a certificate rotated at every third" => sub {
    my @load = (
        ['new TLS connections', load_start(sub { get(tls()) }, processes => 2), $fast],
        ['resumed ones', load_start(do {
            my $session;
            sub {
                my $c = tls(version => '1.2', $session ? (session => $session) : ());
                my $was = $session ? 1 : 0;
                $session = $c->session if !$c->resumed;
                get($c);
            }
        }), $fast],
        ['h2', load_start(sub { h2_get('/small', sub { $_[0]{nbody} > 10 or die 'short' }, parallel => 10) }, processes => 2), $fast],
        ['a new h2 connection each', load_start(sub {
            my $h = RPD::H2->connect($plain);
            my $r = $h->get('/small');
            $h->close;
            die "status " . ($r->{status} // 'none') if ($r->{status} || 0) != 200;
        }), $fast],
    );
    my $t0 = time;
    for my $n (1 .. $fast) {
        rotate() if $n % 3 == 0;
        reload($n, 2);
        my $seen = http_get($plain, '/n', 'Host', 'a.test')->{body};
        is($seen, $n, "reload $n is in force when it has been answered") if $seen ne $n;
    }
    diag(sprintf '%d reloads, %.0f ms each', $fast, (time - $t0) * 1000 / $fast);
    summary(load_finish($_->[1]), $_->[0], $_->[2]) for @load;
};

subtest 'rotation alone' => sub {
    my $load = load_start(sub { get(tls()) }, processes => 3);
    my %seen;
    my $t0 = time;
    for my $k (1 .. 10) {
        rotate();
        my $want = $certs[($rotation - 1) % @certs]{serial};
        my $ok = wait_for(sub { my $c = tls(); my $got = $c->peer->{serial}; $c->close; $got eq $want }, quiet => 1, timeout => 5);
        $seen{$want} = 1 if $ok;
    }
    is(scalar keys %seen, 10, sprintf '10 certificates in %.1f s', time - $t0);
    summary(load_finish($load), 'connections meanwhile', 50);
};

subtest 'transfers over reloads, workers coming and going' => sub {
    my $n = 4 << 20;
    my @load = (
        ['h2 downloads', load_start(sub {
            my $h = RPD::H2->connect($port, tls => { sni => 'localhost', ca => $ca->{file} }, authority => 'localhost', keep => 0, rcvbuf => 65536);
            my $id = $h->request('GET', "/download?n=$n&length=1");
            my $st = $h->response($id, head => 1);
            for my $k (1 .. 8) {
                $h->pump(sub { $st->{nbody} >= $n * $k / 8 || defined $st->{reset} });
                select undef, undef, undef, 0.05;
            }
            my $r = $h->response($id);
            $h->close;
            die "short: $r->{nbody} " . ($r->{error} // '') if $r->{nbody} != $n;
        }, processes => 2)],
        ['h2 uploads', load_start(sub {
            my $h = RPD::H2->connect($port, tls => { sni => 'localhost', ca => $ca->{file} }, authority => 'localhost');
            my $id = $h->request('POST', '/upload', ['content-length', $n], undef, end => 0);
            my $piece = random_bytes($n / 8);
            for my $k (1 .. 8) {
                $h->send_body($id, $piece, end => $k == 8) == $n / 8 or die 'stopped: ' . ($h->stream($id)->{error} // 'closed');
                select undef, undef, undef, 0.05;
            }
            my $r = $h->response($id);
            $h->close;
            die "answer " . ($r->{body} // '') if $r->{body} !~ /"n":$n,/;
        }, processes => 2)],
        ['TLS downloads', load_start(sub {
            my $c = RPD::TLS->connect($port, sni => 'localhost', ca => $ca->{file}, keep => 0, rcvbuf => 65536);
            $c->send(request('GET', "/download?n=$n&length=1", ['Host', 'localhost', 'Connection', 'close']));
            $c->read_head =~ /^HTTP\/1.1 200/ or die 'head';
            my $got = 0;
            for (1 .. 8) { $got += $c->drain($n / 8); select undef, undef, undef, 0.05 }
            $c->close;
            die "short: $got" if $got != $n;
        }, processes => 2)],
    );
    my $t0 = time;
    for (my $k = 1; $k <= ($ENV{RPD_SANITIZED} ? 10 : 25) || time - $t0 < 8; $k++) {
        rotate() if $k % 4 == 0;
        reload($fast + $k, (2, 4, 1, 3)[$k % 4]);
    }
    summary(load_finish($_->[1]), $_->[0], 4) for @load;
    is($s->metric('rpd_connections_aborted_total'), 0, 'nothing was aborted');
};

subtest "$kills workers killed" => sub {
    reload($fast + 1000, 3);
    my @load = (
        ['TLS', load_start(sub { get(tls()) }, processes => 2), 20, 0.25],
        ['h2', load_start(sub { undef $h2 if !eval { h2_get('/small', sub { }, parallel => 5); 1 } and my $e = $@; die $e if $e }, processes => 2), 20, 0.25],
    );
    my $healthy = 0;
    for my $k (1 .. $kills) {
        my ($victim) = grep { $_ && kill 0, $_ } map { my @w = eval { $s->workers }; $w[rand @w] } 1 .. 8;
        next if !$victim || !kill 'KILL', $victim;
        rotate() if $k % 5 == 0;
        # The next blow falls when a successor is there and service has gone on.
        my $seen = load_count($load[0][1]);
        $healthy += wait_for(sub {
            my @now = eval { $s->workers };
            @now && !(grep { $_ == $victim } @now) && load_count($load[0][1]) > $seen + 10;
        }, quiet => 1, timeout => 30) ? 1 : 0;
    }
    is($healthy, $kills, 'service went on after each death');
    summary(load_finish($_->[1]), @$_[0, 2, 3]) for @load;
    is(($s->rpctl('fsck'))[0], 0, 'fsck is clean');
    for (1 .. 10) { get(tls()) }
    pass('all is well afterwards');
};

is(($s->rpctl('wait', 'idle', '--timeout', '40s'))[0], 0, 'old generations end');
$s->stop(idle_timeout => 30);
done_testing;
