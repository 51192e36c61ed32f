#!/usr/bin/perl
# Reloads: verdicts, a broken file changes nothing, listeners come and go, workers shrink and grow, old generations end.
use strict;
use warnings;
use POSIX ();
use RPD::Test;

my ($port, $port2) = (free_port(), free_port());
my $o = origin()->serve_requests(sub { response(200, [], 'one') });
my $o2 = origin()->serve_requests(sub { response(200, [], 'two') });
my $config = sub {
    my (%opt) = @_;
    return simple_config(listen => $opt{listen} || "127.0.0.1:$port", server => ($opt{origin} || $o)->address, host => $opt{host});
};
my $s = rpd(config => $config->());
sub generation { $s->ctl_json('status')->{generation} }

subtest 'a change takes effect, with a verdict' => sub {
    is(http_get($port, '/')->{body}, 'one', 'before');
    is(generation(), 1, 'generation 1');
    $s->write_config($config->(origin => $o2));
    my ($status, $out, $err) = $s->reload;
    is($status, 0, 'exit 0') or diag($err);
    like($out, qr/^ok generation 2\b/, 'ok and the number');
    like($out, qr/\Q@{[ $o2->address ]}\E/, 'what changed');
    is(http_get($port, '/')->{body}, 'two', 'after: at once');
    is(generation(), 2, 'generation 2');
};

subtest 'a broken file keeps the generation' => sub {
    my @before = sort $s->workers;
    $s->write_config($config->() . "[host x]\nnonsense = 1\n");
    my ($status, $out, $err) = $s->reload;
    is($status, 1, 'exit 1');
    like("$out$err", qr/rpd\.conf:\d+:\d+: error: unknown key "nonsense"/, 'the diagnostics');
    like("$out$err", qr/kept generation 2/, 'and the verdict');
    is_deeply([sort $s->workers], \@before, 'the same workers');
    is(http_get($port, '/')->{body}, 'two', 'serve as before');
    spew($s->conf, "\0\0\0");
    ($status) = $s->reload;
    is($status, 1, 'rubbish');
    unlink $s->conf;
    ($status) = $s->reload;
    is($status, 1, 'no file');
    POSIX::mkfifo($s->conf, 0600);
    ($status, $out, $err) = $s->reload;
    is($status, 1, 'a pipe that nobody writes to');
    like("$out$err", qr/not a regular file/, 'is not waited for');
    unlink $s->conf;
    # A worker that dies now is replaced with the configuration that was loaded, not with the file.
    kill 'KILL', $before[0];
    ok(wait_for(sub { my @now = eval { $s->workers }; @now == 2 && !grep { $_ == $before[0] } @now }, quiet => 1), 'a respawn');
    ok(wait_for(sub { ($s->rpctl('wait', 'healthy', '--timeout', '5s'))[0] == 0 }, quiet => 1), 'healthy');
    is(http_get($port, '/')->{body}, 'two', 'uses the loaded configuration') for 1 .. 4;
};

subtest 'a listener that cannot be opened' => sub {
    my $taken = origin();
    my $blocker = $taken->address;
    $s->write_config($config->(origin => $o2, listen => ["127.0.0.1:$port", $blocker]));
    my ($status, $out, $err) = $s->reload;
    is($status, 1, 'exit 1');
    like("$out$err", qr/\Q$blocker\E/, 'names the address');
    is(http_get($port, '/')->{body}, 'two', 'the running generation serves');
};

subtest 'listeners come and go' => sub {
    $s->write_config($config->(listen => ["127.0.0.1:$port", "127.0.0.1:$port2"]));
    my ($status, $out, $err) = $s->reload;
    is($status, 0, 'added') or diag($out, $err);
    is(http_get($port2, '/')->{body}, 'one', 'serves on it at once');
    my $c = client($port2);
    $c->send(request('GET', '/'));
    $c->read_response;
    $s->write_config($config->(listen => "127.0.0.1:$port"));
    ($status) = $s->reload;
    is($status, 0, 'removed');
    ok(wait_for(sub { !eval { client($port2); 1 } }, quiet => 1), 'then refuses');
    ok($c->closed(timeout => 30), 'an idle connection to it ends');
    $c->close;
};

subtest 'workers shrink and grow' => sub {
    for my $n (4, 1, 3, 2) {
        $s->write_config($config->(), global => "workers = $n\n");
        my ($status, $out, $err) = $s->reload;
        is($status, 0, "to $n workers") or diag($out, $err);
        my @workers = $s->workers;
        is(scalar @workers, $n, "$n workers");
        # Every socket of the group has somebody who accepts from it.
        my @c = map { client($port) } 1 .. 40;
        $_->send(request('GET', '/')) for @c;
        is(scalar(grep { $_->read_response->{status} == 200 } @c), 40, '40 connections are served');
        $_->close for @c;
    }
};

subtest 'requests in flight finish' => sub {
    my $slow = origin();
    $s->write_config($config->(origin => $slow));
    is(($s->reload)[0], 0, 'reload');
    my $c = client($port);
    $c->send(request('GET', '/slow'));
    my $oc = $slow->accept;
    $oc->read_request;
    $s->write_config($config->());
    is(($s->reload)[0], 0, 'reload while it waits');
    is(http_get($port, '/')->{body}, 'one', 'new requests go the new way');
    $oc->send(response(200, [], 'late'));
    my $a = $c->read_response;
    is($a->{body}, 'late', 'the old one gets its answer');
    $c->send(request('GET', '/'));
    is($c->read_response->{body}, 'one', 'its connection goes on, the new way');
    $_->close for $c, $oc;
};

