#!/usr/bin/perl
# Caches in memory that systemd's descriptor store keeps: after the death of every process the next start hits at once. The test
# plays systemd's part; what it gives back that is damaged, foreign or none is refused with a message.
use strict;
use warnings;
use Fcntl qw(F_SETFD);
use IO::Socket::UNIX;
use POSIX ();
use Socket qw(SOCK_DGRAM);
use RPD::Test;
use RPD::Util qw(slurp processes_of_session);

alarm($ENV{RPD_SANITIZED} ? 400 : 120);
my %number = (x86_64 => [47, 319], aarch64 => [212, 279]);
my $machine = (POSIX::uname())[4];
plan skip_all => "no numbers of system calls for $machine" if !$number{$machine};
my ($recvmsg, $memfd_create) = @{ $number{$machine} };

my $port = free_port();
my $dir = tempdir();
my $asked = "$dir/asked";
spew($asked, '');
my $o = origin()->serve_requests(sub {
    my ($r) = @_;
    open my $f, '>>', $asked;
    syswrite $f, '.';
    close $f;
    return response(200, ['Cache-Control', 'max-age=3600'], "text of $r->{target} " x 100);
});

# ---- systemd's part ----
my %store;    # name => [handles]
my $said = '';
my $notify = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => "$dir/notify") or die "notify: $!";
$notify->blocking(0);
sub cmsg_fd {
    my ($control) = @_;
    my ($len, $level, $type) = unpack 'QLL', $control;
    return $len >= 20 && $level == 1 && $type == 1 ? unpack('x16 l', $control) : undef;
}
sub hear {
    for (;;) {
        my $text = "\0" x 4096;
        my $control = "\0" x 64;
        my $iov = pack 'P Q', $text, length $text;
        my $msg = pack 'Q L L P Q P Q i L', 0, 0, 0, $iov, 1, $control, length $control, 0, 0;
        my $n = syscall $recvmsg, fileno($notify), $msg, 0x40000040;    # MSG_DONTWAIT | MSG_CMSG_CLOEXEC
        return if $n <= 0;
        my $line = substr $text, 0, $n;
        $said .= "$line\n";
        my $fd = (unpack 'Q L L Q Q Q Q i', $msg)[6] >= 20 ? cmsg_fd($control) : undef;
        my ($name) = $line =~ /^FDNAME=(.*)$/m;
        if ($line =~ /^FDSTORE=1$/m && defined $fd) {
            open my $h, '+<&=', $fd or die "descriptor: $!";
            push @{ $store{$name} }, $h;
        }
        delete $store{$name} if $line =~ /^FDSTOREREMOVE=1$/m;
    }
}
sub hears { my ($re) = @_; return wait_for(sub { hear(); $said =~ $re }, quiet => 1) }
# A start by systemd: what is in the store, or these [name, handle] pairs.
sub start {
    my ($config, @give) = @_;
    hear();
    @give = map { my $n = $_; map { [$n, $_] } @{ $store{$n} } } sort keys %store if !@give;
    $said = '';
    # The number is the process's own, as it will be.
    my $names = join ':', map { $_->[0] } @give;
    my $passed = sub {
        my $fd = 64;
        for (@give) { POSIX::dup2(fileno $_->[1], $fd++) }
        POSIX::dup2(64 + $_, 3 + $_) for 0 .. $#give;
        POSIX::close(64 + $_) for 0 .. $#give;
        $ENV{LISTEN_PID} = $$;
        $ENV{LISTEN_FDS} = @give;
        $ENV{LISTEN_FDNAMES} = $names;
    };
    my $s = rpd(config => $config, env => { NOTIFY_SOCKET => "$dir/notify" }, before_exec => $passed);
    hears(qr/^READY=1$/m);
    return $s;
}

