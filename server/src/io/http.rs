//! The endpoint for operators: health, metrics, and one read-only page, on a thread of its own.
//!
//! It reads the [`StatusBoard`] and never reaches the world: nothing here can change a thing or
//! delay a tick. Health and metrics are open to this machine; the page and its data are for
//! operators, who show a token once and are then known by a cookie.
//!
//! | path | answers | open to |
//! |---|---|---|
//! | `/healthz`, `/readyz`, `/metrics` | whether it lives, takes newcomers, and its numbers | this machine, or all if configured |
//! | `/login`, `/logout`, `/page.css`, `/page.js`, `/icon.svg` | the way in | all |
//! | `/`, `/api/status`, `/api/log`, `/api/stream`, `/api/map.png` | the page and its data | operators |

mod access;
mod guard;
mod health;
mod page;
mod stream;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::middleware::from_fn;
use actix_web::web::{self, Bytes, Data};
use actix_web::{App, HttpServer};

use crate::io::clock::Clock;
use crate::io::telemetry::MetricsPage;
use crate::status::StatusBoard;
use crate::status::names::{HostMetrics, LOGINS_REFUSED};

use access::Access;
pub use access::{Operator, Verify};

/// Connections at once: a handful of operators with a stream each, a scraper, and room to spare.
const CONNECTIONS_MAX: usize = 64;

/// Connections waiting to be accepted: a burst of page loads.
const BACKLOG_MAX: u32 = 64;

/// Bytes of a request's body: one token in a form, which may triple each byte.
const BODY_BYTES_MAX: usize = 3 * protocol::limits::TOKEN_BYTES_MAX + 1_024;

/// How long a client may take to send its request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a picture of the ground is good for before it is asked for again.
const MAP_AGE: Duration = Duration::from_secs(60);

/// Draws the ground of [`crate::status::MapArea`] as a PNG, north up; `None` while it cannot.
///
/// Called on a helper thread, at most once a minute.
pub type DrawMap = Box<dyn Fn() -> Option<Vec<u8>> + Send + Sync>;

/// What the endpoint serves from.
pub struct Sources {
    /// The picture of the world.
    pub board: Arc<StatusBoard>,
    /// The numbers.
    pub metrics: MetricsPage,
    /// Who may look.
    pub verify: Box<dyn Verify>,
    /// The ground under the map.
    pub map: DrawMap,
}

/// Where to listen and to whom to answer.
#[derive(Clone, Debug)]
pub struct Settings {
    /// TCP address; loopback unless an operator decides otherwise. Port 0 takes any free one.
    pub listen: SocketAddr,
    /// Answers health and metrics to other machines too.
    pub open_metrics: bool,
    /// Names, besides addresses and `localhost`, by which browsers may call this endpoint.
    pub names: Vec<String>,
}

/// The endpoint could not start.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address is taken or not ours.
    #[error("cannot serve the operators' page on {listen}: {cause}; choose another `server.http`")]
    Listen {
        /// The address asked for.
        listen: SocketAddr,
        /// What the operating system says.
        cause: io::Error,
    },
    /// No thread.
    #[error("no thread for the operators' page: {0}")]
    Thread(io::Error),
}

/// The running endpoint. Dropping it closes it.
#[derive(Debug)]
pub struct Http {
    address: SocketAddr,
    handle: ServerHandle,
    thread: Option<JoinHandle<()>>,
}

impl Http {
    /// Begins to serve.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub fn serve(settings: Settings, sources: Sources) -> Result<Self, HttpError> {
        let listen = settings.listen;
        let failed = |cause| HttpError::Listen { listen, cause };
        let listener = TcpListener::bind(listen).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let site = Data::new(Site::new(settings, sources));
        let (sender, receiver) = mpsc::channel();
        let serve = move || {
            actix_web::rt::System::new().block_on(async move {
                match server(listener, site) {
                    Ok(server) => {
                        // The receiver waits for exactly this message.
                        drop(sender.send(Ok(server.handle())));
                        if let Err(error) = server.await {
                            tracing::error!(%error, "the operators' page ended");
                        }
                    }
                    Err(error) => drop(sender.send(Err(error))),
                }
            });
        };
        let thread = std::thread::Builder::new().name("http".into()).spawn(serve);
        let thread = thread.map_err(HttpError::Thread)?;
        let gone = || Err(io::Error::other("its thread ended"));
        let handle = receiver.recv().unwrap_or_else(|_| gone()).map_err(failed)?;
        Ok(Self { address, handle, thread: Some(thread) })
    }

    /// Returns the address that is listened on.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        // The order is given by the call; the future only waits for it, and so does the thread.
        drop(self.handle.stop(false));
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so itself.
            drop(thread.join());
        }
    }
}

/// Everything a handler may use.
struct Site {
    settings: Settings,
    board: Arc<StatusBoard>,
    metrics: MetricsPage,
    gauges: HostMetrics,
    access: Access,
    draw_map: DrawMap,
    map: Mutex<Option<(Duration, Bytes)>>,
    streams: Arc<AtomicUsize>,
    clock: Clock,
}

impl Site {
    fn new(settings: Settings, Sources { board, metrics, verify, map }: Sources) -> Self {
        Self {
            settings,
            board,
            metrics,
            gauges: HostMetrics::default(),
            access: Access::new(verify, metrics::counter!(LOGINS_REFUSED)),
            draw_map: map,
            map: Mutex::default(),
            streams: Arc::default(),
            clock: Clock::start(),
        }
    }
}

/// One worker serves all: it works for milliseconds a second, and must not crowd the ticks out.
fn server(listener: TcpListener, site: Data<Site>) -> io::Result<actix_web::dev::Server> {
    let app = move || {
        App::new()
            .app_data(Data::clone(&site))
            .app_data(web::FormConfig::default().limit(BODY_BYTES_MAX))
            .app_data(web::PayloadConfig::new(BODY_BYTES_MAX))
            .wrap(guard::headers())
            .wrap(from_fn(guard::addressed_to_us))
            .configure(health::routes)
            .configure(page::routes)
    };
    let server = HttpServer::new(app)
        .workers(1)
        .worker_max_blocking_threads(1)
        .max_connections(CONNECTIONS_MAX)
        .backlog(BACKLOG_MAX)
        .client_request_timeout(HEAD_TIMEOUT)
        .shutdown_timeout(0)
        .disable_signals()
        .listen(listener)?;
    Ok(server.run())
}
