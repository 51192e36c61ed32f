# Header compression of HTTP/2 (RFC 7541) for the tests: a decoder of everything, an encoder that does as it is told.
package RPD::HPACK;
use strict;
use warnings;
use Carp qw(croak);

# Code lengths of appendix B by symbol, 256 is the end; the codes are canonical, so lengths are enough.
my @LENGTHS = map { /(\d+)x(\d+)/ ? ($1) x $2 : $_ } qw(
    13 23 28x7 24 30 28x2 30 28x8 30 28x9 6 10x2 12 13 6 8 11 10x2 8 11 8 6x3 5x3 6x7 7 8 15 6 12 10 13 6 7x22 8 7 8 13 19 13 14 6
    15 5 6 5 6 5 6x3 5 7x2 6x3 5 6 7 6 5x2 6 7x5 15 11 14 13 28 20 22 20x2 22x3 23 22 23x5 24 23 24x2 22 23 24 23x4 21 22 23 22 23x2
    24 22 21 20 22x2 23x2 21 23 22x2 24 21 22 23x2 21x2 22 21 23 22 23x2 20 22x3 23 22x2 23 26x2 20 19 22 23 22 25 26x3 27x2 26 24
    25 19 21 26 27x2 26 27 24 21x2 26x2 28 27x3 20 24 20 21 22 21x2 23 22x2 25x2 24x2 26 23 26 27 26x2 27x5 28 27x5 26 30);
my (@code, %symbol);
{
    my ($code, $length) = (0, 0);
    for my $s (sort { $LENGTHS[$a] <=> $LENGTHS[$b] || $a <=> $b } 0 .. 256) {
        $code = ($code + ($length ? 1 : 0)) << ($LENGTHS[$s] - $length);
        $length = $LENGTHS[$s];
        $code[$s] = sprintf '%0*b', $length, $code;
        $symbol{ $code[$s] } = $s;
    }
}

my @STATIC = map { [split /=/, $_, 2] } split /\n/, <<'END';
:authority=
:method=GET
:method=POST
:path=/
:path=/index.html
:scheme=http
:scheme=https
:status=200
:status=204
:status=206
:status=304
:status=400
:status=404
:status=500
accept-charset=
accept-encoding=gzip, deflate
accept-language=
accept-ranges=
accept=
access-control-allow-origin=
age=
allow=
authorization=
cache-control=
content-disposition=
content-encoding=
content-language=
content-length=
content-location=
content-range=
content-type=
cookie=
date=
etag=
expect=
expires=
from=
host=
if-match=
if-modified-since=
if-none-match=
if-range=
if-unmodified-since=
last-modified=
link=
location=
max-forwards=
proxy-authenticate=
proxy-authorization=
range=
referer=
refresh=
retry-after=
server=
set-cookie=
strict-transport-security=
transfer-encoding=
user-agent=
vary=
via=
www-authenticate=
END

