# A TLS connection of a test, as client or as server, with everything a handshake can be asked for; else as RPD::Conn.
package RPD::TLS;
use strict;
use warnings;
use Carp qw(croak);
use Errno qw(EAGAIN EIO);
use Net::SSLeay;
use Time::HiRes qw(time);
use RPD::Conn;
use RPD::Util qw(run_program tempdir slurp);
our @ISA = ('RPD::Conn');

Net::SSLeay::initialize();
my %VERSION = (
    'TLSv1' => 0x0301, 'TLSv1.1' => 0x0302, 'TLSv1.2' => 0x0303, 'TLSv1.3' => 0x0304,
    '1.0' => 0x0301, '1.1' => 0x0302, '1.2' => 0x0303, '1.3' => 0x0304
);

sub _error { my $e = Net::SSLeay::ERR_get_error(); return $e ? Net::SSLeay::ERR_error_string($e) : '' }

# A context: server => 1, cert, key (files), ca (a file that peers are checked against), verify (server: ask and require a
# certificate; 'optional': ask), min, max and version ('1.2'), ciphers, suites (of 1.3), groups, alpn => [names], tickets => 0.
sub context {
    my (%opt) = @_;
    my $method = $opt{server} ? Net::SSLeay::TLS_server_method() : Net::SSLeay::TLS_client_method();
    my $ctx = Net::SSLeay::CTX_new_with_method($method) or croak 'no context';
    my ($min, $max) = map { $VERSION{ $opt{$_} || $opt{version} || '' } || 0 } qw(min max);
    Net::SSLeay::CTX_set_min_proto_version($ctx, $min);
    Net::SSLeay::CTX_set_max_proto_version($ctx, $max);
    Net::SSLeay::CTX_set_mode($ctx, 0x1 | 0x2);    # partial writes, from a buffer that moves
    Net::SSLeay::CTX_set_session_cache_mode($ctx, $opt{server} ? Net::SSLeay::SESS_CACHE_SERVER() : Net::SSLeay::SESS_CACHE_OFF());
    Net::SSLeay::CTX_set_options($ctx, Net::SSLeay::OP_NO_TICKET()) if defined $opt{tickets} && !$opt{tickets};
    if (defined $opt{ciphers} || $min && $min < 0x0303) {
        Net::SSLeay::CTX_set_cipher_list($ctx, $opt{ciphers} || 'DEFAULT:@SECLEVEL=0') or croak "ciphers $opt{ciphers}";
    }
    Net::SSLeay::CTX_set_ciphersuites($ctx, $opt{suites}) if defined $opt{suites};
    Net::SSLeay::CTX_set1_groups_list($ctx, $opt{groups}) if defined $opt{groups};
    if ($opt{cert}) {
        my $key = $opt{key} || $opt{cert};
        Net::SSLeay::CTX_use_certificate_chain_file($ctx, $opt{cert}) or croak "$opt{cert}: " . _error();
        Net::SSLeay::CTX_use_PrivateKey_file($ctx, $key, Net::SSLeay::FILETYPE_PEM()) or croak "$key: " . _error();
    }
    Net::SSLeay::CTX_load_verify_locations($ctx, $opt{ca}, '') or croak "$opt{ca}: " . _error() if $opt{ca};
    if ($opt{server}) {
        Net::SSLeay::CTX_set_session_id_context($ctx, 'rpd-test', 8);
        if ($opt{verify}) {
            my $mode = Net::SSLeay::VERIFY_PEER() | ($opt{verify} eq 'optional' ? 0 : Net::SSLeay::VERIFY_FAIL_IF_NO_PEER_CERT());
            Net::SSLeay::CTX_set_verify($ctx, $mode, undef);
        }
        Net::SSLeay::CTX_set_alpn_select_cb($ctx, $opt{alpn}) if $opt{alpn};
    } elsif ($opt{ca}) {
        Net::SSLeay::CTX_set_verify($ctx, Net::SSLeay::VERIFY_PEER(), undef);
    }
    Net::SSLeay::CTX_set_alpn_protos($ctx, $opt{alpn}) if $opt{alpn} && !$opt{server};
    return $ctx;
}

# connect(TO, sni => NAME, session => SESSION, and what context() and RPD::Conn's connect() take). Dies when the handshake fails;
# with quiet it returns the connection with ->error telling why. start => 0: no handshake yet, see handshake().
sub connect {
    my ($class, $to, %opt) = @_;
    my $sock = RPD::Conn::tcp($to, delete $opt{rcvbuf}, delete $opt{local});
    my $prefix = delete $opt{prefix};
    my $self = $class->RPD::Conn::new($sock, (map { exists $opt{$_} ? ($_ => $opt{$_}) : () } qw(keep)), quiet => $opt{quiet});
    $self->RPD::Conn::send($prefix) if defined $prefix && !$self->{ssl};
    return $self->start_client(%opt);
}

