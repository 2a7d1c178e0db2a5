//! Who may look: operators by token, then by a cookie that says nothing about the token.
//!
//! Guessing is slowed down; what a token means is decided by the [`Verify`] that the host gives.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::header::{AUTHORIZATION, COOKIE};
use metrics::Counter;

use crate::io::rng::random;

/// The cookie's name.
pub(super) const COOKIE_NAME: &str = "ecumene_session";

/// How long a login lasts: a working day.
pub(super) const LOGIN_LASTS: Duration = Duration::from_secs(8 * 60 * 60);

/// Logins at once: a few operators with a few devices. The oldest makes room.
const LOGINS_MAX: usize = 64;

/// Wrong tokens in a row before the next try waits: a slip, a stale clipboard, and some more.
const WRONG_MAX: f64 = 10.0;

/// Tries given back per second afterwards: guessing a signature stays out of the question.
const TRIES_PER_SECOND: f64 = 0.5;

/// What an operator may do; either may look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// Keeps order.
    Moderator,
    /// Runs the server.
    Admin,
}

/// Knows what a token means.
pub trait Verify: Send + Sync {
    /// Returns the operator that `token` stands for now, nothing if it is not (or no longer) good.
    ///
    /// Called for every request, so that an expired or revoked token ends its logins too. The text
    /// is at most [`protocol::limits::TOKEN_BYTES_MAX`] long and otherwise whatever somebody sent.
    fn role(&self, token: &str) -> Option<Operator>;
}

/// Why somebody was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// No token, or one that is no operator's.
    Unknown,
    /// Too many wrong ones lately.
    TooOften,
}

/// The door.
pub(super) struct Access {
    verify: Box<dyn Verify>,
    logins: Mutex<Logins>,
    refused: Counter,
}

impl Access {
    pub(super) fn new(verify: Box<dyn Verify>, refused: Counter) -> Self {
        Self { verify, logins: Mutex::default(), refused }
    }

    /// Lets in whoever carries a good token or the cookie of a login.
    pub(super) fn admit(&self, request: &HttpRequest, now: Duration) -> Result<Operator, Denied> {
        if let Some(token) = bearer(request) {
            return self.try_token(token, now);
        }
        let pass = cookie(request).ok_or(Denied::Unknown)?;
        self.admit_pass(pass, now).ok_or(Denied::Unknown)
    }

    /// Returns the operator whose login gave out `pass`, if both it and its token are still good.
    fn admit_pass(&self, pass: &str, now: Duration) -> Option<Operator> {
        let token = self.lock().token(pass, now)?;
        self.verify.role(&token)
    }

    /// Opens a login and returns its pass.
    pub(super) fn login(&self, token: &str, now: Duration) -> Result<String, Denied> {
        self.try_token(token, now)?;
        let pass: String = random::<32>().iter().map(|byte| format!("{byte:02x}")).collect();
        self.lock().open(&pass, token, now);
        Ok(pass)
    }

    /// Ends the login whose cookie came with `request`.
    pub(super) fn logout(&self, request: &HttpRequest) {
        if let Some(pass) = cookie(request) {
            self.lock().close(pass);
        }
    }

