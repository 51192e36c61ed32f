# One connection of a test, as client or as origin: bytes out and in, every wait bounded, nothing lost of what was received.
package RPD::Conn;
use strict;
use warnings;
use Carp qw(croak);
use Errno qw(EAGAIN EWOULDBLOCK EINTR);
use IO::Socket::IP;
use IO::Socket::UNIX;
use Socket qw(:all);
use Time::HiRes qw(time);

# Seconds any single wait may take; sanitized builds are slower.
our $TIMEOUT = ($ENV{RPD_TEST_TIMEOUT} || 15) * ($ENV{RPD_SANITIZED} ? 3 : 1);

sub new {
    my ($class, $sock, %opt) = @_;
    $sock->blocking(0);
    setsockopt($sock, IPPROTO_TCP, TCP_NODELAY, 1) if $sock->sockdomain != AF_UNIX;
    return bless { sock => $sock, buf => '', got => '', eof => 0, reset => 0, keep => 1, %opt }, $class;
}

# connect(PORT), connect("[::1]:PORT"), connect("unix:/path"); option rcvbuf bounds what the kernel takes for a slow reader,
# local is the address to connect from.
sub connect {
    my ($class, $to, %opt) = @_;
    return $class->new(tcp($to, delete $opt{rcvbuf}, delete $opt{local}), %opt);
}

# The socket of it.
sub tcp {
    my ($to, $rcvbuf, $local) = @_;
    my $sock;
    if ($to =~ /^unix:(.*)/) {
        $sock = IO::Socket::UNIX->new(Peer => $1) or croak "connect $to: $!";
    } else {
        my ($host, $port) = $to =~ /^(?:\[?(.*?)\]?:)?(\d+)$/ or croak "bad address $to";
        $sock = IO::Socket::IP->new(
            PeerHost => $host || '127.0.0.1', PeerPort => $port, Type => SOCK_STREAM, Timeout => $TIMEOUT,
            $local ? (LocalHost => $local) : (),
            $rcvbuf ? (Sockopts => [[SOL_SOCKET, SO_RCVBUF, pack('i', $rcvbuf)]]) : ()
        ) or croak "connect $to: $@";
    }
    return $sock;
}

sub sock { $_[0]{sock} }
sub got { $_[0]{got} }                            # everything received so far
sub fileno { CORE::fileno($_[0]{sock}) }
sub local_port { $_[0]{sock}->sockport }

sub _wait {
    my ($self, $write, $until) = @_;
    my $left = $until - time;
    return 0 if $left <= 0;
    my $bits = '';
    vec($bits, CORE::fileno($self->{sock}), 1) = 1;
    my $n = $write ? select(undef, $bits, undef, $left) : select($bits, undef, undef, $left);
    # A signal (the end of a load) is no time-out: look again.
    return $n < 0 && $! == EINTR ? $self->_wait($write, $until) : $n > 0;
}

# What a kind of connection with an encryption of its own overrides: at most so many bytes out or in. Bytes moved, 0 for the end
# of what comes, or undef with $!; EAGAIN: wait until reading or writing (_wants_write) is possible.
sub _put {
    my ($self, $bytes, $at) = @_;
    return syswrite($self->{sock}, $$bytes, 262144, $at);
}

sub _take {
    my ($self, $piece, $max) = @_;
    return sysread($self->{sock}, $$piece, $max);
}

sub _wants_write { $_[1] }

# Sends all of it, or dies after the time-out. With quiet, a peer that has gone is no error; returns whether all went out.
sub send {
    my ($self, $bytes, %opt) = @_;
    my $until = time + ($opt{timeout} || $TIMEOUT);
    my $at = 0;
    local $SIG{PIPE} = 'IGNORE';
    while ($at < length $bytes) {
        my $n = $self->_put(\$bytes, $at);
        if (defined $n) {
            $at += $n;
        } elsif ($! == EAGAIN || $! == EWOULDBLOCK) {
            if (!$self->_wait($self->_wants_write(1), $until)) {
                return 0 if $opt{quiet};
                croak "send: timed out after $at of " . length($bytes) . " bytes";
            }
        } elsif ($! != EINTR) {
            return 0 if $opt{quiet};
            croak "send: $! after $at of " . length($bytes) . " bytes";
        }
    }
    return 1;
}

