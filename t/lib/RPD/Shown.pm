# Which certificate a listener shows for a name.
package RPD::Shown;
use strict;
use warnings;
use Exporter qw(import);
use RPD::Test;
use RPD::TLS;

our @EXPORT = qw(shown becomes);

# Who answers a name: the serial of the certificate, or why not. In a connection of its own, with a request.
sub shown {
    my ($port, $name, %opt) = @_;
    my $c = RPD::TLS->connect($port, defined $name ? (sni => $name) : (), quiet => 1, %opt);
    my $got = $c->error // $c->peer->{serial};
    if (!$c->error) {
        $c->send(request('GET', '/', ['Host', $name // 'x']));
        $c->read_response->{status} == 200 or $got = 'no answer';
    }
    $c->close;
    return $got;
}
# All workers: as many looks running.
sub becomes {
    my ($port, $name, $want, $what) = @_;
    my $last;
    my $ok = wait_for(sub {
        for (1 .. 6) {
            $last = shown($port, $name);
            return 0 if $last ne $want;
        }
        return 1;
    }, quiet => 1);
    ok($ok, $what) or diag("$name: $last, expected $want");
}

1;
