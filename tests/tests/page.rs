//! The operators' page in a real browser: it lets an operator in, the dots move when the world
//! does and rest when it rests, it fits a phone, and it says when the server is gone.
//!
//! Chromium is driven over plain `WebDriver`. Where `chromedriver` or `chromium` is missing the test
//! says SKIPPED and passes: the endpoint itself is tested without a browser in the crate `server`.

#[path = "page/driver.rs"]
mod driver;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::json;
use server::io::clock::Clock;
use server::io::http::{Http, Operator, Settings, Sources, Verify};
use server::io::telemetry::MetricsPage;
use server::status::{Dot, DotKind, Level, LogTail, ShardStatus, Status, StatusBoard};

use driver::{Browser, Driver};

/// Knows one token.
struct One;

impl Verify for One {
    fn role(&self, token: &str) -> Option<Operator> {
        (token == "good").then_some(Operator::Moderator)
    }
}

/// A world of walkers on a thread of its own. Dropping it ends it.
struct World {
    board: Arc<StatusBoard>,
    walking: Arc<AtomicBool>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl World {
    fn start() -> Self {
        let tail = Arc::<LogTail>::default();
        tail.push(1, Level::Warn, "server::host", "<b id=\"smuggled\">late</b>".into());
        let board = Arc::new(StatusBoard::new(tail));
        let walking = Arc::new(AtomicBool::new(true));
        let (stop, stopped) = mpsc::channel::<()>();
        let thread = std::thread::spawn({
            let (board, walking) = (Arc::clone(&board), Arc::clone(&walking));
            move || {
                let clock = Clock::start();
                let (mut tick, mut paces) = (0, 0);
                while stopped.recv_timeout(Duration::from_millis(50))
                    == Err(mpsc::RecvTimeoutError::Timeout)
                {
                    tick += 1;
                    paces += u64::from(walking.load(Ordering::Relaxed));
                    let now = clock.elapsed();
                    if board.tick(Duration::from_millis(4), now) {
                        board.publish(picture(tick, paces), now);
                    }
                }
            }
        });
        Self { board, walking, stop: Some(stop), thread: Some(thread) }
    }

    fn serve(&self) -> Http {
        let sources = Sources {
            board: Arc::clone(&self.board),
            metrics: MetricsPage::build().expect("build a recorder").1,
            verify: Box::new(One),
            map: Box::new(|| None),
        };
        let listen = "127.0.0.1:0".parse().expect("an address");
        Http::serve(Settings { listen, open_metrics: false, names: Vec::new() }, sources)
            .expect("serve the page")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the world ends well");
        }
    }
}

fn picture(tick: u64, paces: u64) -> Status {
    let dot = |key: u16| Dot {
        key: u32::from(key),
        kind: DotKind::Client,
        x_m: -400.0 + f32::from(u16::try_from(paces % 1_000).expect("small")) * 0.7,
        z_m: -300.0 + f32::from(key) * 200.0,
        yaw: 90,
    };
    Status {
        world: "Walkers".into(),
        tick,
        hz: 20,
        pace_permille: 1_000,
        clients: 3,
        clients_max: 1_000,
        entities: 3,
        shards: vec![ShardStatus { id: "r-1".into(), ..ShardStatus::default() }; 2],
        dots: (0..3).map(dot).collect(),
        ready: true,
        ..Status::default()
    }
}

/// Returns a browser that is logged in and shows a live page.
fn visit<'a>(driver: &'a Driver, http: &Http, width: u32) -> Browser<'a> {
    let browser = driver.browser(width, 800);
    browser.open(&format!("http://{}/", http.address()));
    browser.write("#token", "good");
    browser.click("button");
    browser.wait_for("return document.querySelector('#state')?.textContent === 'ready'");
    browser
}

/// Whether the map's pixels change within half a second.
const MAP_CHANGES: &str = "const done = arguments[arguments.length - 1];
    const map = document.querySelector('#map');
    const shot = () => new Promise((seen) => requestAnimationFrame(() => setTimeout(() => seen(map.toDataURL()))));
    shot().then((before) => setTimeout(() => shot().then((after) => done(before !== after)), 500));";

#[test]
fn an_operator_sees_the_world_move() {
    let Some(driver) = Driver::start() else { return };
    let world = World::start();
    let http = world.serve();
    let browser = visit(&driver, &http, 1_400);

    assert_eq!(browser.run("return document.querySelector('#clients').textContent"), "3");
    assert_eq!(browser.run("return document.querySelector('#world').textContent"), "Walkers");
    assert_eq!(browser.run("return document.querySelector('#shards').rows.length"), 2);
    assert_eq!(browser.run("return document.querySelector('#count-client').textContent"), "3");
    browser.wait_for("return document.querySelector('#log li')?.textContent.includes('<b id=')");
    assert_eq!(browser.run("return document.querySelector('#smuggled')"), json!(null));

    assert_eq!(browser.run_async(MAP_CHANGES), true, "the dots stand still in a walking world");
    world.walking.store(false, Ordering::Relaxed);
    browser.wait_for_async(MAP_CHANGES, &json!(false));

    let scale = browser.run("return document.querySelector('#scale-text').textContent");
    for _ in 0..4 {
        browser.write("#map", "+");
    }
    browser
        .wait_for(&format!("return document.querySelector('#scale-text').textContent !== {scale}"));

    drop(http);
    browser.wait_for("return document.querySelector('#state').textContent === 'no connection'");
    assert_eq!(browser.run("return document.querySelector('#notice').hidden"), false);
}

#[test]
fn a_wrong_token_is_told_and_opens_nothing() {
    let Some(driver) = Driver::start() else { return };
    let world = World::start();
    let http = world.serve();
    let browser = driver.browser(1_000, 800);
    browser.open(&format!("http://{}/", http.address()));
    assert_eq!(browser.run("return location.pathname"), "/login");
    browser.write("#token", "bad");
    browser.click("button");
    browser.wait_for(
        "return document.querySelector('#message').textContent.includes('opens nothing')",
    );
    browser.open(&format!("http://{}/", http.address()));
    assert_eq!(browser.run("return location.pathname"), "/login");
}

#[test]
fn the_page_fits_a_phone() {
    let Some(driver) = Driver::start() else { return };
    let world = World::start();
    let http = world.serve();
    let browser = visit(&driver, &http, 360);
    assert_eq!(browser.run("return innerWidth"), 360);
    assert_eq!(browser.run("return document.documentElement.scrollWidth"), 360);
    let small = "return [...document.querySelectorAll('button, summary, input')]
        .filter((e) => e.offsetParent && e.closest('label, button') && (e.closest('label') || e).offsetHeight < 32)
        .map((e) => e.outerHTML)";
    assert_eq!(browser.run(small), json!([]), "too small for a finger");
    assert_eq!(browser.run_async(MAP_CHANGES), true);
}
