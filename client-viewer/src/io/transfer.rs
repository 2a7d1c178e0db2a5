//! Sharing and fetching of files beside the script: what to write about it, and how it ended.

use std::path::{Path, PathBuf};

use protocol::asset::media_of;
use protocol::ids::ContentHash;
use protocol::io::{AssetError, Assets, Sharing};
use protocol::message::asset::AssetAudience;
use protocol::rules::Why;
use protocol::session::Answer;
use protocol::units::Tick;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::files::{read_asset, write_asset};

/// News that may wait to be written; further progress is left out.
const NEWS_MAX: usize = 64;

/// Steps in which progress is told.
const STEPS: u64 = 10;

/// What is to be told of a transfer.
pub enum News {
    /// It goes on.
    Progress(Value),
    /// It is over.
    End(Value, Answer),
}

/// A transfer under way; dropping it ends it.
pub struct Transfer {
    news: mpsc::Receiver<News>,
    task: JoinHandle<()>,
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Transfer {
    /// Begins to share a file.
    pub fn share(assets: Assets, file: &str, audience: AssetAudience, keep_s: u32) -> Self {
        let sharing = sharing(Path::new(file), audience, keep_s);
        let file = file.to_owned();
        Self::begin(move |mut told| async move {
            let sharing = match sharing {
                Ok(sharing) => sharing,
                Err(why) => {
                    let body = json!({ "is": "failed", "file": file, "why": why });
                    return (body, Answer::Refused(Why::BadArgs));
                }
            };
            let hash = sharing.offer.hash.to_string();
            let shared = assets.share(&sharing, told.about("sending", &hash)).await;
            let (length, media) = (sharing.offer.length, sharing.offer.media);
            match shared {
                Ok(until_s) => {
                    let body = json!({
                        "is": "shared", "asset": hash, "file": file, "bytes": length,
                        "media": media, "until_s": until_s,
                    });
                    (body, done(hash))
                }
                Err(error) => failed(&hash, &error),
            }
        })
    }

    /// Begins to fetch content into a file.
    pub fn fetch(assets: Assets, hash: ContentHash, file: PathBuf) -> Self {
        Self::begin(move |mut told| async move {
            let digits = hash.to_string();
            let fetched = match assets.fetch(hash, told.about("fetching", &digits)).await {
                Ok(fetched) => fetched,
                Err(error) => return failed(&digits, &error),
            };
            if let Err(error) = write_asset(&file, &fetched.bytes) {
                let why = format!("{error:#}");
                let body = json!({ "is": "failed", "asset": digits, "why": why });
                return (body, Answer::Refused(Why::BadArgs));
            }
            let body = json!({
                "is": "fetched", "asset": digits, "file": file.display().to_string(),
                "bytes": fetched.bytes.len(), "media": fetched.media, "name": fetched.name,
                "until_s": fetched.until,
            });
            (body, done(digits))
        })
    }

    /// Begins to take back what one shares.
    pub fn unshare(assets: Assets, hash: ContentHash) -> Self {
        Self::begin(move |_| async move {
            let digits = hash.to_string();
            match assets.withdraw(hash).await {
                Ok(()) => (json!({ "is": "unshared", "asset": digits }), done(digits)),
                Err(error) => failed(&digits, &error),
            }
        })
    }

    /// Returns what is new, if anything is.
    pub fn news(&mut self) -> Option<News> {
        self.news.try_recv().ok()
    }

    fn begin<F>(work: impl FnOnce(Told) -> F) -> Self
    where
        F: Future<Output = (Value, Answer)> + Send + 'static,
    {
        let (send, news) = mpsc::channel(NEWS_MAX);
        let work = work(Told { to: send.clone() });
        let task = tokio::spawn(async move {
            let (body, answer) = work.await;
            // Whoever stopped listening does not want to know.
            drop(send.send(News::End(body, answer)).await);
        });
        Self { news, task }
    }
}

/// Tells of progress, a few times only.
struct Told {
    to: mpsc::Sender<News>,
}

impl Told {
    fn about(&mut self, what: &'static str, hash: &str) -> impl FnMut(u64, u64) + Send + 'static {
        let (to, hash, mut next) = (self.to.clone(), hash.to_owned(), 0);
        move |bytes, total| {
            let step = STEPS * bytes / total.max(1);
            if next <= step {
                next = step + 1;
                let body = json!({ "is": what, "asset": hash, "bytes": bytes, "of": total });
                // Progress that nobody reads in time is old by then.
                drop(to.try_send(News::Progress(body)));
            }
        }
    }
}

fn sharing(path: &Path, audience: AssetAudience, keep_s: u32) -> Result<Sharing, String> {
    let (name, bytes) = read_asset(path).map_err(|error| format!("{error:#}"))?;
    let extension = path.extension().and_then(|extension| extension.to_str());
    let media = media_of(extension.unwrap_or_default());
    Sharing::new(bytes, (media, &name), audience, keep_s).map_err(|bad| bad.to_string())
}

const fn done(hash: String) -> Answer {
    Answer::Done { tick: Tick(0), text: Some(hash) }
}

fn failed(hash: &str, error: &AssetError) -> (Value, Answer) {
    let answer = match error {
        AssetError::Refused(_) => Answer::Refused(Why::Forbidden),
        AssetError::Withheld => Answer::Refused(Why::NotThere),
        AssetError::Corrupt | AssetError::Protocol(_) | AssetError::Lost(_) => Answer::Unknown,
    };
    (json!({ "is": "failed", "asset": hash, "why": error.to_string() }), answer)
}
