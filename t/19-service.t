#!/usr/bin/perl
# rpd as a service: the init script, systemd's notifications, the words after -s, privileges, pinning, who may use rpctl.
use strict;
use warnings;
use IO::Socket::UNIX;
use Socket qw(SOCK_DGRAM);
use RPD::Test;

my $port = free_port();
my $ok = "[listen l]\naddress = 127.0.0.1:$port\n[host h]\nnames = *\n[route h/x]\npath = /x\nreturn = 200 hi\n";
my $rpd = RPD::Util::program('rpd');

subtest 'init script' => sub {
    my $script = "$ENV{RPD_BUILDDIR}/scripts/rpd.init";
    plan skip_all => 'no LSB functions here' if !-e '/lib/lsb/init-functions' || !RPD::Util::have('start-stop-daemon');
    plan skip_all => 'an rpd is configured on this machine' if -e '/etc/default/rpd';
    my $dir = tempdir();
    my $text = slurp($script);
    $text =~ s/^DAEMON=.*/DAEMON=$rpd/m;
    $text =~ s/^CONF=.*/CONF=$dir\/rpd.conf/m;
    $text =~ s/^PIDFILE=.*/PIDFILE=$dir\/rpd.pid/m;
    spew("$dir/init", $text);
    chmod 0755, "$dir/init";
    my $conf = "[global]\npid_file = $dir/rpd.pid\ncontrol_socket = $dir/rpd.sock\nerror_log = $dir/error.log\nworkers = 1\n$ok";
    spew("$dir/rpd.conf", $conf);
    my $init = sub { return run_program('sh', "$dir/init", @_) };
    my @steps = (
        ['status', 3, 0], ['configtest', 0, 0], ['start', 0, 1], ['status', 0, 1], ['start', 0, 1], ['reload', 0, 1],
        ['force-reload', 0, 1], ['restart', 0, 1], ['try-restart', 0, 1], ['stop', 0, 0], ['status', 3, 0], ['stop', 0, 0],
        ['try-restart', 0, 0], ['force-reload', 0, 1], ['stop', 0, 0], ['nonsense', 2, 0],
    );
    for my $step (@steps) {
        my ($word, $want, $serves) = @$step;
        my ($status, $out, $err) = $init->($word);
        is($status, $want, "$word: exit $want") or diag($out, $err);
        is(eval { http_get($port, '/x')->{body} } ? 1 : 0, $serves, "$word: " . ($serves ? 'serves' : 'nobody serves'));
    }
    spew("$dir/rpd.conf", "$conf\nnonsense\n");
    my ($status, $out, $err) = $init->('start');
    is($status, 6, 'a broken file does not start');
    like("$out$err", qr/rpd\.conf:\d+:\d+: error/, 'and says why');
    spew("$dir/rpd.conf", $conf);
    is(($init->('start'))[0], 0, 'start');
    spew("$dir/rpd.conf", "$conf\nnonsense\n");
    isnt(($init->('restart'))[0], 0, 'a broken file is not restarted into');
    isnt(($init->('reload'))[0], 0, 'nor reloaded');
    is(http_get($port, '/x')->{body}, 'hi', 'the running one serves');
    spew("$dir/rpd.conf", $conf);
    is(($init->('stop'))[0], 0, 'stop');
};

subtest 'systemd is told' => sub {
    my $dir = tempdir();
    my $socket = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => "$dir/notify") or die "notify: $!";
    $socket->blocking(0);
    my $said = '';
    my $hears = sub {
        my ($re) = @_;
        return wait_for(sub {
            while (defined $socket->recv(my $text, 4096)) { last if $text eq ''; $said .= "$text\n" }
            return $said =~ $re;
        }, quiet => 1);
    };
    my $s = rpd(config => $ok, env => { NOTIFY_SOCKET => "$dir/notify" });
    ok($hears->(qr/^READY=1$/m), 'READY') or diag($said);
    $said = '';
    is(($s->reload)[0], 0, 'reload');
    ok($hears->(qr/^RELOADING=1$/m), 'RELOADING') or diag($said);
    ok($hears->(qr/RELOADING=1.*READY=1/s), 'READY again') or diag($said);
    $s->write_config("$ok\n[nonsense]\n");
    $said = '';
    is(($s->reload)[0], 1, 'a reload that fails');
    ok($hears->(qr/READY=1/), 'READY also then: the old generation serves') or diag($said);
    $s->end('QUIT');
    ok($hears->(qr/^STOPPING=1$/m), 'STOPPING') or diag($said);
    $s->stop(gone => 1);
};

