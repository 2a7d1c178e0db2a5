//! Sends spans to an OpenTelemetry collector: OTLP over plain HTTP, from a thread of its own.
//!
//! The request is small and always the same, so it is written here instead of bringing in an HTTP
//! library. TLS is not spoken: a collector runs beside the server, and speaks it onwards.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use http::uri::Scheme;
use http::{StatusCode, Uri};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{
    ExporterBuildError, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::{Subscriber, info, warn};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::Layer;
use tracing_subscriber::registry::LookupSpan;

/// How long one export may take: a collector is near, or it is down.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the process waits for the last spans when it stops.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Bytes of a collector's answer: a status, and perhaps why some spans were refused.
const ANSWER_BYTES_MAX: u64 = 64 * 1_024;

/// Where a collector takes spans, unless the endpoint names a path.
const TRACES_PATH: &str = "/v1/traces";

/// Spans cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum OtlpError {
    /// The endpoint is no address.
    #[error("`{0}` is no http address: write one such as http://127.0.0.1:4318")]
    Address(String),
    /// The endpoint wants TLS.
    #[error(
        "`{0}` wants TLS, which is not spoken here: send to a collector on this machine over http"
    )]
    Tls(String),
    /// The exporter refused its settings.
    #[error(transparent)]
    Build(#[from] ExporterBuildError),
}

/// The export of spans. Dropping it sends what is still waiting.
#[derive(Debug)]
pub struct Exporter {
    provider: SdkTracerProvider,
}

impl Exporter {
    /// Begins to export to the collector at `endpoint`, whether or not it already answers.
    ///
    /// # Errors
    /// The endpoint has no meaning.
    pub fn new(endpoint: &str) -> Result<Self, OtlpError> {
        let endpoint = address(endpoint)?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Client::default())
            .with_endpoint(endpoint)
            .with_timeout(EXPORT_TIMEOUT)
            .build()?;
        let resource = Resource::builder().with_service_name("ecumene").build();
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource)
            .build();
        Ok(Self { provider })
    }

    /// Returns the layer that feeds the export: spans and their fields, not the log.
    pub fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        let tracer = self.provider.tracer("ecumene");
        tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_filter(filter_fn(|metadata| metadata.is_span()))
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        if let Err(error) = self.provider.shutdown_with_timeout(FLUSH_TIMEOUT) {
            warn!(%error, "the last spans were not exported");
        }
    }
}

/// Returns the address to send to.
fn address(endpoint: &str) -> Result<String, OtlpError> {
    let wrong = || OtlpError::Address(endpoint.to_owned());
    let uri: Uri = endpoint.parse().map_err(|_| wrong())?;
    if uri.scheme() == Some(&Scheme::HTTPS) {
        return Err(OtlpError::Tls(endpoint.to_owned()));
    }
    if uri.scheme() != Some(&Scheme::HTTP) || uri.host().is_none() {
        return Err(wrong());
    }
    let path = if uri.path() == "/" { TRACES_PATH } else { "" };
    Ok(format!("{}{path}", endpoint.trim_end_matches('/')))
}

/// An HTTP/1.1 client of one request per connection.
///
/// It blocks: the exporter calls it from its own thread and does nothing else meanwhile.
#[derive(Debug, Default)]
struct Client {
    fails: AtomicBool,
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answer = post(&request);
        // Said once per change, or a collector that is down would fill the log.
        match (&answer, self.fails.swap(answer.is_err(), Ordering::Relaxed)) {
            (Err(error), false) => warn!(%error, "spans do not reach the collector"),
            (Ok(_), true) => info!("spans reach the collector again"),
            (Err(_), true) | (Ok(_), false) => {}
        }
        answer
    }
}

