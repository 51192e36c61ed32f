#!/usr/bin/perl
# Bits of a cache's file flipped from outside while it is served: every answer is right to the byte, and nobody who got nothing is
# sent away; what is found damaged behind the first byte is taken from the server, or the answer is cut.
use strict;
use warnings;
use Compress::Zlib ();
use File::Temp;
use RPD::Test;
use RPD::H2;

my $shm = File::Temp->newdir(DIR => -w '/dev/shm' ? '/dev/shm' : undef);
my $file = "$shm/cache";
my $port = free_port();
my $origin = origin();
sub size_of { my ($n) = @_; return $n % 3 == 0 ? 400 + $n * 13 : $n % 3 == 1 ? 70_000 + $n * 1009 : 400_000 + $n * 4001 }
# Each body is its own all over: a wrong byte, or one of another body, is seen.
my %body;
sub body_of {
    my ($path) = @_;
    return $body{$path} //= do {
        my ($n) = $path =~ /(\d+)/;
        my $text = '';
        for (my $i = 0; length($text) < size_of($n); $i++) { $text .= sprintf "%s:%07d;", $path, $i }
        substr $text, 0, size_of($n);
    };
}
$origin->serve_requests(sub {
    my ($r) = @_;
    my $body = body_of($r->{target});
    my @say = ('Cache-Control', 'max-age=600', $r->{target} =~ /bare/ ? () : ('ETag', "\"$r->{target}\""));
    push @say, 'Content-Type', 'text/plain' if $r->{target} =~ /text/;
    if ((($r->{fields}{range} || [''])->[0]) =~ /^bytes=(\d+)-(\d*)$/ && $r->{target} !~ /bare/) {
        my $last = length $2 ? $2 : length($body) - 1;
        my $part = substr $body, $1, $last - $1 + 1;
        my @part = (@say, 'Content-Range', "bytes $1-$last/" . length $body);
        return response(206, \@part, $part) if $r->{target} !~ /(longer|shorter)/;
        $part = $1 eq 'longer' ? $part . 'too much' : substr $part, 1;
        return response(206, [@part, 'Transfer-Encoding', 'chunked']) . sprintf "%x\r\n%s\r\n0\r\n\r\n", length $part, $part;
    }
    return response(200, \@say, $body);
});
my $s = rpd(config => <<"EOF1", global => "workers = 2\n");
[listen main]
address = 127.0.0.1:$port
[upstream origin]
server = @{[ $origin->address ]}
max_fails = 0
[cache main]
size = 24m
max_object = 4m
file = $file
[compress standard]
cpu_low = 100%
cpu_off = 100%
[host all]
names = *
upstream = origin
cache = main
EOF1