subtest 'idle connections' => sub {
    my @c = map { my $c = client($port); $c->send(request('GET', '/')); $c->read_response; $c } 1 .. 10;
    is(($s->reload)[0], 0, 'reload');
    # A request that was on its way when the drain began is answered.
    my $answered = 0;
    for my $c (@c) {
        $c->send(request('GET', '/'), quiet => 1);
        $answered++ if eval { $c->read_response->{status} == 200 };
    }
    is($answered, 10, 'a request right after the reload is still answered');
    $_->close for @c;
};

subtest 'drain_timeout' => sub {
    my $slow = origin();
    $s->write_config($config->(origin => $slow), global => "drain_timeout = 500ms\n");
    my ($status, $out, $err) = $s->reload;
    is($status, 0, 'reload') or diag($out, $err);
    my $c = client($port);
    $c->send(request('GET', '/stuck'));
    my $oc = $slow->accept;
    $oc->read_request;
    my $t0 = time;
    is(($s->reload)[0], 0, 'reload while it hangs');
    ok(defined eval { $c->read_eof }, 'the connection ends');
    cmp_ok(time - $t0, '<', 10, 'in time');
    ok($s->wait_metric('rpd_connections_aborted_total', sub { $_[0] >= 1 }), 'and is counted');
    $_->close for $c, $oc;
};

subtest 'signals as in nginx' => sub {
    $s->write_config($config->());
    my $g = generation();
    kill 'HUP', $s->pid;
    ok(wait_for(sub { generation() == $g + 1 }, quiet => 1), 'HUP reloads');
    my ($status) = $s->rpctl('wait', 'generation', $g + 2, '--timeout', '100ms');
    is($status, 5, 'rpctl wait times out with 5');
    ($status) = $s->rpctl('wait', 'generation', $g + 1, '--timeout', '10s');
    is($status, 0, 'and returns at once when it is so');
    ($status) = $s->rpctl('wait', 'idle', '--timeout', '30s');
    is($status, 0, 'old generations have ended');
};

$s->stop;

subtest 'a start that fails' => sub {
    my $dir = tempdir();
    my $taken = origin();
    for my $row (
        ['broken file', "[global]\nnonsense = 1\n", qr/unknown key "nonsense"/],
        ['address in use', simple_config(listen => $taken->address, server => '127.0.0.1:1'), qr/\Q@{[ $taken->address ]}\E/],
    ) {
        my ($name, $text, $like) = @$row;
        spew("$dir/rpd.conf", "[global]\npid_file = $dir/p\ncontrol_socket = $dir/s\nerror_log = stderr\nworkers = 1\n" . $text =~ s/^\[global\]\n//r);
        my ($status, $out, $err) = run_program(RPD::Util::program('rpd'), '-F', '-c', "$dir/rpd.conf");
        is($status, 1, "$name: exit 1");
        like("$out$err", $like, "$name: says why");
        ok(!-e "$dir/p", "$name: no pid file left");
    }
};

subtest 'stop: graceful and now' => sub {
    my $slow = origin();
    my $p = free_port();
    my $s2 = rpd(config => simple_config(listen => "127.0.0.1:$p", server => $slow->address));
    my $c = client($p);
    $c->send(request('GET', '/'));
    my $oc = $slow->accept;
    $oc->read_request;
    kill 'QUIT', $s2->pid;
    ok(wait_for(sub { !eval { client($p)->close; 1 } }, quiet => 1), 'QUIT: nobody new');
    $oc->send(response(200, [], 'last'));
    is($c->read_response->{body}, 'last', 'who is there is served');
    $_->close for $c, $oc;
    $s2->stop(gone => 1);

    $s2 = rpd(config => simple_config(listen => "127.0.0.1:$p", server => $slow->address));
    $c = client($p);
    $c->send(request('GET', '/'));
    $oc = $slow->accept;
    $oc->read_request;
    my $t0 = time;
    kill 'TERM', $s2->pid;
    ok(defined eval { $c->read_eof }, 'TERM: cut');
    $s2->stop(gone => 1);
    cmp_ok(time - $t0, '<', 8, 'fast');
    $_->close for $c, $oc;
};

subtest 'daemon mode' => sub {
    my $dir = tempdir();
    my $p = free_port();
    spew("$dir/rpd.conf", "[global]\npid_file = $dir/rpd.pid\ncontrol_socket = $dir/rpd.sock\nerror_log = $dir/error.log\nworkers = 1\n"
        . simple_config(listen => "127.0.0.1:$p", server => $o->address));
    my ($status, $out, $err) = run_program(RPD::Util::program('rpd'), '-c', "$dir/rpd.conf");
    is($status, 0, 'the starter returns 0') or diag($out, $err);
    is(eval { http_get($p, '/')->{body} }, 'one', 'and service is there at once');
    my ($pid) = slurp("$dir/rpd.pid") =~ /^(\d+)$/m;
    ok($pid && kill(0, $pid), 'the pid file is right');
    ($status) = run_program(RPD::Util::program('rpd'), '-c', "$dir/rpd.conf");
    isnt($status, 0, 'a second start is refused');
    ($status) = run_program(RPD::Util::program('rpctl'), '-s', "$dir/rpd.sock", 'stop');
    is($status, 0, 'rpctl stop');
    ok(wait_for(sub { !kill 0, $pid }, quiet => 1), 'it is gone');
    ok(!-e "$dir/rpd.pid", 'with its pid file');
    ($status) = run_program(RPD::Util::program('rpctl'), '-s', "$dir/rpd.sock", 'status');
    is($status, 3, 'rpctl: not running is exit 3');
};

done_testing;
