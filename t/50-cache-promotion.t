#!/usr/bin/perl
# A reload that changes the geometry of a cache fills the new one from the old one: hits at once, nothing that was purged, no
# older version over a newer one, and no death of who copies does harm.
use strict;
use warnings;
use Digest::SHA qw(sha1_hex);
use File::Temp ();
use RPD::Test;
use RPD::Util qw(slurp spew children_of);

my $port = free_port();
my $shm = File::Temp->newdir(DIR => '/dev/shm');
my $state = tempdir();    # of the origin, which is other processes: what was asked, the version of a path, what it waits for
sub version { my ($path) = @_; my $f = "$state/v" . sha1_hex($path); return -e $f ? slurp($f) : 1 }
sub body_of {
    my ($path, $version) = @_;
    my ($n) = $path =~ /n=(\d+)/;
    my $seed = sha1_hex("$path $version");
    return "$version " . substr($seed x (($n // 400) / 40 + 1), 0, $n // 400);
}
my $o = origin()->serve_requests(sub {
    my ($r) = @_;
    my ($path) = $r->{target} =~ /^([^#]*)/;
    open my $f, '>>', "$state/asked";
    syswrite $f, "$r->{method} $path\n";
    close $f;
    if ($r->{method} eq 'POST') {
        wait_for(sub { -e "$state/go" }, timeout => 60, quiet => 1);
        return response(200, ['Cache-Control', 'no-store'], 'done');
    }
    my $version = version($path);
    return response(200, ['Cache-Control', 'max-age=3600', 'ETag', qq("$version"), 'Surrogate-Key', 'all ' . ($path =~ /(\d+)/ ? "n$1" : 'x')],
        body_of($path, $version));
});
sub config {
    my (%opt) = @_;
    my $keys = join '', map { "$_ = $opt{$_}\n" } grep { $_ ne 'rest' } sort keys %opt;
    return simple_config(listen => "127.0.0.1:$port", server => $o->address, host => 'cache = main',
        rest => "[cache main]\n$keys" . ($opt{max_object} ? '' : "max_object = 4m\n") . ($opt{rest} // ''));
}
sub get {
    my ($path) = @_;
    my $r = http_get($port, $path);
    my ($version) = $r->{body} =~ /^(\d+) /;
    die "wrong bytes for $path\n" if $r->{status} != 200 || $r->{body} ne body_of($path, $version // 0);
    return (($r->{fields}{'cache-status'}[0] // '') =~ /;\s*hit\b/ ? 'hit' : 'miss') . " $version";
}
my @some = map { "/o/$_" . ($_ % 5 ? '' : '?n=' . 20_000 * $_) } 1 .. 60;
sub fill { my @p = @_; get($_) for @p; return wait_for(sub { !grep { get($_) !~ /^hit/ } @p }, quiet => 1, timeout => 10) ? 1 : 0 }
sub others { my %not = map { $_ => 1 } @_; return grep { !$not{$_} } @some }
sub misses { my (@p) = @_; return scalar grep { get($_) !~ /^hit/ } @p }
sub stat_of_cache { my ($s) = @_; return $s->ctl_json('cache', 'stat')->{caches}[0] }
sub clean { my ($s, $what) = @_; return is($s->ctl('cache', 'fsck'), "ok\n", $what // 'the cache is sound') }
sub idle { my ($s) = @_; return ok(wait_for(sub { ($s->rpctl('wait', 'idle', '--timeout', '1s'))[0] == 0 }, quiet => 1, timeout => 30), 'the old generation ends') }
# All processes of one rpd that have a cache mapped: how many different ones.
sub mappings {
    my ($s) = @_;
    my %n;
    for my $pid ($s->master, children_of($s->master)) {
        open my $maps, '<', "/proc/$pid/maps" or next;
        for (<$maps>) { $n{$1}++ if m{ (\d+)\s+\S*(?:rpd-cache|\Q$shm\E)} }
    }
    return scalar keys %n;
}
sub reload_to {
    my ($s, $what, $config, $verdict) = @_;
    $s->write_config($config);
    my ($status, $out, $err) = $s->rpctl('reload');
    is($status, 0, "$what: reload") or diag($out, $err);
    like($out, $verdict, "$what: the verdict says what became of it");
    return;
}
my $promoted = qr/cache main: (?:\S+, )?new, (\d+) objects promoted from the old one/;

spew("$state/go", '');    # POSTs wait for it
my $s = rpd(config => config(size => '16m'));
ok(fill(@some), 'stored');

subtest 'geometries' => sub {
    for my $to (['grown', size => '40m'], ['shrunk', size => '24m'], ['larger objects', size => '24m', max_object => '8m'],
        ['without huge pages', size => '24m', max_object => '8m', huge_pages => 'off'],
        ['to a file', size => '24m', max_object => '8m', huge_pages => 'off', file => "$shm/cache"],
        ['the file grown', size => '32m', file => "$shm/cache"],
        ['another file', size => '32m', file => "$shm/other"],
        ['back to memory', size => '32m']) {
        my ($what, %keys) = @$to;
        reload_to($s, $what, config(%keys), qr/$promoted/);
        is(misses(@some), 0, "$what: every hit is one still");
        my $c = stat_of_cache($s);
        is($c->{promotion}{objects}, scalar(@some), "$what: rpctl cache stat says how many");
        ok(!$c->{promotion}{running}, "$what: and that it is done");
    }
    like($s->ctl('cache', 'stat'), qr/^promoted    60 objects \(\d\S*\) from the old one$/m, 'rpctl cache stat, for people');
    idle($s);
    ok(wait_for(sub { mappings($s) == 1 }, quiet => 1), 'the old ones are mapped by nobody any more');
    reload_to($s, 'verify', config(size => '32m', verify => 'heads'), qr/cache main: verify all -> heads$/);
    is(misses(@some), 0, 'is no matter of geometry');
    clean($s);
};

subtest 'too small for all' => sub {
    my @large = map { "/large/$_?n=1000000" } 1 .. 20;
    ok(fill(@large), 'twenty large ones more');
    misses(@some);    # they are asked for again and again
    reload_to($s, 'shrunk', config(size => '8m'), qr/$promoted, as many as fit/);
    my $c = stat_of_cache($s);
    cmp_ok($c->{objects}, '>=', 4, "$c->{objects} objects fit");
    is($c->{evicted}, 0, 'none of them was evicted for another');
    like($s->ctl('cache', 'stat'), qr/^promoted .*, as many as fit$/m, 'rpctl cache stat says so');
    misses(@some, @large);
    clean($s);
    reload_to($s, 'grown', config(size => '48m'), qr/$promoted/);
    ok(fill(@some), 'all again');
    $s->ctl('cache', 'purge', '--prefix', 'http://localhost/large/');
};

subtest 'who copies is killed' => sub {
    my $killed = 0;
    for my $round (1 .. 12) {
        my %before = map { $_ => 1 } children_of($s->master);
        $s->write_config(config(size => 20 + 4 * ($round % 5) . 'm'));
        my $pid = RPD::Util::spawn("$state/reload", program('rpctl'), '-s', $s->socket, 'reload');
        # The one of the new processes that is called so.
        my $helper;
        wait_for(sub {
            ($helper) = grep { !$before{$_} && (eval { slurp("/proc/$_/cmdline") } // '') =~ /^rpd: helper/ } children_of($s->master);
            return $helper || waitpid($pid, POSIX::WNOHANG()) != 0;
        }, quiet => 1);
        $killed += kill 'KILL', $helper if $helper;
        waitpid $pid, 0;
        ok(wait_for(sub { ($s->rpctl('wait', 'healthy', '--timeout', '1s'))[0] == 0 }, quiet => 1), "round $round: healthy");
        is(misses(@some), 0, "round $round: every hit is one still");
    }
    cmp_ok($killed, '>', 3, "$killed were killed");
    reload_to($s, 'at last', config(size => '52m'), qr/$promoted/);
    my ($helper) = grep { (eval { slurp("/proc/$_/cmdline") } // '') =~ /^rpd: helper/ } children_of($s->master);
    kill 'KILL', $helper;
    ok(wait_for(sub { ($s->rpctl('wait', 'healthy', '--timeout', '1s'))[0] == 0 }, quiet => 1), 'another helper');
    is(misses(@some), 0, 'every hit is one still');
    idle($s);
    ok(wait_for(sub { mappings($s) == 1 }, quiet => 1), 'no old cache is left') or diag(mappings($s));
    clean($s);
};

subtest 'a reload during a promotion' => sub {
    my @pid = map {
        $s->write_config(config(size => 24 + 8 * ($_ % 4) . 'm'));
        RPD::Util::spawn("$state/reload$_", program('rpctl'), '-s', $s->socket, 'reload');
    } 1 .. 6;
    for (@pid) { waitpid $_, 0; is($?, 0, 'reload') }
    is(misses(@some), 0, 'every hit is one still');
    reload_to($s, 'another key', config(size => '32m', cache_status => 'on', rest => "[log more]\nfile = $state/log\n"), qr/ok/);
    is(misses(@some), 0, 'every hit is one still');
    # Back to what an older generation, which drains, still has.
    my $slow = client($port, rcvbuf => 4096, keep => 0);
    my $big = '/big?n=3900000';
    ok(fill($big), 'a large one');
    $slow->send(request('GET', $big, ['Connection', 'close']));
    like($slow->read_head, qr/^HTTP\/1.1 200/, 'a client of the old generation');
    reload_to($s, 'away', config(size => '40m'), qr/$promoted/);
    spew("$state/v" . sha1_hex($some[11]), 2);
    http_get($port, $some[11]);
    my $c = client($port);
    $c->send(request('POST', $some[11], ['Connection', 'close'], 'change'));
    is($c->read_response->{status}, 200, 'changed');
    $c->close;
    is(get($some[11]), 'miss 2', 'fetched anew');
    reload_to($s, 'and back', config(size => '32m'), qr/$promoted/);
    is(get($some[11]), 'hit 2', 'never the older one');
    is(misses(others()), 0, 'every hit is one still');
    $slow->drain(4_000_000);
    $slow->close;
};

# Large ones: names share places in the table of purges, fewer of them where it is larger.
subtest 'purges and newer versions' => sub {
    http_get($port, $_) for $some[3];
    $s->ctl('cache', 'purge', 'http://localhost' . $some[0]);
    $s->ctl('cache', 'purge', '--tag', 'n2');
    $s->ctl('cache', 'purge', '--soft', '--tag', 'n3');
    reload_to($s, 'after purges', config(size => '160m'), qr/$promoted/);
    is(misses(others(@some[0 .. 2])), 0, 'what was not purged');
    is(get($some[0]), 'miss 1', 'what was purged before is fetched');
    is(get($some[1]), 'miss 1', 'by tag, too');
    isnt(get($some[2]), 'hit 1', 'what was softly purged is asked for');
    $s->ctl('cache', 'purge', 'http://localhost' . $some[4]);
    $s->ctl('cache', 'purge', '--tag', 'n7');
    is(get($some[4]), 'miss 1', 'and a purge reaches what was promoted');
    is(get($some[6]), 'miss 1', 'by tag, too');
    # While it goes on.
    for my $round (1 .. 6) {
        my @now = map { "/p/$round/$_" } 1 .. 8;
        ok(fill(@now), 'stored');
        $s->write_config(config(size => 96 + 32 * ($round % 3) . 'm'));
        my $pid = RPD::Util::spawn("$state/reload", program('rpctl'), '-s', $s->socket, 'reload');
        my @purged;
        for my $path (@now) {
            spew("$state/v" . sha1_hex($path), 2);
            $s->ctl('cache', 'purge', "http://localhost$path");
            push @purged, $path;
        }
        waitpid $pid, 0;
        is($?, 0, "round $round: reload") or diag(slurp("$state/reload"));
        is(scalar(grep { get($_) !~ / 2$/ } @purged), 0, "round $round: what was purged meanwhile is not there");
    }
    clean($s);
    # Names share places: a purge reaches a stranger now and then, and he is fetched anew.
    my ($before, $met) = (misses(@some), stat_of_cache($s)->{purged_met});
    cmp_ok($before, '<=', 3, 'the others are') or diag("$before of them met a purge $met times");
};

subtest 'what the old generation does to the end' => sub {
    my $path = $some[9];
    unlink "$state/go";
    is(get($path), 'hit 1', 'stored');
    my $c = client($port);
    $c->send(request('POST', $path, [], 'change'));
    ok(wait_for(sub { slurp("$state/asked") =~ /^POST /m }, quiet => 1), 'a POST is on its way');
    reload_to($s, 'meanwhile', config(size => '100m'), qr/$promoted/);
    is(get($path), 'hit 1', 'nothing is known of it yet');
    spew("$state/v" . sha1_hex($path), 2);
    spew("$state/go", '');
    is($c->read_response->{status}, 200, 'its answer takes the URL out, in the old cache');
    $c->close;
    ok(wait_for(sub { get($path) =~ / 2$/ }, quiet => 1), 'and in the new one');
    is(get($path), 'hit 2', 'where the new one is kept');
    idle($s);
    ok(wait_for(sub { mappings($s) == 1 }, quiet => 1), 'then the old one is given up');
};

subtest 'upgrade' => sub {
    $s->write_config(config(size => '128m'));
    is(($s->rpctl('upgrade'))[0], 0, 'with another size');
    is(misses(@some), 0, 'every hit is one still');
    like($s->ctl_json('status')->{last_reload}{message}, $promoted, 'the verdict says so');
    is(stat_of_cache($s)->{size}, 128 << 20, 'the new one has the size');
    idle($s);
    ok(wait_for(sub { mappings($s) == 1 }, quiet => 1), 'the old one goes with the old processes');
    clean($s);
};
$s->stop;

done_testing;