# Sends the bytes in pieces cut at the given offsets, each in a segment of its own.
sub send_split {
    my ($self, $bytes, @at) = @_;
    my $from = 0;
    for my $cut (@at, length $bytes) {
        next if $cut <= $from;
        $self->send(substr($bytes, $from, $cut - $from));
        $from = $cut;
    }
}

# Reads what there is, waiting for it until the given time. Returns bytes read, 0 at the end of the stream, undef on time-out.
sub fill {
    my ($self, $until, $max) = @_;
    return 0 if $self->{eof};
    for (;;) {
        my $n = $self->_take(\my $piece, $max || 262144);
        if (defined $n) {
            if ($n == 0) {
                $self->{eof} = 1;
                return 0;
            }
            $self->{buf} .= $piece;
            $self->{got} .= $piece if $self->{keep};
            return $n;
        }
        if ($! == EAGAIN || $! == EWOULDBLOCK) {
            return undef if !$self->_wait($self->_wants_write(0), $until);
        } elsif ($! != EINTR) {
            $self->{eof} = 1;
            $self->{reset} = 1;
            return 0;
        }
    }
}

sub is_reset { $_[0]{reset} }

# Exactly n bytes; dies on time-out or an early end.
sub read_n {
    my ($self, $n, %opt) = @_;
    my $until = time + ($opt{timeout} || $TIMEOUT);
    while (length $self->{buf} < $n) {
        my $r = $self->fill($until);
        croak "read_n: timed out with " . length($self->{buf}) . " of $n bytes" if !defined $r;
        croak "read_n: end of stream with " . length($self->{buf}) . " of $n bytes" if !$r;
    }
    return substr($self->{buf}, 0, $n, '');
}

# Up to and including the first match of the pattern.
sub read_until {
    my ($self, $re, %opt) = @_;
    my $until = time + ($opt{timeout} || $TIMEOUT);
    for (;;) {
        return substr($self->{buf}, 0, $+[0], '') if $self->{buf} =~ $re;
        my $r = $self->fill($until);
        croak "read_until $re: timed out with: " . _shown($self->{buf}) if !defined $r;
        croak "read_until $re: end of stream with: " . _shown($self->{buf}) if !$r;
    }
}

sub read_head { my $self = shift; return $self->read_until(qr/\r\n\r\n/, @_) }

# Everything until the peer closes; dies on time-out.
sub read_eof {
    my ($self, %opt) = @_;
    my $until = time + ($opt{timeout} || $TIMEOUT);
    for (;;) {
        my $r = $self->fill($until);
        croak "read_eof: timed out with: " . _shown($self->{buf}) if !defined $r;
        last if !$r;
    }
    my $all = $self->{buf};
    $self->{buf} = '';
    return $all;
}

# Reads and forgets n bytes (all until the end when n is undef); returns how many there were.
sub drain {
    my ($self, $n, %opt) = @_;
    my $total = 0;
    for (;;) {
        my $take = length $self->{buf};
        $take = $n - $total if defined $n && $take > $n - $total;
        substr($self->{buf}, 0, $take, '');
        $total += $take;
        return $total if defined $n && $total >= $n;
        my $r = $self->fill(time + ($opt{timeout} || $TIMEOUT));
        croak "drain: timed out after $total bytes" if !defined $r;
        return $total if !$r;
    }
}

# True when the peer closes within the time without sending anything more.
sub closed {
    my ($self, %opt) = @_;
    my $r = $self->fill(time + ($opt{timeout} || $TIMEOUT));
    return defined $r && $r == 0 && $self->{buf} eq '';
}

