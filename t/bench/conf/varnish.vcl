vcl 4.1;
backend origin {
    .host = "127.0.0.1";
    .port = "@ORIGIN@";
}
sub vcl_recv {
    if (req.url ~ "^/c/") {
        return (hash);
    }
    return (pass);
}
sub vcl_backend_response {
    set beresp.do_stream = true;
}
