//! Both ends of the socket, with a host that answers by the book.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex};

use super::*;
use crate::admin::REQUEST_BYTES_MAX;

/// Answers an announcement with progress and its text, drops a reload, and notes who asked.
#[derive(Debug, Default)]
struct Host(Mutex<Vec<(u32, &'static str)>>);

impl Operate for Host {
    fn operate(&self, operator: Operator, request: AdminRequest, replies: Replies) {
        self.0.lock().unwrap().push((operator.uid, request.name()));
        // Anything else is dropped with its way back.
        let AdminRequest::Announce { text } = request else { return };
        for done in 1..=3 {
            replies.progress(Progress { what: "saying".to_owned(), done, total: 3 });
        }
        replies.end(AdminReply::Done(text));
    }
}

struct World {
    data: tempfile::TempDir,
    host: Arc<Host>,
}

/// Opens a socket in a new folder, heard by a thread that lasts as long as the tests.
fn world() -> World {
    let data = tempfile::tempdir().unwrap();
    let host = Arc::new(Host::default());
    let (opened, is_open) = std::sync::mpsc::channel();
    let (folder, hearing) = (data.path().to_owned(), Arc::<Host>::clone(&host));
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = Listener::open(&folder).unwrap();
            opened.send(()).unwrap();
            listener.serve(hearing).await;
        });
    });
    is_open.recv().unwrap();
    World { data, host }
}

fn announce(text: &str) -> AdminRequest {
    AdminRequest::Announce { text: text.to_owned() }
}

/// Sends raw bytes and returns the answer's text.
fn raw(world: &World, bytes: &[u8]) -> String {
    use std::io::{Read as _, Write as _};
    let mut stream = std::os::unix::net::UnixStream::connect(socket(world.data.path())).unwrap();
    stream.write_all(bytes).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn an_operator_hears_progress_and_the_answer() {
    let world = world();
    let mut heard = Vec::new();
    let reply = call(world.data.path(), announce("tea"), |progress| heard.push(progress.done));
    assert_eq!(reply.unwrap(), AdminReply::Done("tea".to_owned()));
    assert_eq!(heard, [1, 2, 3]);
    let uid = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(world.data.path()).unwrap());
    assert_eq!(*world.host.0.lock().unwrap(), [(uid, "announce")]);
}

#[test]
fn the_socket_is_its_owners_alone() {
    let world = world();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(world.data.path()), 0o700);
    assert_eq!(mode(&socket(world.data.path())), 0o600);
}

#[test]
fn what_the_host_drops_is_said_to_be_lost() {
    let world = world();
    let reply = call(world.data.path(), AdminRequest::Reload, |_| {}).unwrap();
    let lost = "the server dropped the request; see its log".to_owned();
    assert_eq!(reply, AdminReply::Failed(lost));
}

#[test]
fn noise_other_versions_and_endless_requests_are_refused() {
    let world = world();
    let other = raw(&world, b"{\"version\":2,\"request\":{\"do\":\"fly\"}}\n");
    assert_eq!(
        other,
        "{\"reply\":{\"failed\":\"this `ecumene` is of another version than the server; use the server's\"}}\n",
    );
    assert!(raw(&world, b"hello\n").starts_with("{\"reply\":{\"failed\":\"not a request: "));
    let endless = raw(&world, &vec![b' '; REQUEST_BYTES_MAX]);
    assert_eq!(endless, "{\"reply\":{\"failed\":\"the request is longer than 16384 bytes\"}}\n");
    assert!(world.host.0.lock().unwrap().is_empty());
}

#[test]
fn without_a_server_the_caller_is_told_how_to_start_one() {
    let data = tempfile::tempdir().unwrap();
    let shown = data.path().display().to_string();
    let expected = format!("no server runs the world in {shown}; start it with: ecumene serve");
    assert_eq!(call(data.path(), announce("x"), |_| {}).unwrap_err().to_string(), expected);
    // A server that was killed leaves its socket behind.
    drop(std::os::unix::net::UnixListener::bind(socket(data.path())).unwrap());
    assert_eq!(call(data.path(), announce("x"), |_| {}).unwrap_err().to_string(), expected);
}

#[tokio::test]
async fn a_left_socket_is_replaced_and_a_long_path_is_named() {
    let data = tempfile::tempdir().unwrap();
    drop(std::os::unix::net::UnixListener::bind(socket(data.path())).unwrap());
    let listener = Listener::open(data.path()).unwrap();
    drop(listener);
    assert!(!socket(data.path()).exists());
    let deep = data.path().join("x".repeat(100));
    std::fs::create_dir(&deep).unwrap();
    let error = Listener::open(&deep).unwrap_err().to_string();
    assert!(error.ends_with("use a shorter --data"), "{error}");
}
