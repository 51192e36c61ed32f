#!/usr/bin/perl
# The master at its edges: more logs than a message carries, a reopen while it stops, upgrades that go wrong half-way.
use strict;
use warnings;
use RPD::Test;
use File::Copy qw(copy);
use RPD::Util qw(program processes_of_session);

my $o = origin()->serve_requests(sub { response(200, [], 'ok') });

subtest 'more logs than one message carries are reopened' => sub {
    my $n = 80;
    my $port = free_port();
    my $logs = join '', map { "[log l$_]\nfile = <DIR>/log$_\nflush = 10ms\n" } 1 .. $n;
    my $s = rpd(config => simple_config(listen => "127.0.0.1:$port", server => $o->address, top => $logs,
        defaults => 'access_log = ' . join(' ', map { "l$_" } 1 .. $n)), global => "workers = 1\n");
    my @name = map { $s->dir . "/log$_" } 1 .. $n;
    rename $_, "$_.1" for @name;
    is(($s->rpctl('reopen'))[0], 0, 'reopen');
    is(http_get($port, '/')->{status}, 200, 'a request');
    my @filled;
    ok(wait_for(sub { @filled = grep { -s $_ } @name; @filled == $n }, quiet => 1), 'is in all of them') or diag(scalar @filled);
    $s->stop;
};

subtest 'a reopen while the service stops' => sub {
    my $slow = origin();
    my $port = free_port();
    my $s = rpd(config => simple_config(listen => "127.0.0.1:$port", server => $slow->address));
    my $c = client($port);
    $c->send(request('GET', '/'));
    my $oc = $slow->accept;
    $oc->read_request;
    kill 'QUIT', $s->pid;
    ok($s->wait_log(qr/stopping gracefully/), 'it stops');
    rename "$s->{error_log}", "$s->{error_log}.1";
    kill 'USR1', $s->pid;
    ok($s->wait_log(qr/log files reopened/), 'the master says so in the new file');
    $oc->send(response(200, [], 'finished'));
    is($c->read_response->{body}, 'finished', 'the request is finished');
    ok(wait_for(sub { !$s->running }, quiet => 1), 'and it ends');
    ok($s->wait_log(qr/rpd has stopped/), 'the last word is in the new file too');
    $s->{stopped} = 1;
    $_->close for $c, $oc;
};

# A program of its own, which the test can replace.
my $real = program('rpd');
my $bin = RPD::Util::tempdir();
mkdir "$bin/sbin";
symlink program('rpctl'), "$bin/sbin/rpctl";
local $ENV{RPD_BUILDDIR} = $bin;
sub install {
    my ($text) = @_;
    unlink "$bin/sbin/rpd";
    defined $text ? spew("$bin/sbin/rpd", $text) : copy($real, "$bin/sbin/rpd");
    chmod 0755, "$bin/sbin/rpd";
}

subtest 'a new program that crashes, or is none' => sub {
    install();
    my $port = free_port();
    my $s = rpd(config => simple_config(listen => "127.0.0.1:$port", server => $o->address));
    for my $text ("#!/bin/sh\nkill -SEGV \$\$\n", "#!/bin/sh\nexit 3\n", "rubbish\n", "#!/nowhere\n") {
        install($text);
        my ($status, $out, $err) = $s->rpctl('upgrade');
        is($status, 1, 'refused');
        like("$out$err", qr/kept the running program/, 'and said so');
        is(http_get($port, '/')->{status}, 200, 'served');
    }
    install();
    is(($s->rpctl('upgrade'))[0], 0, 'a good one is taken');
    is(http_get($port, '/')->{status}, 200, 'served');
    $s->stop;
};

subtest 'a configuration that breaks while the program is exchanged' => sub {
    install();
    my $port = free_port();
    my $s = rpd(config => simple_config(listen => "127.0.0.1:$port", server => $o->address), global => "workers = 1\n");
    my $good = slurp($s->conf);
    my $status_of = sub { my ($k) = slurp("/proc/$_[0]/status") =~ /^$_[1]:\s*(.*)$/m; $k };
    my ($before) = map { $status_of->($_, 'Uid') } $s->workers;
    # It accepts the configuration, and finds another when it starts.
    install("#!/bin/sh\ncase \" \$* \" in *' -t '*) exit 0;; esac\nexec $real \"\$@\"\n");
    spew($s->conf, "[nonsense]\n");
    my ($status, $out, $err) = $s->rpctl('upgrade');
    is($status, 1, 'the verdict is no');
    is(http_get($port, '/')->{status}, 200, 'the old workers serve');
    ok($s->wait_log(qr/nonsense/), 'the diagnostics are in the log');
    spew($s->conf, $good);
    ($status, $out, $err) = $s->reload;
    is($status, 0, 'reloaded') or diag($out, $err);
    is(http_get($port, '/')->{status}, 200, 'served');
    is((map { $status_of->($_, 'Uid') } $s->workers)[0], $before, 'by the same user as before');
    $s->stop;
    ok(!-e $s->socket, 'the socket is removed at the end');
    ok(!-e $s->dir . '/rpd.pid', 'and the pid file');
};

subtest 'an upgrade while every process is in back-off' => sub {
    install();
    my $port = free_port();
    my $s = rpd(
        config => simple_config(listen => "127.0.0.1:$port", server => $o->address), global => "workers = 1\n",
        expect_alerts => qr/crash_loop/
    );
    my $loops = sub { scalar grep { /crash_loop/ } $s->log_lines };
    ok(wait_for(sub {
        kill 'KILL', $_ for $s->children;
        return $loops->() >= 2 && !$s->children;
    }, quiet => 1, timeout => 40), 'all are');
    my ($status, $out, $err) = $s->rpctl('upgrade');
    is($status, 0, 'upgraded') or diag($out, $err);
    is(http_get($port, '/')->{status}, 200, 'served');
    $s->stop;
};

done_testing;
