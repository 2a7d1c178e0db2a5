//! What holds for every request: the answer's security headers, and that the request is for us.

use std::net::IpAddr;

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{FORWARDED, HOST};
use actix_web::middleware::{DefaultHeaders, Next};
use actix_web::web::Data;
use actix_web::{Error, HttpRequest, HttpResponse};

use super::Site;

/// What the page may do: load its own parts, and nothing from anywhere else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Returns the headers of every answer.
pub(super) fn headers() -> DefaultHeaders {
    DefaultHeaders::new()
        .add(("Content-Security-Policy", POLICY))
        .add(("X-Content-Type-Options", "nosniff"))
        .add(("X-Frame-Options", "DENY"))
        .add(("Referrer-Policy", "no-referrer"))
        .add(("Cross-Origin-Opener-Policy", "same-origin"))
        .add(("Cross-Origin-Resource-Policy", "same-origin"))
        .add(("Permissions-Policy", "camera=(), geolocation=(), microphone=()"))
        .add(("Cache-Control", "no-store"))
}

/// Refuses a request whose `Host` is a name that nobody configured.
///
/// A page elsewhere can point its own name at this address and have a browser read what is open
/// to this machine; the browser then still says that name.
pub(super) async fn addressed_to_us<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let names = request.app_data::<Data<Site>>().map_or(&[][..], |site| &site.settings.names);
    if host.is_some_and(|host| is_ours(host, names)) {
        return Ok(next.call(request).await?.map_into_left_body());
    }
    let answer = HttpResponse::MisdirectedRequest()
        .content_type("text/plain; charset=utf-8")
        .body("this name is not served here: call it by address or as localhost\n");
    Ok(request.into_response(answer).map_into_right_body())
}

fn is_ours(host: &str, names: &[String]) -> bool {
    let name = match host.rsplit_once(':') {
        // The last colon of a bare IPv6 address stands inside its brackets.
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    bare.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || names.iter().any(|ours| name.eq_ignore_ascii_case(ours))
}

/// Returns whether the request was made on this machine and not passed on by a proxy on it.
pub(super) fn is_local(request: &HttpRequest) -> bool {
    let headers = request.headers();
    let passed_on = headers.contains_key(FORWARDED)
        || ["x-forwarded-for", "x-forwarded-host", "x-real-ip"]
            .iter()
            .any(|name| headers.contains_key(*name));
    !passed_on && request.peer_addr().is_some_and(|peer| peer.ip().to_canonical().is_loopback())
}

/// Returns whether the browser says that another site makes it send this.
pub(super) fn is_cross_site(request: &HttpRequest) -> bool {
    let site = request.headers().get("sec-fetch-site").and_then(|site| site.to_str().ok());
    site.is_some_and(|site| site != "same-origin" && site != "none")
}

/// Returns whether a proxy says that the browser came over TLS.
pub(super) fn is_over_tls(request: &HttpRequest) -> bool {
    let scheme = request.headers().get("x-forwarded-proto").and_then(|scheme| scheme.to_str().ok());
    scheme == Some("https")
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn only_our_names_are_answered() {
        let names = ["world.example".to_owned()];
        for ours in
            ["127.0.0.1:8433", "localhost", "[::1]:8433", "[::1]", "10.0.0.7", "World.example:80"]
        {
            assert!(is_ours(ours, &names), "{ours}");
        }
        for other in
            ["evil.example", "localhost.evil.example:8433", "", ":8433", "127.0.0.1.evil.example"]
        {
            assert!(!is_ours(other, &names), "{other}");
        }
    }

    #[test]
    fn a_proxy_on_this_machine_does_not_make_the_world_local() {
        let from = |peer: &str| TestRequest::default().peer_addr(peer.parse().unwrap());
        assert!(is_local(&from("127.0.0.1:9").to_http_request()));
        assert!(is_local(&from("[::1]:9").to_http_request()));
        assert!(is_local(&from("[::ffff:127.0.0.1]:9").to_http_request()));
        assert!(!is_local(&from("192.0.2.7:9").to_http_request()));
        let forwarded = from("127.0.0.1:9").insert_header(("x-forwarded-for", "192.0.2.7"));
        assert!(!is_local(&forwarded.to_http_request()));
    }

    #[test]
    fn a_form_on_another_site_is_told_apart() {
        let says = |site: &str| {
            is_cross_site(
                &TestRequest::default().insert_header(("sec-fetch-site", site)).to_http_request(),
            )
        };
        assert!(says("cross-site") && says("same-site"));
        assert!(!says("same-origin") && !says("none"));
    }
}
