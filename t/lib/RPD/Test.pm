# What an end-to-end test uses: rpd, origins, connections, helpers, and Test::More.
package RPD::Test;
use strict;
use warnings;
use Exporter qw(import);
use Test::More;
use Time::HiRes qw(time);
use RPD::Conn;
use RPD::Origin;
use RPD::Server;
use RPD::Util qw(wait_for tempdir slurp spew program free_port run_program rss sockets_of have random_bytes spawn);

our @EXPORT = (qw(rpd origin client request response http_get simple_config wait_for tempdir slurp spew program free_port
    run_program rss sockets_of have random_bytes spawn time), @Test::More::EXPORT);

# Every test has an end, even when rpd hangs.
$SIG{ALRM} = sub { die "the test took too long\n" };
alarm(($ENV{RPD_STORM} || '') eq 'long' ? 3600 : $ENV{RPD_SANITIZED} ? 900 : 400);
# A test that is ended from outside ends what it has started.
$SIG{TERM} = $SIG{INT} = sub { exit 1 };
$SIG{PIPE} = 'IGNORE';
$| = 1;

sub rpd { return RPD::Server->start(@_) }

# An origin on a port of its own (or address => ...).
sub origin {
    my (%opt) = @_;
    $opt{address} ||= '127.0.0.1:' . free_port();
    return RPD::Origin->listen(%opt);
}

sub client { return RPD::Conn->connect(@_) }

# The bytes of a request: request('GET', '/path', ['Name', 'value', ...], body). Host is added unless given; Content-Length too
# when there is a body.
sub request {
    my ($method, $target, $fields, $body) = @_;
    my @f = @{ $fields || [] };
    my $text = "$method $target HTTP/1.1\r\n";
    my %have;
    for (my $i = 0; $i < @f; $i += 2) { $have{ lc $f[$i] } = 1 }
    $text .= "Host: localhost\r\n" if !$have{host};
    for (my $i = 0; $i < @f; $i += 2) { $text .= "$f[$i]: $f[$i + 1]\r\n" }
    $text .= 'Content-Length: ' . length($body) . "\r\n"
        if defined $body && !$have{'content-length'} && !$have{'transfer-encoding'};
    return "$text\r\n" . (defined $body ? $body : '');
}

# The bytes of an answer: response(200, [fields], body), with Content-Length.
sub response {
    my ($status, $fields, $body) = @_;
    my @f = @{ $fields || [] };
    my $text = "HTTP/1.1 $status Text\r\n";
    for (my $i = 0; $i < @f; $i += 2) { $text .= "$f[$i]: $f[$i + 1]\r\n" }
    $text .= 'Content-Length: ' . length($body) . "\r\n" if defined $body;
    return "$text\r\n" . (defined $body ? $body : '');
}

# One request on a connection of its own.
sub http_get {
    my ($to, $path, @fields) = @_;
    my $c = client($to);
    $c->send(request('GET', $path, [@fields, 'Connection', 'close']));
    my $r = $c->read_response;
    $c->close;
    return $r;
}

# The usual configuration: one listener, one upstream of the given addresses, one catch-all host, an access log at once.
sub simple_config {
    my (%opt) = @_;
    my $listen = join "\n", map { "address = $_" } ref $opt{listen} ? @{ $opt{listen} } : $opt{listen};
    my $servers = join "\n", map { "server = $_" } ref $opt{server} ? @{ $opt{server} } : $opt{server};
    my $more = sub { my $t = $opt{ $_[0] }; return defined $t ? "$t\n" : '' };
    return <<"END";
@{[ $more->('top') ]}
[defaults]
@{[ $more->('defaults') ]}
[listen main]
$listen
@{[ $more->('listen_keys') ]}
[upstream app]
$servers
@{[ $more->('upstream') ]}
[host any]
names = *
upstream = app
@{[ $more->('host') ]}
@{[ $more->('rest') ]}
END
}

1;
