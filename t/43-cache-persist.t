#!/usr/bin/perl
# A cache on disk: after the death of every process a new start fills itself from the directory and asks the server before it
# answers with anything from there; damaged files are refused with a message.
use strict;
use warnings;
use RPD::Test;
use RPD::Util qw(tempdir wait_for processes_of_session);

my $port = free_port();
my $asked = tempdir() . '/asked';    # the origin is another process: a line per request
spew($asked, '');
my $big = 'b' x 300_000;
my $o = origin()->serve_requests(sub {
    my ($r) = @_;
    my $path = $r->{target};
    my @fields = ('Cache-Control', 'max-age=3600', 'ETag', qq("$path"));
    my $same = ($r->{fields}{'if-none-match'} || [''])->[0] eq qq("$path");
    open my $fh, '>>', $asked or die "$asked: $!";
    print $fh $same ? 'same' : 'full', " $path\n";
    close $fh;
    return response(304, \@fields) if $same;
    return response(200, \@fields, $path eq '/big' ? $big : "text of $path");
});
my $dir = tempdir() . '/disk';
my $config = simple_config(listen => "127.0.0.1:$port", server => $o->address, host => 'cache = main',
    rest => "[cache main]\nsize = 16m\npersist = $dir");
my @paths = ('/big', map { "/small/$_" } 1 .. 20);

sub get {
    my ($path) = @_;
    my $r = http_get($port, $path, Host => 'localhost');
    return ($r->{body} eq ($path eq '/big' ? $big : "text of $path") ? 'right' : 'wrong') . ': '
        . (join(',', @{ $r->{fields}{'cache-status'} || [] }) =~ /;\s*hit\b/ ? 'hit' : 'asked');
}
sub asked { my ($kind) = @_; return scalar(() = slurp($asked) =~ /^$kind /mg) }
sub disk { my ($s) = @_; my ($c) = @{ $s->ctl_json('cache', 'stat')->{caches} }; return $c }
sub on_disk {
    my ($s) = @_;
    return wait_for(sub { my $c = disk($s); $c->{disk_files} > 0 && $c->{disk_pending} == 0 && $c->{persisted_bytes} > 300_000 },
        timeout => 30, quiet => 1);
}
sub die_all {
    my ($s) = @_;
    kill 'KILL', processes_of_session($s->{session});
    wait_for(sub { !$s->running && !processes_of_session($s->{session}) }, quiet => 1, timeout => 20);
    $s->{stopped} = 1;
}

my $s = rpd(config => $config);
get($_) for @paths;
is(get($_), 'right: hit', "$_ is stored") for @paths[0, 1, 20];
ok(on_disk($s), 'all is on disk') or diag(explain(disk($s)));
ok(-d $dir && ((stat $dir)[2] & 07777) == 0700, 'in a directory of its own');
like($s->ctl('cache', 'stat'), qr/^on disk     \S+ in [1-9]\d* files in \Q$dir\E; 0 slabs/m, 'rpctl cache stat says so');
$s->reload($config . "[log more]\nfile = $dir.log\n");
ok(on_disk($s), 'after a reload too') or diag(explain(disk($s)));
die_all($s);

subtest 'a start with a new mapping' => sub {
    spew($asked, '');
    my $again = rpd(config => $config);
    ok(wait_for(sub { disk($again)->{restored} >= @paths }, quiet => 1), 'everything is back') or diag(explain(disk($again)));
    like(get($_), qr/^right/, "$_ has its bytes") for @paths;
    is(asked('full'), 0, 'nothing was fetched again');
    is(asked('same'), scalar @paths, 'everything was asked for');
    is(get($_), 'right: hit', "$_ is a hit now") for @paths[0, 1, 20];
    is(asked('same'), scalar @paths, 'and is not asked for again');
    ok(on_disk($again), 'and goes to disk again');
    die_all($again);
};

subtest 'another size' => sub {
    my $again = rpd(config => $config);
    ok(wait_for(sub { disk($again)->{restored} >= @paths }, quiet => 1), 'everything is back');
    get($_) for @paths;
    my ($larger) = map { s/^size = 16m/size = 64m/mr } $config;
    $again->write_config($larger);
    like(($again->reload)[1], qr/objects promoted from the old one/, 'is promoted by a reload');
    spew($asked, '');
    is(get($_), 'right: hit', "$_ is a hit still") for @paths;
    ok(on_disk($again), 'and all is on disk again');
    is(disk($again)->{restored}, 0, 'from where nothing was read');
    die_all($again);
    $again = rpd(config => $larger);
    ok(wait_for(sub { disk($again)->{restored} >= @paths }, quiet => 1), 'for the next start');
    like(get($_), qr/^right/, "$_ has its bytes") for @paths;
    is(asked('full'), 0, 'nothing was fetched again');
    die_all($again);
    $again = rpd(config => $config);
    ok(wait_for(sub { disk($again)->{restored} >= @paths }, quiet => 1), 'of another size');
    ok(on_disk($again), 'on disk');
    die_all($again);
};

subtest 'damaged files' => sub {
    for my $file (glob "$dir/*.slab") {
        open my $fh, '+<:raw', $file or die "$file: $!";    # in place: it stays the workers'
        seek $fh, 100, 0;
        read $fh, my $byte, 1;
        seek $fh, 100, 0;
        print $fh $byte ^ "\x04";
        close $fh;
    }
    spew($asked, '');
    my $again = rpd(config => $config);
    ok($again->wait_log(qr/\.slab is refused after 0 blocks: a block is damaged/), 'refused, and why');
    is(get('/big'), 'right: asked', 'the cache is empty');
    is(asked('full'), 1, 'and filled anew');
    $again->stop;
};

$o->stop if $o->can('stop');
done_testing;
