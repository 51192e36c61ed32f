#!/usr/bin/perl
# Certificates that take care of themselves: directories of thousands, files swapped under a running rpd, broken ones, and what is told of them.
use strict;
use warnings;
use POSIX ();
use RPD::Test;
use RPD::Cert;
use RPD::Shown;
use RPD::TLS;

my $ca = ca('Test CA');
my $o = origin()->serve_requests(sub { response(200, [], "ok\n") });
sub server {
    my ($port, $certificates, %opt) = @_;
    return rpd(%opt, config => simple_config(listen => "127.0.0.1:$port", listen_keys => 'tls = on', server => $o->address, rest => $certificates),
        global => "workers = 2\ncertificate_check = 100ms\n" . ($opt{global} || ''));
}

subtest 'forms of a directory' => sub {
    my $dir = tempdir();
    my $port = free_port();
    my %c = map { $_ => cert($ca, "$_.test") } qw(one two three four five);
    cert_files($c{one}, "$dir/one.test.pem");
    cert_files($c{two}, "$dir/two.test.crt", "$dir/two.test.key");
    cert_files($c{three}, "$dir/three.test.cer", "$dir/three.test.key");
    mkdir "$dir/four.test";
    cert_files($c{four}, "$dir/four.test/fullchain.pem", "$dir/four.test/privkey.pem");
    my $wild = cert($ca, '*.wild.test');
    cert_files($wild, "$dir/_.wild.test.pem");
    spew("$dir/README", "not a certificate\n");
    for my $load ('lazy', 'eager') {
        my $s = server($port, "[certificate all]\ndirectory = $dir\nload = $load\n");
        is(shown($port, "$_.test"), $c{$_}{serial}, "$load: $_") for qw(one two three four);
        is(shown($port, 'x.wild.test'), $wild->{serial}, "$load: a wildcard");
        like(shown($port, 'nobody.test'), qr/unrecognized name|handshake failure|alert/, "$load: a name that is not there") for 1;
        $s->stop;
    }
};

subtest '10,000 certificates' => sub {
    my $dir = tempdir();
    my $port = free_port();
    many_certs($ca, $dir, 10_000);
    my $t0 = time;
    my $s = server($port, "[certificate customers]\ndirectory = $dir\n", global => "log_level = info\n");
    my $start = time - $t0;
    my $limit = $ENV{RPD_SANITIZED} ? 12 : 2;
    cmp_ok($start, '<', $limit, sprintf 'start: %.2f s', $start);
    my ($worker) = $s->workers;
    my $before = rss($worker);
    isnt(shown($port, "n$_.test"), 'no answer', "n$_.test") for 1, 5000, 10_000;
    is(shown($port, 'n777.test'), sprintf('%x', 1_000_777) =~ s/^(?=(..)*.$)/0/r, 'the right one');
    $t0 = time;
    my ($status, $out, $err) = $s->reload;
    my $took = time - $t0;
    is($status, 0, 'reload') or diag("$out$err");
    cmp_ok($took, '<', $limit, sprintf 'reload: %.2f s', $took);
    cmp_ok($before, '<', 60 << 20, "memory of a worker before any was used: $before") if !$ENV{RPD_SANITIZED};
    # Used ones cost, the others do not.
    my $t = time;
    my $bad = grep { shown($port, "n$_.test") !~ /^[0-9a-f]+$/ } map { $_ * 17 } 1 .. 200;
    is($bad, 0, sprintf '200 of them, %.1f ms each', (time - $t) * 5);
    # One more while it runs, one changed, one taken away.
    my $new = cert($ca, 'new.test');
    cert_files($new, "$dir/new.test.pem");
    becomes($port, 'new.test', $new->{serial}, 'a new file is served');
    my $changed = cert($ca, 'n17.test');
    cert_files($changed, "$dir/n17.test.pem");
    becomes($port, 'n17.test', $changed->{serial}, 'a changed one');
    unlink "$dir/n34.test.pem";
    ok(wait_for(sub { !grep { shown($port, 'n34.test') =~ /^[0-9a-f]+$/ } 1 .. 4 }, quiet => 1), 'one that was removed');
    $s->stop;
};

