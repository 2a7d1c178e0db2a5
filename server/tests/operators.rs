//! The operators' endpoint over a real socket: who gets what, in which form, and what is refused.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use server::io::http::{Http, Operator, Settings, Sources, Verify};
use server::io::telemetry::MetricsPage;
use server::status::names::{self, HostMetrics, ShardMetrics};
use server::status::{Level, LogTail, Status, StatusBoard};

/// Knows one token.
struct One;

impl Verify for One {
    fn role(&self, token: &str) -> Option<Operator> {
        (token == "good").then_some(Operator::Admin)
    }
}

/// A running endpoint over an invented world.
struct Endpoint {
    http: Http,
    board: Arc<StatusBoard>,
}

impl Endpoint {
    fn start() -> Self {
        let tail = Arc::<LogTail>::default();
        tail.push(1, Level::Warn, "server::host", "<b>late</b>".into());
        let board = Arc::new(StatusBoard::new(tail));
        let (recorder, metrics) = MetricsPage::build().unwrap();
        let sources = Sources {
            board: Arc::clone(&board),
            metrics,
            verify: Box::new(One),
            map: Box::new(|| Some(b"\x89PNG invented".to_vec())),
        };
        let settings = Settings {
            listen: "127.0.0.1:0".parse().unwrap(),
            open_metrics: false,
            names: vec!["world.example".into()],
        };
        let http = metrics::with_local_recorder(&recorder, || {
            names::describe();
            let host = HostMetrics::default();
            host.tick_seconds.record(0.007);
            host.message_in("hello");
            ShardMetrics::new("r-1").entities.set(4.0);
            Http::serve(settings, sources).unwrap()
        });
        Self { http, board }
    }

