# Load in the background: a piece of work repeated in processes of its own until it is told to stop, with its failures told one by one.
package RPD::Load;
use strict;
use warnings;
use Exporter qw(import);
use POSIX qw(_exit);
use Time::HiRes qw(time);
use RPD::Util qw(tempdir slurp spew wait_for);

my %running;    # pid => the process that started it

our @EXPORT = qw(load_start load_finish load_count);

# load_start(sub { my ($n) = @_; ...; die 'what failed' if ... }, processes => 4): each call is one piece of work.
sub load_start {
    my ($code, %opt) = @_;
    my $dir = tempdir();
    my @pids;
    for my $k (1 .. $opt{processes} || 1) {
        my $pid = fork // die "fork: $!";
        if (!$pid) {
            $SIG{ALRM} = 'DEFAULT';
            alarm 600;
            my $stop = 0;
            $SIG{TERM} = sub { $stop = 1 };
            $SIG{PIPE} = 'IGNORE';
            srand($$);
            open my $log, '>', "$dir/$k" or _exit(1);
            $log->autoflush(1);
            for (my $n = 1; !$stop; $n++) {
                my $t0 = time;
                my $ok = eval { $code->($n); 1 };
                my $why = $@ || '';
                $why =~ s/\n.*//s;
                printf {$log} "%s %.6f %.6f %s\n", $ok ? 'ok' : 'FAILED', $t0, time, $ok ? '' : $why;
            }
            _exit(0);
        }
        push @pids, $pid;
        $running{$pid} = $$;
    }
    return { dir => $dir, pids => \@pids, what => $opt{what} };
}

# Pieces of work done so far.
sub load_count {
    my ($load) = @_;
    my $n = 0;
    for my $k (1 .. @{ $load->{pids} }) { $n += () = slurp("$load->{dir}/$k") =~ /\n/g if -e "$load->{dir}/$k" }
    return $n;
}

# Lets the work in hand finish; { count, failures => [texts], slowest => seconds }.
sub load_finish {
    my ($load) = @_;
    kill 'TERM', @{ $load->{pids} };
    waitpid $_, 0 for @{ $load->{pids} };
    delete @running{ @{ $load->{pids} } };
    my ($count, $slowest, @failures) = (0, 0);
    for my $k (1 .. @{ $load->{pids} }) {
        for (split /\n/, slurp("$load->{dir}/$k")) {
            my ($ok, $from, $to, $why) = split / /, $_, 4;
            $count++;
            $slowest = $to - $from if $to - $from > $slowest;
            push @failures, $why if $ok ne 'ok';
        }
    }
    return { count => $count, failures => \@failures, slowest => $slowest };
}

# A test that ends early leaves nobody at work.
END {
    local ($?, $!, $@);
    kill 'KILL', grep { $running{$_} == $$ } keys %running;
}

1;