sub was { my ($r) = @_; return (join ', ', @{ $r->{fields}{'cache-status'} || [] }) =~ s/; ttl=-?\d+//r }
sub get {
    my ($path, @fields) = @_;
    my $c = client($port, keep => 0);
    $c->send(request('GET', $path, [@fields]));
    my $r = eval { $c->read_response } || { status => "lost: $@", body => '' };
    $r->{was} = was($r);
    return $r;
}
# Flips a bit of what stands `at` bytes behind the beginning of every place where text is found: what has moved leaves copies.
sub damage {
    my ($text, $at) = @_;
    my $all = slurp($file);
    my $n = 0;
    for (my $found = -1; ($found = index $all, $text, $found + 1) >= 0; $n++) { flip($found + $at) }
    die "\"$text\" is not in the file" if !$n;
}
sub flip {
    my ($at) = @_;
    open my $fh, '+<:raw', $file or die "$file: $!";
    seek $fh, $at, 0;
    read $fh, my $byte, 1;
    seek $fh, $at, 0;
    print $fh chr(ord($byte) ^ (1 << ($at % 8)));
    close $fh;
}
sub is_right { my ($r, $path, $what) = @_; ok($r->{status} eq 200 && $r->{body} eq body_of($path), $what) or diag("$r->{status}, " . length($r->{body}) . " bytes; $r->{was}") }
sub at { my ($path, $i) = @_; return sprintf '%s:%07d;', $path, $i }

subtest 'before the first byte' => sub {
    for (['/small/3', 4, 'a small object'], ['/page/4', 7, 'the first page'], ['/pages/5', 7, 'the first of several']) {
        my ($path, $i, $what) = @$_;
        is_right(get($path), $path, "$what: stored");
        is(get($path)->{was}, 'rpd; hit', 'a hit');
        damage(at($path, $i), 3);
        my $r = get($path);
        is_right($r, $path, 'damaged: the right answer');
        is($r->{was}, 'rpd; fwd=uri-miss; stored', 'from the server');
        is(get($path)->{was}, 'rpd; hit', 'and stored again');
    }
};

subtest 'what goes out encoded' => sub {
    my $path = '/text/5';
    my @gzip = ('Accept-Encoding', 'gzip');
    my $encoded = sub {
        my ($what) = @_;
        my $r = get($path, @gzip);
        ok($r->{status} eq 200 && ($r->{fields}{'content-encoding'} || [''])->[0] eq 'gzip' &&
            (Compress::Zlib::memGunzip($r->{body}) // '') eq body_of($path), $what) or diag("$r->{status}; $r->{was}");
        return $r;
    };
    is_right(get($path), $path, 'stored as it is');
    damage(at($path, 7), 3);
    is($encoded->('found when the encoder is in the way')->{was}, 'rpd; fwd=uri-miss; stored', 'from the server');
    is($encoded->('the next one makes the copy')->{was}, 'rpd; hit', 'a hit');
    my $copy = $encoded->('which then goes out');
    ok($copy->{fields}{'content-length'}, 'a copy');
    return if length $copy->{body} < 200;
    damage(substr($copy->{body}, 100, 40), 7);
    $encoded->('a damaged copy is none');
    ok($encoded->('and is made again')->{fields}{'content-length'}, 'a copy');
};

subtest 'fields' => sub {
    get('/small/6');
    damage('"/small/6"', 2);
    my $r = get('/small/6');
    is_right($r, '/small/6', 'the right answer');
    is($r->{fields}{etag}[0], '"/small/6"', 'with the right fields');
};

subtest 'who asks for a part, or by HTTP/2' => sub {
    my $path = '/pages/8';
    get($path);
    damage(at($path, 3000), 3);
    my $r = get($path, 'Range', 'bytes=0-99');
    is($r->{was}, 'rpd; hit', 'another part is served');
    my $from = 3000 * length at($path, 0);
    $r = get($path, 'Range', "bytes=$from-" . ($from + 99));
    is($r->{status}, 206, 'that part');
    is($r->{body}, substr(body_of($path), $from, 100), 'is right');
    like($r->{was}, qr/fwd=uri-miss/, 'from the server');
    $path = '/pages/11';
    get($path);
    damage(at($path, 2), 3);
    my $h = RPD::H2->connect($port);
    my $x = $h->get($path);
    ok($x->{status} == 200 && $x->{body} eq body_of($path), 'HTTP/2');
    $path = '/pages/14';
    get($path);
    damage(at($path, 20_000), 3);
    $x = $h->get($path);
    ok($x->{status} == 200 && $x->{body} eq body_of($path), 'HTTP/2, in the middle');
    $path = '/pages/17';
    get($path);
    damage(at($path, 5), 3);
    my $c = client($port);
    $c->send(request('HEAD', $path));
    is(was($c->read_response(method => 'HEAD')), 'rpd; hit', 'HEAD does not look');
    my @c = map { my $c = client($port); $c->send(request('GET', $path)); $c } 1 .. 10;
    is(scalar(grep { $_->read_response->{body} eq body_of($path) } @c), 10, 'ten at once');
};

# More than is given in one go: the damage is found when a part is with the client.
subtest 'behind the first byte' => sub {
    for my $kind ('/pages', '/bare') {
        my $path = "$kind/500";    # 2.4 MB
        my $body = body_of($path);
        my $cell = length at($path, 0);
        is_right(get($path), $path, 'stored');
        damage(at($path, int(1_900_000 / $cell)), 3);
        my $c = client($port, keep => 0);
        $c->send(request('GET', $path));
        my $r = eval { $c->read_response };
        if ($kind eq '/pages') {
            ok($r && $r->{body} eq $body, 'the rest comes from the server, which knows that it is the same');
        } else {
            ok(!$r, 'cut where nothing tells what is the same');
        }
        is_right(get($path), $path, 'right the next time');
    }
};

subtest 'a rest of another length' => sub {
    for my $kind ('/longer', '/shorter') {
        my $path = "$kind/500";
        is_right(get($path), $path, 'stored');
        damage(at($path, int(1_900_000 / length at($path, 0))), 3);
        my $c = client($port);
        $c->send(request('GET', $path));
        my $r = eval { $c->read_response(timeout => 10) };
        like($r ? 'it goes on' : $@, qr/end of stream/, "$kind: the connection ends with it");
    }
};

subtest 'bits all over' => sub {
    my @paths = map { my $n = $_; map { "/$_/$n" } qw(pages bare) } 1 .. 24;
    my ($right, $asked, $cut, $flips) = (0, 0, 0, 0);
    srand 4711;
    for my $round (1 .. 12) {
        # Where something is kept: not the tables at the beginning, which a later round is for.
        my $all = slurp($file);
        for (1 .. 200) {
            my $at = int rand length $all;
            next if substr($all, $at & ~4095, 4096) !~ /[^\0]/ || $at < (1 << 16);
            flip($at);
            $flips++;
        }
        for my $path (@paths) {
            my $r = get($path);
            $asked++;
            if ($r->{status} eq 200 && $r->{body} eq body_of($path)) { $right++ }
            elsif ($r->{status} =~ /^lost: read_n: end of stream with [1-9]/ && $path =~ /bare/) { $cut++ }
            else { diag("$path: $r->{status}, " . length $r->{body}) }
        }
    }
    is($right + $cut, $asked, "$asked answers, $flips flips: all right" . ($cut ? ", but for $cut that were cut" : ''));
    cmp_ok($cut, '<', $asked / 20, 'nearly all');
    is(($s->rpctl('status'))[0], 0, 'the master lives');
    is(scalar grep({ kill 0, $_ } $s->workers), 2, 'and so do the workers');
};
$s->stop;
done_testing;
