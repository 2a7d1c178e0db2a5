//! Health and metrics: what probes and scrapers ask for.

use actix_web::http::header::{ACCEPT, CONTENT_TYPE};
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};

use crate::io::telemetry::Exposition;

use super::access::Denied;
use super::{Site, guard, page};

/// Adds the routes of this file.
pub(super) fn routes(app: &mut ServiceConfig) {
    app.route("/healthz", web::get().to(alive))
        .route("/readyz", web::get().to(ready))
        .route("/metrics", web::get().to(numbers));
}

/// Whether the process answers at all.
async fn alive(request: HttpRequest, site: Data<Site>) -> HttpResponse {
    match allowed(&request, &site) {
        Ok(()) => text(HttpResponse::Ok(), "alive\n"),
        Err(denied) => page::denial(denied),
    }
}

/// Whether newcomers can come in; if not, why.
async fn ready(request: HttpRequest, site: Data<Site>) -> HttpResponse {
    if let Err(denied) = allowed(&request, &site) {
        return page::denial(denied);
    }
    match site.board.readiness() {
        Ok(()) => text(HttpResponse::Ok(), "ready\n"),
        Err(why) => text(HttpResponse::ServiceUnavailable(), &format!("not ready: {why}\n")),
    }
}

/// The numbers, in the format that the scraper prefers.
async fn numbers(request: HttpRequest, site: Data<Site>) -> HttpResponse {
    if let Err(denied) = allowed(&request, &site) {
        return page::denial(denied);
    }
    let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let exposition = Exposition::accepted(accept.unwrap_or_default());
    site.gauges.show(&site.board.read());
    let page = site.metrics.render(exposition);
    HttpResponse::Ok().insert_header((CONTENT_TYPE, exposition.content_type())).body(page)
}

/// Lets in this machine, everybody if so configured, and operators from anywhere.
fn allowed(request: &HttpRequest, site: &Site) -> Result<(), Denied> {
    if site.settings.open_metrics || guard::is_local(request) {
        return Ok(());
    }
    site.access.admit(request, site.clock.elapsed()).map(|_| ())
}

fn text(mut answer: actix_web::HttpResponseBuilder, body: &str) -> HttpResponse {
    answer.content_type("text/plain; charset=utf-8").body(body.to_owned())
}
