#!/usr/bin/perl
# A real browser over HTTP/2 with a WebSocket, and testssl.sh over the whole of TLS. Each is left out when it is not installed.
use strict;
use warnings;
use JSON::PP ();
use RPD::Test;
use RPD::Cert;
use RPD::Real;

my $ca = ca('Test CA');
my $ec = cert($ca, 'localhost', '127.0.0.1');
my $rsa = cert($ca, 'localhost', '127.0.0.1', { key => 'rsa' });
my $node = node_origin();
my $www = tempdir();
my $port = free_port();
spew("$www/ws.html", <<'END');
<!doctype html><title>test</title><body><script>
const out = { proto: performance.getEntriesByType('navigation')[0].nextHopProtocol };
const done = () => fetch('/result?' + encodeURIComponent(JSON.stringify(out)));
const get = (k) => fetch('/hello?' + k).then((r) => r.text()).then((t) => t === 'node GET /hello?' + k);
Promise.all(Array.from({ length: 60 }, (_, k) => get(k))).then((all) => {
    out.fetched = all.filter((x) => x).length;
    return fetch('/upload', { method: 'POST', body: new Uint8Array(3000000) }).then((r) => r.json());
}).then((up) => {
    out.up = up.n;
    return fetch('/download?n=3000000').then((r) => r.arrayBuffer());
}).then((down) => {
    out.down = down.byteLength;
    const ws = new WebSocket('wss://' + location.host + '/ws');
    ws.onopen = () => ws.send('hello');
    ws.onmessage = (m) => { out.ws = m.data; ws.close(); done(); };
    ws.onerror = () => { out.ws = 'error'; done(); };
}).catch((e) => { out.error = String(e); done(); });
</script></body>
END
my $nginx = nginx_origin();
spew("$nginx->{www}/ws.html", slurp("$www/ws.html"));
my $s = rpd(config => <<"END", global => "workers = 2\n");
[log main]
file = <DIR>/access.log
flush = 10ms
format = "%{proto} %{method} %{status} %{uri}"
[certificate c]
pair = $ec->{both}
pair = $rsa->{both}
default = on
[listen l]
address = 127.0.0.1:$port
tls = on
[upstream node]
server = $node->{address}
[upstream nginx]
server = $nginx->{address}
[host any]
names = *
upstream = node
hsts = 365d
[route any/page]
path = /ws.html
upstream = nginx
END

subtest 'Chromium' => sub {
    my $chromium = have('chromium') || have('chromium-browser') or plan(skip_all => 'chromium is not installed');
    my $dir = tempdir();
    my $pid = spawn("$dir/out", 'timeout', '90', $chromium, '--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run',
        '--disable-background-networking', '--disable-component-update', '--disable-extensions', '--ignore-certificate-errors', '--remote-debugging-port=0',
        "--user-data-dir=$dir/profile", "https://localhost:$port/ws.html");
    # The page tells what it has seen by asking for it.
    my $json;
    my $ok = wait_for(sub { ($json) = map { m{ /result\?(\S+)$} ? $1 : () } eval { split /\n/, slurp($s->dir . '/access.log') }; $json }, timeout => 80, quiet => 1);
    kill 'TERM', $pid;
    waitpid $pid, 0;
    ok($ok, 'the page came to its end') or diag(slurp("$dir/out"), slurp($s->dir . '/access.log'));
    $json =~ s/%([0-9A-Fa-f]{2})/chr hex $1/ge if $ok;
    my $got = eval { JSON::PP->new->decode($json) } || {};
    is_deeply($got, { proto => 'h2', fetched => 60, up => 3_000_000, down => 3_000_000, ws => 'hello' }, 'h2, 60 fetches, bodies both ways, a WebSocket') or diag(explain($got));
    my @lines = $s->access_lines(60);
    is(scalar(grep { !/^HTTP\/2/ && !m{/ws$} } @lines), 0, 'all over HTTP/2') or diag(grep { !/^HTTP\/2/ } map { "$_\n" } @lines);
    my ($ws) = grep { m{ /ws$} } @lines;
    like($ws // '', qr{^HTTP/2}, 'the WebSocket too (RFC 8441)');
};

subtest 'testssl.sh' => sub {
    my $testssl = have('testssl') || have('testssl.sh') or plan(skip_all => 'testssl.sh is not installed');
    my $dir = tempdir();
    my ($status, $out, $err) = run_program('timeout', '500', $testssl, '--quiet', '--color', '0', '--warnings', 'off', '--nodns', 'none', '--ip', '127.0.0.1',
        '--add-ca', $ca->{file}, '--jsonfile', "$dir/out.json", '--openssl-timeout', '10', '-p', '-s', '-f', '-P', '-S', '-h', '-U', "https://localhost:$port/");
    my $all = eval { JSON::PP->new->utf8->decode(slurp("$dir/out.json")) } || [];
    cmp_ok(scalar @$all, '>', 60, scalar(@$all) . ' findings') or diag("exit $status\n$out$err");
    # Of a certificate that nobody has issued, and of this machine, nothing can be better; and s_client does not wait for tickets of
    # TLS 1.3, which testssl.sh takes for a problem of the connection.
    my $own = qr/^(cert_chain_of_trust|cert_trust|cert_caIssuers|cert_crlDistributionPoints|cert_ocspURL|cert_revocation|DNS_CAArecord|OCSP_stapling|cert_expirationStatus|scanTime|engine_problem|certificate_transparency|cert_notAfter|cert_validityPeriod|cert_extlifeSpan|overall_grade|sessionresumption_ticket|security_headers)/;
    my @bad = grep { $_->{severity} !~ /^(OK|INFO|LOW|DEBUG)$/ && $_->{id} !~ $own } @$all;
    is(scalar @bad, 0, 'nothing worse than LOW') or diag(map { "$_->{severity} $_->{id}: $_->{finding}\n" } @bad);
    my %by = map { $_->{id} => $_ } @$all;
    like(($by{"TLS1_$_"} || {})->{finding} // '', qr/offered/, "TLS 1.$_") for 2, 3;
    like(($by{$_} || {})->{finding} // '', qr/^not offered/, "not $_") for 'SSLv2', 'SSLv3', 'TLS1', 'TLS1_1';
    diag(map { "LOW $_->{id}: $_->{finding}\n" } grep { $_->{severity} eq 'LOW' } @$all);
};

ok(wait_for(sub { $s->metric('rpd_requests_in_flight') == 0 }, quiet => 1), 'idle');
$s->stop;
done_testing;
