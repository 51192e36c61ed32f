#!/usr/bin/perl
# Compression meets the cache: encoded copies are made once, belong to the answer they were made of, and go out with no more work.
# The origin answers with the status and fields of X-Origin (X-Confirm when it is asked with conditions) and X-Size bytes of text,
# which begin with how often it was asked.
use strict;
use warnings;
use Compress::Zlib ();
use RPD::Test;
use RPD::Real;
use RPD::H2;

my $text = join '', map { "<li class=\"row\">item $_ of the list, number " . $_ * 7919 % 10007 . "</li>\n" } 1 .. 4000;
my $port = free_port();
my $origin = origin();
$origin->serve_requests(sub {
    my ($r) = @_;
    my %f = %{ $r->{fields} };
    our $n++;
    my $conditional = $f{'if-none-match'} || $f{'if-modified-since'};
    my $script = $conditional && $f{'x-confirm'} ? $f{'x-confirm'}[0] : $f{'x-origin'} ? $f{'x-origin'}[0] : '200';
    my ($status, @fields) = split /\s*~\s*/, $script;
    @fields = map { my ($k, $v) = split /: ?/, $_, 2; ($k, $v) } @fields, 'Content-Type: text/html', "X-Asked: @{ $f{'accept-encoding'} || [] }";
    my $size = $f{'x-size'} ? $f{'x-size'}[0] : 20000;
    my $body = substr "$$.$n\n" . $text x (1 + $size / length $text), 0, $size;
    return response($status, [@fields], $status == 304 ? undef : $body);
});
my $dir = tempdir();
my $s = rpd(config => <<"END", global => "workers = 2\nrecompress_cpu = 100%\n");
[defaults]
upstream = origin
access_log = main
[log main]
file = <DIR>/access.log
flush = 10ms
format = "%{method} %{uri} %{status} %{cache} %{encoding} %{plain_bytes} %{body_bytes}"
[listen main]
address = 127.0.0.1:$port
[upstream origin]
server = @{[ $origin->address ]}
max_fails = 0
[compress standard]
cpu_low = 100%
cpu_off = 100%
recompress_hits = 0
[compress busy]
cpu_low = 0%
cpu_off = 0%
recompress_hits = 0
[compress hot]
cpu_low = 100%
cpu_off = 100%
recompress_hits = 3
recompress_size = 100k
[compress alone]
cpu_low = 100%
cpu_off = 100%
store = off
[cache main]
size = 32m
max_object = 8m
[cache other]
size = 16m
encodings = off
[host all]
names = *
cache = main
[route all/busy]
path = /busy/*
compress = busy
[route all/hot]
path = /hot/*
compress = hot
[route all/alone]
path = /alone/*
compress = alone
[route all/other]
path = /other/*
cache = other
END

sub decode {
    my ($coding, $bytes) = @_;
    return Compress::Zlib::memGunzip($bytes) // 'error: not gzip' if $coding eq 'gzip';
    spew("$dir/in", $bytes);
    my $out = `'@{[ RPD::Real::python() ]}' '$ENV{RPD_SRCDIR}/t/tool/decode.py' $coding < '$dir/in' 2>&1`;
    return $? ? "error: $out" : $out;
}
my @fresh = ('X-Origin', '200 ~ Cache-Control: max-age=600 ~ ETag: "one" ~ Accept-Ranges: bytes');

# One request: the answer with `coding`, and `cache`, what Cache-Status says in short.
sub ask {
    my ($method, $path, @f) = @_;
    my $c = client($port);
    $c->send(request($method, $path, \@f));
    my $r = $c->read_response(method => $method);
    $r->{coding} = $r->{fields}{'content-encoding'} ? join ',', @{ $r->{fields}{'content-encoding'} } : '';
    my $status = join ', ', @{ $r->{fields}{'cache-status'} || [] };
    $r->{cache} = $status =~ /; hit/ ? 'hit' : $status =~ /fwd=([a-z-]+)/ ? $1 : $status;
    $r->{length} = $r->{fields}{'content-length'} ? $r->{fields}{'content-length'}[0] : undef;
    return $r;
}
# The body of an answer, decoded once.
sub plain {
    my ($r) = @_;
    return $r->{plain} //= $r->{coding} =~ /^(?:gzip|br|zstd)$/ ? decode($r->{coding}, $r->{body}) : $r->{body};
}
sub field { my ($r, $n) = @_; return join ', ', @{ $r->{fields}{$n} || [] } }
sub encoded { return (grep { $_->{name} eq 'main' } @{ $s->ctl_json('cache', 'stat')->{caches} || $s->ctl_json('cache', 'stat') })[0]{encoded} }
sub made { return $s->metric('rpd_compress_answers_total') }
sub stored { return $s->metric('rpd_compress_stored_answers_total') }

# ---- made once ----
for my $coding (qw(gzip br)) {
    my @f = (@fresh, 'Accept-Encoding', $coding);
    my $path = "/once-$coding";
    my $one = ask('GET', $path, @f);
    my $two = ask('GET', $path, @f);
    my $had = stored();
    my $three = ask('GET', $path, @f);
    is_deeply([map { [$_->{cache}, $_->{coding}, defined $_->{length} ? 1 : 0] } $one, $two, $three],
        [['uri-miss', $coding, 0], ['hit', $coding, 0], ['hit', $coding, 1]], "$coding: a miss, a hit that is encoded, a hit that was");
    ok(plain($one) eq plain($two) && plain($two) eq plain($three) && length plain($one) == 20000, 'all the same and whole');
    my $made = made();
    ask('GET', $path, @f) for 1 .. 5;
    is(made(), $made, 'nothing is compressed any more');
    is(stored(), $had + 6, 'copies go out');
    is_deeply([map { field($three, $_) } qw(etag vary accept-ranges)], ['W/"one"', 'Accept-Encoding', ''], 'what the head says');
    like(field($three, 'age'), qr/^\d+$/, 'Age too');
    my $head = ask('HEAD', $path, @f);
    delete $_->{fields}{'x-request-id'}, delete $_->{fields}{age}, delete $_->{fields}{'cache-status'} for $head, $three;
    is_deeply($head->{fields}, $three->{fields}, 'HEAD says what GET says');
}
is(encoded(), 2, 'rpctl cache stat counts the copies');

# ---- who takes no coding, conditions, ranges ----
{
    my $plain = ask('GET', '/once-gzip', @fresh);
    is_deeply([$plain->{cache}, $plain->{coding}, $plain->{length}, map { field($plain, $_) } qw(etag vary accept-ranges)],
        ['hit', '', 20000, '"one"', 'Accept-Encoding', 'bytes'], 'as it is, for who takes no coding');
    my @gzip = (@fresh, 'Accept-Encoding', 'gzip');
    my $part = ask('GET', '/once-gzip', @gzip, 'Range', 'bytes=10-19');
    is_deeply([$part->{status}, $part->{coding}, $part->{body} eq substr($plain->{body}, 10, 10), map { field($part, $_) } qw(etag content-range vary)],
        [206, '', 1, '"one"', 'bytes 10-19/20000', 'Accept-Encoding'], 'a part is one of the plain body');
    my $again = ask('GET', '/once-gzip', @gzip, 'Range', 'bytes=10-19', 'If-Range', 'W/"one"');
    is_deeply([$again->{status}, $again->{coding}], [200, 'gzip'], 'a part of what is encoded cannot be asked for');
    for (['W/"one"', 304, 'W/"one"'], ['"one"', 304, '"one"'], ['W/"two"', 200, 'W/"one"']) {
        my $r = ask('GET', '/once-gzip', @gzip, 'If-None-Match', $_->[0]);
        is_deeply([$r->{cache}, $r->{status}, field($r, 'etag')], ['hit', @$_[1, 2]], "If-None-Match: $_->[0]");
    }
    my $r = ask('GET', '/once-gzip', @fresh, 'Accept-Encoding', 'x-gzip;q=0.3');
    is_deeply([$r->{coding}, $r->{length} < 10000], ['gzip', 1], 'other words for the same coding');
}

# ---- a copy belongs to what it was made of ----
{
    my @f = (@fresh, 'Accept-Encoding', 'gzip');
    ask('GET', '/changes', @f) for 1 .. 3;
    my $before = ask('GET', '/changes', @f);
    $s->ctl('cache', 'purge', "http://localhost/changes");
    my $after = ask('GET', '/changes', @f);
    is($after->{cache}, 'uri-miss', 'purged with what it was made of');
    $after = ask('GET', '/changes', @f);
    isnt(plain($after), plain($before), 'the old copy is not used for the new answer');
    $after = ask('GET', '/changes', @f) for 1 .. 2;
    ok($after->{length} && plain($after) ne plain($before), 'which has one of its own');

    my @say = ('X-Origin', '200 ~ Cache-Control: max-age=600 ~ ETag: "r"', 'X-Confirm', '304 ~ ETag: "r" ~ X-New: yes', 'Accept-Encoding', 'gzip');
    ask('GET', '/renewed', @say) for 1 .. 3;
    my $made = made();
    my $r = ask('GET', '/renewed', @say, 'Cache-Control', 'no-cache');
    is_deeply([$r->{cache}, $r->{coding}, field($r, 'x-new')], ['stale', 'gzip', 'yes'], 'renewed by a 304, which its head says');
    $r = ask('GET', '/renewed', @say);
    is_deeply([$r->{cache}, $r->{length} ? 1 : 0, field($r, 'x-new'), made() - $made], ['hit', 1, 'yes', 0], 'the copy stays with it');
    my @other = ('X-Origin', '200 ~ Cache-Control: max-age=600 ~ ETag: "r"', 'Accept-Encoding', 'gzip');
    my $old = plain($r);
    $r = ask('GET', '/renewed', @other, 'Cache-Control', 'no-cache');
    isnt(plain($r), $old, 'another answer, be its tag the same: another body');
    $r = ask('GET', '/renewed', @other);
    isnt(plain($r), $old, 'and for the next one');
}

# ---- what servers encode, and vary by it ----
{
    my @f = ('X-Origin', '200 ~ Cache-Control: max-age=600 ~ Vary: Accept-Encoding', 'Accept-Encoding', 'gzip, br');
    ask('GET', '/varies', @f) for 1 .. 2;
    my $r = ask('GET', '/varies', @f);
    is_deeply([$r->{cache}, $r->{coding}, $r->{length} ? 1 : 0, field($r, 'vary')], ['hit', 'br', 1, 'Accept-Encoding'], 'a server that varies and does not encode');
    @f = ('X-Origin', '200 ~ Cache-Control: max-age=600 ~ Vary: Accept-Encoding ~ Content-Encoding: deflate', 'Accept-Encoding', 'gzip');
    my $had = encoded();
    my $c = client($port);
    for (1 .. 3) {
        $c->send(request('GET', '/theirs', \@f));
        $r = $c->read_response;
    }
    is_deeply([field($r, 'content-encoding'), $r->{fields}{'content-length'}[0], encoded()], ['deflate', 20000, $had], 'what a server encoded stays so');
    my $h = RPD::H2->connect($port);
    my $two = $h->get('/once-br', ['accept-encoding', 'br']);
    is_deeply([field($two, 'content-encoding'), decode('br', $two->{body}) eq ask('GET', '/once-br', @fresh)->{body}], ['br', 1], 'copies over HTTP/2');
}

# ---- busy, alone, small ----
{
    my @f = (@fresh, 'Accept-Encoding', 'gzip');
    my $r = ask('GET', '/busy/x', @f) for 1 .. 2;
    $r = ask('GET', '/busy/x', @f);
    is_deeply([$r->{coding}, field($r, 'vary')], ['', 'Accept-Encoding'], 'no time to compress: as it is');
    ask('GET', '/alone/x', @f) for 1 .. 2;
    my $made = made();
    $r = ask('GET', '/alone/x', @f);
    is_deeply([$r->{coding}, made() - $made], ['gzip', 1], 'store = off: each time anew');
    ask('GET', '/small', @f, 'X-Size', 500) for 1 .. 2;
    is(ask('GET', '/small', @f)->{coding}, '', 'below min_size');
    ask('GET', '/other/x', @f) for 1 .. 3;
    is(ask('GET', '/other/x', @f)->{coding}, 'gzip', 'encodings = off');
}

# ---- large ones, clients that go away, many at once ----
{
    my @f = (@fresh, 'Accept-Encoding', 'gzip', 'X-Size', 5_000_000);
    my $one = ask('GET', '/large', @f);
    is(length plain($one), 5_000_000, 'encoded while it arrives');
    my $gone = client($port, rcvbuf => 4096);
    $gone->send(request('GET', '/large', \@f));
    $gone->read_head;
    $gone->reset;
    wait_for(sub { $s->metric('rpd_requests_in_flight') <= 1 });
    my $two = ask('GET', '/large', @f);
    ok(!defined $two->{length} && plain($two) eq plain($one), 'a copy that broke off is none');
    my $three = ask('GET', '/large', @f);
    ok($three->{length} && plain($three) eq plain($one), 'the next one made it');

    # Gone before the first byte: what comes out of the encoder meets a closed connection.
    ask('GET', '/alone/gone', @fresh, 'X-Size', 5_000_000);
    for (1 .. 6) {
        my $c = client($port);
        $c->send(request('GET', '/alone/gone', [@fresh, 'Accept-Encoding', $_ % 2 ? 'br' : 'gzip']));
        $c->close;
    }
    my @lines;
    wait_for(sub { @lines = grep { m{ /alone/gone } } $s->access_lines(1); @lines == 7 });
    is_deeply([map { m{ hit \S+ (\d+) (\d+)$} && ($1 > 5_000_000 || $2 > 5_000_000) ? $_ : () } @lines], [], 'bytes in the log of those who have gone');

    ask('GET', '/many', @fresh);
    my @c = map { client($port) } 1 .. 40;
    $_->send(request('GET', '/many', [@fresh, 'Accept-Encoding', 'br'])) for @c;
    my %seen;
    $seen{ decode('br', $_->read_response->{body}) }++ for @c;
    is_deeply([values %seen], [40], 'many at once get the same');
    my $r = ask('GET', '/many', @fresh, 'Accept-Encoding', 'br');
    ok($r->{length}, 'and one copy was made');
}

# ---- what is asked for often is compressed anew ----
for my $coding (qw(br gzip)) {
    my @f = (@fresh, 'Accept-Encoding', $coding);
    ask('GET', "/hot/$coding", @f) for 1 .. 2;
    my $before = ask('GET', "/hot/$coding", @f);
    my $r;
    my $ok = wait_for(sub { $r = ask('GET', "/hot/$coding", @f); $r->{length} < $before->{length} });
    ok($ok && plain($r) eq plain($before), "$coding: from $before->{length} to $r->{length} bytes");
    is_deeply([$r->{cache}, field($r, 'etag')], ['hit', 'W/"one"'], 'the same answer');
    my $done = $s->metric('rpd_recompress_total');
    ask('GET', "/hot/$coding", @f) for 1 .. 12;
    is($s->metric('rpd_recompress_total'), $done, 'once is enough');
}
{
    my @f = (@fresh, 'Accept-Encoding', 'br', 'X-Size', 200_000);
    my $done = $s->metric('rpd_recompress_total');
    is($done, 2, 'both are counted');
    cmp_ok($s->metric('rpd_recompress_saved_bytes_total'), '>', 0, 'and what they save');
    cmp_ok($s->metric('rpd_recompress_cpu_milliseconds_total'), '>', 0, 'and what it costs');
    ask('GET', '/hot/large', @f) for 1 .. 12;
    ask('GET', '/hot/after', @fresh, 'Accept-Encoding', 'br') for 1 .. 9;
    $s->wait_metric('rpd_recompress_total', $done + 1);
    my $r = ask('GET', '/hot/large', @f);
    is($s->metric('rpd_recompress_total'), $done + 1, 'not what is larger than recompress_size');
}

# ---- deaths ----
{
    my @f = (@fresh, 'Accept-Encoding', 'gzip', 'X-Size', 7_000_000);
    my $plain = ask('GET', '/dies', @fresh, 'X-Size', 7_000_000)->{body};
    my $stuck = client($port, rcvbuf => 4096);
    $stuck->send(request('GET', '/dies', \@f));
    $stuck->read_head;
    my @old = $s->workers;
    for my $pid (@old) {
        kill 'KILL', $pid;
        ok(wait_for(sub { my @w = eval { $s->workers }; @w == 2 && !grep { $_ == $pid } @w }, quiet => 1, timeout => 40), "worker $pid has a successor");
    }
    is(decode('gzip', do { my $r = ask('GET', '/dies', @f); $r->{body} }), $plain, 'a worker dies that is making a copy: others encode')
        for 1 .. 2;
    ok(wait_for(sub { ask('GET', '/dies', @f)->{length} }), 'and make one');
    my ($helper) = grep { RPD::Util::slurp("/proc/$_/cmdline") =~ /helper/ } $s->children;
    ask('GET', '/hot/helper', @fresh, 'Accept-Encoding', 'br', 'X-Size', 100_000) for 1 .. 9;
    kill 'KILL', $helper;
    my $done = $s->metric('rpd_recompress_total');
    ok(wait_for(sub {
        ask('GET', '/hot/next', @fresh, 'Accept-Encoding', 'br', 'X-Size', 100_000);
        $s->metric('rpd_recompress_total') > $done
    }, quiet => 1, timeout => 40), 'the helper dies, the next one goes on');
}

# ---- a reload keeps them ----
{
    my $made = made();
    $s->reload;
    my $r = ask('GET', '/once-gzip', @fresh, 'Accept-Encoding', 'gzip');
    is_deeply([$r->{cache}, $r->{coding}, $r->{length} ? 1 : 0, made() - $made], ['hit', 'gzip', 1, 0], 'a reload keeps copies');
    my ($status, $out) = $s->rpctl('cache', 'fsck');
    is($status, 0, 'fsck finds nothing') or diag($out);
}
$s->stop;

# ---- on disk: what comes back is asked for, its copies come with it ----
{
    my $config = simple_config(listen => "127.0.0.1:$port", server => $origin->address, host => 'cache = main',
        rest => "[cache main]\nsize = 16m\npersist = $dir/disk\n[compress standard]\ncpu_low = 100%\ncpu_off = 100%\n");
    my @say = ('X-Origin', '200 ~ Cache-Control: max-age=600 ~ ETag: "d"', 'X-Confirm', '304 ~ ETag: "d"', 'Accept-Encoding', 'br');
    $s = rpd(config => $config);
    ask('GET', '/disk', @say) for 1 .. 2;
    my $before = ask('GET', '/disk', @say);
    my $disk = sub { return $s->ctl_json('cache', 'stat')->{caches}[0] };
    ok(wait_for(sub { my $c = $disk->(); $c->{disk_pending} == 0 && $c->{disk_files} > 0 }), 'on disk');
    $s->stop;
    $s = rpd(config => $config);
    ok(wait_for(sub { $disk->()->{restored} >= 2 }), 'and back');
    my $r = ask('GET', '/disk', @say);
    is_deeply([$r->{coding}, $r->{length}, plain($r) eq plain($before), made()], ['br', $before->{length}, 1, 0], 'with its copy');
    $s->stop;
}
done_testing();
