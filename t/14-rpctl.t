#!/usr/bin/perl
# rpctl: every command, its exit status, JSON that is JSON, and the metrics endpoint.
use strict;
use warnings;
use JSON::PP;
use RPD::Test;

my $port = free_port();
my $o = origin()->serve_requests(sub { response(200, [], 'ok') });
my $s = rpd(config => simple_config(
    listen => "127.0.0.1:$port", server => $o->address, rest => "[route any/metrics]\npath = /metrics\nmetrics = on\n"
));
my $server = 'app/' . $o->address;
my $rpctl = RPD::Util::program('rpctl');
http_get($port, '/') for 1 .. 5;

subtest 'read-only commands' => sub {
    for my $command (
        ['status'], ['config'], ['config', '--changed'], ['config', '--origin'], ['conns'], ['explain', 'GET', '/x'], ['fsck'],
        ['metrics'], ['stat'], ['stat', 'upstream'], ['upstream'], ['upstream', 'app'], ['version'], ['show', 'pools'], ['show', 'states'],
        ['show', 'panic'], ['wait', 'healthy'], ['wait', 'generation', 1], ['wait', 'idle'],
    ) {
        my ($status, $out, $err) = $s->rpctl(@$command);
        is($status, 0, "@$command") or diag($out, $err);
        is($err, '', "@$command: nothing on stderr");
        my ($jstatus, $jout) = $s->rpctl('--json', @$command);
        is($jstatus, 0, "--json @$command");
        my $value = eval { decode_json($jout) };
        ok(ref $value eq 'HASH', "--json @$command: one object") or diag($jout);
        is($value->{v}, 1, "--json @$command: v is 1") if ref $value eq 'HASH';
    }
};

subtest 'contents' => sub {
    my $status = $s->ctl_json('status');
    is($status->{generation}, 1, 'generation');
    is(scalar @{ $status->{workers} }, 2, 'two workers');
    ok(kill(0, $_->{pid}), 'a living pid') for @{ $status->{workers} };
    like($s->ctl('stat', 'requests'), qr/rpd_requests_total\s+5\b/, 'stat counts') ;
    like($s->ctl('upstream', 'app'), qr/\Q@{[ $o->address ]}\E/, 'upstream shows the server');
    like($s->ctl('config', '--origin'), qr/rpd\.conf:\d+/, 'config --origin says where from');
    my $c = client($port);
    $c->send(request('GET', '/'));
    $c->read_response;
    like($s->ctl('conns'), qr/127\.0\.0\.1:@{[ $c->local_port ]}\b/, 'conns shows a connection');
    $c->close;
};

subtest 'metrics' => sub {
    my $text = $s->ctl('metrics');
    my @odd = grep { !/^#|^[a-zA-Z_:][a-zA-Z0-9_:]*(?:\{[^{}]*\})? [-+0-9.eE]+(?:Inf)?$/ } split /\n/, $text;
    is(scalar @odd, 0, 'the text format') or diag(join "\n", @odd[0 .. ($#odd < 5 ? $#odd : 5)]);
    like($text, qr/^# TYPE rpd_requests_total counter$/m, 'types');
    like($text, qr/_bucket\{[^}]*le="\+Inf"[^}]*\} \d+$/m, 'histograms');
    my $a = http_get($port, '/metrics');
    is($a->{status}, 200, 'the endpoint');
    like($a->{fields}{'content-type'}[0], qr{^text/plain}, 'its type');
    like($a->{body}, qr/^rpd_requests_total/m, 'its numbers');
};

subtest 'server' => sub {
    for my $command (['drain'], ['down'], ['ready'], ['weight', 7]) {
        my ($status, $out, $err) = $s->rpctl('server', $server, @$command);
        is($status, 0, "server @$command") or diag($out, $err);
        is(scalar(split /\n/, $out), 1, 'one line');
    }
    like($s->ctl('upstream', 'app'), qr/\b7\b/, 'the weight shows');
    is(($s->rpctl('server', 'app/nowhere:1', 'down'))[0], 1, 'an unknown server is refused');
    is(($s->rpctl('server', $server, 'sideways'))[0], 2, 'an unknown state is usage') ;
    is(($s->rpctl('server', $server, 'weight', 1000))[0], 1, 'a weight out of range');
};

subtest 'exit codes' => sub {
    is((run_program($rpctl))[0], 2, 'no command');
    my ($status, $out, $err) = $s->rpctl('statsu');
    is($status, 2, 'unknown command');
    like($err, qr/status/, 'did you mean');
    is(($s->rpctl('reload', 'now'))[0], 2, 'too many arguments');
    is((run_program($rpctl, '-s', tempdir() . '/none', 'status'))[0], 3, 'no socket');
    is(($s->rpctl('wait', 'generation', 99, '--timeout', '50ms'))[0], 5, 'timed out');
    is(($s->rpctl('upstream', 'nope'))[0], 1, 'no such upstream');
    is((run_program($rpctl, 'help'))[0], 0, 'help');
    if ($> == 0) {
        my ($st) = run_program('setpriv', '--reuid=65534', '--clear-groups', $rpctl, '-s', $s->socket, 'status');
        is($st, 4, 'permission') if RPD::Util::have('setpriv');
        is((stat $s->socket)[2] & 0777, 0600, 'the socket is for root alone');
    }
};

subtest 'completion' => sub {
    my ($status, $out) = run_program($rpctl, 'completion', 'bash');
    is($status, 0, 'completion bash');
    spew($s->dir . '/c.bash', $out);
    is((run_program('bash', '-n', $s->dir . '/c.bash'))[0], 0, 'is bash');
};

subtest 'a stranger on the control socket' => sub {
    for my $bytes ("\0" x 100, "\xff" x 100000, "GET / HTTP/1.1\r\n\r\n", '') {
        my $c = eval { client('unix:' . $s->socket) } or next;
        $c->send($bytes, quiet => 1);
        $c->close;
    }
    is(($s->rpctl('status'))[0], 0, 'does no harm');
};

subtest 'stop' => sub {
    my ($status, $out) = $s->rpctl('stop');
    is($status, 0, 'stop');
    ok(wait_for(sub { !$s->running }, quiet => 1, timeout => 30), 'and it is gone');
    is(($s->rpctl('status'))[0], 3, 'then status is exit 3');
};

$s->stop(gone => 1);
done_testing;
