# Certificates of the tests: authorities, servers' and clients', good ones and bad ones, made in the process in a millisecond.
package RPD::Cert;
use strict;
use warnings;
use Carp qw(croak);
use Exporter qw(import);
use IO::Socket::SSL::Utils;
use Net::SSLeay;
use RPD::Util qw(tempdir spew);

our @EXPORT = qw(ca cert cert_text cert_files many_certs ocsp_response);

my (%keys, $dir, $count);
my $serial = 1000;

# Keys are made once per test and kind (ec, rsa, and any name after a colon: "ec:2" is another one).
sub _key {
    my ($kind) = @_;
    return $keys{$kind} ||= $kind =~ /^rsa/ ? KEY_create_rsa(2048) : KEY_create_ec('prime256v1');
}

# An authority: ca('Name', %opt); ->{file} is its certificate. issuer => another authority makes an intermediate.
sub ca {
    my ($name, %opt) = @_;
    return _make(name => $name || 'Test CA', CA => 1, %opt);
}

# A certificate: cert($ca, 'a.test', ...names or IP addresses..., { key => 'ec' | 'rsa', days => N (less than 0: expired),
# client => 1, subject => {...}, wrong_key => 1, serial => N, start => seconds from now }).
# ->{cert}, ->{key} and ->{both} are files, ->{cert_pem} and ->{key_pem} texts; a chain is included when the CA is no root.
sub cert {
    my ($ca, @names) = @_;
    my %opt = ref $names[-1] ? %{ pop @names } : ();
    return _make(name => $names[0], names => \@names, issuer => $ca, %opt);
}

sub _make {
    my (%opt) = @_;
    my $kind = $opt{key} || ($opt{CA} ? 'ec:ca' : 'ec');
    my $key = _key($kind);
    my $now = time;
    my $days = $opt{days} // 90;
    my ($from, $to) = $days < 0 ? ($now + ($days - 30) * 86400, $now + $days * 86400) : ($now - 86400, $now + $days * 86400);
    $from = $now + $opt{start} if defined $opt{start};
    my @san = map { [(/^[0-9.]+$|:/ ? 'IP' : 'DNS'), $_] } grep { !/[ @]/ } @{ $opt{names} || [] };
    my ($x) = CERT_create(
        subject => $opt{subject} || { CN => $opt{name} }, serial => $opt{serial} || ++$serial, digest => 'sha256', key => $key,
        not_before => $from, not_after => $to, $opt{issuer} ? (issuer => [$opt{issuer}{x}, $opt{issuer}{k}]) : (),
        $opt{CA} ? (CA => 1) : (purpose => $opt{client} ? 'client' : 'server'), @san ? (subjectAltNames => \@san) : (),
        @{ $opt{create} || [] }
    );
    my $pem = PEM_cert2string($x);
    my $issuer = $opt{issuer};
    my $chain = $issuer && $issuer->{issuer} ? $issuer->{cert_pem} : '';
    my $key_pem = $opt{wrong_key} ? PEM_key2string(_key("$kind:wrong")) : PEM_key2string($key);
    my %c = (x => $x, k => $key, cert_pem => $pem . $chain, key_pem => $key_pem, issuer => $issuer, name => $opt{name});
    $dir ||= tempdir();
    my $base = "$dir/" . ++$count;
    spew("$base.crt", $c{cert_pem});
    spew("$base.key", $key_pem);
    spew("$base.pem", $c{cert_pem} . $key_pem);
    @c{qw(cert key both file)} = ("$base.crt", "$base.key", "$base.pem", "$base.crt");
    ($c{fingerprint} = lc Net::SSLeay::X509_get_fingerprint($x, 'sha256')) =~ s/://g;
    $c{serial} = lc Net::SSLeay::P_ASN1_INTEGER_get_hex(Net::SSLeay::X509_get_serialNumber($x));
    return \%c;
}

# The text of a PEM file holding both.
sub cert_text { return $_[0]{cert_pem} . $_[0]{key_pem} }

# The same, over what is there: cert_files($cert, "dir/a.test.pem") or (…, "a.crt", "a.key").
sub cert_files {
    my ($c, $cert, $key) = @_;
    return spew($cert, cert_text($c)) if !defined $key;
    spew($key, $c->{key_pem});
    spew($cert, $c->{cert_pem});
}

# n certificates n1.test, n2.test ... in a directory, as NAME.pem with one key.
sub many_certs {
    my ($ca, $to, $n, $pattern) = @_;
    my $key = _key('ec:many');
    my $key_pem = PEM_key2string($key);
    for my $k (1 .. $n) {
        my $name = sprintf $pattern || 'n%d.test', $k;
        my ($x) = CERT_create(
            subject => { CN => $name }, serial => 1_000_000 + $k, digest => 'sha256', key => $key,
            not_before => time - 86400, not_after => time + 90 * 86400,
            issuer => [$ca->{x}, $ca->{k}], purpose => 'server', subjectAltNames => [['DNS', $name]]
        );
        open my $f, '>:raw', "$to/$name.pem" or croak "$to/$name.pem: $!";
        print {$f} PEM_cert2string($x), $key_pem;
        close $f or croak $!;
        CERT_free($x);
    }
}

# An OCSP response about a certificate, in DER, by the command line of OpenSSL; returns its file. status: V or R.
sub ocsp_response {
    my ($ca, $cert, $status) = @_;
    my $d = tempdir();
    my $expiry = '351231235959Z';
    my $revoked = ($status || 'V') eq 'R' ? '250101000000Z' : '';
    spew("$d/index", join("\t", $status || 'V', $expiry, $revoked, uc($cert->{serial}), 'unknown', "/CN=$cert->{name}") . "\n");
    my ($code, $out, $err) = RPD::Util::run_program('openssl', 'ocsp', '-index', "$d/index", '-CA', $ca->{cert}, '-issuer', $ca->{cert},
        '-cert', $cert->{cert}, '-rsigner', $ca->{cert}, '-rkey', $ca->{key}, '-ndays', 7, '-respout', "$d/ocsp.der");
    croak "openssl ocsp: $out$err" if !-s "$d/ocsp.der";
    return "$d/ocsp.der";
}

1;
