#!/usr/bin/perl
# What a process that has fallen to somebody could say to the master: what is not its role's is refused, whatever it holds.
use strict;
use warnings;
use IO::Handle;
use IO::Select;
use Socket qw(SOL_SOCKET SO_TYPE SOCK_SEQPACKET MSG_DONTWAIT);
use RPD::Test;
use RPD::Cert;
use RPD::Shown;
use RPD::Util qw(slurp children_of);

use constant { W_CERT_OPEN => 68, W_CERT_RESULT => 69, W_PROMOTED => 70, W_RECODE => 71 };
use constant { PIDFD_OPEN => 434, PIDFD_GETFD => 438 };

my $ca = ca('Test CA');
my $o = origin()->serve_requests(sub { response(200, [], "ok\n") });
my $dir = tempdir();
my $port = free_port();
cert_files(cert($ca, 'a.test'), "$dir/a.test.pem");
my $s = rpd(global => "workers = 2\n", config => simple_config(listen => "127.0.0.1:$port", listen_keys => 'tls = on', server => $o->address,
    rest => "[certificate all]\ndirectory = $dir\n"));

# The channel of a child, as if it were ours.
sub channel {
    my ($pid) = @_;
    my $pidfd = syscall PIDFD_OPEN, $pid + 0, 0;
    return if $pidfd < 0;
    open my $held, '+<&=', $pidfd or return;
    for my $path (grep { (readlink($_) // '') =~ /^socket:/ } glob "/proc/$pid/fd/*") {
        my ($n) = $path =~ /(\d+)$/;
        my $fd = syscall PIDFD_GETFD, $pidfd, $n + 0, 0;
        next if $fd < 0;
        open my $h, '+<&=', $fd or next;
        return $h if unpack('i', getsockopt($h, SOL_SOCKET, SO_TYPE) // "\0\0\0\0") == SOCK_SEQPACKET;
    }
    return;
}
sub say_to {
    my ($h, $type, $payload) = @_;
    for (1 .. 100) {
        return 1 if defined send $h, pack('LL', $type, length $payload) . $payload, MSG_DONTWAIT;
        IO::Select->new($h)->can_write(1);
    }
    return 0;
}
sub cert_message { return pack 'LLLl a224 a256', 0, 0, 0, 1, $_[0], '' }

my ($helper) = grep { slurp("/proc/$_/cmdline") =~ /^rpd: helper/ } children_of($s->master);
my ($worker) = $s->workers;
my $as_helper = channel($helper) or plan skip_all => 'descriptors of other processes cannot be had here';
my $as_worker = channel($worker);
my $master = $s->master;

# It does not read either: answers would pile up.
kill 'STOP', $helper;
my $sent = 0;
$sent += say_to($as_helper, W_CERT_OPEN, cert_message('a.test.pem')) for 1 .. 1000;
is($sent, 1000, 'the helper asks for a key, a thousand times');
is_deeply([$s->master, kill 0, $master], [$master, 1], 'the master lives');
ok($s->wait_log(qr/channel_refused: helper pid $helper/, timeout => 5), 'it is not for the helper');
ok(!defined recv($as_helper, my $text, 65536, MSG_DONTWAIT), 'who gets none');
ok(say_to($as_helper, $_, cert_message('')), "message $_ of it") for W_CERT_RESULT, W_RECODE;
ok(say_to($as_worker, W_PROMOTED, pack 'LCCCxQQQ', 0, 1, 0, 1, 1, 1, 0), 'a worker says what the helper does');
ok($s->wait_log(qr/channel_refused: w\d pid $worker/), 'refused');
kill 'CONT', $helper;
isnt(shown($port, 'a.test'), '', 'workers have their certificate');
$s->stop;

done_testing;