# TLS on a connection that exists.
sub start_client {
    my ($self, %opt) = @_;
    $self->{ctx} = $opt{context} || context(%opt);
    $self->{own_ctx} = !$opt{context};
    $self->{ssl} = Net::SSLeay::new($self->{ctx});
    Net::SSLeay::set_fd($self->{ssl}, CORE::fileno($self->{sock}));
    Net::SSLeay::set_tlsext_host_name($self->{ssl}, $opt{sni}) if defined $opt{sni} && length $opt{sni};
    Net::SSLeay::set_session($self->{ssl}, $opt{session}) if $opt{session};
    if ($opt{staple}) {
        Net::SSLeay::set_tlsext_status_type($self->{ssl}, Net::SSLeay::TLSEXT_STATUSTYPE_ocsp());
        Net::SSLeay::CTX_set_tlsext_status_cb($self->{ctx}, sub { $self->{ocsp} = $_[1]; return 1 });
    }
    Net::SSLeay::set_connect_state($self->{ssl});
    $self->{pid} = $$;
    $self->handshake(%opt) if $opt{start} // 1;
    return $self;
}

# The server's side of a connection that was accepted; context from context(server => 1, ...).
sub start_server {
    my ($class, $conn, $ctx, %opt) = @_;
    my $self = bless $conn, $class;
    $self->{ctx} = $ctx;
    $self->{ssl} = Net::SSLeay::new($ctx);
    Net::SSLeay::set_fd($self->{ssl}, CORE::fileno($self->{sock}));
    Net::SSLeay::set_accept_state($self->{ssl});
    $self->{pid} = $$;
    $self->{quiet} = $opt{quiet};
    $self->handshake(%opt);
    return $self;
}

sub handshake {
    my ($self, %opt) = @_;
    my $until = time + ($opt{timeout} || $RPD::Conn::TIMEOUT);
    local $SIG{PIPE} = 'IGNORE';
    for (;;) {
        Net::SSLeay::ERR_clear_error();
        my $n = Net::SSLeay::do_handshake($self->{ssl});
        last if $n == 1;
        my $e = Net::SSLeay::get_error($self->{ssl}, $n);
        if ($e == Net::SSLeay::ERROR_WANT_READ() || $e == Net::SSLeay::ERROR_WANT_WRITE()) {
            next if $self->_wait($e == Net::SSLeay::ERROR_WANT_WRITE(), $until);
            $self->{error} = 'timed out';
        } else {
            $self->{error} = _error() || ($! ? "system: $!" : 'closed');
        }
        croak "handshake: $self->{error}" if !$self->{quiet};
        return 0;
    }
    return 1;
}

sub error { $_[0]{error} }
sub version { Net::SSLeay::get_version($_[0]{ssl}) }
sub cipher { Net::SSLeay::get_cipher($_[0]{ssl}) }
sub alpn { Net::SSLeay::P_alpn_selected($_[0]{ssl}) }
sub resumed { Net::SSLeay::session_reused($_[0]{ssl}) ? 1 : 0 }
sub ocsp { $_[0]{ocsp} }

# The session to resume: with TLS 1.3 only after something was read, since tickets come after the handshake.
sub session { Net::SSLeay::get1_session($_[0]{ssl}) }

# Of the peer's certificate: common name, serial (hex), key kind, fingerprint; undef when there is none.
sub peer {
    my ($self) = @_;
    my $x = Net::SSLeay::get_peer_certificate($self->{ssl}) or return undef;
    (my $fingerprint = lc Net::SSLeay::X509_get_fingerprint($x, 'sha256')) =~ s/://g;
    my $name = Net::SSLeay::X509_NAME_get_text_by_NID(Net::SSLeay::X509_get_subject_name($x), 13) // '';
    $name =~ s/\0.*//s;
    my $kind = Net::SSLeay::OBJ_obj2txt(Net::SSLeay::P_X509_get_pubkey_alg($x), 0);
    my $serial = lc Net::SSLeay::P_ASN1_INTEGER_get_hex(Net::SSLeay::X509_get_serialNumber($x));
    Net::SSLeay::X509_free($x);
    return { name => $name, serial => $serial, kind => $kind =~ /rsa/i ? 'rsa' : 'ec', fingerprint => $fingerprint };
}