subtest 'max_loaded' => sub {
    my $dir = tempdir();
    my $port = free_port();
    many_certs($ca, $dir, 40, 'm%d.test');
    my $s = server($port, "[certificate few]\ndirectory = $dir\nmax_loaded = 5\n");
    my $bad = 0;
    for my $round (1 .. 3) {
        $bad += grep { shown($port, "m$_.test") ne sprintf('%x', 1_000_000 + $_) =~ s/^(?=(..)*.$)/0/r } 1 .. 40;
    }
    is($bad, 0, 'more names than may be held at once are all served');
    $s->stop;
};

subtest 'files are swapped without a reload' => sub {
    my $dir = tempdir();
    my $port = free_port();
    my @c = map { cert($ca, 'a.test') } 1 .. 4;
    cert_files($c[0], "$dir/a.crt", "$dir/a.key");
    my $b = cert($ca, 'b.test');
    cert_files($b, "$dir/b.pem");
    my $s = server($port, "[certificate a]\npair = $dir/a.crt $dir/a.key\n[certificate b]\npair = $dir/b.pem\n");
    is(shown($port, 'a.test'), $c[0]{serial}, 'the first');
    my $kept = RPD::TLS->connect($port, sni => 'a.test');
    cert_files($c[1], "$dir/a.crt", "$dir/a.key");
    becomes($port, 'a.test', $c[1]{serial}, 'the second');
    $kept->send(request('GET', '/', ['Host', 'a.test']));
    is($kept->read_response->{status}, 200, 'a connection from before goes on');
    $kept->close;
    is($s->ctl_json('status')->{generation}, 1, 'without a reload');
    my $reloads = $s->metric('rpd_certificate_reloads_total');
    cmp_ok($reloads, '>=', 1, 'counted');
    # The same by moving a link, as ACME clients do.
    mkdir "$dir/$_" for 'v1', 'v2';
    cert_files($c[2], "$dir/v1/a.crt", "$dir/v1/a.key");
    cert_files($c[3], "$dir/v2/a.crt", "$dir/v2/a.key");
    unlink "$dir/a.crt", "$dir/a.key";
    for my $k (1, 2) {
        for my $f ('a.crt', 'a.key') {
            symlink "v$k/$f", "$dir/$f.tmp";
            rename "$dir/$f.tmp", "$dir/$f";
        }
        becomes($port, 'a.test', $c[1 + $k]{serial}, "link to version $k");
    }

    for my $broken (['rubbish', sub { spew("$dir/a.crt", "rubbish\n") }], ['empty', sub { spew("$dir/a.crt", '') }],
        ['the key of another', sub { cert_files(cert($ca, 'a.test'), "$dir/a.crt", "$dir/other.key"); spew("$dir/a.key", cert($ca, 'a.test', { key => 'ec:x' })->{key_pem}) }],
        ['gone', sub { unlink "$dir/a.crt", "$dir/a.key" }]) {
        my $fails = $s->metric('rpd_certificate_failures_total');
        my $lines = () = $s->log_lines(qr/a\.(crt|key)|certificate a\b/);
        $broken->[1]->();
        ok(wait_for(sub { my $now = () = $s->log_lines(qr/a\.(crt|key)|certificate a\b/); $now > $lines }, quiet => 1), "$broken->[0]: said in the log");
        is(shown($port, 'a.test'), $c[3]{serial}, "$broken->[0]: the last good one stays") for 1 .. 4;
        is(shown($port, 'b.test'), $b->{serial}, 'others are not concerned');
        my ($status, $out) = $s->rpctl('cert');
        like($out, qr/\ba\b/, 'rpctl cert tells');
        cert_files($c[3], "$dir/a.crt", "$dir/a.key");
    }
    my $good = cert($ca, 'a.test');
    cert_files($good, "$dir/a.crt", "$dir/a.key");
    becomes($port, 'a.test', $good->{serial}, 'and a good one takes over again');
    # A worker that has to be replaced while a file is broken.
    spew("$dir/b.pem", "rubbish\n");
    my @before = $s->workers;
    kill 'KILL', $before[0];
    ok(wait_for(sub { my @now = eval { $s->workers }; @now == @before && !grep { $_ == $before[0] } @now }, quiet => 1), 'a worker is replaced while a file is broken');
    ok(wait_for(sub { ($s->rpctl('wait', 'healthy', '--timeout', '5s'))[0] =~ /^(0|10)$/ }, quiet => 1), 'it starts');
    is(shown($port, 'a.test'), $good->{serial}, 'and serves the others') for 1 .. 6;
    my ($status, $out, $err) = $s->reload;
    is($status, 1, 'a reload with a broken file is refused');
    like("$out$err", qr/rpd\.conf:\d+:\d+: error: .*b\.pem/, 'with its place');
    $s->{alerts_expected} = qr/worker .* (killed|signal)/i;
    $s->stop;
};

