# rpd under test: started with a configuration in a directory of its own, asked through rpctl, and examined when it ends.
package RPD::Server;
use strict;
use warnings;
use Carp qw(croak);
use File::Path qw(make_path);
use IPC::Open3;
use IO::Socket::UNIX;
use JSON::PP ();
use POSIX qw(_exit WNOHANG setsid);
use Symbol qw(gensym);
use Test::More;
use Time::HiRes qw(time);
use RPD::Util qw(wait_for tempdir slurp spew program processes_of_session);

# start(config => TEXT, global => TEXT, args => [...], env => {...}, expect_alerts => RE, nofile => N, ready => 0,
#     before_exec => sub { in the new process })
# The [global] section is written here: run files in the test's directory, the keys of `global` after them.
sub start {
    my ($class, %opt) = @_;
    my $dir = tempdir();
    my $self = bless {
        dir => $dir, opt => \%opt, owner => $$, conf => "$dir/rpd.conf", socket => "$dir/rpd.sock", error_log => "$dir/error.log",
        stderr => "$dir/stderr", alerts_expected => $opt{expect_alerts}, ended => 0,
    }, $class;
    $self->write_config($opt{config}) if defined $opt{config};
    my @command = (program('rpd'), '-F', $opt{args} ? @{ $opt{args} } : ('-c', $self->{conf}));
    my $pid = fork // croak "fork: $!";
    if (!$pid) {
        setsid();
        open STDIN, '<', '/dev/null';
        open STDOUT, '>', "$dir/stdout";
        open STDERR, '>', $self->{stderr};
        $ENV{$_} = $opt{env}{$_} for keys %{ $opt{env} || {} };
        $opt{before_exec}->() if $opt{before_exec};
        if ($opt{nofile}) {
            exec 'sh', '-c', "ulimit -n $opt{nofile}; exec \"\$@\"", 'sh', @command or _exit(127);
        }
        exec @command or _exit(127);
    }
    $self->{pid} = $self->{session} = $pid;
    $self->wait_ready if !defined $opt{ready} || $opt{ready};
    return $self;
}

sub dir { $_[0]{dir} }
sub pid { $_[0]{pid} }
sub conf { $_[0]{conf} }
sub socket { $_[0]{socket} }

# The configuration file: [global] with the run files, then the text.
sub write_config {
    my ($self, $text, %opt) = @_;
    my $global = $opt{global} // $self->{opt}{global} // '';
    my $dir = $self->{dir};
    s/<DIR>/$dir/g for $text, $global;
    my %usual = (workers => 2, log_level => 'info', drain_timeout => '20s', stop_timeout => '20s');
    my $usual = join '', map { $global =~ /^\s*$_\s*=/m ? '' : "$_ = $usual{$_}\n" } sort keys %usual;
    spew($self->{conf}, <<"END");
[global]
pid_file = $dir/rpd.pid
control_socket = $dir/rpd.sock
error_log = $dir/error.log
$usual$global
$text
END
}

# Ready is when rpctl says so; a start that fails is told with what rpd wrote.
sub wait_ready {
    my ($self) = @_;
    my $ok = wait_for(sub {
        die "rpd ended at its start: " . $self->output . "\n" if !$self->running;
        return 0 if !-S $self->{socket};
        my ($status) = $self->rpctl('wait', 'healthy', '--timeout', '1s');
        return $status == 0;
    }, timeout => 30, quiet => 1);
    croak 'rpd was not ready in time: ' . $self->output if !$ok;
}

sub running {
    my ($self) = @_;
    return 0 if $self->{ended};
    my $r = waitpid $self->{pid}, WNOHANG;
    return 1 if $r == 0;
    $self->{ended} = 1;
    $self->{status} = $?;
    return 0;
}

# Everything rpd said: standard error and the error log.
sub output {
    my ($self) = @_;
    return join '', map { -e $_ ? slurp($_) : '' } "$self->{dir}/stdout", $self->{stderr}, $self->{error_log};
}

# rpctl(ARG...): (exit status, standard output, standard error)
sub rpctl {
    my ($self, @args) = @_;
    return RPD::Util::run_program(program('rpctl'), '-s', $self->{socket}, @args);
}

# As rpctl, but it must succeed; returns the standard output.
sub ctl {
    my ($self, @args) = @_;
    my ($status, $out, $err) = $self->rpctl(@args);
    croak "rpctl @args: exit $status: $out$err" if $status != 0;
    return $out;
}

sub ctl_json {
    my ($self, @args) = @_;
    my ($status, $out, $err) = $self->rpctl('--json', @args);
    my $value = eval { JSON::PP->new->utf8->decode($out) };
    croak "rpctl --json @args: exit $status, not JSON: $out$err" if !defined $value;
    return wantarray ? ($value, $status) : $value;
}

# Sum of a metric over its labels; 0 when it has not been seen.
sub metric {
    my ($self, $name, $label) = @_;
    my $sum = 0;
    for my $line (split /\n/, $self->ctl('metrics')) {
        next if $line !~ /^\Q$name\E(\{.*\})? ([-+0-9.eE]+)$/;
        next if defined $label && (!defined $1 || $1 !~ $label);
        $sum += $2;
    }
    return $sum;
}

# Waits until a metric has the value (or satisfies the code).
sub wait_metric {
    my ($self, $name, $want, %opt) = @_;
    my $got;
    my $ok = wait_for(sub {
        $got = $self->metric($name);
        return ref $want ? $want->($got) : $got == $want;
    }, quiet => 1, %opt);
    diag("$name is $got") if !$ok;
    return $ok;
}

