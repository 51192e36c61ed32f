# HTTP/2 by frames, as client and as origin: what is right is a call, and so is anything wrong. Works on any RPD::Conn.
package RPD::H2;
use strict;
use warnings;
use Carp qw(croak);
use Exporter qw(import);
use Time::HiRes qw(time);
use RPD::Conn;
use RPD::HPACK;

# Frame types, flags, and error codes by their names in RFC 9113.
my @TYPES = qw(DATA HEADERS PRIORITY RST_STREAM SETTINGS PUSH_PROMISE PING GOAWAY WINDOW_UPDATE CONTINUATION);
my @ERRORS = qw(NO_ERROR PROTOCOL_ERROR INTERNAL_ERROR FLOW_CONTROL_ERROR SETTINGS_TIMEOUT STREAM_CLOSED FRAME_SIZE_ERROR
    REFUSED_STREAM CANCEL COMPRESSION_ERROR CONNECT_ERROR ENHANCE_YOUR_CALM INADEQUATE_SECURITY HTTP_1_1_REQUIRED);
my %TYPE = map { $TYPES[$_] => $_ } 0 .. $#TYPES;
$TYPE{PRIORITY_UPDATE} = 16;
my %ERROR = map { $ERRORS[$_] => $_ } 0 .. $#ERRORS;
use constant { END_STREAM => 1, ACK => 1, END_HEADERS => 4, PADDED => 8, HAS_PRIORITY => 32 };
use constant PREFACE => "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
our @EXPORT_OK = qw(END_STREAM ACK END_HEADERS PADDED HAS_PRIORITY PREFACE frame_bytes settings_bytes h2_connect);

# The bytes of a frame; type is a name or a number, length may lie.
sub frame_bytes {
    my ($type, $flags, $stream, $payload, %opt) = @_;
    $type = $TYPE{$type} // croak "no frame $type" if $type !~ /^\d+$/;
    my $n = $opt{length} // length $payload;
    return pack('CnCCN', $n >> 16, $n & 0xffff, $type, $flags, $stream) . $payload;
}

sub settings_bytes { return join '', map { pack 'nN', @$_ } @_ }

