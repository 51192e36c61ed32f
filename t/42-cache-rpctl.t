#!/usr/bin/perl
# rpctl cache: what is stored, purges of every kind, counts, roles, warming; the same in JSON.
use strict;
use warnings;
use POSIX ();
use RPD::Test;

my $port = free_port();
my $o = origin()->serve_requests(sub {
    my ($r) = @_;
    my ($path) = $r->{target} =~ /^([^?]*)/;
    return response(404, [], 'none') if $path eq '/none';
    my @tags = $path =~ m{^/t/(.*)} ? ('Surrogate-Key', join ' ', 'all', split m{/}, $1) : ();
    return response(200, ['Cache-Control', 'max-age=3600', 'Content-Type', 'text/plain', 'ETag', '"x"', @tags], 'b' x 100);
});
my $s = rpd(config => simple_config(
    listen => "127.0.0.1:$port", server => $o->address, host => 'cache = main', rest => <<'END'));
[cache main]
size = 16m
max_object = 1m
[cache other]
size = 1m
max_object = 64k
[route any/other]
path = /other/*
cache = other
END
my $base = "http://localhost:$port";

# What Cache-Status says: hit or not.
sub get {
    my ($path, $host) = @_;
    my $r = http_get($port, $path, Host => $host // "localhost:$port");
    return ($r->{fields}{'cache-status'}[0] // '') =~ /;\s*hit\b/ ? 'hit' : 'miss';
}
sub stored { my ($path, $host) = @_; get($path, $host); my $h = wait_for(sub { get($path, $host) eq 'hit' }, quiet => 1, timeout => 5); return $h ? 1 : 0 }
sub cache { return $s->ctl_json('cache', @_) }
sub urls { return join ' ', map { $_->{url} =~ s/^\Q$base\E//r } @{ cache('list', @_)->{objects} } }

subtest 'list' => sub {
    is(urls(), '', 'nothing yet');
    ok(stored($_), "$_ is stored") for '/a', '/b?q=1', '/d/e/f', '/other/x';
    is(urls(), '/a /b?q=1 /d/e/f /other/x', 'all, in order');
    is(urls("$base/d/"), '/d/e/f', 'a prefix with its scheme');
    is(urls("localhost:$port/b"), '/b?q=1', 'and without');
    is(urls('--cache', 'other'), '/other/x', 'one cache');
    my $two = cache('list', '-n', 2);
    is(scalar @{ $two->{objects} }, 2, '-n');
    ok($two->{more}, 'tells that there is more');
    my ($e) = @{ cache('list', "$base/a")->{objects} };
    is_deeply([@$e{qw(status bytes cache)}, $e->{fresh_s} > 3500 ? 1 : 0], [200, 100, 'main', 1], 'what it says of an object');
    my $text = $s->ctl('cache', 'list');
    like($text, qr{^main\s+200\s+100\s+\d+\s+3\d+\s+\Q$base/a\E$}m, 'as text');
};

subtest 'show' => sub {
    my $text = $s->ctl('cache', 'show', "$base/a");
    like($text, qr/^url\s+\Q$base\E\/a\n/, 'the URL');
    like($text, qr/^status\s+200$/m, 'status');
    like($text, qr/^ETag: "x"$/mi, 'its fields');
    is(scalar @{ cache('show', "https://localhost/a")->{objects} }, 1, 'whatever scheme and port are said');
    my ($status, $out) = $s->rpctl('cache', 'show', "$base/none");
    is($status, 1, 'what is not stored');
    is($out, "not stored\n", 'says so');
};

subtest 'stat' => sub {
    my ($main, $other) = @{ cache('stat')->{caches} };
    is($main->{name}, 'main', 'in the order of the configuration');
    is($main->{objects}, 3, 'objects');
    is($other->{objects}, 1, 'of each');
    cmp_ok($main->{hits}, '>', 2, 'hits');
    cmp_ok($main->{size}, '==', 16 << 20, 'size');
    is(scalar @{ cache('stat', 'other')->{caches} }, 1, 'one by name');
    like($s->ctl('cache', 'stat', 'main'), qr/^huge pages  .+$/m, 'what came of huge pages');
    like($s->ctl('cache', 'stat', 'main'), qr/^objects     3 of/m, 'as text');
};

# Purges: [arguments], what must be gone, what must be kept.
for my $case (
    [['/a'], '/a', '/a?x /a/'],
    [['/b?q=1'], '/b?q=1', '/b /b?q=2'],
    [['/%7euser'], '/~user', '/user'],
    [['--prefix', '/d/'], '/d/ /d/e /d/e/f?x', '/d /dd/e'],
    [['--prefix', '/'], '/ /x/y', ''],
    [['--tag', 'red'], '/t/red /t/blue/red', '/t/blue /t/reddish'],
    [['--host', 'localhost'], '/h1 /h2', ''],
    [['--all'], '/x /other/y', ''],
) {
    my ($args, $gone, $kept) = @$case;
    my @args = @$args;
    $args[-1] = $base . $args[-1] if $args[-1] =~ m{^/};
    subtest "purge @$args" => sub {
        my @gone = split ' ', $gone;
        my @kept = split ' ', $kept;
        ok(stored($_), "$_ is stored") for @gone, @kept;
        my $dry = cache('purge', @args, '--dry-run');
        cmp_ok($dry->{objects}, '>=', @gone, 'a dry run counts');
        is($dry->{bytes}, 100 * $dry->{objects}, 'and adds up');
        is(get($_), 'hit', "$_ is still there") for @gone;
        my $soft = cache('purge', @args, '--soft');
        is($soft->{objects}, $dry->{objects}, 'a soft purge counts the same');
        is(scalar(grep { $_->{softly_purged} } @{ cache('list')->{objects} }), $dry->{objects}, 'and marks them');
        my $text = $s->ctl('cache', 'purge', @args);
        like($text, qr/^purged \Q$dry->{objects}\E objects? \(\d+k?\)$/, 'the purge says what it did');
        my %left = map { ($_->{url} =~ s/^\Q$base\E//r) => 1 } @{ cache('list')->{objects} };
        ok(!$left{$_}, "$_ is gone") for @gone;
        ok($left{$_}, "$_ is left") for @kept;
        is(get($_), 'miss', "$_ is asked for again") for @gone;
        is(get($_), 'hit', "$_ is not") for @kept;
    };
}

subtest 'another host' => sub {
    ok(stored('/a', 'one.test') && stored('/a', 'TWO.test:8080'), 'two hosts');
    is(cache('purge', '--host', 'two.test')->{objects}, 1, 'one is purged, whatever its port');
    is(get('/a', 'one.test'), 'hit', 'the other is not');
    is(get('/a', 'two.test:8080'), 'miss', 'it is');
};

subtest 'refusals' => sub {
    for my $case (
        [[qw(purge)], 2], [[qw(purge --prefix)], 2], [[qw(purge http://x/ --tag y)], 2], [[qw(purge http://x/ http://y/)], 2],
        [[qw(list --soft)], 2], [[qw(list -n 0)], 2], [[qw(show)], 2], [[qw(lits)], 2], [[qw(stat --cache main)], 2], [[qw(warm)], 2],
        [[qw(purge --prefix http://x/y)], 1, qr/directory/], [[qw(purge --host x/y)], 1, qr/host name/], [['purge', 'http://'], 1, qr/no URL/],
        [['purge', 'http://a b/'], 1, qr/no URL/], [[qw(stat nope)], 1, qr/no such cache/], [[qw(list --cache nope)], 1, qr/no such cache/],
        [['purge', '--tag', ''], 1, qr/empty/], [['purge', '--prefix', 'http://x/' . 'd/' x 17], 1, qr/too deep/],
        [['purge', 'http://x/' . 'd' x 9000], 1, qr/too long/],
    ) {
        my ($args, $want, $why) = @$case;
        my ($status, undef, $err) = $s->rpctl('cache', @$args);
        is($status, $want, join ' ', map { length > 30 ? substr($_, 0, 30) . '...' : $_ } @$args) or diag($err);
        like($err, $why, 'and why') if $why;
    }
};

subtest 'fsck' => sub {
    is($s->ctl('cache', 'fsck'), "ok\n", 'clean');
    my $r = cache('fsck', 'main', '--repair');
    is_deeply([@$r{qw(findings repaired)}], [0, 0], 'nothing to repair');
    is(($s->rpctl('fsck'))[0], 0, 'the segment as well: the slots of these commands are free again');
};

subtest 'warm' => sub {
    $s->ctl('cache', 'purge', '--all');
    my $file = $s->dir . '/urls';
    RPD::Util::spew($file, "# a list\n" . join('', map { "$base/w/$_?n=$_\n" } 1 .. 60) . "\r\n  $base/last  \n$base/none\nftp://x/\n");
    my ($status, $out, $err) = $s->rpctl('cache', 'warm', $file, '-H', 'Accept-Encoding: gzip');
    is($status, 6, 'partly done') or diag($err);
    like($out, qr/^fetched 61 of 63 URLs \(\d+k\), 2 failed$/, 'counts');
    like($err, qr{\Q$base/none\E: status 404}, 'tells the one that failed');
    like($err, qr{ftp://x/: not http}, 'and the one that is no URL');
    is(scalar @{ cache('list', "$base/w/")->{objects} }, 60, 'they are stored');
    is(get('/w/7?n=7'), 'hit', 'for clients');
    RPD::Util::spew($file, "$base/w/1?n=1\n");
    is_deeply($s->ctl_json('cache', 'warm', $file)->{fetched}, 1, 'in JSON');
    is(($s->rpctl('cache', 'warm', '/nonexistent'))[0], 1, 'no file');
    is(($s->rpctl('cache', 'warm', $file, '-H', 'nonsense'))[0], 2, 'no field');
};

subtest 'readers read, operators purge' => sub {
    plan skip_all => 'needs root' if $> != 0;
    my $group = getgrnam('nogroup');
    plan skip_all => 'needs the group nogroup' if !defined $group;
    my $text = RPD::Util::slurp($s->conf);
    RPD::Util::spew($s->conf, $text =~ s/^\[global\]\n/[global]\ncontrol_readers = nogroup\n/mr);
    is(($s->rpctl('reload'))[0], 0, 'readers are let in');
    chmod 0755, $s->dir;
    my $as_reader = sub {
        my $pid = fork // die;
        if (!$pid) {
            open STDOUT, '>', '/dev/null';
            open STDERR, '>', '/dev/null';
            $) = "$group $group";
            $( = $group;
            POSIX::setuid(65534);
            exec RPD::Util::program('rpctl'), '-s', $s->socket, 'cache', @_ or POSIX::_exit(127);
        }
        waitpid $pid, 0;
        return $? >> 8;
    };
    is($as_reader->('stat'), 0, 'stat');
    is($as_reader->('list'), 0, 'list');
    is($as_reader->('purge', '--all', '--dry-run'), 0, 'a dry run');
    is($as_reader->('purge', '--all'), 4, 'but no purge');
    is($as_reader->('fsck', '--repair'), 4, 'nor repair');
    is(get('/w/7?n=7'), 'hit', 'nothing happened');
};

$s->stop;

my $p2 = free_port();
my $bare = rpd(config => simple_config(listen => "127.0.0.1:$p2", server => $o->address));
my ($status, undef, $err) = $bare->rpctl('cache', 'stat');
is($status, 1, 'without a cache');
like($err, qr/there is no cache/, 'it says so');
$bare->stop;

done_testing;