# True when nothing at all arrives for the time given: for "it must not", so keep the time short.
sub silent {
    my ($self, $seconds) = @_;
    return 0 if length $self->{buf};
    return !defined $self->fill(time + $seconds);
}

# A response (or, with request => 1, a request): a hash of version, status, reason, method, target, head, fields (lower-case name →
# list), body, trailers, interim (list of earlier 1xx answers). method => of the request matters for HEAD.
sub read_response {
    my ($self, %opt) = @_;
    my @interim;
    for (;;) {
        my $head = $self->read_head(%opt);
        my $m = parse_head($head);
        croak "not a response: " . _shown($head) if !defined $m->{status};
        if ($m->{status} >= 100 && $m->{status} < 200 && $m->{status} != 101) {
            push @interim, $m;
            next;
        }
        $m->{interim} = \@interim;
        my $none = $m->{status} == 101 || $m->{status} == 204 || $m->{status} == 304 || ($opt{method} || '') eq 'HEAD';
        $self->_read_body($m, $none, 1, %opt);
        return $m;
    }
}

sub read_request {
    my ($self, %opt) = @_;
    my $head = $self->read_head(%opt);
    my $m = parse_head($head);
    croak "not a request: " . _shown($head) if !defined $m->{method};
    $self->_read_body($m, 0, 0, %opt);
    return $m;
}

sub _read_body {
    my ($self, $m, $none, $until_close, %opt) = @_;
    my $f = $m->{fields};
    $m->{body} = '';
    $m->{trailers} = {};
    return if $none || $opt{head_only};
    if ($f->{'transfer-encoding'}) {
        for (;;) {
            my $line = $self->read_until(qr/\r\n/, %opt);
            my ($size) = $line =~ /^([0-9a-fA-F]+)[ \t]*(?:;.*)?\r\n$/ or croak "bad chunk size " . _shown($line);
            push @{ $m->{chunks} }, hex $size;
            last if hex($size) == 0;
            $m->{body} .= $self->read_n(hex($size), %opt);
            $self->read_n(2, %opt) eq "\r\n" or croak 'chunk without end';
        }
        my $t = '';
        while ((my $line = $self->read_until(qr/\r\n/, %opt)) ne "\r\n") { $t .= $line }
        $m->{trailers} = parse_fields($t);
    } elsif ($f->{'content-length'}) {
        $m->{body} = $self->read_n($f->{'content-length'}[0], %opt);
    } elsif ($until_close) {
        $m->{body} = $self->read_eof(%opt);
    }
}

sub parse_fields {
    my ($text) = @_;
    my %f;
    for my $line (split /\r\n/, $text) {
        my ($name, $value) = $line =~ /^([^:]+):[ \t]*(.*?)[ \t]*$/ or croak "bad field line " . _shown($line);
        push @{ $f{ lc $name } }, $value;
    }
    return \%f;
}

sub parse_head {
    my ($head) = @_;
    my ($line, $rest) = $head =~ /^(.*?)\r\n(.*)\r\n\z/s or croak 'bad head ' . _shown($head);
    my %m = (head => $head, line => $line, fields => parse_fields($rest));
    if ($line =~ m{^HTTP/(\d\.\d) (\d{3})(?: (.*))?$}) {
        @m{qw(version status reason)} = ($1, $2, $3);
    } elsif ($line =~ m{^(\S+) (\S+) HTTP/(\d\.\d)$}) {
        @m{qw(method target version)} = ($1, $2, $3);
    }
    return \%m;
}

sub _shown {
    my ($s) = @_;
    $s = substr($s, 0, 300) . '...' if length $s > 300;
    $s =~ s/([^\x20-\x7e])/sprintf '\\x%02x', ord $1/ge;
    return "\"$s\"";
}

sub shutdown_write { CORE::shutdown($_[0]{sock}, 1) }
sub close { CORE::close($_[0]{sock}) }

# Ends the connection with a reset instead of a close.
sub reset {
    my ($self) = @_;
    setsockopt($self->{sock}, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0));
    CORE::close($self->{sock});
}

1;