    /// Sends a request with `extra` header lines and returns the whole answer.
    fn ask(&self, method: &str, path: &str, extra: &str, body: &str) -> Answer {
        let address = self.http.address();
        let host =
            if extra.contains("Host:") { String::new() } else { format!("Host: {address}\r\n") };
        let length = body.len();
        let mut stream = connect(address);
        let head = format!(
            "{method} {path} HTTP/1.1\r\n{host}{extra}Connection: close\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body.as_bytes()).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        Answer::parse(&bytes)
    }

    fn get(&self, path: &str, extra: &str) -> Answer {
        self.ask("GET", path, extra, "")
    }

    fn login(&self, token: &str, extra: &str) -> Answer {
        let form = format!("Content-Type: application/x-www-form-urlencoded\r\n{extra}");
        self.ask("POST", "/login", &form, &format!("token={token}"))
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

#[derive(Debug)]
struct Answer {
    code: u16,
    head: String,
    body: String,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let code = head.get(9..12).and_then(|code| code.parse().ok()).unwrap_or(0);
        Self { code, head: head.to_lowercase(), body: body.to_owned() }
    }

    fn header(&self, name: &str) -> &str {
        let line = self.head.lines().find(|line| line.starts_with(&format!("{name}: ")));
        line.map_or("", |line| &line[name.len() + 2..])
    }
}

const TOKEN: &str = "Authorization: Bearer good\r\n";

#[test]
fn readiness_follows_the_host_and_says_why_not() {
    let endpoint = Endpoint::start();
    assert_eq!(endpoint.get("/healthz", "").code, 200);
    let early = endpoint.get("/readyz", "");
    assert_eq!(
        (early.code, early.body.as_str()),
        (503, "not ready: the world is not loaded yet\n")
    );
    endpoint.board.publish(Status { ready: true, ..Status::default() }, Duration::ZERO);
    assert_eq!(endpoint.get("/readyz", "").code, 200);
    endpoint.board.not_ready("the server stops");
    assert_eq!(endpoint.get("/readyz", "").body, "not ready: the server stops\n");
}

#[test]
fn metrics_come_in_the_format_that_is_asked_for_and_promtool_finds_nothing() {
    let endpoint = Endpoint::start();
    let plain = endpoint.get("/metrics", "");
    assert!(
        plain.header("content-type").starts_with("text/plain; version=0.0.4"),
        "{}",
        plain.head
    );
    let open = endpoint.get("/metrics", "Accept: application/openmetrics-text; version=1.0.0\r\n");
    assert!(open.header("content-type").starts_with("application/openmetrics-text; version=1.0.0"));
    assert!(open.body.ends_with("# EOF\n"));
    assert!(open.body.contains("# TYPE ecumene_joins counter\necumene_joins_total 0\n"));

    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = promtool else {
        println!(
            "SKIPPED: promtool (Debian package `prometheus`) is not here; the page is unchecked"
        );
        return;
    };
    promtool.stdin.take().unwrap().write_all(plain.body.as_bytes()).unwrap();
    let checked = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(checked.status.success() && said.is_empty(), "promtool: {said}");
}

#[test]
fn the_numbers_agree_with_the_picture() {
    let endpoint = Endpoint::start();
    let early = endpoint.get("/metrics", "").body;
    assert!(early.contains("ecumene_ready 0\n") && early.contains("ecumene_pace_ratio 1\n"));
    let status = Status {
        hz: 20,
        pace_permille: 750,
        clients: 3,
        clients_max: 40,
        ready: true,
        ..Status::default()
    };
    endpoint.board.publish(status, Duration::ZERO);
    let text = endpoint.get("/metrics", "").body;
    for line in [
        "ecumene_ready 1",
        "ecumene_pace_ratio 0.75",
        "ecumene_clients 3",
        "ecumene_clients_limit 40",
        "ecumene_tick_budget_seconds 0.05",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
    }
    endpoint.board.not_ready("the server stops");
    assert!(endpoint.get("/metrics", "").body.contains("ecumene_ready 0\n"));
}

#[test]
fn strangers_see_the_way_in_and_nothing_else() {
    let endpoint = Endpoint::start();
    let page = endpoint.get("/", "");
    assert_eq!((page.code, page.header("location")), (303, "/login"));
    for path in ["/api/status", "/api/log", "/api/stream", "/api/map.png"] {
        let answer = endpoint.get(path, "");
        assert_eq!(answer.code, 401, "{path}");
        assert!(!answer.body.contains("late"), "{path}");
        assert_eq!(endpoint.get(path, "Authorization: Bearer bad\r\n").code, 401, "{path}");
        assert_eq!(endpoint.get(path, "Cookie: ecumene_session=good\r\n").code, 401, "{path}");
    }
    for path in ["/login", "/page.css", "/page.js", "/icon.svg"] {
        assert_eq!(endpoint.get(path, "").code, 200, "{path}");
    }
    assert_eq!(endpoint.get("/../Cargo.toml", "").code, 404);
}

#[test]
fn a_token_opens_the_api() {
    let endpoint = Endpoint::start();
    let status = Status { world: "vale".into(), tick: 7, ..Status::default() };
    endpoint.board.publish(status, Duration::ZERO);
    let answer = endpoint.get("/api/status", TOKEN);
    let read: Status = serde_json::from_str(&answer.body).unwrap();
    assert_eq!((read.world.as_str(), read.tick), ("vale", 7));
    assert!(endpoint.get("/api/log?since=0", TOKEN).body.contains("<b>late</b>"));
    assert_eq!(endpoint.get("/api/log?since=1", TOKEN).body, "[]");
    assert_eq!(endpoint.get("/api/log?since=x", TOKEN).code, 400);
    let map = endpoint.get("/api/map.png", TOKEN);
    assert_eq!((map.code, map.header("content-type")), (200, "image/png"));
}

#[test]
fn a_login_is_a_cookie_that_scripts_and_other_sites_cannot_use() {
    let endpoint = Endpoint::start();
    let wrong = endpoint.login("bad", "");
    assert_eq!((wrong.code, wrong.header("set-cookie")), (401, ""));
    assert!(wrong.body.contains("opens nothing here"));
    assert_eq!(endpoint.login("good", "Sec-Fetch-Site: cross-site\r\n").code, 403);

    let right = endpoint.login("good", "");
    let cookie = right.header("set-cookie");
    assert_eq!((right.code, right.header("location")), (303, "/"));
    assert!(cookie.contains("; httponly; samesite=strict") && !cookie.contains("good"), "{cookie}");
    assert!(!cookie.contains("secure"));
    let behind_tls = endpoint.login("good", "X-Forwarded-Proto: https\r\n");
    assert!(behind_tls.header("set-cookie").ends_with("; secure"));

    let pass = format!("Cookie: {}\r\n", cookie.split(';').next().unwrap());
    let page = endpoint.get("/", &pass);
    assert!(page.code == 200 && page.body.contains("id=\"map\""));
    assert_eq!(endpoint.get("/api/status", &pass).code, 200);
    assert_eq!(endpoint.ask("POST", "/logout", &pass, "").code, 303);
    assert_eq!(endpoint.get("/api/status", &pass).code, 401);
}

#[test]
fn guessing_is_slowed_down() {
    let endpoint = Endpoint::start();
    let codes: Vec<u16> = (0..12).map(|_| endpoint.login("bad", "").code).collect();
    assert!(codes[..10].iter().all(|&code| code == 401) && codes[11] == 429, "{codes:?}");
    assert!(endpoint.get("/metrics", "").body.contains("ecumene_http_logins_refused_total 12\n"));
}

#[test]
fn every_answer_forbids_what_the_page_does_not_need() {
    let endpoint = Endpoint::start();
    for path in ["/", "/login", "/page.js", "/api/status", "/metrics", "/nothing"] {
        let answer = endpoint.get(path, "");
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self'"), "{path}: {policy}");
        assert!(!policy.contains("unsafe"));
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("cache-control"), "no-store", "{path}");
    }
}

#[test]
fn the_page_asks_nobody_else() {
    let endpoint = Endpoint::start();
    for path in ["/login", "/page.css", "/page.js"] {
        let text = endpoint.get(path, "").body;
        assert!(
            !text.contains("//fonts") && !text.contains("https://") && !text.contains("http://")
        );
        assert!(!text.contains("innerHTML") && !text.contains("eval("), "{path}");
    }
}

#[test]
fn what_comes_for_others_or_from_afar_is_refused() {
    let endpoint = Endpoint::start();
    assert_eq!(endpoint.get("/metrics", "Host: evil.example\r\n").code, 421);
    assert_eq!(endpoint.get("/metrics", "Host: world.example\r\n").code, 200);
    for path in ["/metrics", "/healthz", "/readyz"] {
        let forwarded = "X-Forwarded-For: 192.0.2.7\r\n";
        assert_eq!(endpoint.get(path, forwarded).code, 401, "{path}");
        assert_ne!(endpoint.get(path, &format!("{forwarded}{TOKEN}")).code, 401, "{path}");
    }
}

#[test]
fn swollen_requests_are_refused_and_the_endpoint_lives_on() {
    let endpoint = Endpoint::start();
    assert_eq!(endpoint.login(&"x".repeat(5_000), "").code, 401);
    assert_eq!(endpoint.login(&"x".repeat(20_000), "").code, 413);
    let mut garbage = connect(endpoint.http.address());
    garbage.write_all(&[0xFF; 4_096]).unwrap();
    drop(garbage);
    assert_eq!(endpoint.get("/healthz", "").code, 200);
}

/// Opens a stream and reads until `until` is in it.
fn stream(endpoint: &Endpoint, until: &str) -> (TcpStream, String) {
    let address = endpoint.http.address();
    let mut stream = connect(address);
    write!(stream, "GET /api/stream HTTP/1.1\r\nHost: {address}\r\n{TOKEN}\r\n").unwrap();
    let (mut text, mut buffer) = (String::new(), [0; 8_192]);
    while !text.contains(until) {
        let read = stream.read(&mut buffer).unwrap();
        assert_ne!(read, 0, "ended with {text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    (stream, text)
}

#[test]
fn the_stream_tells_what_is_new() {
    let endpoint = Endpoint::start();
    endpoint.board.publish(Status { tick: 41, ..Status::default() }, Duration::ZERO);
    let (mut open, text) = stream(&endpoint, "event: log");
    assert!(text.contains("text/event-stream") && text.contains("\"tick\":41"), "{text}");
    endpoint.board.publish(Status { tick: 42, ..Status::default() }, Duration::ZERO);
    let (mut more, mut buffer) = (String::new(), [0; 8_192]);
    while !more.contains("\"tick\":42") {
        let read = open.read(&mut buffer).unwrap();
        assert_ne!(read, 0);
        more.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    assert!(!more.contains("event: log"), "old lines are not sent twice");
}

#[test]
fn streams_have_a_bound() {
    let endpoint = Endpoint::start();
    let open: Vec<_> = (0..16).map(|_| stream(&endpoint, "event: status").0).collect();
    assert_eq!(endpoint.get("/api/stream", TOKEN).code, 503);
    assert_eq!(endpoint.get("/api/status", TOKEN).code, 200);
    drop(open);
}
