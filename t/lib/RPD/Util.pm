# Small things that tests share: waiting, ports, files, processes.
package RPD::Util;
use strict;
use warnings;
use Carp qw(croak);
use Exporter qw(import);
use Fcntl qw(:flock);
use File::Temp ();
use IO::Select;
use IO::Socket::INET;
use POSIX qw(_exit);
use Time::HiRes qw(time);

our @EXPORT_OK = qw(wait_for tempdir slurp spew program free_port processes_of_session children_of run_program rss sockets_of
    have random_bytes spawn);

# The one place that polls: until the code returns true or the time is up. Dies then, or returns false with quiet.
sub wait_for {
    my ($code, %opt) = @_;
    my $seconds = $opt{timeout} || 15;
    $seconds *= 3 if $ENV{RPD_SANITIZED};
    my $until = time + $seconds;
    my $pause = 0.002;
    for (;;) {
        my $value = $code->();
        return $value if $value;
        last if time > $until;
        select undef, undef, undef, $pause;
        $pause *= 1.3 if $pause < 0.05;
    }
    return 0 if $opt{quiet};
    croak 'timed out waiting for ' . ($opt{what} || 'a condition');
}

my @dirs;
sub tempdir {
    my $keep = $ENV{RPD_TEST_KEEP};
    my $dir = File::Temp->newdir('rpd-test-XXXXXX', TMPDIR => 1, CLEANUP => !$keep);
    chmod 0755, "$dir";
    push @dirs, $dir;
    return "$dir";
}

sub slurp {
    my ($path) = @_;
    open my $f, '<:raw', $path or croak "$path: $!";
    local $/;
    my $text = <$f>;
    return defined $text ? $text : '';
}

sub spew {
    my ($path, $text) = @_;
    open my $f, '>:raw', "$path.new" or croak "$path: $!";
    print {$f} $text or croak "$path: $!";
    close $f or croak "$path: $!";
    rename "$path.new", $path or croak "$path: $!";
}

# The program as built; the environment may name another build.
sub program {
    my ($name) = @_;
    my $build = $ENV{RPD_BUILDDIR} || croak 'RPD_BUILDDIR is not set: run tests with scripts/test';
    for my $path ("$build/sbin/$name", "$build/$name") {
        return $path if -x $path && !-d $path;
    }
    croak "$name is not built in $build";
}

# A port nobody has, below the ephemeral range, held by a lock as long as this process lives, so that tests that run at the
# same time never meet (SO_REUSEPORT would let them).
my @port_locks;
sub free_port {
    my $dir = '/tmp/rpd-test-ports';
    mkdir $dir;
    chmod 0777, $dir;
    for (1 .. 2000) {
        my $port = 12000 + int rand 18000;
        open my $lock, '>', "$dir/$port" or next;
        next if !flock $lock, LOCK_EX | LOCK_NB;
        my $probe = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 1, ReuseAddr => 1) or next;
        close $probe;
        push @port_locks, $lock;
        return $port;
    }
    croak 'no free port';
}

sub stat_of {
    my ($pid) = @_;
    open my $f, '<', "/proc/$pid/stat" or return;
    my $line = <$f>;
    return if !defined $line;
    my ($name, $rest) = $line =~ /\((.*)\) (.*)/s or return;
    my ($state, $ppid, $pgrp, $session) = split / /, $rest;
    return { name => $name, state => $state, ppid => $ppid, session => $session };
}

sub all_processes {
    opendir my $d, '/proc' or return;
    return grep { /^\d+$/ } readdir $d;
}

sub processes_of_session {
    my ($session) = @_;
    return grep { my $s = stat_of($_); $s && $s->{session} == $session && $s->{state} ne 'Z' } all_processes();
}

sub children_of {
    my ($pid) = @_;
    return grep { my $s = stat_of($_); $s && $s->{ppid} == $pid && $s->{state} ne 'Z' } all_processes();
}

# Runs a program to its end; (exit status, standard output, standard error). 128 + N for signal N.
sub run_program {
    my (@command) = @_;
    my ($out, $err) = (File::Temp->new, File::Temp->new);
    my $pid = fork // croak "fork: $!";
    if (!$pid) {
        open STDIN, '<', '/dev/null';
        open STDOUT, '>&', $out;
        open STDERR, '>&', $err;
        exec @command or _exit(127);
    }
    waitpid $pid, 0;
    my $status = $? & 127 ? 128 + ($? & 127) : $? >> 8;
    return ($status, slurp("$out"), slurp("$err"));
}

# Starts a program in the background with its output in a file; returns the pid.
sub spawn {
    my ($output, @command) = @_;
    my $pid = fork // croak "fork: $!";
    if (!$pid) {
        open STDIN, '<', '/dev/null';
        open STDOUT, '>', $output;
        open STDERR, '>&', \*STDOUT;
        exec @command or _exit(127);
    }
    return $pid;
}

# Resident memory in bytes.
sub rss {
    my ($pid) = @_;
    open my $f, '<', "/proc/$pid/status" or return 0;
    while (<$f>) {
        return $1 * 1024 if /^VmRSS:\s+(\d+) kB/;
    }
    return 0;
}

sub sockets_of {
    my ($pid) = @_;
    opendir my $d, "/proc/$pid/fd" or return 0;
    return scalar grep { (readlink "/proc/$pid/fd/$_" || '') =~ /^socket:/ } readdir $d;
}

sub have {
    my ($name) = @_;
    for my $dir (split(/:/, $ENV{PATH}), '/usr/sbin', '/sbin') {
        return "$dir/$name" if -x "$dir/$name";
    }
    return undef;
}

# n bytes that do not compress and repeat from run to run.
sub random_bytes {
    my ($n, $seed) = @_;
    my $x = $seed || 42;
    my $block = '';
    while (length $block < 65536) {
        $x = ($x * 1103515245 + 12345) & 0x7fffffff;
        $block .= pack 'V', $x;
    }
    my $out = $block x (1 + int $n / length $block);
    return substr $out, 0, $n;
}

1;
