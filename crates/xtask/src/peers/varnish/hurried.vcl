# In a surge: everything for 60 seconds, whatever the origin says and whoever asks, and the old page
# rather than an error. Both subroutines return, so the built-in rules are not reached.
vcl 4.1;

backend default {
    .host = "127.0.0.1";
    .port = "@ORIGIN_PORT@";
}

sub vcl_recv {
    if (req.method == "GET" || req.method == "HEAD") {
        return (hash);
    }
}

sub vcl_backend_response {
    set beresp.ttl = 60s;
    set beresp.grace = 1h;
    set beresp.uncacheable = false;
    return (deliver);
}