fn post(request: &Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    let uri = request.uri();
    let host = uri.host().ok_or("the collector's address has no host")?;
    let port = uri.port_u16().unwrap_or(80);
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let address =
        (name, port).to_socket_addrs()?.next().ok_or("the collector's name is unknown")?;
    let mut stream = TcpStream::connect_timeout(&address, EXPORT_TIMEOUT)?;
    stream.set_read_timeout(Some(EXPORT_TIMEOUT))?;
    stream.set_write_timeout(Some(EXPORT_TIMEOUT))?;

    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let length = request.body().len();
    let mut head = format!(
        "POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: {length}\r\nConnection: close\r\n"
    );
    for (name, value) in request.headers() {
        head.push_str(&format!("{name}: {}\r\n", value.to_str()?));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    stream.write_all(request.body())?;

    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    let status = status(&answer).ok_or("the collector does not answer in HTTP")?;
    if !status.is_success() {
        return Err(format!("the collector answers {status}").into());
    }
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status;
    Ok(response)
}

/// Returns the status in the first line of an answer.
fn status(answer: &[u8]) -> Option<StatusCode> {
    let code = answer.strip_prefix(b"HTTP/1.")?.get(2..5)?;
    StatusCode::from_bytes(code).ok()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::mpsc;

    use tracing::info_span;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn an_endpoint_is_checked() {
        let check = |endpoint: &str| address(endpoint).map_err(|error| error.to_string());
        let traces = "http://127.0.0.1:4318/v1/traces";
        assert_eq!(check("http://127.0.0.1:4318").as_deref(), Ok(traces));
        assert_eq!(check("http://127.0.0.1:4318/").as_deref(), Ok(traces));
        assert_eq!(check("http://collector/own").as_deref(), Ok("http://collector/own"));
        assert!(check("https://collector:4318").unwrap_err().contains("wants TLS"));
        for wrong in ["", "127.0.0.1:4318", "ftp://a", "http://", "a b"] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_answer_is_read_to_its_status() {
        assert_eq!(status(b"HTTP/1.1 200 OK\r\n\r\n"), Some(StatusCode::OK));
        assert_eq!(status(b"HTTP/1.1 503 no\r\n"), Some(StatusCode::SERVICE_UNAVAILABLE));
        for wrong in [&b""[..], b"HTTP/1.1", b"SSH-2.0-x 200", b"HTTP/1.1 2x0 "] {
            assert_eq!(status(wrong), None);
        }
    }

    /// Takes one request, answers it, and returns its head and body.
    fn receive(listener: &TcpListener) -> (String, Vec<u8>) {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
        loop {
            let read = stream.read(&mut buffer).unwrap();
            bytes.extend_from_slice(&buffer[..read]);
            let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.unwrap().parse().unwrap();
            if end + 4 + length <= bytes.len() {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
                return (head, bytes.split_off(end + 4));
            }
        }
    }

    #[test]
    fn a_span_arrives_at_the_collector() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (sender, received) = mpsc::channel();
        let collector = std::thread::spawn(move || sender.send(receive(&listener)).unwrap());

        let exporter = Exporter::new(&endpoint).unwrap();
        let subscriber = tracing_subscriber::registry().with(exporter.layer());
        tracing::subscriber::with_default(subscriber, || {
            let _tick = info_span!("tick_of_a_shard", shard = "r-51ab", tick = 40).entered();
            info!(secret = "never", "an event stays in the log");
        });
        drop(exporter);

        let (head, body) = received.recv_timeout(Duration::from_secs(20)).unwrap();
        collector.join().unwrap();
        assert!(head.starts_with("post /v1/traces http/1.1\r\n"), "{head}");
        assert!(head.contains("content-type: application/x-protobuf"), "{head}");
        let body = String::from_utf8_lossy(&body).into_owned();
        for word in ["tick_of_a_shard", "r-51ab", "shard", "ecumene"] {
            assert!(body.contains(word), "{word} is not in {body:?}");
        }
        assert!(!body.contains("never"));
    }

    #[test]
    fn a_collector_that_is_down_is_an_error_and_no_wait() {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let request = Request::post(format!("http://{closed}/v1/traces"));
        assert!(post(&request.body(Bytes::new()).unwrap()).is_err());
    }
}
