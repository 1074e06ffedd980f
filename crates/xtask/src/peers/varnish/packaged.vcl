# Debian's default.vcl with its origin filled in: all subroutines are the built-in ones.
vcl 4.1;

backend default {
    .host = "127.0.0.1";
    .port = "@ORIGIN_PORT@";
}