# Waits until a metric stands still: the same in twenty looks running.
sub wait_still {
    my ($self, $name) = @_;
    my ($last, $same) = (-1, 0);
    return wait_for(sub {
        my $now = $self->metric($name);
        $same = $now == $last ? $same + 1 : 0;
        $last = $now;
        return $same >= 20;
    }, timeout => 30, what => "$name to stand still");
}

sub reload {
    my ($self) = @_;
    return $self->rpctl('reload');
}

# Living processes below the master, helper included: pid => command name.
sub children {
    my ($self) = @_;
    return RPD::Util::children_of($self->master);
}

# The master's pid, which a binary upgrade changes.
sub master {
    my ($self) = @_;
    my $pid = -e "$self->{dir}/rpd.pid" ? slurp("$self->{dir}/rpd.pid") : $self->{pid};
    return $pid =~ /(\d+)/ ? $1 : $self->{pid};
}

# Worker pids of the newest generation, by worker number.
sub workers {
    my ($self) = @_;
    my $status = $self->ctl_json('status');
    return map { $_->{pid} } @{ $status->{workers} };
}

sub log_lines {
    my ($self, $re) = @_;
    my $text = -e $self->{error_log} ? slurp($self->{error_log}) : '';
    return grep { !defined $re || $_ =~ $re } split /\n/, $text;
}

# Waits until the error log has a line that matches (as many as count).
sub wait_log {
    my ($self, $re, %opt) = @_;
    my $count = delete $opt{count} || 1;
    my $ok = wait_for(sub { scalar($self->log_lines($re)) >= $count }, quiet => 1, %opt);
    diag("no line matches $re in:\n" . join("\n", $self->log_lines)) if !$ok;
    return $ok;
}

# Lines of an access log in the test's directory, waiting until count of them are there.
sub access_lines {
    my ($self, $count, $name) = @_;
    my $path = "$self->{dir}/" . ($name || 'access.log');
    my @lines;
    my $ok = wait_for(sub {
        @lines = -e $path ? split /\n/, slurp($path) : ();
        return @lines >= $count;
    }, quiet => 1);
    diag("$path has " . @lines . " of $count lines") if !$ok;
    return @lines;
}

# Sends the signal and waits for the end; returns the wait status.
sub end {
    my ($self, $signal) = @_;
    kill $signal || 'QUIT', $self->{pid} if $self->running;
    my $ok = wait_for(sub { !$self->running }, timeout => 40, quiet => 1);
    if (!$ok) {
        diag("rpd did not end after SIG" . ($signal || 'QUIT') . "\n" . $self->output);
        kill 'KILL', processes_of_session($self->{session});
        waitpid $self->{pid}, 0;
        $self->{ended} = 1;
        $self->{status} = 9;
    }
    return $self->{status};
}

# Gauges that must be zero when all clients and origins have gone.
my @IDLE = qw(rpd_requests_in_flight rpd_tunnels rpd_upstream_connections_active rpd_queue_length rpd_retries_in_flight);

# The teardown of every test: nothing in flight, fsck clean, exit status 0, no alert, no sanitizer's word, nobody left behind.
sub stop {
    my ($self, %opt) = @_;
    return if $self->{stopped}++;
    subtest 'teardown' => sub {
        if ($self->running && !$opt{gone}) {
            my %left;
            my $idle = wait_for(sub {
                my $metrics = $self->ctl('metrics');
                %left = map { $metrics =~ /^$_(?:\{.*\})? ([1-9].*)$/m ? ($_ => $1) : () } @IDLE;
                return !%left;
            }, quiet => 1, timeout => $opt{idle_timeout});
            ok($idle, 'nothing in flight') or diag(explain(\%left));
            my ($status, $out, $err) = $self->rpctl('fsck');
            is($status, 0, 'fsck is clean') or diag($out, $err);
            is($self->metric('rpd_impossible_total'), 0, 'nothing impossible happened');
        }
        my $status = $opt{gone} ? $self->end : $self->end($opt{signal});
        is($status, $opt{status} // 0, 'exit status') or diag($self->output);
        my $nobody = wait_for(sub { !processes_of_session($self->{session}) }, quiet => 1, timeout => 20);
        ok($nobody, 'no process left') or diag(`ps -o pid,ppid,stat,args -s $self->{session}`);
        kill 'KILL', processes_of_session($self->{session}) if !$nobody;
        $self->check_logs;
    };
}

sub check_logs {
    my ($self) = @_;
    my $expected = $self->{alerts_expected};
    my @alerts = grep { !defined $expected || $_ !~ $expected } $self->log_lines(qr/^\S+ alert /i);
    is(scalar @alerts, 0, 'no alerts') or diag(join "\n", @alerts);
    my @sanitizer = grep { /ERROR: \w+Sanitizer|runtime error:|SUMMARY: \w+Sanitizer/ } split /\n/, $self->output;
    is(scalar @sanitizer, 0, 'no sanitizer text') or diag($self->output);
}

sub DESTROY {
    my ($self) = @_;
    return if $self->{owner} != $$;
    local ($?, $!, $@);
    kill 'KILL', processes_of_session($self->{session}) if $self->{session};
    waitpid $self->{pid}, 0 if $self->{pid} && !$self->{ended};
}

1;