subtest 'rpctl cert, status, metrics' => sub {
    my $dir = tempdir();
    my $port = free_port();
    my $soon = cert($ca, 'soon.test', { days => 3 });
    my $late = cert($ca, 'late.test', '*.late.test', { days => 60 });
    my $past = cert($ca, 'past.test', { days => -2 });
    cert_files($_->[0], "$dir/$_->[1].pem") for [$soon, 'soon'], [$late, 'late'], [$past, 'past'];
    my $s = server($port, join('', map { "[certificate $_]\npair = $dir/$_.pem\n" } qw(soon late)));
    my $out = $s->ctl('cert');
    like($out, qr/^late\b.*late\.test.*Test CA.*\b(59|60)\b/m, 'late: names, issuer, days') or diag($out);
    like($out, qr/^soon\b.*soon\.test.*\b[23]\b/m, 'soon');
    like($out, qr/\Q$dir\E\/late\.pem/, 'source');
    my $json = $s->ctl_json('cert');
    ok(ref $json, 'as JSON');
    is(join(' ', map { $_->{section} // $_->{certificate} } @{ $s->ctl_json('cert', 'oon')->{certificates} }), 'soon', 'by a part of the name of a section');
    my $one = $s->ctl_json('cert', '-n', 1);
    is(@{ $one->{certificates} } . " $one->{more}", '1 1', '-n says how many');
    is(scalar @{ $s->ctl_json('cert', '.test', '-n', 5)->{certificates} }, 2, 'with a name, too');
    is(($s->rpctl('cert', @$_))[0], 2, "not understood: @$_") for ['-n'], ['-n', 0], ['-n', 'x'], ['a', 'b'];
    my ($status, $text) = $s->rpctl('status');
    like($text, qr/soon/, 'status warns of what expires soon');
    is($status, 10, 'degraded: under 7 days');
    my ($line) = grep { /^rpd_certificate_not_after_seconds\{.*soon/ } split /\n/, $s->ctl('metrics');
    my ($when) = ($line // '') =~ / (\d+)$/;
    ok(defined $when && abs($when - (CORE::time + 3 * 86400)) < 3600, 'the metric says when');
    $s->write_config(simple_config(listen => "127.0.0.1:$port", listen_keys => 'tls = on', server => $o->address,
        rest => join('', map { "[certificate $_]\npair = $dir/$_.pem\n" } qw(soon late past))));
    my ($code, $said, $err) = $s->reload;
    is($code, 0, 'an expired certificate is no error') or diag("$said$err");
    like($said . $err . join("\n", $s->log_lines), qr/past.*expired|expired.*past/s, 'but a warning');
    is(shown($port, 'past.test'), $past->{serial}, 'and is served');
    $s->stop;
};

subtest 'workers that may not read the files' => sub {
    plan(skip_all => 'not root') if $> != 0;
    my $dir = tempdir();
    my $port = free_port();
    my $a = cert($ca, 'a.test');
    my $b = cert($ca, 'b.test');
    cert_files($a, "$dir/a.pem");
    mkdir "$dir/all";
    cert_files($b, "$dir/all/b.test.pem");
    chmod 0600, "$dir/a.pem", "$dir/all/b.test.pem";
    chmod 0700, "$dir/all";
    # Its own directory holds logs and sockets; that one is for everybody.
    my $s = server($port, "[certificate a]\npair = $dir/a.pem\n[certificate all]\ndirectory = $dir/all\n", global => "user = nobody\n");
    my ($worker) = $s->workers;
    my ($uid) = slurp("/proc/$worker/status") =~ /^Uid:\s+(\d+)/m;
    isnt($uid, 0, "workers are $uid");
    is(shown($port, 'a.test'), $a->{serial}, 'a pair, read before rights were dropped') for 1 .. 4;
    is(shown($port, 'b.test'), $b->{serial}, 'one of a directory, when it is needed') for 1 .. 4;
    my $c = cert($ca, 'a.test');
    my $d = cert($ca, 'b.test');
    cert_files($c, "$dir/a.pem");
    cert_files($d, "$dir/all/b.test.pem");
    chmod 0600, "$dir/a.pem", "$dir/all/b.test.pem";
    becomes($port, 'a.test', $c->{serial}, 'a changed pair');
    becomes($port, 'b.test', $d->{serial}, 'a changed one of a directory');
    my $e = cert($ca, 'e.test');
    cert_files($e, "$dir/all/e.test.pem");
    chmod 0600, "$dir/all/e.test.pem";
    becomes($port, 'e.test', $e->{serial}, 'a new one');
    kill 'KILL', $worker;
    ok(wait_for(sub { my @now = eval { $s->workers }; @now == 2 && !grep { $_ == $worker } @now }, quiet => 1), 'a worker is replaced');
    is(shown($port, 'a.test'), $c->{serial}, 'it has the pair') for 1 .. 6;
    is(shown($port, 'b.test'), $d->{serial}, 'and the directory') for 1 .. 6;
    # Where handshakes wait for a file, others go on: many names at once, each for the first time.
    many_certs($ca, "$dir/all", 60, 'w%d.test');
    is(($s->reload)[0], 0, 'sixty more');
    my @pids = map {
        my $k = $_;
        my $pid = fork;
        if (!$pid) {
            my @bad = grep { $_->[1] ne $_->[2] } map {
                my $nth = $_ * 5 + $k;
                ["w$nth.test", shown($port, "w$nth.test"), sprintf('%x', 1_000_000 + $nth) =~ s/^(?=(..)*.$)/0/r]
            } 0 .. 11;
            diag("$_->[0]: $_->[1], not $_->[2]") for @bad;
            POSIX::_exit(scalar @bad);
        }
        $pid;
    } 1 .. 5;
    my $bad = 0;
    for (@pids) { waitpid $_, 0; $bad += $? >> 8 }
    is($bad, 0, 'all at once');
    $s->stop;
};

subtest 'preflight says where' => sub {
    my $dir = tempdir();
    my $port = free_port();
    my $a = cert($ca, 'a.test');
    my $wrong = cert($ca, 'a.test', { wrong_key => 1 });
    cert_files($a, "$dir/a.pem");
    my $s = server($port, "[certificate a]\npair = $dir/a.pem\n");
    my $try = sub {
        my ($rest, $listen) = @_;
        $s->write_config(simple_config(listen => "127.0.0.1:$port", listen_keys => "tls = on\n" . ($listen || ''), server => $o->address, rest => $rest));
        my ($code, $out, $err) = $s->reload;
        my ($check, $o2, $e2) = $s->rpctl('check', $s->conf);
        return ($code, "$out$err", $check, "$o2$e2");
    };
    spew("$dir/nokey.pem", $a->{cert_pem});
    spew("$dir/nocert.pem", $a->{key_pem});
    mkdir "$dir/empty";
    for my $case (
        ['a file that is not there', "[certificate a]\npair = $dir/none.pem\n", qr/none\.pem/],
        ['a certificate without its key', "[certificate a]\npair = $dir/nokey.pem\n", qr/nokey\.pem/],
        ['a key without its certificate', "[certificate a]\npair = $dir/nocert.pem\n", qr/nocert\.pem/],
        ['the key of another', "[certificate a]\npair = $wrong->{cert} $wrong->{key}\n", qr/key/],
        ['a directory that is not there', "[certificate a]\ndirectory = $dir/none\n", qr/none/],
        ['a client_ca that is not there', "[certificate a]\npair = $dir/a.pem\n", qr/ca\.pem/, "client_ca = $dir/ca.pem"],
        ['an OCSP response that is none', "[certificate a]\npair = $dir/a.pem\nocsp = $dir/a.pem\n", qr/ocsp|OCSP/],
    ) {
        my ($code, $said, $check, $checked) = $try->($case->[1], $case->[3]);
        is($code, 1, "$case->[0]: the reload is refused");
        like($said, qr/rpd\.conf:\d+:\d+: error: .*$case->[2]/, 'with its place') or diag($said);
        isnt($check, 0, 'rpctl check sees it too') or diag($checked);
    }
    is($s->ctl_json('status')->{generation}, 1, 'still generation 1');
    is(shown($port, 'a.test'), $a->{serial}, 'which serves');
    if ($> == 0) {
        chmod 0, "$dir/a.pem";
        my ($code, $said) = $try->("[certificate a]\npair = $dir/a.pem\n");
        is($code, 0, 'root reads keys that nobody may read') or diag($said);
    }
    $s->stop;
};

done_testing;
