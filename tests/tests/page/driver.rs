//! A browser under control: just enough `WebDriver`, written over a socket.
//!
//! It knows nothing of the page. Whatever goes wrong ends the test with what the browser said.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Value, json};
use server::io::clock::Clock;

/// How long something on a page may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running `chromedriver`. Dropping it ends it, and its browsers.
pub struct Driver {
    process: Child,
    port: u16,
}

impl Driver {
    /// Starts the driver; nothing, said loudly, where there is none.
    #[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
    #[expect(
        clippy::unwrap_in_result,
        reason = "only a missing browser skips; one that fails, fails"
    )]
    pub fn start() -> Option<Self> {
        let there = |program: &str| {
            let quiet = Command::new(program)
                .arg("--version")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            quiet.is_ok_and(|status| status.success())
        };
        if !there("chromedriver") || !there("chromium") {
            println!(
                "SKIPPED: chromium and chromedriver (Debian `chromium chromium-driver`) are not both here"
            );
            return None;
        }
        let mut process = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("start chromedriver");
        let lines = BufReader::new(process.stdout.take().expect("a pipe")).lines();
        let told = lines.map_while(Result::ok).find_map(|line| {
            let (_, port) = line.split_once("successfully on port ")?;
            port.trim_end_matches('.').parse().ok()
        });
        let port = told.expect("chromedriver tells its port");
        Some(Self { process, port })
    }

    /// Opens a window; below 500 pixels it poses as a phone, since windows are not that narrow.
    pub fn browser(&self, width: u32, height: u32) -> Browser<'_> {
        let profile = tempfile::tempdir().expect("a folder for the profile");
        let args = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            &format!("--window-size={width},{height}"),
            &format!("--user-data-dir={}", profile.path().display()),
        ];
        let mut options = json!({ "args": args });
        if width < 500 {
            let metrics = json!({ "width": width, "height": height, "pixelRatio": 2 });
            options["mobileEmulation"] = json!({ "deviceMetrics": metrics });
        }
        let wanted = json!({ "browserName": "chrome", "goog:chromeOptions": options });
        let opened =
            self.call("POST", "/session", &json!({ "capabilities": { "alwaysMatch": wanted } }));
        let session = opened["sessionId"].as_str().expect("a session").to_owned();
        Browser { driver: self, session, _profile: profile }
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if method == "POST" { body.to_string() } else { String::new() };
        let answer = self.ask(method, path, &body).expect("chromedriver answers");
        let value: Value = serde_json::from_str(&answer).expect("an answer in JSON");
        assert!(value["value"]["error"].is_null(), "{method} {path}: {}", value["value"]);
        value["value"].clone()
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(2 * PATIENCE))?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.port,
            body.len()
        )?;
        read_answer(stream)
    }
}

/// Returns the body of one answer; the driver may keep the connection open behind it.
fn read_answer(stream: TcpStream) -> io::Result<String> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim().to_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    String::from_utf8(body).map_err(io::Error::other)
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.process.kill().expect("end chromedriver");
        self.process.wait().expect("end chromedriver");
    }
}

/// One window.
pub struct Browser<'a> {
    driver: &'a Driver,
    session: String,
    _profile: tempfile::TempDir,
}

impl Browser<'_> {
    /// Goes to an address.
    pub fn open(&self, address: &str) {
        self.post("url", &json!({ "url": address }));
    }

    /// Types into what `selector` finds.
    pub fn write(&self, selector: &str, text: &str) {
        let element = self.find(selector);
        self.post(&format!("element/{element}/value"), &json!({ "text": text }));
    }

    /// Clicks on what `selector` finds.
    pub fn click(&self, selector: &str) {
        let element = self.find(selector);
        self.post(&format!("element/{element}/click"), &json!({}));
    }

    /// Returns what a script returns.
    pub fn run(&self, script: &str) -> Value {
        self.post("execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Returns what a script hands to its last argument.
    pub fn run_async(&self, script: &str) -> Value {
        self.post("execute/async", &json!({ "script": script, "args": [] }))
    }

    /// Waits until a script returns true.
    pub fn wait_for(&self, script: &str) {
        wait(script, || self.run(script) == true);
    }

    /// Waits until a script hands over `wanted`.
    pub fn wait_for_async(&self, script: &str, wanted: &Value) {
        wait(script, || self.run_async(script) == *wanted);
    }

    fn find(&self, selector: &str) -> String {
        let found = self.post("element", &json!({ "using": "css selector", "value": selector }));
        let element = found.as_object().and_then(|object| object.values().next());
        element.and_then(Value::as_str).expect("an element").to_owned()
    }

    fn post(&self, what: &str, body: &Value) -> Value {
        self.driver.call("POST", &format!("/session/{}/{what}", self.session), body)
    }
}

impl Drop for Browser<'_> {
    #[expect(clippy::print_stdout, reason = "a second failure must not hide the first")]
    fn drop(&mut self) {
        // Also after a failed test, which must not be hidden by a second failure.
        let closed = self.driver.ask("DELETE", &format!("/session/{}", self.session), "");
        if let Err(error) = closed {
            println!("a browser stays behind: {error}");
        }
    }
}

fn wait(what: &str, is_so: impl Fn() -> bool) {
    let clock = Clock::start();
    let (_never, pause) = mpsc::channel::<()>();
    while !is_so() {
        assert!(clock.elapsed() < PATIENCE, "never so: {what}");
        assert!(pause.recv_timeout(Duration::from_millis(100)).is_err(), "nobody sends");
    }
}