# connect(TO, tls => { RPD::TLS options }, settings => [[id, value], ...], preface => 0, manual => 1, and of RPD::Conn's): the preface
# and SETTINGS go out at once. manual: nothing is answered by itself (no acknowledgements, no WINDOW_UPDATE).
sub connect {
    my ($class, $to, %opt) = @_;
    my %conn = (keep => 0, map { exists $opt{$_} ? ($_ => $opt{$_}) : () } qw(rcvbuf local prefix));
    my $conn;
    if ($opt{tls}) {
        require RPD::TLS;
        $conn = RPD::TLS->connect($to, alpn => ['h2', 'http/1.1'], %conn, %{ $opt{tls} });
        croak 'no h2 but ' . ($conn->alpn // 'nothing') if ($conn->alpn // '') ne 'h2' && !$opt{any_alpn};
    } else {
        delete $conn{prefix};
        $conn = RPD::Conn->connect($to, %conn);
        $conn->send($opt{prefix}) if defined $opt{prefix};
    }
    return $class->new($conn, %opt);
}

# On a connection that exists; server => 1 waits for the client's preface.
sub new {
    my ($class, $conn, %opt) = @_;
    my $self = bless {
        c => $conn, in => RPD::HPACK->new, out => RPD::HPACK->new, streams => {}, next => 1, window => 65535, peer => {},
        initial => 65535, own_initial => 65535, goaway => [], pings => [], frames => [], count => {}, server => $opt{server},
        manual => $opt{manual}, keep => $opt{keep} // 1, scheme => $opt{tls} ? 'https' : 'http', authority => $opt{authority} // 'localhost',
        handed => {}, max_frame => 16384, debt => 0
    }, $class;
    for (@{ $opt{settings} || [] }) {
        $self->{own_initial} = $_->[1] if $_->[0] == 4;
        $self->{in} = RPD::HPACK->new(max => $_->[1]) if $_->[0] == 1;
    }
    $self->{in}{max} = 4096 if $self->{in}{max} > 4096;
    my $settings = frame_bytes('SETTINGS', 0, 0, settings_bytes(@{ $opt{settings} || [] }));
    if ($opt{server}) {
        my $got = $conn->read_n(24);
        croak "preface: $got" if $got ne PREFACE;
        $conn->send($settings);
    } elsif ($opt{preface} // 1) {
        $conn->send(PREFACE . $settings);
    }
    return $self;
}

sub conn { $_[0]{c} }
sub close { $_[0]{c}->close }
sub goaway { $_[0]{goaway} }
sub stream { $_[0]{streams}{ $_[1] } }
sub error_name { my ($code) = @_; return $ERRORS[$code] // "error $code" }

sub send { my ($self, $bytes, %opt) = @_; return $self->{c}->send($bytes, %opt) }
sub frame { my ($self, @frame) = @_; return $self->{c}->send(frame_bytes(@frame)) }

sub _stream {
    my ($self, $id) = @_;
    return $self->{streams}{$id} ||= {
        id => $id, heads => [], body => '', nbody => 0, window => $self->{initial}, interim => [], trailers => {}, debt => 0
    };
}

# The frames of a header block: end, huffman, index, never, padding => N, priority => [exclusive, dependency, weight],
# split => N (bytes per frame: CONTINUATION), block => BYTES instead of fields.
sub headers_bytes {
    my ($self, $id, $fields, %opt) = @_;
    my $block = ($opt{resize} // '') . ($opt{block} // $self->{out}->encode($fields, %opt));
    my $flags = $opt{end} ? END_STREAM : 0;
    my $front = '';
    if ($opt{priority}) {
        my ($exclusive, $on, $weight) = @{ $opt{priority} };
        $front = pack 'NC', ($exclusive ? 0x80000000 : 0) | $on, $weight;
        $flags |= HAS_PRIORITY;
    }
    my $size = $opt{split} || 16000;
    my $first = substr $block, 0, $size, '';
    if (defined $opt{padding}) {
        $front = chr($opt{padding}) . $front;
        $first .= "\0" x $opt{padding};
        $flags |= PADDED;
    }
    my $bytes = frame_bytes('HEADERS', $flags | (length $block || $opt{open} ? 0 : END_HEADERS), $id, $front . $first);
    while (length $block) {
        my $piece = substr $block, 0, $size, '';
        $bytes .= frame_bytes('CONTINUATION', length $block || $opt{open} ? 0 : END_HEADERS, $id, $piece);
    }
    return $bytes;
}

sub headers {
    my ($self, $id, $fields, %opt) = @_;
    $self->_stream($id);
    return $self->send($self->headers_bytes($id, $fields, %opt));
}

# DATA without regard to windows: end, padding.
sub data {
    my ($self, $id, $bytes, %opt) = @_;
    my $flags = $opt{end} ? END_STREAM : 0;
    if (defined $opt{padding}) {
        $bytes = chr($opt{padding}) . $bytes . "\0" x $opt{padding};
        $flags |= PADDED;
    }
    return $self->frame('DATA', $flags, $id, $bytes);
}

# All of a body within the windows; frames that come meanwhile are taken in. Ends the stream unless end => 0; stops when it is
# reset or closed, and returns what went out.
sub send_body {
    my ($self, $id, $bytes, %opt) = @_;
    my $s = $self->_stream($id);
    my $at = 0;
    my $end = $opt{end} // 1;
    my $n = length $bytes;
    do {
        while ($at < $n && ($s->{window} <= 0 || $self->{window} <= 0)) {
            return $at if defined $s->{reset} || $s->{gone};
            my $f = $self->next_frame(timeout => $opt{timeout});
            return $at if !$f;
        }
        my $take = $n - $at;
        for ($opt{piece} // 16384, $s->{window}, $self->{window}) { $take = $_ if $take > $_ }
        $take = 0 if $take < 0;
        return $at if defined $s->{reset};
        my $last = $at + $take == $n;
        $self->frame('DATA', $last && $end ? END_STREAM : 0, $id, substr $bytes, $at, $take);
        $at += $take;
        $s->{window} -= $take;
        $self->{window} -= $take;
    } while ($at < $n);
    return $at;
}

# A request: request('GET', '/', [fields], body, end => 0 for more to come, and headers()' options); returns the stream.
sub request {
    my ($self, $method, $path, $fields, $body, %opt) = @_;
    my $id = $opt{id} // $self->{next};
    $self->{next} = $id + 2;
    my $head = $opt{pseudo} || [':method', $method, ':scheme', $self->{scheme}, ':authority', $opt{authority} // $self->{authority},
        ':path', $path];
    my $end = $opt{end} // 1;
    $self->headers($id, [@$head, @{ $fields || [] }], %opt, end => $end && !defined $body && !$opt{trailers});
    if (defined $body) {
        $self->send_body($id, $body, end => $end && !$opt{trailers}, timeout => $opt{timeout});
    }
    $self->headers($id, $opt{trailers}, end => 1) if $opt{trailers};
    return $id;
}

# An answer of an origin: respond(stream, 200, [fields], body or undef, trailers => [...], end => 0).
sub respond {
    my ($self, $id, $status, $fields, $body, %opt) = @_;
    my $end = $opt{end} // 1;
    $self->headers($id, [':status', $status, @{ $fields || [] }], end => $end && !defined $body && !$opt{trailers});
    $self->send_body($id, $body, end => $end && !$opt{trailers}) if defined $body;
    $self->headers($id, $opt{trailers}, end => 1) if $opt{trailers};
}

sub rst { my ($self, $id, $error) = @_; $self->frame('RST_STREAM', 0, $id, pack 'N', $ERROR{$error} // $error) }
sub window_update { my ($self, $id, $n) = @_; $self->frame('WINDOW_UPDATE', 0, $id, pack 'N', $n) }
sub settings { my ($self, @settings) = @_; $self->frame('SETTINGS', 0, 0, settings_bytes(@settings)) }

sub send_goaway {
    my ($self, $last, $error, $text) = @_;
    $self->frame('GOAWAY', 0, 0, pack('NN', $last, $ERROR{ $error // 'NO_ERROR' }) . ($text // ''));
}

# The next frame, after what it means was noted: { type (name), flags, stream, payload }; undef at the end of the connection. Dies on
# time-out, or returns undef with quiet.
sub next_frame {
    my ($self, %opt) = @_;
    my $c = $self->{c};
    my $until = time + ($opt{timeout} || $RPD::Conn::TIMEOUT);
    for my $need (9, undef) {
        my $n = $need // 9 + (unpack('N', "\0" . substr $c->{buf}, 0, 3));
        while (length $c->{buf} < $n) {
            my $r = $c->fill($until);
            if (!defined $r) {
                return undef if $opt{quiet};
                croak 'next_frame: timed out';
            }
            if (!$r) {
                $self->{eof} = 1;
                return undef;
            }
        }
    }
    my ($high, $low, $type, $flags, $stream) = unpack 'CnCCN', substr $c->{buf}, 0, 9, '';
    my $f = {
        type => $TYPES[$type] // ($type == 16 ? 'PRIORITY_UPDATE' : $type), flags => $flags, stream => $stream & 0x7fffffff,
        payload => substr($c->{buf}, 0, ($high << 16) + $low, '')
    };
    $self->{count}{ $f->{type} }++;
    push @{ $self->{frames} }, "$f->{type}/$f->{flags}/$f->{stream}/" . length $f->{payload} if $self->{record};
    $self->_apply($f);
    return $f;
}

sub _unpad {
    my ($f) = @_;
    return $f->{payload} if !($f->{flags} & PADDED);
    my $pad = ord $f->{payload};
    croak 'padding too long' if $pad >= length $f->{payload};
    return substr $f->{payload}, 1, length($f->{payload}) - 1 - $pad;
}

sub _apply {
    my ($self, $f) = @_;
    my ($type, $flags, $id, $p) = @$f{qw(type flags stream payload)};
    croak "frame of $self->{max_frame} expected at most" if length $p > $self->{max_frame};
    if (defined $self->{open_block} && $type ne 'CONTINUATION') { croak "$type inside a header block" }
    if ($type eq 'DATA') {
        my $s = $self->_stream($id);
        croak "DATA after the end of stream $id" if $s->{ended};
        croak "DATA before the head of stream $id" if !@{ $s->{heads} };
        my $data = _unpad($f);
        $s->{body} .= $data if $self->{keep};
        $s->{nbody} += length $data;
        $self->_credit($s, length $p) if !$self->{manual};
        $s->{ended} = 1 if $flags & END_STREAM;
    } elsif ($type eq 'HEADERS') {
        my $data = _unpad($f);
        $data = substr $data, 5 if $flags & HAS_PRIORITY;
        $self->{open_block} = $data;
        $self->{open_end} = $flags & END_STREAM;
        $self->_block($id) if $flags & END_HEADERS;
    } elsif ($type eq 'CONTINUATION') {
        croak 'CONTINUATION alone' if !defined $self->{open_block};
        $self->{open_block} .= $p;
        $self->_block($id) if $flags & END_HEADERS;
    } elsif ($type eq 'RST_STREAM') {
        my $s = $self->_stream($id);
        $s->{reset} = unpack 'N', $p;
        $s->{error} = error_name($s->{reset});
    } elsif ($type eq 'SETTINGS') {
        return $self->{settings_acked}++ if $flags & ACK;
        for (my $at = 0; $at < length $p; $at += 6) {
            my ($k, $v) = unpack 'nN', substr $p, $at, 6;
            $self->{peer}{$k} = $v;
            if ($k == 4) {
                $_->{window} += $v - $self->{initial} for values %{ $self->{streams} };
                $self->{initial} = $v;
            }
        }
        $self->{settings_seen}++;
        $self->frame_quietly('SETTINGS', ACK, 0, '') if !$self->{manual};
    } elsif ($type eq 'PING') {
        push @{ $self->{pings} }, $p if $flags & ACK;
        $self->frame_quietly('PING', ACK, 0, $p) if !($flags & ACK) && !$self->{manual};
    } elsif ($type eq 'GOAWAY') {
        my ($last, $code) = unpack 'NN', $p;
        push @{ $self->{goaway} }, { last => $last & 0x7fffffff, code => $code, error => error_name($code), text => substr $p, 8 };
        for my $s (values %{ $self->{streams} }) { $s->{gone} = 1 if $s->{id} > ($last & 0x7fffffff) }
    } elsif ($type eq 'WINDOW_UPDATE') {
        my $n = unpack('N', $p) & 0x7fffffff;
        croak 'WINDOW_UPDATE of 0' if !$n;
        if ($id) { $self->_stream($id)->{window} += $n }
        else { $self->{window} += $n }
    }
}

# The peer may close while it is answered: no error here.
sub frame_quietly {
    my ($self, @frame) = @_;
    $self->{c}->send(frame_bytes(@frame), quiet => 1);
}

# Gives back what was received, when half a window has come together.
sub _credit {
    my ($self, $s, $n) = @_;
    $self->{debt} += $n;
    $s->{debt} += $n;
    if ($self->{debt} >= 32768) {
        $self->frame_quietly('WINDOW_UPDATE', 0, 0, pack 'N', $self->{debt});
        $self->{debt} = 0;
    }
    if ($s->{debt} >= $self->{own_initial} / 2) {
        $self->frame_quietly('WINDOW_UPDATE', 0, $s->{id}, pack 'N', $s->{debt});
        $s->{debt} = 0;
    }
}

sub _block {
    my ($self, $id) = @_;
    my $list = $self->{in}->decode(delete $self->{open_block});
    my $end = delete $self->{open_end};
    my $s = $self->_stream($id);
    croak "HEADERS after the end of stream $id" if $s->{ended};
    my %f;
    for (my $i = 0; $i < @$list; $i += 2) {
        croak "upper case in $list->[$i]" if $list->[$i] =~ /[A-Z]/;
        push @{ $f{ $list->[$i] } }, $list->[$i + 1];
    }
    my $status = $f{':status'} ? $f{':status'}[0] : undef;
    push @{ $s->{heads} }, { list => $list, fields => \%f };
    if (defined $s->{status} || $s->{method}) {
        $s->{trailers} = \%f;
    } elsif (defined $status && $status < 200) {
        push @{ $s->{interim} }, { status => $status, fields => \%f };
    } else {
        $s->{status} = $status;
        $s->{fields} = \%f;
        $s->{list} = $list;
        ($s->{method}, $s->{path}, $s->{authority}, $s->{scheme}) = map { $f{":$_"} && $f{":$_"}[0] } qw(method path authority scheme);
    }
    $s->{ended} = 1 if $end;
}

# Takes frames in until the code returns true; false when the connection ends before, or when the time is up.
sub pump {
    my ($self, $code, %opt) = @_;
    my $until = time + ($opt{timeout} || $RPD::Conn::TIMEOUT);
    for (;;) {
        my $value = $code->();
        return $value if $value;
        my $left = $until - time;
        return 0 if $left <= 0;
        return $code->() if !$self->next_frame(timeout => $left, quiet => 1) && ($self->{eof} || time >= $until);
    }
}

# The answer on a stream when it has ended, was reset, will not come (GOAWAY), or the connection has ended; dies on time-out.
# head => 1: as soon as its head is there.
sub response {
    my ($self, $id, %opt) = @_;
    my $s = $self->_stream($id);
    my $ok = $self->pump(sub { $s->{ended} || defined $s->{reset} || $s->{gone} || ($opt{head} && defined $s->{status}) }, %opt);
    croak "response on stream $id: timed out" if !$ok && !$self->{eof};
    $s->{lost} = 1 if !$ok;
    return $s;
}

# Shorthand: a request and its answer.
sub get {
    my ($self, $path, $fields, %opt) = @_;
    return $self->response($self->request('GET', $path, $fields, undef, %opt));
}

# The next request of a client, once (its head only with head => 1); undef when the connection ends; dies on time-out.
sub read_request {
    my ($self, %opt) = @_;
    my $found;
    my $ok = $self->pump(sub {
        ($found) = sort { $a->{id} <=> $b->{id} }
            grep { !$self->{handed}{ $_->{id} } && defined $_->{method} && ($opt{head} || $_->{ended} || defined $_->{reset}) }
            values %{ $self->{streams} };
        return $found;
    }, %opt);
    if (!$ok) {
        return undef if $self->{eof};
        croak 'read_request: timed out';
    }
    $self->{handed}{ $found->{id} } = 1;
    return $found;
}

# Waits for the rest of a stream.
sub read_rest {
    my ($self, $id, %opt) = @_;
    my $s = $self->_stream($id);
    $self->pump(sub { $s->{ended} || defined $s->{reset} }, %opt) || $self->{eof} || croak "read_rest: timed out";
    return $s;
}

# A PING and its answer: whatever was sent before has been taken in by the peer. False when the connection ended instead.
sub ping {
    my ($self, %opt) = @_;
    my $mark = sprintf '%08d', ++$self->{ping_number};
    $self->frame_quietly('PING', 0, 0, $mark);
    return $self->pump(sub { grep { $_ eq $mark } @{ $self->{pings} } }, %opt);
}

# How the connection ends: the name of GOAWAY's last error, 'closed' without one, 'open' when nothing happens within the time.
sub ending {
    my ($self, %opt) = @_;
    my $ok = $self->pump(sub { $self->{eof} || grep { $_->{code} } @{ $self->{goaway} } }, %opt);
    my $last = $self->{goaway}[-1];
    return $last->{error} if $last && ($last->{code} || $self->{eof});
    return $self->{eof} ? 'closed' : 'open';
}

# As origin: answers requests until the connection ends. The code gets a request and gives [status, fields, body, trailers].
sub serve {
    my ($self, $code) = @_;
    while (my $r = $self->read_request(timeout => 3600)) {
        next if defined $r->{reset};
        my $a = $code->($r, $self) or next;
        $self->respond($r->{id}, $a->[0], $a->[1], $a->[2], $a->[3] ? (trailers => $a->[3]) : ());
        delete $self->{streams}{ $r->{id} };
    }
}

1;
