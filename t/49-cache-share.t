#!/usr/bin/perl
# max_share: a host that asks for ever more keeps within its share and pushes no other host out; what rpctl says of it; death of a
# worker, purge and reload.
use strict;
use warnings;
use RPD::Test;

my $port = free_port();
my $o = origin()->serve_requests(sub {
    my ($r) = @_;
    my ($n) = $r->{target} =~ /n=(\d+)/;
    return response(200, ['Cache-Control', 'max-age=3600'], 'x' x ($n // 20_000));
});
sub config {
    my ($share) = @_;
    return simple_config(listen => "127.0.0.1:$port", server => $o->address, host => 'cache = main', rest => <<"END");
[cache main]
size = 4m
max_object = 1m
max_share = $share
END
}
my $s = rpd(config => config('50%'));

sub get {
    my ($host, $path) = @_;
    my $r = http_get($port, $path, Host => $host);
    is($r->{status}, 200, "$host $path") if $r->{status} != 200;
    return ($r->{fields}{'cache-status'}[0] // '') =~ /;\s*hit\b/ ? 1 : 0;
}
sub hits { my ($host, @path) = @_; return scalar grep { get($host, $_) } @path }
sub main_cache { return $s->ctl_json('cache', 'stat')->{caches}[0] }
sub share { my ($host) = @_; return (map { $_->{bytes} } grep { $_->{host} eq $host } @{ main_cache()->{shares} })[0] // 0 }
my @few = map { "/few/$_" } 1 .. 20;
sub flood { my ($from, $to) = @_; get('noisy.example', "/many/$_") for map { ($_) x 3 } $from .. $to; return }

hits('quiet.example', @few);
ok(wait_for(sub { hits('quiet.example', @few) == @few }, quiet => 1, timeout => 5), 'twenty small answers of a quiet host');

subtest 'one host asks for much' => sub {
    flood(1, 400);
    is(hits('quiet.example', @few), scalar @few, 'the quiet one has lost nothing');
    my $c = main_cache();
    my $have = share('noisy.example');
    ok($have <= $c->{size} / 2 && $have > $c->{size} / 2 * 0.9, "$have of $c->{size} bytes are the noisy one's");
    is($c->{max_share_percent}, 50, 'the share in JSON');
    is(share('quiet.example'), 0, 'who has little is not named');
    like($s->ctl('cache', 'stat'), qr/^share       4\d\.\d % of at most 50\.0 %: noisy\.example$|^share       50\.0 % of at most 50\.0 %: noisy\.example$/m, 'as text');
};

subtest 'a worker dies' => sub {
    my ($pid) = map { $_->{pid} } @{ $s->ctl_json('status')->{workers} };
    ok($pid && kill('KILL', $pid), 'killed');
    ok(wait_for(sub { !grep { $_->{pid} == $pid } @{ $s->ctl_json('status')->{workers} } }, quiet => 1, timeout => 10), 'replaced');
    flood(401, 500);
    is(hits('quiet.example', @few), scalar @few, 'nothing lost');
    my $c = main_cache();
    ok(share('noisy.example') <= $c->{size} / 2, 'within the share');
    is($s->ctl('cache', 'fsck'), "ok\n", 'the cache is sound');
};

subtest 'reload with a smaller share' => sub {
    $s->write_config(config('20%'));
    is(($s->rpctl('reload'))[0], 0, 'reloaded');
    ok(share('noisy.example') > main_cache()->{size} / 4, 'what is there stays');
    flood(501, 520);
    ok(wait_for(sub { flood(521, 525); my $n = share('noisy.example'); $n > 0 && $n <= main_cache()->{size} / 5 }, quiet => 1, timeout => 20),
        'and is less as more is stored');
    is(hits('quiet.example', @few), scalar @few, 'nothing lost');
    my $refused = main_cache()->{refused_over_share};
    get('quiet.example', '/large?n=900000');
    is(get('quiet.example', '/large?n=900000'), 0, 'an answer larger than the share is served and not stored');
    ok(main_cache()->{refused_over_share} > $refused, 'which is counted');
};

subtest 'purge' => sub {
    is(($s->rpctl('cache', 'purge', '--host', 'noisy.example'))[0], 0, 'purged');
    is(share('noisy.example'), 0, 'and it has nothing any more');
    is(hits('quiet.example', @few), scalar @few, 'another is not concerned');
};

subtest 'bad configuration' => sub {
    $s->write_config(config('0%'));
    my ($status, undef, $err) = $s->rpctl('reload');
    isnt($status, 0, 'refused');
    like($err, qr/max_share of \[cache main\] is less than 1%/, 'and why');
};
done_testing();
