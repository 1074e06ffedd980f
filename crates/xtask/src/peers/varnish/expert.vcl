# "Achieving a high hitrate" of the Varnish Users Guide,
# https://varnish-cache.org/docs/7.1/users-guide/increasing-your-hitrate.html, and "Built-in VCL",
# https://varnish-cache.org/docs/7.1/users-guide/vcl-built-in-code.html: "It is generally recommended
# not to invariably return from loaded code to let Varnish execute the built-in code".
vcl 4.1;

backend default {
    .host = "127.0.0.1";
    .port = "@ORIGIN_PORT@";
}

sub vcl_recv {
    # A client's own word about the host must not reach a page that is shared: the key has only Host.
    unset req.http.X-Forwarded-Host;

    # The guide disregards cookies where they are of no interest. They are taken from the request
    # before it is looked up and fetched, so what the origin answers is for nobody.
    if (req.url ~ "^[^?]*\.(css|js|png|jpe?g|gif|svg|ico|webp|woff2?)(\?.*)?$") {
        unset req.http.Cookie;
    }

    # Cookies of analytics are read by scripts, not by the origin; after the guide's own example.
    if (req.http.Cookie) {
        set req.http.Cookie = regsuball(req.http.Cookie, "(^|; ?)(_ga[^=]*|_gid|_gat|utm[a-z]+)=[^;]*", "");
        set req.http.Cookie = regsub(req.http.Cookie, "^;? ?", "");
        if (req.http.Cookie == "") {
            unset req.http.Cookie;
        }
    }
    # Nothing returns: the built-in vcl_recv passes what still has a Cookie or has Authorization.
}

sub vcl_backend_response {
    # The built-in vcl_backend_response does not share an answer with Set-Cookie, nor one that says
    # private, no-cache or no-store. Without an explicit lifetime nothing is shared either, where
    # default_ttl would give it two minutes.
    if (!beresp.http.Cache-Control && !beresp.http.Expires) {
        set beresp.ttl = 0s;
    }
}