sub config {
    my (%opt) = @_;
    my $size = $opt{size} // '16m';
    return simple_config(listen => "127.0.0.1:$port", server => $o->address, host => 'cache = main',
        rest => join '', map { "[cache $_]\nsize = $size\n" } @{ $opt{names} // ['main', 'other'] });
}
my @paths = map { "/$_" } 1 .. 30;
sub get { my ($path) = @_; my $r = http_get($port, $path); die "wrong bytes\n" if $r->{body} ne "text of $path " x 100; return $r->{fields}{'cache-status'}[0] =~ /;\s*hit\b/ ? 1 : 0 }
sub hits { my $before = -s $asked; my $hits = grep { get($_) } @paths; return "$hits hits, " . ((-s $asked) - $before) . ' asked' }
my $all = '30 hits, 0 asked';
sub killed {
    my ($s) = @_;
    kill 'KILL', processes_of_session($s->{session});
    $s->{stopped} = 1;
    return wait_for(sub { !$s->running && !processes_of_session($s->{session}) }, quiet => 1, timeout => 30);
}
sub told { my ($s, $re) = @_; return wait_for(sub { $s->output =~ $re }, quiet => 1, timeout => 5) }

my $s = start(config());
ok(hears(qr/^FDNAME=rpd-cache-other$/m), 'systemd is given the caches') or diag($said);
is(join(' ', sort keys %store), 'rpd-cache-main rpd-cache-other', 'under their names');
get($_) for @paths;
is(hits(), $all, 'stored');
like($s->ctl('cache', 'stat', 'main'), qr/^in +memory, which systemd keeps over a restart$/m, 'rpctl cache stat says so');
ok($s->ctl_json('cache', 'stat')->{caches}[0]{kept_by_systemd}, 'as JSON');
like($s->ctl('status'), qr/^caches +kept over a restart: main by systemd; other by systemd$/m, 'and rpctl status');
ok(killed($s), 'every process is killed');

subtest 'the next start' => sub {
    $s = start(config());
    is(hits(), $all, 'hits at once');
    like(($s->log_lines(qr/generation_live/))[0], qr/cache main: kept as it was; cache other: kept as it was/, 'the verdict says so');
    is($s->ctl('cache', 'fsck'), "ok\n", 'sound');
    unlike($said, qr/FDSTORE/, 'nothing is given to systemd twice');
    $s->reload;
    is(hits(), $all, 'a reload keeps it');
    is(($s->rpctl('upgrade'))[0], 0, 'an upgrade');
    is(hits(), $all, 'keeps it');
    hear();
    unlike($said, qr/FDSTORE/, 'and is no reason to give it again');
    $s->write_config(config(size => '32m'));
    like(($s->reload)[1], qr/cache main: new, 30 objects promoted from the old one/, 'another size');
    ok(hears(qr/FDSTOREREMOVE=1\nFDNAME=rpd-cache-main\n.*FDSTORE=1\nFDNAME=rpd-cache-main\n/s), 'the new one takes the place of the old one') or diag($said);
    is(scalar(@{ $store{'rpd-cache-main'} }), 1, 'there');
    ok(killed($s), 'killed');
    $s = start(config(size => '32m'));
    is(hits(), $all, 'hits at once');
    $s->stop;
};

subtest 'an ordinary restart, with another configuration' => sub {
    $s = start(config(size => '24m', names => ['main']));
    is(hits(), $all, 'hits, although the size is another');
    like(($s->log_lines(qr/generation_live/))[0], qr/cache main: new, 30 objects promoted from the old one/, 'as the verdict says');
    ok(hears(qr/FDSTOREREMOVE=1\nFDNAME=rpd-cache-other\n/), 'what is not configured any more is given up') or diag($said);
    is(join(' ', sort keys %store), 'rpd-cache-main', 'one is left');
    open my $maps, '<', '/proc/' . $s->pid . '/maps';
    ok(wait_for(sub { seek $maps, 0, 0; 1 == grep { /rpd-cache/ } <$maps> }, quiet => 1), 'and mapped');
    $s->stop;
};

sub memory {
    my ($bytes, $seal) = @_;
    my $name = "test\0";
    my $fd = syscall $memfd_create, $name, 2;    # MFD_ALLOW_SEALING
    die "memfd_create: $!" if $fd < 0;
    open my $h, '+<&=', $fd or die $!;
    binmode $h;
    truncate $h, length $bytes;
    syswrite $h, $bytes;
    fcntl $h, 1033, $seal if $seal;    # F_ADD_SEALS
    return $h;
}

subtest 'what is none of ours' => sub {
    my ($kept) = @{ $store{'rpd-cache-main'} };
    sysseek $kept, 0, 0;
    my $image = '';
    1 while sysread $kept, $image, 1 << 20, length $image;
    my $other = sub { my ($at, $bytes) = @_; my $t = $image; substr($t, $_, length $bytes) = $bytes for @$at; return $t };
    pipe my $in, my $out;
    open my $plain, '+>', "$dir/plain";
    syswrite $plain, $image;
    my $sealed = 7;    # seal, shrink, grow
    for my $case (
        ['not sealed', 'rpd-cache-main', memory($image), qr/main, which systemd kept, cannot be used: it is no sealed memory/],
        ['a file', 'rpd-cache-main', $plain, qr/it is no sealed memory/],
        ['a pipe', 'rpd-cache-main', $in, qr/cannot be used/],
        ['a socket', 'rpd-cache-main', $notify, qr/cannot be used/],
        ['empty', 'rpd-cache-main', memory('', $sealed), qr/it is damaged or has another layout/],
        ['cut off', 'rpd-cache-main', memory(substr($image, 0, 1 << 20), $sealed), qr/it is damaged or has another layout/],
        ['rubbish', 'rpd-cache-main', memory('x' x 100_000, $sealed), qr/it is damaged or has another layout/],
        ['a damaged head', 'rpd-cache-main', memory($other->([40, 4096 + 40], 'damaged!'), $sealed), qr/it is damaged or has another layout/],
        ['another name', 'web-socket', memory($image, $sealed), qr/none of ours \("web-socket"\)/],
        ['no name', '', memory($image, $sealed), qr/none of ours/],
        ['a strange one', 'rpd-cache-a/b', memory($image, $sealed), qr/none of ours/],
    ) {
        my ($what, $name, $handle, $says) = @$case;
        my $f = start(config(names => ['main']), [$name, $handle]);
        ok(told($f, $says), "$what: said") or diag($f->output);
        is($f->ctl_json('cache', 'stat')->{caches}[0]{objects}, 0, "$what: the cache is empty");
        ok(!get('/after'), "$what: it serves");
        ok(get('/after'), "$what: and caches");
        ok(hears(qr/FDSTORE=1\nFDNAME=rpd-cache-main/), "$what: the new one is given to systemd");
        $f->stop;
    }
    my $n = 0;
    for my $round (1 .. 4) {
        my $t = $image;
        substr($t, 8192 + int rand(length($t) - 8200), 1) = chr int rand 256 for 1 .. 20_000;
        my $f = start(config(size => '24m', names => ['main']), ['rpd-cache-main', memory($t, $sealed)]);
        $n += told($f, qr/cannot be used: it is damaged: \S/) ? 1 : 0;
        my @wrong = grep { !eval { get($_); 1 } && $@ =~ /wrong/ } @paths;
        is("@wrong", '', 'damage everywhere: never a wrong byte');
        $f->stop;
    }
    cmp_ok($n, '>', 0, 'it is seen');
    my $f = start(config(size => '24m', names => ['main']), ['rpd-cache-main', memory($image, $sealed)], ['rpd-cache-main', memory($image, $sealed)]);
    ok(told($f, qr/cannot be used: there are two/), 'two of a name: one is taken');
    is(hits(), $all, 'which hits');
    my $g = start(config(size => '24m', names => ['main']) =~ s/^address = .*/address = 127.0.0.1:@{[ free_port() ]}/mr, ['rpd-cache-main', $kept]);
    $g->stop;
    $f->stop;
};

subtest 'one that is in use' => sub {
    %store = ();
    my $f = start(config(names => ['main']));
    ok(hears(qr/FDNAME=rpd-cache-main/), 'stored');
    get($_) for @paths;
    my ($kept) = @{ $store{'rpd-cache-main'} };
    my $g = start(config(names => ['main']) =~ s/^address = .*/address = 127.0.0.1:@{[ free_port() ]}/mr, ['rpd-cache-main', $kept]);
    ok(told($g, qr/cannot be used: it is in use by processes of another rpd/), 'by another rpd is not touched');
    is(hits(), $all, 'the owner has it');
    $g->stop;
    $f->stop;
};

done_testing;
