#!/usr/bin/perl
# The examples of the manual load as they stand, with no more beside them than what they refer to.
use strict;
use warnings;
use RPD::Cert;
use RPD::Test;

my $dir = tempdir();
my $ca = ca('Manual');
my $cert = cert($ca, 'www.example.com', 'api.example.com', 'app.internal');
mkdir "$dir/customers" or die $!;
cert_files($cert, "$dir/customers/one.pem");

# Blocks of a page that have a section in them.
sub examples {
    my ($page) = @_;
    my (@found, $block);
    for (split /\n/, slurp("$ENV{RPD_SRCDIR}/man/$page")) {
        if (/^\.Bd -literal/) { $block = '' }
        elsif (/^\.Ed/) { push @found, $block if defined $block && $block =~ /^\[(?!Service)/m; undef $block }
        elsif (defined $block) { $block .= s/^\\&//r =~ s/\\-/-/gr =~ s/\\e/\\/gr . "\n" }
    }
    return @found;
}

# What it refers to and does not define.
sub complete {
    my ($text) = @_;
    my %has = map { $_ => 1 } $text =~ /^\[(.+?)\]$/mg;
    my $more = '';
    my $add = sub { my ($section, $keys) = @_; $more .= "[$section]\n$keys" if !$has{$section}++ };
    $text =~ s{/etc/ssl/customers\b}{$dir/customers}g;
    $text =~ s{/etc/ssl/\S*-ca\.pem}{$ca->{file}}g;
    $text =~ s{/etc/ssl/\S*(?:key|privkey\.pem)$}{$cert->{key}}mg;
    $text =~ s{/etc/ssl/\S*\.key\b}{$cert->{key}}g;
    $text =~ s{/etc/ssl/\S*\.pem\b}{$cert->{cert}}g;
    $text =~ s{/dev/shm/}{$dir/}g;
    $add->("upstream $_", "server = 127.0.0.1:1\n") for $text =~ /^upstream = (\S+)/mg;
    $add->("cache $_", '') for $text =~ /^cache = (?!off$)(\S+)/mg;
    $add->("host $_", "names = $_.example\nupstream = any\n") for $text =~ m{^\[route (\w+)/}mg;
    $add->('upstream any', "server = 127.0.0.1:1\n") if $more =~ /^upstream = any$/m;
    $add->('host other', "names = *\nupstream = last\n") if !grep { /^host/ } keys %has;
    $add->('upstream last', "server = 127.0.0.1:1\n") if $more =~ /^upstream = last$/m;
    $add->('listen any', "address = 127.0.0.1:1\n") if $text !~ /^\[listen/m;
    return "$text\n$more";
}

for my $page ('rpd-cache.7', 'rpd-tls.7') {
    subtest $page => sub {
        my @examples = examples($page);
        cmp_ok(@examples, '>', 4, scalar(@examples) . ' examples');
        for my $example (@examples) {
            my ($title) = $example =~ /^\[(.+?)\]/m;
            my $file = "$dir/t.conf";
            spew($file, complete($example));
            my ($status, $out, $err) = run_program(RPD::Util::program('rpd'), '-t', '-c', $file);
            is($status, 0, $title) or diag("$err\n" . slurp($file));
            unlike($err, qr/warning:.*(?:no effect|deprecated)/, 'nothing in it is without effect');
        }
    };
}

done_testing;
