//! The page, the way in, and the data behind it.
//!
//! The page's parts are files of `assets/`, built into the program; they hold no secret and are
//! served to everybody, so that the login form looks like the rest.

use std::sync::PoisonError;

use actix_web::http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER, SET_COOKIE, WWW_AUTHENTICATE};
use actix_web::web::{self, Bytes, Data, Form, Query, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use serde::Deserialize;

use super::access::{COOKIE_NAME, Denied, LOGIN_LASTS};
use super::{MAP_AGE, Site, guard, stream};

const PAGE: &str = include_str!("../../../assets/page.html");
const LOGIN: &str = include_str!("../../../assets/login.html");

/// Where the login page says what was wrong.
const LOGIN_MESSAGE: &str = "<!--message-->";

/// The parts that pages load: path, content type, content.
const PARTS: [(&str, &str, &str); 3] = [
    ("/page.css", "text/css; charset=utf-8", include_str!("../../../assets/page.css")),
    ("/page.js", "text/javascript; charset=utf-8", include_str!("../../../assets/page.js")),
    ("/icon.svg", "image/svg+xml", include_str!("../../../assets/icon.svg")),
];

/// Adds the routes of this file.
pub(super) fn routes(app: &mut ServiceConfig) {
    for (path, kind, content) in PARTS {
        let serve = move || async move {
            HttpResponse::Ok().insert_header((CONTENT_TYPE, kind)).body(content)
        };
        app.route(path, web::get().to(serve));
    }
    app.route("/", web::get().to(page))
        .route("/login", web::get().to(login_form))
        .route("/login", web::post().to(login))
        .route("/logout", web::post().to(logout))
        .route("/api/status", web::get().to(status))
        .route("/api/log", web::get().to(log))
        .route("/api/stream", web::get().to(stream::open))
        .route("/api/map.png", web::get().to(map));
}

/// Returns the answer to somebody who is not let in.
pub(super) fn denial(denied: Denied) -> HttpResponse {
    match denied {
        Denied::Unknown => HttpResponse::Unauthorized()
            .insert_header((WWW_AUTHENTICATE, "Bearer"))
            .body("an operator's token is needed: make one with `ecumene token`\n"),
        Denied::TooOften => HttpResponse::TooManyRequests()
            .insert_header((RETRY_AFTER, "10"))
            .body("too many wrong tokens: wait ten seconds\n"),
    }
}

/// Answers with `give` if the request comes from an operator.
fn for_operators(
    request: &HttpRequest,
    site: &Site,
    give: impl FnOnce() -> HttpResponse,
) -> HttpResponse {
    match site.access.admit(request, site.clock.elapsed()) {
        Ok(_) => give(),
        Err(denied) => denial(denied),
    }
}

async fn page(request: HttpRequest, site: Data<Site>) -> HttpResponse {
    match site.access.admit(&request, site.clock.elapsed()) {
        Ok(_) => html(HttpResponse::Ok(), PAGE.to_owned()),
        Err(Denied::Unknown) => go("/login"),
        Err(Denied::TooOften) => denial(Denied::TooOften),
    }
}

async fn login_form() -> HttpResponse {
    html(HttpResponse::Ok(), LOGIN.replace(LOGIN_MESSAGE, ""))
}

/// What the login form sends.
#[derive(Deserialize)]
struct Credentials {
    token: String,
}

async fn login(
    request: HttpRequest,
    site: Data<Site>,
    Form(Credentials { token }): Form<Credentials>,
) -> HttpResponse {
    if guard::is_cross_site(&request) {
        return HttpResponse::Forbidden().body("log in on the page itself\n");
    }
    match site.access.login(token.trim(), site.clock.elapsed()) {
        Ok(pass) => {
            let mut answer = go("/");
            set_cookie(&mut answer, &request, &pass, LOGIN_LASTS.as_secs());
            answer
        }
        Err(Denied::Unknown) => {
            let message = "This token opens nothing here. It may be expired or revoked, or be for \
                players: the page is for moderators and admins.";
            html(HttpResponse::Unauthorized(), LOGIN.replace(LOGIN_MESSAGE, message))
        }
        Err(Denied::TooOften) => {
            let message = "Too many wrong tokens. Wait ten seconds, then try again.";
            html(HttpResponse::TooManyRequests(), LOGIN.replace(LOGIN_MESSAGE, message))
        }
    }
}

async fn logout(request: HttpRequest, site: Data<Site>) -> HttpResponse {
    site.access.logout(&request);
    let mut answer = go("/login");
    set_cookie(&mut answer, &request, "", 0);
    answer
}

async fn status(request: HttpRequest, site: Data<Site>) -> HttpResponse {
    for_operators(&request, &site, || HttpResponse::Ok().json(site.board.read()))
}

/// From which line on.
#[derive(Deserialize)]
struct Since {
    #[serde(default)]
    since: u64,
}

async fn log(
    request: HttpRequest,
    site: Data<Site>,
    Query(Since { since }): Query<Since>,
) -> HttpResponse {
    for_operators(&request, &site, || {
        let lines = site.board.log().since(since);
        HttpResponse::Ok().json(lines.iter().map(AsRef::as_ref).collect::<Vec<_>>())
    })
}

async fn map(request: HttpRequest, site: Data<Site>) -> HttpResponse {
    if let Err(denied) = site.access.admit(&request, site.clock.elapsed()) {
        return denial(denied);
    }
    match drawn(site).await {
        Some(png) => HttpResponse::Ok().content_type("image/png").body(png),
        None => HttpResponse::NotFound().body("no map yet: the ground is not made\n"),
    }
}

/// Returns the map, drawn anew if the last one is old.
async fn drawn(site: Data<Site>) -> Option<Bytes> {
    let now = site.clock.elapsed();
    let kept = site.map.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some((_, png)) = kept.filter(|(at, _)| now.saturating_sub(*at) < MAP_AGE) {
        return Some(png);
    }
    let artist = Data::clone(&site);
    let png = web::block(move || (artist.draw_map)()).await.ok().flatten().map(Bytes::from)?;
    *site.map.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, png.clone()));
    Some(png)
}

fn html(mut answer: HttpResponseBuilder, content: String) -> HttpResponse {
    answer.content_type("text/html; charset=utf-8").body(content)
}

fn go(to: &'static str) -> HttpResponse {
    HttpResponse::SeeOther().insert_header((LOCATION, to)).finish()
}

/// Sets the login's cookie: out of reach for scripts and for other sites.
fn set_cookie(answer: &mut HttpResponse, request: &HttpRequest, pass: &str, seconds: u64) {
    let secure = if guard::is_over_tls(request) { "; Secure" } else { "" };
    let cookie = format!(
        "{COOKIE_NAME}={pass}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"
    );
    // A pass is hexadecimal digits, so the text always is a header's.
    if let Ok(value) = cookie.parse() {
        answer.headers_mut().insert(SET_COOKIE, value);
    }
}