subtest 'words after -s' => sub {
    my $s = rpd(config => $ok);
    my $word = sub { return run_program($rpd, '-s', $_[0], '-c', $s->conf) };
    my ($status, $out, $err) = $word->('reload');
    is($status, 0, 'reload') or diag($out, $err);
    like($out, qr/^ok generation 2/, 'with its verdict');
    is(($word->('reopen'))[0], 0, 'reopen');
    is(($word->('sideways'))[0], 2, 'no such word');
    is(($word->('quit'))[0], 0, 'quit');
    ok(wait_for(sub { !$s->running }, quiet => 1, timeout => 30), 'it ends');
    isnt(($word->('reload'))[0], 0, 'nobody is there any more');
    $s->stop(gone => 1);
};

subtest 'privileges, pinning, limits' => sub {
    plan skip_all => 'needs root' if $> != 0;
    my $s = rpd(config => $ok, global => "workers = 2\nuser = nobody\n");
    my @cpus;
    for my $pid ($s->workers) {
        my $text = slurp("/proc/$pid/status");
        like($text, qr/^Uid:\s+65534\s+65534\s+65534\s+65534$/m, 'a worker is nobody for good');
        like($text, qr/^Groups:\s*(?:65534)?\s*$/m, "without other people's groups");
        like($text, qr/^Cap(?:Prm|Eff):\s+0+$/m, 'without capabilities');
        push @cpus, $text =~ /^Cpus_allowed_list:\s+(\S+)/m;
    }
    my ($mine) = slurp('/proc/self/status') =~ /^Cpus_allowed_list:\s+(\S+)/m;
    isnt($cpus[0], $cpus[1], 'each on a CPU of its own') if $mine =~ /[-,]/;
    $s->stop;
    $s = rpd(config => $ok, global => "workers = auto\ncpu_affinity = off\n");
    cmp_ok(scalar(my @w = $s->workers), '>=', 1, 'workers = auto');
    my ($list) = slurp("/proc/$w[0]/status") =~ /^Cpus_allowed_list:\s+(\S+)/m;
    is($list, $mine, 'no pinning when it is off');
    $s->stop;
};

subtest 'readers and operators of rpctl' => sub {
    plan skip_all => 'needs root and setpriv' if $> != 0 || !RPD::Util::have('setpriv');
    my ($readers, $operators) = ((getgrnam 'games')[0], (getgrnam 'users')[0]);
    plan skip_all => 'no groups to test with' if !$readers || !$operators;
    my $s = rpd(config => $ok, global => "control_readers = $readers\ncontrol_operators = $operators\n");
    my $as = sub {
        my ($group, @command) = @_;
        my $gid = getgrnam $group;
        return (run_program('setpriv', '--reuid=65534', "--regid=$gid", '--clear-groups', RPD::Util::program('rpctl'), '-s', $s->socket, @command))[0];
    };
    is($as->($readers, 'status'), 0, 'a reader may look');
    is($as->($readers, 'reload'), 4, 'but not act');
    is($as->($operators, 'reload'), 0, 'an operator may');
    is($as->('nogroup', 'status'), 4, 'a stranger may nothing');
    $s->stop;
};

subtest 'cold start in the place of one that was killed' => sub {
    my $s = rpd(config => $ok . "[listen u]\naddress = unix:<DIR>/web.sock\n");
    kill 'KILL', $s->pid;
    wait_for(sub { !$s->running }, quiet => 1);
    wait_for(sub { !RPD::Util::processes_of_session($s->{session}) }, quiet => 1, timeout => 30);
    my ($status, $out, $err) = run_program($rpd, '-c', $s->conf);
    is($status, 0, 'stale pid file, control socket and unix listener are no obstacle') or diag($out, $err, $s->output);
    is(http_get('unix:' . $s->dir . '/web.sock', '/x')->{body}, 'hi', 'the unix listener serves');
    is(($s->rpctl('stop'))[0], 0, 'stop');
    ok(!-e $s->dir . '/web.sock', 'its file is gone');
    $s->{stopped} = 1;
};

done_testing;
