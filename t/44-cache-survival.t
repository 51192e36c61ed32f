#!/usr/bin/perl
# The cache over reloads, upgrades, deaths of workers and of the master: hits go on, bytes are right, nothing is left behind.
use strict;
use warnings;
use Digest::SHA qw(sha1_hex);
use File::Temp ();
use RPD::Load;
use RPD::Test;
use RPD::Util qw(slurp spew processes_of_session);
use Time::HiRes qw(time);

my $port = free_port();
my $shm = File::Temp->newdir(DIR => '/dev/shm');
my $file = "$shm/cache";
# Every body can be checked: it is made of its path.
sub body_of {
    my ($path) = @_;
    my ($n) = $path =~ /n=(\d+)/ or return "body of $path\n" x 10;
    my $seed = sha1_hex($path);
    return substr($seed x ($n / 40 + 1), 0, $n);
}
my $count = File::Temp->new;
sub asked { return -s "$count" // 0 }
my $o = origin()->serve_requests(sub {
    my ($r) = @_;
    open my $f, '>>', "$count";
    syswrite $f, '.';
    close $f;
    return response(200, ['Cache-Control', 'max-age=3600', 'ETag', '"' . sha1_hex($r->{target}) . '"'], body_of($r->{target}));
});
sub config {
    my (%opt) = @_;
    return simple_config(listen => "127.0.0.1:$port", server => $o->address, host => 'cache = main', rest => <<"END");
[cache main]
size = @{[ $opt{size} // '16m' ]}
max_object = 8m
@{[ $opt{file} ? "file = $opt{file}" : '' ]}
END
}
sub get {
    my ($path) = @_;
    my $r = http_get($port, $path);
    die "status $r->{status}\n" if $r->{status} != 200;
    die "wrong bytes for $path\n" if $r->{body} ne body_of($path);
    return ($r->{fields}{'cache-status'}[0] // '') =~ /;\s*hit\b/ ? 'hit' : 'miss';
}
my @some = map { "/o/$_" . ($_ % 5 ? '' : '?n=' . 30_000 * $_) } 1 .. 40;
sub fill { get($_) for @_; return wait_for(sub { !grep { get($_) ne 'hit' } @_ }, quiet => 1, timeout => 10) ? 1 : 0 }
sub all_hit { my $before = asked(); my $misses = grep { get($_) ne 'hit' } @some; return "$misses misses, " . (asked() - $before) . ' asked' }
my $all = '0 misses, 0 asked';
# At the start it is told to who started rpd, later in the log.
sub told { my ($s, $re) = @_; return wait_for(sub { $s->output =~ $re }, quiet => 1, timeout => 5) }
sub clean { my ($s) = @_; is($s->ctl('cache', 'fsck'), "ok\n", 'the cache is sound'); return is(($s->rpctl('fsck'))[0], 0, 'and the segment') }
sub killed { my ($s) = @_; $s->{stopped} = 1; return wait_for(sub { !$s->running && !processes_of_session($s->{session}) }, quiet => 1, timeout => 30) }

my $s = rpd(config => config(), expect_alerts => qr/worker_hangs/, global => "watchdog = 1s\n");
ok(fill(@some), 'stored');

subtest 'reload' => sub {
    for my $round (1 .. 3) {
        my ($status, $out) = $s->rpctl('reload');
        like($out, qr/^ok generation \d+ \(\d+ ms\): no change$/, "reload $round");
        is(all_hit(), $all, 'every hit is one still');
    }
    clean($s);
};

subtest 'another size' => sub {
    my $slow = client($port, rcvbuf => 4096, keep => 0);
    my $big = '/big?n=6000000';
    ok(fill($big), 'a large answer');
    $slow->send(request('GET', $big, ['Connection', 'close']));
    like($slow->read_head, qr/^HTTP\/1.1 200/, 'on its way to a slow client');
    $s->write_config(config(size => '24m'));
    my ($status, $out) = $s->rpctl('reload');
    like($out, qr/cache main: size 16m -> 24m; cache main: new, 41 objects promoted from the old one$/, 'a reload with a new one says so');
    is(all_hit(), $all, 'every hit is one still');
    is($slow->read_eof, body_of($big), 'what is read of the old one is whole');
    $slow->close;
    ok(wait_for(sub { ($s->rpctl('wait', 'idle', '--timeout', '1s'))[0] == 0 }, quiet => 1), 'the old generation ends');
    my $mapped = sub { return scalar grep { /rpd-cache/ } split /\n/, slurp('/proc/' . $s->pid . '/maps') };
    ok(wait_for(sub { $mapped->() == 1 }, quiet => 1), 'and the old cache with it, once the helper has nothing more to follow there');
    ok(fill(@some), 'stored again');
};

subtest 'upgrade' => sub {
    for my $round (1 .. 2) {
        is(($s->rpctl('upgrade'))[0], 0, "upgrade $round");
        is(all_hit(), $all, 'every hit is one still');
        is(($s->rpctl('cache', 'list', "http://nobody/"))[0], 0, 'the new program reads it');
    }
    ok(wait_for(sub { ($s->rpctl('wait', 'idle', '--timeout', '1s'))[0] == 0 }, quiet => 1), 'idle');
    clean($s);
    is(all_hit(), $all, 'after the old processes as well');
};

subtest 'workers die' => sub {
    my $stop = File::Temp->new;
    my $load = load_start(sub {
        my $path = $some[rand @some] . (rand() < 0.1 ? '&fresh=' . int rand 1000 : '');
        my $r = eval { http_get($port, $path) };
        # A connection of a worker that dies is cut; but no answer may be a wrong one.
        return 1 if !$r || length $r->{body} < ($r->{fields}{'content-length'}[0] // 0);
        die "wrong bytes for $path\n" if $r->{status} != 200 || $r->{body} ne body_of($path);
        return 1;
    }, processes => 3);
    for my $round (1 .. ($ENV{RPD_SANITIZED} ? 4 : 12)) {
        my $before = $s->ctl_json('cache', 'stat')->{caches}[0]{hits};
        wait_for(sub { $s->ctl_json('cache', 'stat')->{caches}[0]{hits} > $before + 20 }, quiet => 1, timeout => 10);
        my @w = $s->workers;
        my $victim = $w[rand @w];
        kill 'KILL', $victim;
        $s->rpctl('cache', 'purge', '--prefix', 'http://localhost/fresh/') if $round % 3 == 0;
        $s->rpctl('reload') if $round % 4 == 0;
        ok(wait_for(sub { my @now = eval { $s->workers }; @now == 2 && !grep { $_ == $victim } @now }, quiet => 1, timeout => 20), "round $round: replaced");
    }
    my $r = load_finish($load);
    is(scalar @{ $r->{failures} }, 0, "no wrong answer in $r->{count}") or diag(join "\n", splice @{ $r->{failures} }, 0, 5);
    cmp_ok($r->{count}, '>', 100, 'of many');
    ok(fill(@some), 'it goes on working');
    ok(wait_for(sub { ($s->rpctl('wait', 'idle', '--timeout', '1s'))[0] == 0 }, quiet => 1, timeout => 30), 'idle');
    is($s->ctl_json('cache', 'stat')->{caches}[0]{arriving}, 0, 'nothing is arriving for ever');
    clean($s);
};

subtest 'a worker that hangs' => sub {
    my $slow = client($port, rcvbuf => 4096, keep => 0);
    my $big = '/big?n=7000000';
    ok(fill($big), 'a large answer');
    $slow->send(request('GET', $big));
    like($slow->read_head, qr/^HTTP\/1.1 200/, 'a reader that pins it');
    my @w = $s->workers;
    kill 'STOP', @w;
    ok(wait_for(sub { my @now = eval { $s->workers }; @now == 2 && !grep { my $n = $_; grep { $n == $_ } @w } @now }, quiet => 1, timeout => 30),
        'stopped workers are killed and replaced');
    $slow->close;
    my $p = $s->ctl_json('cache', 'purge', '--all');
    cmp_ok($p->{objects}, '>=', @some, 'everything can be purged');
    ok(wait_for(sub { my $c = $s->ctl_json('cache', 'stat')->{caches}[0]; $c->{objects} == 0 && $c->{bodies} == 0 && $c->{pages_used} == 0 },
        quiet => 1), 'and nothing pins it') or diag(explain($s->ctl_json('cache', 'stat')));
    ok(fill($big), 'room for others');
    clean($s);
};
$s->stop;

subtest 'in a file' => sub {
    my $f = rpd(config => config(file => $file));
    ok(told($f, qr/cache_file: .* is new, empty/), 'a new one');
    ok($f->wait_log(qr/ok generation 1 .*: cache main: \Q$file\E, new, empty/), 'which the verdict of the start says, too');
    ok(fill(@some), 'stored');
    kill 'KILL', processes_of_session($f->{session});
    ok(killed($f), 'everything is killed');
    my $began = time;
    my $again = rpd(config => config(file => $file));
    ok(told($again, qr/cache_file: .* is kept as it was/), 'the next one finds it');
    is(all_hit(), $all, 'hits at once');
    clean($again);
    $again->stop;
    my $third = rpd(config => config(file => $file));
    is(all_hit(), $all, 'after an ordinary stop, too');
    kill 'KILL', $third->pid;
    wait_for(sub { !$third->running }, quiet => 1);
    my $fourth = rpd(config => config(file => $file));
    is(all_hit(), $all, 'after the death of the master alone');
    ok(killed($third), 'its workers ended');
    is(($fourth->rpctl('upgrade'))[0], 0, 'upgrade');
    is(all_hit(), $all, 'which keeps it');
    $fourth->stop;
    my $fifth = rpd(config => config(file => $file, size => '24m'));
    ok($fifth->wait_log(qr/ok generation 1 .*: cache main: \Q$file\E, new, 40 objects promoted from the old one/), 'a start with another size');
    is(all_hit(), $all, 'fills the new file from the old one');
    open my $maps, '<', '/proc/' . $fifth->pid . '/maps';
    ok(wait_for(sub { seek $maps, 0, 0; 1 == grep { /\Q$file\E/ } <$maps> }, quiet => 1), 'which is given up then');
    $fifth->stop;
    my $sixth = rpd(config => config(file => $file));
    is(all_hit(), $all, 'and back');
    $sixth->stop;
};

subtest 'a file that is in use' => sub {
    my $f = rpd(config => config(file => $file));
    is(all_hit(), $all, 'kept');
    my $other = rpd(config => config(file => $file) =~ s/^address = .*/address = 127.0.0.1:@{[ free_port() ]}/mr);
    ok(told($other, qr/cache_file: .* is in use by processes of another rpd/), 'another rpd does not touch it');
    like($other->ctl('cache', 'stat'), qr/^in +memory: its file cannot be had/m, 'and says so in cache stat');
    is(($other->rpctl('reload'))[0], 0, 'a reload tries again');
    is($other->ctl_json('cache', 'stat')->{caches}[0]{file}, '', 'in vain');
    is(all_hit(), $all, 'the owner has its own');
    $f->stop;
    like(($other->rpctl('reload'))[1], qr/cache main: \Q$file\E, kept as it was/, 'with the file free a reload takes it');
    is($other->ctl_json('cache', 'stat')->{caches}[0]{objects}, scalar(@some), 'as it was');
    $other->stop;
};

subtest 'files that are none' => sub {
    for my $case (
        ['of another program', sub { spew($_[0], 'x' x 100_000); chmod 0600, $_[0] }, qr/is new, empty/, 1],
        ['cut off', sub { spew($_[0], substr(slurp($file), 0, 1 << 20)); chmod 0600, $_[0] }, qr/is new, empty/, 1],
        ['a damaged head', sub { my $t = slurp($file); substr($t, $_, 8) = 'damaged!' for 16, 4096 + 16, 128 + 16, 256 + 16, 512 + 16; spew($_[0], $t); chmod 0600, $_[0] }, qr/cache_file: /, 1],
        ['damage everywhere', sub { my $t = slurp($file); substr($t, 8192 + int rand(length($t) - 8200), 1) = chr int rand 256 for 1 .. 20000; spew($_[0], $t); chmod 0600, $_[0] }, qr/is kept as it was/, 1],
        ['readable by others', sub { spew($_[0], slurp($file)); chmod 0644, $_[0] }, qr/cannot hold it: it must be an own file/, 0],
        ['a link', sub { symlink $file, $_[0] }, qr/cannot hold it/, 0],
        ['on a disk', undef, qr/cannot hold it: it must be .* on tmpfs/, 0],
    ) {
        my ($name, $make, $says, $in_file) = @$case;
        my $path = "$shm/bad";
        my $disk = RPD::Util::tempdir();
        unlink $path;
        $make ? $make->($path) : ($path = "$disk/cache");
        # A test's directory may itself be on tmpfs.
        next if !$make && qx(stat -f -c %T $disk) =~ /tmpfs/;
        my $f = rpd(config => config(file => $path));
        ok(told($f, $says), "$name: told");
        is($f->ctl_json('cache', 'stat')->{caches}[0]{file} ne '' ? 1 : 0, $in_file, "$name: " . ($in_file ? 'in the file' : 'in memory'));
        ok(fill('/after', '/after?n=200000'), "$name: it serves");
        # What is damaged is found while it is sent: that answer breaks off, the next one is right.
        my @wrong = grep { eval { get($_) }; $@ =~ /wrong bytes/ } @some;
        is("@wrong", '', "$name: never a wrong byte");
        ok(fill(@some), "$name: then all is well");
        $f->stop;
    }
};

done_testing;
