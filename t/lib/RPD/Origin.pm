# Origins of the tests. A listener hands out its connections one by one, so that a test plays client and origin in one sequence;
# a server answers by itself in a process of its own, with a fork per connection.
package RPD::Origin;
use strict;
use warnings;
use Carp qw(croak);
use IO::Socket::IP;
use IO::Socket::UNIX;
use POSIX qw(_exit WNOHANG);
use Socket qw(:all);
use Time::HiRes qw(time);
use RPD::Conn;

# listen(address => "127.0.0.1:PORT" or "unix:/path", backlog => N, tls => { what RPD::TLS::context() takes })
# With TLS, connections are handed out after their handshake; one that failed has its ->error.
sub listen {
    my ($class, %opt) = @_;
    my $address = $opt{address} or croak 'listen: no address';
    my $sock;
    if ($address =~ /^unix:(.*)/) {
        unlink $1;
        $sock = IO::Socket::UNIX->new(Local => $1, Listen => $opt{backlog} // 128) or croak "listen $address: $!";
        chmod 0666, $1;
    } else {
        my ($host, $port) = $address =~ /^\[?(.*?)\]?:(\d+)$/ or croak "bad address $address";
        $sock = IO::Socket::IP->new(
            LocalHost => $host, LocalPort => $port, Listen => $opt{backlog} // 128, ReuseAddr => 1, Type => SOCK_STREAM
        ) or croak "listen $address: $@";
    }
    CORE::listen($sock, $opt{backlog}) if defined $opt{backlog};  # IO::Socket::IP makes 5 of 0
    my $self = bless { sock => $sock, address => $address, owner => $$ }, $class;
    if ($opt{tls}) {
        require RPD::TLS;
        $self->{tls} = RPD::TLS::context(server => 1, %{ $opt{tls} });
    }
    return $self;
}

sub address { $_[0]{address} }
sub port { $_[0]{sock}->sockport }

# The next connection; dies when none comes in time.
sub accept {
    my ($self, %opt) = @_;
    my $c = $self->try_accept($opt{timeout} || $RPD::Conn::TIMEOUT);
    croak "accept on $self->{address}: nobody came" if !$c;
    return $c;
}

# The next connection, or undef when none comes within the time: for "it must not", so keep the time short.
sub try_accept {
    my ($self, $seconds) = @_;
    my $bits = '';
    vec($bits, fileno($self->{sock}), 1) = 1;
    return undef if select($bits, undef, undef, $seconds) <= 0;
    my $sock = $self->{sock}->accept or return undef;
    return $self->_conn($sock);
}

sub _conn {
    my ($self, $sock, %opt) = @_;
    my $conn = RPD::Conn->new($sock, %opt);
    return $self->{tls} ? RPD::TLS->start_server($conn, $self->{tls}, quiet => 1) : $conn;
}

# Accepts nobody any more: connecting is refused.
sub close { CORE::close($_[0]{sock}) }

# serve(sub { my ($conn, $number) = @_; ... }): forks; the code is called for every connection in a process of its own.
sub serve {
    my ($self, $code) = @_;
    my $pid = fork // croak "fork: $!";
    if ($pid) {
        push @{ $self->{pids} }, $pid;
        CORE::close($self->{sock}) if !$self->{shared};
        return $self;
    }
    $SIG{CHLD} = 'IGNORE';
    $SIG{TERM} = sub { kill 'KILL', -$$; _exit(0) };
    setpgrp;
    my $number = 0;
    for (;;) {
        my $sock = $self->{sock}->accept or next;
        $number++;
        my $child = fork;
        if (defined $child && $child == 0) {
            $SIG{TERM} = 'DEFAULT';
            eval { my $conn = $self->_conn($sock, keep => 0); $code->($conn, $number) if !$conn->{error}; };
            _exit(0);
        }
        CORE::close($sock);
    }
}

# serve_requests(sub { my ($request, $conn) = @_; ...; return $bytes }): requests of a connection one after another; what the
# code returns is sent. undef closes the connection.
sub serve_requests {
    my ($self, $code) = @_;
    return $self->serve(sub {
        my ($conn, $number) = @_;
        for (;;) {
            my $request = eval { $conn->read_request(timeout => 3600) } or last;
            $request->{connection} = $number;
            my $answer = $code->($request, $conn);
            last if !defined $answer;
            $conn->send($answer) if length $answer;
        }
        $conn->close;
    });
}

sub stop {
    my ($self) = @_;
    return if $self->{owner} != $$;
    for my $pid (@{ delete $self->{pids} || [] }) {
        kill 'TERM', $pid;
        waitpid $pid, 0;
    }
}

sub DESTROY {
    my ($self) = @_;
    local ($?, $!, $@);
    $self->stop;
}

1;
