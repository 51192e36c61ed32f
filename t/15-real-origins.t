#!/usr/bin/perl
# Real applications behind rpd: nginx, Python and Node from Debian; big bodies both ways, server-sent events, a WebSocket.
use strict;
use warnings;
use RPD::Test;
use RPD::Real;
use Digest::MD5;

my $MB = ($ENV{RPD_STORM} || '') eq 'long' ? 1024 : $ENV{RPD_SANITIZED} ? 64 : 256;
my $nginx = nginx_origin();
my $node = node_origin();
my $python10 = python_origin('1.0');
my $python11 = python_origin('1.1');
my $port = free_port();
my $s = rpd(config => "[defaults]\nmax_body = 0\n[listen l]\naddress = 127.0.0.1:$port\n" . join('', map {
    my ($name, $o) = @$_;
    "[upstream $name]\nserver = $o->{address}\n[host $name]\nnames = $name.test\nupstream = $name\n"
} ['nginx', $nginx], ['node', $node], ['python10', $python10], ['python11', $python11]));
my $dir = tempdir();

# A file that is not the same everywhere, and its digest.
my $big = "$dir/big";
my $md5 = do {
    open my $f, '>:raw', $big or die;
    my $d = Digest::MD5->new;
    for my $n (1 .. $MB) {
        my $block = random_bytes(1 << 20, $n);
        print {$f} $block;
        $d->add($block);
    }
    close $f;
    $d->hexdigest;
};
symlink $big, "$_->{www}/big" for $nginx, $python10, $python11;
spew("$_->{www}/index.html", "<p>page</p>\n") for $nginx, $python10, $python11;

sub curl { my ($host, $path, @args) = @_; return run_program('curl', '-sS', '--max-time', '100', '-H', "Host: $host.test", @args, "http://127.0.0.1:$port$path") }
sub file_md5 { open my $f, '<:raw', $_[0] or return ''; return Digest::MD5->new->addfile($f)->hexdigest }

for my $name (qw(nginx python10 python11)) {
    subtest $name => sub {
        my ($status, $out, $err) = curl($name, '/');
        is($out, "<p>page</p>\n", 'a page') or diag($err);
        ($status, $out) = curl($name, '/nothing', '-o', '/dev/null', '-w', '%{http_code}');
        is($out, 404, 'a page that is not');
        ($status, $out) = curl($name, '/', '-I');
        like($out, qr/^content-length: 12\r$/mi, 'HEAD');
        ($status, $out, $err) = curl($name, '/big', '-o', "$dir/got");
        is($status, 0, "$MB MiB down") or diag($err);
        is(file_md5("$dir/got"), $md5, 'all of it');
        unlink "$dir/got";
        if ($name ne 'nginx') {
            ($status, $out, $err) = curl($name, '/up', '-X', 'POST', '-T', $big, '-H', 'Expect:');
            is($out, ($MB << 20) . " $md5", "$MB MiB up") or diag($err);
        }
    };
}
subtest 'ranges and conditions pass' => sub {
    my ($status, $out) = curl('nginx', '/index.html', '-r', '3-6');
    is($out, 'page', 'a range');
    my (undef, $head) = curl('nginx', '/index.html', '-I');
    my ($etag) = $head =~ /^etag: (\S+)/mi;
    ($status, $out) = curl('nginx', '/index.html', '-H', "If-None-Match: $etag", '-o', '/dev/null', '-w', '%{http_code}');
    is($out, 304, 'not modified');
};

subtest 'node' => sub {
    my ($status, $out, $err) = curl('node', '/hello?x=1');
    is($out, 'node GET /hello?x=1', 'a page') or diag($err);
    for my $mode (['length', ''], ['chunks', 'Transfer-Encoding: chunked']) {
        ($status, $out, $err) = curl('node', '/upload', '-X', 'POST', '-T', $big, $mode->[1] ? ('-H', $mode->[1]) : ());
        is($out, sprintf('{"n":%d,"md5":"%s"}', $MB << 20, $md5), "$MB MiB up, $mode->[0]") or diag($err);
        my $q = $mode->[1] ? '' : '&length=1';
        ($status, $out, $err) = curl('node', '/download?n=' . ($MB << 20) . $q, '-o', '/dev/null', '-w', '%{size_download}');
        is("$status $out", '0 ' . ($MB << 20), "$MB MiB down, $mode->[0]") or diag($err);
    }
};

subtest 'server-sent events' => sub {
    my $c = client($port);
    $c->send(request('GET', '/events', ['Host', 'node.test', 'Accept', 'text/event-stream']));
    like($c->read_until(qr/data: hello\n\n/), qr{content-type: text/event-stream}i, 'the first event, at once');
    my $n = client($port);
    for my $word (qw(next bye)) {
        $n->send(request('GET', '/next', ['Host', 'node.test']));
        is($n->read_response->{body}, 'ok', 'poke');
        like($c->read_until(qr/data: $word\n\n/), qr/data: $word/, "event $word, at once");
    }
    $_->close for $c, $n;
};

subtest 'WebSocket' => sub {
    my @ws = map { ws_connect($port, host => 'node.test') } 1 .. 10;
    my $good = 0;
    for my $size (1, 125, 126, 65535, 65536, 300_000) {
        $good += ws_echo($_, 'x' x $size) for @ws;
    }
    is($good, 60, 'ten sockets echo six sizes');
    $_->close for @ws;
};

$s->stop;
done_testing;
