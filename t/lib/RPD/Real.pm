# Real origins from Debian, each on a port of its own and ended with the test; and a WebSocket client to talk through them.
package RPD::Real;
use strict;
use warnings;
use Exporter qw(import);
use JSON::PP ();
use RPD::Conn;
use RPD::Util qw(wait_for tempdir slurp spew free_port have spawn);

our @EXPORT = qw(nginx_origin node_origin python_origin grpc_origin tool ws_connect ws_echo wrk);

my @started;

sub _wait_port {
    my ($port, $pid, $log) = @_;
    wait_for(sub {
        die "origin ended: " . slurp($log) . "\n" if waitpid($pid, 1) == $pid;
        return eval { RPD::Conn->connect($port)->close; 1 };
    }, what => "port $port", timeout => 20);
}

# nginx serving a directory (returned with the address): /, /status/200, and an echo of nothing. keys => text for its server block.
sub nginx_origin {
    my (%opt) = @_;
    my $dir = tempdir();
    my $port = free_port();
    mkdir "$dir/$_" for qw(www tmp);
    chmod 0777, "$dir/tmp";
    my $user = $> == 0 ? 'user root;' : '';
    spew("$dir/nginx.conf", <<"END");
daemon off; master_process off; $user pid $dir/nginx.pid; error_log $dir/error.log warn; worker_rlimit_nofile 20000;
events { worker_connections 8000; }
http {
    access_log off; keepalive_timeout 60s; keepalive_requests 1000000; client_max_body_size 0; sendfile on;
    client_body_temp_path $dir/tmp; proxy_temp_path $dir/tmp; fastcgi_temp_path $dir/tmp; uwsgi_temp_path $dir/tmp; scgi_temp_path $dir/tmp;
    server {
        listen 127.0.0.1:$port backlog=4096; root $dir/www;
        location = /small { return 200 "hello from nginx\\n"; }
        location = /sink { proxy_pass http://127.0.0.1:$port/small; }
        @{[ $opt{keys} || '' ]}
    }
}
END
    my $pid = spawn("$dir/out", have('nginx'), '-e', "$dir/error.log", '-p', $dir, '-c', "$dir/nginx.conf");
    push @started, $pid;
    _wait_port($port, $pid, "$dir/out");
    return { address => "127.0.0.1:$port", port => $port, www => "$dir/www", pid => $pid };
}

sub node_origin {
    my $port = free_port();
    my $log = tempdir() . '/out';
    my $pid = spawn($log, have('node') || have('nodejs'), "$ENV{RPD_SRCDIR}/t/tool/app.js", $port);
    push @started, $pid;
    _wait_port($port, $pid, $log);
    return { address => "127.0.0.1:$port", port => $port, pid => $pid };
}

sub python_origin {
    my ($version) = @_;
    my $port = free_port();
    my $dir = tempdir();
    mkdir "$dir/www";
    my $pid = spawn("$dir/out", python(), "$ENV{RPD_SRCDIR}/t/tool/app.py", $port, $version || '1.1', "$dir/www");
    push @started, $pid;
    _wait_port($port, $pid, "$dir/out");
    return { address => "127.0.0.1:$port", port => $port, www => "$dir/www", pid => $pid };
}

# The gRPC application of t/tool/grpc_app.py; undef without python3-grpcio.
sub grpc_origin {
    my (%opt) = @_;
    my $port = free_port();
    my $log = tempdir() . '/out';
    return undef if system(python(), '-c', 'import sys; sys.stderr.close(); import grpc') != 0;
    my $pid = spawn($log, python(), "$ENV{RPD_SRCDIR}/t/tool/grpc_app.py", 'server', $port, $opt{cert} ? @opt{qw(cert key)} : ());
    push @started, $pid;
    _wait_port($port, $pid, $log);
    return { address => "127.0.0.1:$port", port => $port, pid => $pid };
}

# Debian's Python, which has Debian's modules, whatever else is in the path.
sub python { return -x '/usr/bin/python3' ? '/usr/bin/python3' : have('python3') }

# A tool of t/tool to its end: tool('h2_client.py', ARG...) gives its exit status and every line of JSON it has said.
sub tool {
    my ($name, @args) = @_;
    my $with = $name =~ /[.]py$/ ? python() : have('node') || have('nodejs');
    my ($status, $out, $err) = RPD::Util::run_program('timeout', '100', $with, "$ENV{RPD_SRCDIR}/t/tool/$name", @args);
    return ($status, [map { eval { JSON::PP->new->utf8->decode($_) } || { text => $_ } } split /\n/, $out], $err);
}

# A WebSocket connection after its handshake: ws_connect(PORT, path => ..., host => ...).
sub ws_connect {
    my ($to, %opt) = @_;
    my $c = RPD::Conn->connect($to);
    $c->send("GET " . ($opt{path} || '/ws') . " HTTP/1.1\r\nHost: " . ($opt{host} || 'localhost') . "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        . "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n");
    my $a = $c->read_response;
    die "no upgrade: $a->{line}\n" if $a->{status} != 101;
    die "wrong accept key\n" if $a->{fields}{'sec-websocket-accept'}[0] ne 's3pPLMBiTxaQ9kYGzzhZRbK+xOo=';
    return $c;
}

# One message and its echo; true when it came back as it went.
sub ws_echo {
    my ($c, $text) = @_;
    my $n = length $text;
    my $head = $n < 126 ? pack('CC', 0x81, 0x80 | $n) : $n < 65536 ? pack('CCn', 0x81, 0xfe, $n) : pack('CCNN', 0x81, 0xff, 0, $n);
    my $mask = "\x12\x34\x56\x78";
    my $masked = $text ^ (($mask x (1 + $n / 4)));
    $c->send($head . $mask . substr($masked, 0, $n));
    my (undef, $len) = unpack 'CC', $c->read_n(2);
    $len = unpack 'n', $c->read_n(2) if $len == 126;
    $len = (unpack 'NN', $c->read_n(8))[1] if $len == 127;
    return $c->read_n($len) eq $text;
}

# wrk in the background: wrk(seconds => 5, connections => 20, url => ..., script => FILE); ->{finish}->() gives its numbers:
# requests, errors (its own words about sockets), bad (answers that are not 2xx or 3xx), text.
sub wrk {
    my (%opt) = @_;
    my $log = tempdir() . '/wrk';
    my @script = $opt{script} ? ('-s', $opt{script}) : ();
    my $pid = spawn($log, have('wrk'), '-t1', "-c$opt{connections}", "-d$opt{seconds}s", '--timeout', '20s', @script,
        (map { ('-H', $_) } @{ $opt{fields} || [] }), $opt{url});
    push @started, $pid;
    return { pid => $pid, finish => sub {
        waitpid $pid, 0;
        my $text = slurp($log);
        my ($n) = $text =~ /(\d+) requests in/;
        my ($errors) = $text =~ /Socket errors: (.*)/;
        my ($bad) = $text =~ /Non-2xx or 3xx responses: (\d+)/;
        my %count = map { /(\w+) (\d+)/ ? ($1 => $2) : () } split /, /, $errors || '';
        return { requests => $n || 0, errors => $errors, count => \%count, bad => $bad || 0, text => $text };
    }, running => sub { kill(0, $pid) && waitpid($pid, 1) == 0 } };
}

END {
    local ($?, $!, $@);
    kill 'TERM', @started if @started;
    waitpid $_, 0 for @started;
}

1;
