#!/usr/bin/perl
# Certificates and deaths: who comes for a dead worker has the last good files of a broken pair; hosts that have no certificate at all.
use strict;
use warnings;
use RPD::Test;
use RPD::Cert;
use RPD::Shown;

my $ca = ca('Test CA');
my $o = origin()->serve_requests(sub { response(200, [], "ok\n") });
sub server {
    my ($port, $certificates, %opt) = @_;
    return rpd(%opt, config => simple_config(listen => "127.0.0.1:$port", listen_keys => 'tls = on', server => $o->address, rest => $certificates),
        global => "workers = 2\n" . (($opt{global} // '') =~ /certificate_check/ ? '' : "certificate_check = 100ms\n") . ($opt{global} || ''));
}

subtest 'workers that come while a pair is broken' => sub {
    my $dir = tempdir();
    my $port = free_port();
    my ($a, @b) = (cert($ca, 'a.test'), map { cert($ca, 'b.test') } 1 .. 3);
    cert_files($a, "$dir/a.pem");
    cert_files($b[0], "$dir/b.crt", "$dir/b.key");
    my $replace = sub {
        my ($s) = @_;
        for my $victim ($s->workers) {
            kill 'KILL', $victim;
            wait_for(sub { my @now = eval { $s->workers }; @now == 2 && !grep { $_ == $victim } @now }, quiet => 1) or return 0;
        }
        return wait_for(sub { my $j = $s->ctl_json('status'); @{ $j->{workers} } == 2 && !grep { $_->{state} ne 'serving' } @{ $j->{workers} } }, quiet => 1);
    };
    my $conf = "[certificate a]\npair = $dir/a.pem\n[certificate b]\npair = $dir/b.crt $dir/b.key\n";
    my $s = server($port, $conf);
    is(shown($port, 'b.test'), $b[0]{serial}, 'the first');
    cert_files($b[1], "$dir/b.crt", "$dir/b.key");
    becomes($port, 'b.test', $b[1]{serial}, 'the second, found good by the workers');
    # In place, as a careless script does it: the file is the same one.
    open my $h, '+<', "$dir/b.crt";
    print {$h} 'rubbish';
    truncate $h, 7;
    close $h;
    ok($s->wait_log(qr/certificate_bad: .*b\.crt/), 'broken, and said');
    ok($replace->($s), 'all workers die and are replaced');
    becomes($port, 'b.test', $b[1]{serial}, 'they have the last good one');
    is(shown($port, 'a.test'), $a->{serial}, 'and the others');
    ok($s->wait_log(qr/certificate_last_good: certificate b: w\d pid \d+ gets the last good files of \Q$dir\E\/b\.crt/), 'the log says so');
    my ($status, $out) = $s->rpctl('status');
    is($status, 10, 'rpctl status is degraded');
    like($out, qr/certificate b: 1 cannot be used/, 'and says of what');
    like($s->ctl('cert'), qr/^b\b.*b\.test/m, 'rpctl cert has it');
    unlink "$dir/b.crt", "$dir/b.key";
    ok($replace->($s), 'again, with the files gone');
    becomes($port, 'b.test', $b[1]{serial}, 'it stays');
    cert_files($b[2], "$dir/b.crt", "$dir/b.key");
    becomes($port, 'b.test', $b[2]{serial}, 'until the files are mended');
    ok(wait_for(sub { ($s->rpctl('status'))[0] == 0 }, quiet => 1), 'all is well');
    my @copies = grep { (readlink($_) // '') =~ /rpd-certificate/ } glob '/proc/' . $s->pid . '/fd/*';
    is(scalar @copies, 3, 'of each file one copy is kept');
    is(scalar(grep { (readlink($_) // '') =~ /rpd-certificate/ } map { glob "/proc/$_/fd/*" } $s->workers), 0, 'and none by workers');
    $s->{alerts_expected} = qr/worker .* (killed|signal)|crash_loop/i;
    $s->stop;

    # Broken a moment before the death: nobody has looked yet.
    my $late = server($port, $conf, global => "certificate_check = 1h\n");
    ok(wait_for(sub { 3 == grep { (readlink($_) // '') =~ /rpd-certificate/ } glob '/proc/' . $late->pid . '/fd/*' }, quiet => 1), 'copies are made at the start');
    spew("$dir/b.key", "rubbish\n");
    ok($replace->($late), 'all workers die and are replaced');
    is(shown($port, 'b.test'), $b[2]{serial}, 'the last good one') for 1 .. 6;
    $late->{alerts_expected} = qr/worker .* (killed|signal)|crash_loop/i;
    $late->stop;
};

subtest 'hosts without a certificate' => sub {
    my $dir = tempdir();
    my $port = free_port();
    cert_files(cert($ca, 'a.test', '*.wild.test'), "$dir/a.pem");
    my $hosts = sub {
        my (@names) = @_;
        return "[listen tls]\naddress = 127.0.0.1:$port\ntls = on\n[certificate a]\npair = $dir/a.pem\n[certificate all]\ndirectory = $dir/all\n"
            . join '', map { "[host h$_]\nnames = $names[$_]\n[route h$_/all]\npath = /*\nreturn = 200 ok\n" } 0 .. $#names;
    };
    mkdir "$dir/all";
    cert_files(cert($ca, 'lazy.test'), "$dir/all/lazy.test.pem");
    my $s = rpd(config => $hosts->('a.test x.wild.test *.wild.test lazy.test', '*', '127.0.0.1 [::1]', '~^any\.test$'));
    is_deeply($s->ctl_json('status')->{warnings}, [], 'names with one, by themselves, by a wildcard and in a directory; what has no name');
    $s->write_config($hosts->('a.test', 'b.test', '*.c.test d.test x.y.wild.test'));
    is(($s->reload)[0], 0, 'a name without one is no error');
    my @w = @{ $s->ctl_json('status')->{warnings} };
    like($w[0], qr/rpd\.conf:\d+:1: warning: there is no certificate for b\.test on \[listen tls\]$/, 'but status warns');
    like($w[1], qr/warning: there is no certificate for \*\.c\.test and 2 more on \[listen tls\]$/, 'of many in a line');
    is(scalar(@w), 2, 'and of no other');
    my ($status, $out) = $s->rpctl('status');
    is($status, 0, 'it is healthy all the same');
    like($out, qr/^warnings\n.*for b\.test/m, 'for people');
    ($status, $out, my $err) = $s->rpctl('check', $s->conf);
    like("$out$err", qr/warning: there is no certificate for b\.test/, 'rpctl check says so');
    $s->write_config($hosts->('a.test'));
    $s->reload;
    is_deeply($s->ctl_json('status')->{warnings}, [], 'until it is mended');
    $s->stop;
};

done_testing;