sub new {
    my ($class, %opt) = @_;
    return bless { table => [], size => 0, max => $opt{max} // 4096, limit => $opt{max} // 4096 }, $class;
}

# An integer in a prefix of n bits, the bits above it given.
sub integer {
    my ($n, $above, $value) = @_;
    my $full = (1 << $n) - 1;
    return chr($above | $value) if $value < $full;
    my $out = chr($above | $full);
    $value -= $full;
    while ($value >= 128) {
        $out .= chr(($value & 127) | 128);
        $value >>= 7;
    }
    return $out . chr $value;
}

sub huffman {
    my ($text) = @_;
    my $bits = join '', map { $code[$_] } unpack 'C*', $text;
    $bits .= '1' x (-length($bits) % 8);
    return pack 'B*', $bits;
}

sub unhuffman {
    my ($bytes) = @_;
    my ($out, $at, $bits) = ('', 0, unpack 'B*', $bytes);
    while ($at < length $bits) {
        my $n = 5;
        $n++ while $n <= 30 && !exists $symbol{ substr $bits, $at, $n };
        if ($n > 30) {
            my $rest = substr $bits, $at;
            croak 'HPACK: bad Huffman code or padding' if length $rest > 7 || $rest =~ /0/;
            last;
        }
        my $s = $symbol{ substr $bits, $at, $n };
        croak 'HPACK: end symbol' if $s == 256 || $at + $n > length $bits;
        $out .= chr $s;
        $at += $n;
    }
    return $out;
}

sub string {
    my ($text, $huffman) = @_;
    my $coded = $huffman ? huffman($text) : $text;
    return integer(7, $huffman ? 128 : 0, length $coded) . $coded;
}

sub _entry {
    my ($self, $index) = @_;
    croak 'HPACK: index 0' if $index == 0;
    return $STATIC[$index - 1] if $index <= @STATIC;
    return $self->{table}[$index - 1 - @STATIC] || croak "HPACK: index $index of nothing";
}

sub _add {
    my ($self, $name, $value) = @_;
    unshift @{ $self->{table} }, [$name, $value];
    $self->{size} += 32 + length($name) + length $value;
    $self->_evict;
}

sub _evict {
    my ($self) = @_;
    while ($self->{size} > $self->{max}) {
        my $e = pop @{ $self->{table} };
        $self->{size} -= 32 + length($e->[0]) + length $e->[1];
    }
}

# A block of the fields [name, value, ...]. index => 1: exact entries are referred to, others are added to the table;
# huffman => 1; never => 1: never indexed. Without options every field is a literal that leaves no trace.
sub encode {
    my ($self, $fields, %opt) = @_;
    my $out = '';
    for (my $i = 0; $i < @$fields; $i += 2) {
        my ($name, $value) = @$fields[$i, $i + 1];
        if ($opt{index}) {
            my @all = (@STATIC, @{ $self->{table} });
            my ($hit) = grep { $all[$_][0] eq $name && $all[$_][1] eq $value } 0 .. $#all;
            if (defined $hit) {
                $out .= integer(7, 128, $hit + 1);
                next;
            }
            my ($same) = grep { $all[$_][0] eq $name } 0 .. $#all;
            $out .= integer(6, 64, defined $same ? $same + 1 : 0);
            $out .= string($name, $opt{huffman}) if !defined $same;
            $out .= string($value, $opt{huffman});
            $self->_add($name, $value);
        } else {
            $out .= chr($opt{never} ? 16 : 0) . string($name, $opt{huffman}) . string($value, $opt{huffman});
        }
    }
    return $out;
}

# A change of the table's size, for the beginning of a block.
sub resize {
    my ($self, $max) = @_;
    $self->{max} = $max;
    $self->_evict;
    return integer(5, 32, $max);
}

sub _read_integer {
    my ($n, $bytes, $at) = @_;
    my $full = (1 << $n) - 1;
    my $value = ord(substr $bytes, $$at++, 1) & $full;
    return $value if $value < $full;
    for (my $shift = 0;; $shift += 7) {
        croak 'HPACK: integer' if $$at >= length $bytes || $shift > 28;
        my $b = ord substr $bytes, $$at++, 1;
        $value += ($b & 127) << $shift;
        return $value if !($b & 128);
    }
}

sub _read_string {
    my ($bytes, $at) = @_;
    croak 'HPACK: no string' if $$at >= length $bytes;
    my $coded = ord(substr $bytes, $$at, 1) & 128;
    my $n = _read_integer(7, $bytes, $at);
    croak 'HPACK: string too long' if $$at + $n > length $bytes;
    my $text = substr $bytes, $$at, $n;
    $$at += $n;
    return $coded ? unhuffman($text) : $text;
}

# The fields of a block, [name, value, ...]; dies when it is not in order.
sub decode {
    my ($self, $bytes) = @_;
    my @fields;
    my $at = 0;
    while ($at < length $bytes) {
        my $b = ord substr $bytes, $at, 1;
        if ($b & 128) {
            push @fields, @{ $self->_entry(_read_integer(7, $bytes, \$at)) };
        } elsif (($b & 0xe0) == 0x20) {
            my $max = _read_integer(5, $bytes, \$at);
            croak "HPACK: table size $max" if $max > $self->{limit} || @fields;
            $self->{max} = $max;
            $self->_evict;
        } else {
            my $add = $b & 64;
            my $index = _read_integer($add ? 6 : 4, $bytes, \$at);
            my $name = $index ? $self->_entry($index)->[0] : _read_string($bytes, \$at);
            my $value = _read_string($bytes, \$at);
            push @fields, $name, $value;
            $self->_add($name, $value) if $add;
        }
    }
    return \@fields;
}

1;