sub _put {
    my ($self, $bytes, $at) = @_;
    return $self->SUPER::_put($bytes, $at) if !$self->{ssl};
    my $count = length($$bytes) - $at;
    $count = 65536 if $count > 65536;
    Net::SSLeay::ERR_clear_error();
    my $n = Net::SSLeay::write_partial($self->{ssl}, $at, $count, $$bytes);
    return $n if $n > 0;
    return $self->_failed($n, 1);
}

sub _take {
    my ($self, $piece, $max) = @_;
    return $self->SUPER::_take($piece, $max) if !$self->{ssl};
    Net::SSLeay::ERR_clear_error();
    my ($got, $n) = Net::SSLeay::read($self->{ssl}, $max);
    if (defined $got && length $got) {
        $$piece = $got;
        return length $got;
    }
    return $self->_failed($n // -1, 0);
}

sub _failed {
    my ($self, $n, $writing) = @_;
    my $e = Net::SSLeay::get_error($self->{ssl}, $n);
    if ($e == Net::SSLeay::ERROR_WANT_READ() || $e == Net::SSLeay::ERROR_WANT_WRITE()) {
        $self->{wants} = $e == Net::SSLeay::ERROR_WANT_WRITE() ? 1 : 0;
        $! = EAGAIN;
        return undef;
    }
    if ($e == Net::SSLeay::ERROR_ZERO_RETURN()) {
        $self->{close_notify} = 1;
        return 0 if !$writing;
    }
    my $why = $!;
    $self->{error} = _error() || ($why ? "system: $why" : 'closed');
    $self->{truncated} = 1 if $self->{error} =~ /unexpected eof/ || $self->{error} eq 'closed';
    return 0 if $self->{truncated} && !$writing;
    $! = EIO;
    return undef;
}

sub _wants_write {
    my ($self, $usual) = @_;
    return delete $self->{wants} // $usual;
}

# Says the end of what is sent (close_notify), and the same below.
sub shutdown_write {
    my ($self) = @_;
    Net::SSLeay::shutdown($self->{ssl});
    CORE::shutdown($self->{sock}, 1);
}

sub close_notify { Net::SSLeay::shutdown($_[0]{ssl}) }

sub close {
    my ($self) = @_;
    Net::SSLeay::shutdown($self->{ssl}) if $self->{ssl} && !$self->{error};
    CORE::close($self->{sock});
}

sub DESTROY {
    my ($self) = @_;
    return if !$self->{ssl};
    Net::SSLeay::CTX_set_tlsext_status_cb($self->{ctx}, undef) if $self->{own_ctx};
    Net::SSLeay::free(delete $self->{ssl});
    Net::SSLeay::CTX_free($self->{ctx}) if $self->{own_ctx};
}

# Something between a client and a server that passes bytes on one by one, each in a segment of its own, both ways, for its first
# so many bytes: relay(PORT, bytes => 4000) is an origin that does it; its address is where to connect.
sub relay {
    my ($to, %opt) = @_;
    require RPD::Origin;
    my $o = RPD::Origin->listen(address => '127.0.0.1:' . RPD::Util::free_port());
    $o->serve(sub {
        my ($client) = @_;
        my $server = RPD::Conn->connect($to, keep => 0);
        my %other = (0 + $client => $server, 0 + $server => $client);
        my $slowly = $opt{bytes} // 4000;
        for (;;) {
            my $bits = '';
            vec($bits, $_->fileno, 1) = 1 for $client, $server;
            select $bits, undef, undef, 60;
            for my $c ($client, $server) {
                next if !vec($bits, $c->fileno, 1);
                my $n = $c->fill(time);
                return if defined $n && !$n;
                for my $byte (splice @{ [split //, $c->{buf}] }, 0, $slowly) {
                    $other{ 0 + $c }->send($byte);
                    substr $c->{buf}, 0, 1, '';
                    $slowly--;
                }
                $other{ 0 + $c }->send($c->{buf}) if length $c->{buf};
                $c->{buf} = '';
            }
        }
    });
    return $o;
}

# openssl s_client to an address; input is what it sends. { status, out, err, text (both) }
sub s_client {
    my ($to, %opt) = @_;
    my $address = $to =~ /:/ ? $to : "127.0.0.1:$to";
    my $dir = tempdir();
    open my $f, '>', "$dir/in" or croak $!;
    print {$f} $opt{input} // '';
    CORE::close($f);
    my @command = ('timeout', $opt{seconds} || 10, 'openssl', 's_client', '-connect', $address, @{ $opt{args} || [] });
    my ($status, $out, $err) = run_program('sh', '-c', "exec \"\$@\" <$dir/in", 'sh', @command);
    return { status => $status, out => $out, err => $err, text => "$out$err" };
}

1;