    fn try_token(&self, token: &str, now: Duration) -> Result<Operator, Denied> {
        if !self.lock().tries.is_free(now) {
            self.refused.increment(1);
            return Err(Denied::TooOften);
        }
        let fits = token.len() <= protocol::limits::TOKEN_BYTES_MAX;
        let role = if fits { self.verify.role(token) } else { None };
        role.ok_or_else(|| {
            self.lock().tries.spend();
            self.refused.increment(1);
            Denied::Unknown
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Logins> {
        self.logins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bearer(request: &HttpRequest) -> Option<&str> {
    let value = request.headers().get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn cookie(request: &HttpRequest) -> Option<&str> {
    let headers = request.headers().get_all(COOKIE).filter_map(|value| value.to_str().ok());
    let mut pairs =
        headers.flat_map(|value| value.split(';')).filter_map(|pair| pair.split_once('='));
    pairs.find(|(name, _)| name.trim() == COOKIE_NAME).map(|(_, value)| value.trim())
}

#[derive(Default)]
struct Logins {
    /// Oldest first.
    open: Vec<Login>,
    tries: Tries,
}

struct Login {
    /// Only the hash is kept, and BLAKE3's hashes compare in constant time.
    pass: blake3::Hash,
    /// Asked about again at every request.
    token: String,
    until: Duration,
}

impl Logins {
    fn open(&mut self, pass: &str, token: &str, now: Duration) {
        self.open.retain(|login| now < login.until);
        if LOGINS_MAX <= self.open.len() {
            self.open.remove(0);
        }
        let pass = blake3::hash(pass.as_bytes());
        self.open.push(Login { pass, token: token.to_owned(), until: now + LOGIN_LASTS });
    }

    fn token(&self, pass: &str, now: Duration) -> Option<String> {
        let pass = blake3::hash(pass.as_bytes());
        let login = self.open.iter().find(|login| login.pass == pass)?;
        (now < login.until).then(|| login.token.clone())
    }

    fn close(&mut self, pass: &str) {
        let pass = blake3::hash(pass.as_bytes());
        self.open.retain(|login| login.pass != pass);
    }
}

/// Wrong tries, as a bucket that drains with time.
#[derive(Default)]
struct Tries {
    spent: f64,
    at: Duration,
}

impl Tries {
    fn is_free(&mut self, now: Duration) -> bool {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.spent = (self.spent - passed * TRIES_PER_SECOND).max(0.0);
        self.at = now;
        self.spent + 1.0 <= WRONG_MAX
    }

    fn spend(&mut self) {
        self.spent += 1.0;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use actix_web::test::TestRequest;

    use super::*;

    const S: Duration = Duration::from_secs(1);

    /// Knows one token, until it is revoked.
    struct One(Arc<AtomicBool>);

    impl Verify for One {
        fn role(&self, token: &str) -> Option<Operator> {
            (token == "good" && !self.0.load(Ordering::Relaxed)).then_some(Operator::Moderator)
        }
    }

    fn access() -> (Access, Arc<AtomicBool>) {
        let revoked = Arc::<AtomicBool>::default();
        (Access::new(Box::new(One(Arc::clone(&revoked))), Counter::noop()), revoked)
    }

    fn with_header(name: &'static str, value: &str) -> HttpRequest {
        TestRequest::default().insert_header((name, value)).to_http_request()
    }

    #[test]
    fn a_token_opens_directly_and_by_cookie() {
        let (access, _) = access();
        let admit = |name, value: &str| access.admit(&with_header(name, value), S);
        assert_eq!(admit("authorization", "Bearer good"), Ok(Operator::Moderator));
        assert_eq!(admit("authorization", "Bearer bad"), Err(Denied::Unknown));
        assert_eq!(admit("authorization", "Basic good"), Err(Denied::Unknown));
        assert_eq!(admit("accept", "*/*"), Err(Denied::Unknown));

        let pass = access.login("good", S).unwrap();
        let cookies = format!("theme=dark; {COOKIE_NAME}={pass}");
        assert_eq!(admit("cookie", &cookies), Ok(Operator::Moderator));
        assert_eq!(admit("cookie", &format!("{COOKIE_NAME}=good")), Err(Denied::Unknown));
        assert_eq!(admit("cookie", &format!("x{COOKIE_NAME}={pass}")), Err(Denied::Unknown));
    }

    #[test]
    fn a_login_ends_with_its_day_its_token_or_by_leaving() {
        let (access, revoked) = access();
        let pass = access.login("good", S).unwrap();
        let request = with_header("cookie", &format!("{COOKIE_NAME}={pass}"));
        assert!(access.admit(&request, LOGIN_LASTS).is_ok());
        assert_eq!(access.admit(&request, LOGIN_LASTS + S), Err(Denied::Unknown));

        revoked.store(true, Ordering::Relaxed);
        assert_eq!(access.admit(&request, S), Err(Denied::Unknown));
        revoked.store(false, Ordering::Relaxed);
        assert!(access.admit(&request, S).is_ok());

        access.logout(&request);
        assert_eq!(access.admit(&request, S), Err(Denied::Unknown));
    }

    #[test]
    fn guessing_is_slowed_down_and_a_login_goes_on_meanwhile() {
        let (access, _) = access();
        let pass = access.login("good", S).unwrap();
        for _ in 0..10 {
            assert_eq!(access.login("bad", S), Err(Denied::Unknown));
        }
        assert_eq!(access.login("bad", S), Err(Denied::TooOften));
        assert_eq!(access.login("good", S), Err(Denied::TooOften));
        assert!(access.admit_pass(&pass, S).is_some());
        assert!(access.login("good", 3 * S).is_ok());
    }

    #[test]
    fn a_swollen_token_is_not_even_looked_at() {
        let (access, _) = access();
        assert_eq!(access.login(&"x".repeat(5_000), S), Err(Denied::Unknown));
    }

    #[test]
    fn the_oldest_login_makes_room() {
        let (access, _) = access();
        let passes: Vec<String> =
            (0..=LOGINS_MAX).map(|_| access.login("good", S).unwrap()).collect();
        assert!(access.admit_pass(&passes[0], S).is_none());
        assert!(passes[1..].iter().all(|pass| access.admit_pass(pass, S).is_some()));
    }
}
